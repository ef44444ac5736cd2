"""Where to read a log: from the lake's offsets, or from where an operator says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from sequence_platform.clock import Clock
from sequence_platform.definition import Log
from sequence_platform.errors import LogPositionError, StateMismatchError, StoreError, listed
from sequence_platform.plan.plan import EventPlan
from sequence_platform.plan.tables import raw_table
from sequence_platform.ports import EventLog, Lake, LogPartition, OffsetMove

From = Literal["earliest", "latest"] | Mapping[int, int]
"""Where to go on: at one end of the log, or at an offset for each partition."""


@dataclass(frozen=True, slots=True)
class Shard:
    """A share of every topic: the partitions whose number leaves ``index`` when divided."""

    index: int = 0
    count: int = 1

    def takes(self, partition: int) -> bool:
        """Return whether a partition is of this share."""
        return partition % self.count == self.index

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


@dataclass(frozen=True, slots=True)
class Position:
    """How far a partition of a log has been read for an event type.

    Attributes:
        identity: Of the topic.
        began: Where the reader began.
        stored: The offset that the lake holds, or will once what was taken is committed; None if
            it holds none.
        next: Where to read on.
    """

    identity: str
    began: int
    stored: int | None
    next: int


def topic_of(event: EventPlan) -> str:
    """Return the topic of an event type.

    Raises:
        StoreError: it has no log.
    """
    if event.definition.log is None:
        raise StoreError(
            f"event type '{event.name}' has no log",
            found="no log=",
            expected=f"log={Log.__name__}('topic')",
            next_step="give it one, or leave it out",
        )
    return event.definition.log.topic


def starting_positions(
    lake: Lake, log: EventLog, event: EventPlan, shard: Shard
) -> dict[LogPartition, Position]:
    """Return where to read on: behind what the lake holds, at the start of new partitions.

    Raises:
        LogPositionError: the topic was made anew since, or lost messages not yet read.
        StoreError: the log cannot be reached, or has no such topic.
    """
    topic = topic_of(event)
    identity = log.identity(topic)
    stored = {
        partition: (known, following)
        for name, partition, known, following, _ in lake.offsets(raw_table(event)).rows()
        if name == topic
    }
    others = sorted({known for known, _ in stored.values()} - {identity})
    if others:
        raise LogPositionError(
            f"topic '{topic}' is not the one that was read before",
            where=f"event type '{event.name}', offsets of {raw_table(event).name}",
            found=f"a topic with identity {identity}",
            expected=f"identity {listed(others)}: it was deleted and made anew meanwhile",
            next_step=_choices(event),
        )
    positions = {}
    lost = []
    for partition, (first, end) in sorted(log.bounds(topic).items()):
        if not shard.takes(partition):
            continue
        following = stored[partition][1] if partition in stored else None
        position = first if following is None else following
        if not first <= position <= end:
            lost.append(f"partition {partition}: stored {position}, the log has {first} to {end}")
        positions[LogPartition(topic, partition)] = Position(
            identity, position, following, position
        )
    gone = [p for p in stored if shard.takes(p) and LogPartition(topic, p) not in positions]
    lost += [f"partition {p}: the log does not have it" for p in gone]
    if lost:
        raise LogPositionError(
            f"topic '{topic}' does not hold what was to be read next",
            where=f"event type '{event.name}', offsets of {raw_table(event).name}",
            found=listed(lost),
            expected="stored offsets within what the log holds; its retention passed the reader, "
            "or it was cut",
            next_step=_choices(event),
        )
    return positions


def resume(
    lake: Lake, log: EventLog, event: EventPlan, start: From, clock: Clock
) -> dict[LogPartition, OffsetMove]:
    """Store where to read on, as an operator decided; what lies between is not read.

    Args:
        lake: Where offsets are.
        log: The log.
        event: The event type.
        start: ``earliest``, ``latest``, or offsets by partition; partitions not named stay.
        clock: For when.

    Raises:
        StateMismatchError: an offset or partition is not in the log; nothing is stored.
    """
    topic = topic_of(event)
    identity, bounds = log.identity(topic), log.bounds(topic)
    if isinstance(start, Mapping):
        wanted = dict(start)
    else:
        wanted = {p: b.first if start == "earliest" else b.end for p, b in bounds.items()}
    wrong = [
        f"partition {p}: {at}"
        for p, at in sorted(wanted.items())
        if p not in bounds or not bounds[p].first <= at <= bounds[p].end
    ]
    if wrong:
        raise StateMismatchError(
            f"topic '{topic}' does not have these offsets",
            found=listed(wrong),
            expected=listed(f"partition {p}: {b.first} to {b.end}" for p, b in bounds.items()),
            next_step="choose offsets that it has, or earliest, or latest",
        )
    moves = {
        LogPartition(topic, p): OffsetMove(LogPartition(topic, p), identity, None, at)
        for p, at in sorted(wanted.items())
    }
    lake.reset_offsets(raw_table(event), moves.values(), clock.now())
    return moves


def _choices(event: EventPlan) -> str:
    return (
        f"decide where to go on: sequence-platform stream resume {event.name} --from earliest "
        "(all that the log has; what was read already is recognised by its id), latest (only what "
        "is new: the gap is for the batch source), or PARTITION=OFFSET,..."
    )
