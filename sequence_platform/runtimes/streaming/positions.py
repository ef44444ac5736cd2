"""Where to read a log: from a sink's offsets, or from where an operator says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from sequence_platform.clock import Clock
from sequence_platform.definition import Log
from sequence_platform.errors import StateMismatchError, StoreError, listed
from sequence_platform.plan.plan import EventPlan
from sequence_platform.ports import EventLog, LogPartition, OffsetMove
from sequence_platform.ports.log_positions import ensure_positions, ensure_same_topics
from sequence_platform.runtimes.streaming.sink import Sink

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
        stored: The offset that the sink holds, or will once what was taken is committed; None if
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
    sink: Sink, log: EventLog, event: EventPlan, shard: Shard
) -> dict[LogPartition, Position]:
    """Return where to read on: behind what the sink holds, at the start of new partitions.

    Raises:
        LogPositionError: the topic was made anew since, or lost messages not yet read.
        StoreError: the log cannot be reached, or has no such topic.
    """
    topic, name = topic_of(event), f"event type '{event.name}'"
    identity, bounds = log.identity(topic), log.bounds(topic)
    offsets = sink.offsets(event).filter(topic=topic)
    is_resumed = identity in offsets["identity"]
    stored = {
        partition: (known, following)
        for _, partition, known, following, _ in offsets.rows()
        if shard.takes(partition)
        # Once an operator resumed a topic that was made anew, partitions that it lost are history.
        and (partition in bounds or known == identity or not is_resumed)
    }
    for known, _ in stored.values():
        ensure_same_topics({topic: identity}, {topic: known}, log=name)
    positions = {}
    for partition in sorted({*filter(shard.takes, bounds), *stored}):
        _, following = stored.get(partition, (identity, None))
        start = bounds[partition].first if following is None else following
        positions[LogPartition(topic, partition)] = Position(identity, start, following, start)
    ensure_positions({at: p.next for at, p in positions.items()}, {topic: bounds}, log=name)
    return positions


def resume(
    sink: Sink, log: EventLog, event: EventPlan, start: From, clock: Clock
) -> dict[LogPartition, OffsetMove]:
    """Store where to read on, as an operator decided; what lies between is not read.

    Args:
        sink: Where offsets are.
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
    sink.reset_offsets(event, moves.values(), clock.now())
    return moves
