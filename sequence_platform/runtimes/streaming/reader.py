"""Reads a worker's share of a log, and keeps what was read until it is taken to be flushed."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

import numpy as np

from sequence_platform.errors import LogPositionError, SequencePlatformError, StoreError, listed
from sequence_platform.plan.plan import EventPlan
from sequence_platform.ports import EventLog, LogBatch, LogPartition, OffsetMove
from sequence_platform.runtimes.streaming.positions import (
    Position,
    Shard,
    starting_positions,
    topic_of,
)
from sequence_platform.runtimes.streaming.sink import Sink


@dataclass(frozen=True, slots=True, eq=False)
class Taken:
    """Messages of one event type, and how far they move its offsets."""

    event: EventPlan
    batches: Sequence[LogBatch]
    moves: Sequence[OffsetMove]


@dataclass(slots=True)
class _Share:
    """What was read for one event type and not taken yet."""

    event: EventPlan
    positions: dict[LogPartition, Position]
    batches: list[LogBatch] = field(default_factory=list)
    messages: int = 0
    bytes: int = 0

    def add(self, batch: LogBatch) -> None:
        position = self.positions.get(batch.at)
        if position is None or batch.next_offset <= position.next:
            return  # another event type of this topic is behind
        unread = _from(batch, position.next)
        self.positions[batch.at] = replace(position, next=batch.next_offset)
        self.batches.append(unread)
        self.messages += len(unread.values)
        self.bytes += sum(len(value) for value in unread.values if value is not None)

    def take(self) -> Taken:
        moves = [
            OffsetMove(at, position.identity, position.stored, position.next)
            for at, position in self.positions.items()
            if position.stored != position.next
        ]
        taken = Taken(self.event, self.batches, moves)
        self.positions = {
            at: replace(position, stored=position.next) for at, position in self.positions.items()
        }
        self.batches, self.messages, self.bytes = [], 0, 0
        return taken


class Reader:
    """Reads the partitions of one shard, for several event types.

    Args:
        log: What is read.
        sink: Where offsets are.
        events: Event types, each with a log.
        shard: The share of every topic.

    Attributes:
        refused: Event types that cannot be read, and why; the others are.
        heard_at: When messages came last, or reading began; monotonic seconds.
    """

    def __init__(
        self, log: EventLog, sink: Sink, events: Iterable[EventPlan], shard: Shard
    ) -> None:
        self._log = log
        self._sink = sink
        self._events = list(events)
        self._shard = shard
        self._shares: list[_Share] = []
        self.refused: dict[str, SequencePlatformError] = {}
        self.heard_at = time.monotonic()

    @property
    def messages(self) -> int:
        """Messages that wait, of the event type that has most."""
        return max((share.messages for share in self._shares), default=0)

    @property
    def bytes(self) -> int:
        """Bytes of messages that wait."""
        return sum(share.bytes for share in self._shares)

    def begin(self) -> None:
        """Take up the positions that the sink holds; forget what was not taken.

        An event type that an operator must look after (its topic is absent, or does not hold what
        comes next) is set aside in ``refused``.

        Raises:
            StoreError: log or sink cannot be reached; trying again can help.
        """
        self._shares, self.refused = [], {}
        for event in self._events:
            try:
                positions = starting_positions(self._sink, self._log, event, self._shard)
            except (LogPositionError, StoreError) as error:
                if isinstance(error, StoreError) and error.retryable:
                    raise
                self.refused[event.name] = error
            else:
                self._shares.append(_Share(event, positions))
        wanted: dict[LogPartition, int] = {}
        for share in self._shares:
            for at, position in share.positions.items():
                wanted[at] = min(position.next, wanted.get(at, position.next))
        self._log.assign(wanted)
        # The log holds on to the topics that it saw now: they must be those of the positions.
        for share in self._shares:
            topic = topic_of(share.event)
            known = {position.identity for position in share.positions.values()}
            if known - {found := self._log.identity(topic)}:
                raise StoreError(
                    "a topic was made anew while reading began",
                    where=f"event type '{share.event.name}', topic '{topic}'",
                    found=found,
                    expected=listed(known),
                    next_step="begin again: what to do about it is told then",
                    retryable=True,
                )

    def poll(self, *, max_messages: int, timeout_seconds: float) -> None:
        """Read on."""
        batches = self._log.poll(max_messages=max_messages, timeout_seconds=timeout_seconds)
        self.heard_at = time.monotonic() if batches else self.heard_at
        for batch in batches:
            for share in self._shares:
                share.add(batch)

    def take(self) -> list[Taken]:
        """Return what was read since it was last taken, by event type; its offsets move with it."""
        return [taken for taken in (share.take() for share in self._shares) if taken.moves]

    def has_more(self) -> bool:
        """Return whether there is more to read now than when it began.

        Partitions that topics gained, or event types that could not be read and can be.
        """
        for event in self._events:
            if event.name in self.refused:
                with suppress(LogPositionError, StoreError):
                    starting_positions(self._sink, self._log, event, self._shard)
                    return True
        return any(
            self._shard.takes(partition)
            and LogPartition(topic_of(share.event), partition) not in share.positions
            for share in self._shares
            for partition in self._log.bounds(topic_of(share.event))
        )

    def has_lost_topic(self) -> bool:
        """Return whether a topic that was read is not there any more."""
        for share in self._shares:
            try:
                self._log.identity(topic_of(share.event))
            except StoreError as error:
                if not error.retryable:
                    return True
        return False

    def unread(self) -> dict[str, int]:
        """Return how many messages the log holds behind what was read, by event type."""
        return {
            share.event.name: sum(
                max(0, end - share.positions[at].next) for at, end in self._ends(share)
            )
            for share in self._shares
        }

    def lag(self, committed: Mapping[tuple[str, LogPartition], int]) -> dict[str, int]:
        """Return how many messages the log holds that are not committed, by event type.

        Args:
            committed: Offsets committed since ``begin``, by event type and partition.
        """
        return {
            share.event.name: sum(
                max(0, end - committed.get((share.event.name, at), share.positions[at].began))
                for at, end in self._ends(share)
            )
            for share in self._shares
        }

    def places(self, event: EventPlan) -> list[OffsetMove]:
        """Return the partitions of an event type, and how far each has been read."""
        return [
            OffsetMove(at, position.identity, position.stored, position.next)
            for share in self._shares
            if share.event.name == event.name
            for at, position in share.positions.items()
        ]

    def _ends(self, share: _Share) -> Iterator[tuple[LogPartition, int]]:
        topic = topic_of(share.event)
        for partition, bounds in self._log.bounds(topic).items():
            if (at := LogPartition(topic, partition)) in share.positions:
                yield at, bounds.end


def _from(batch: LogBatch, offset: int) -> LogBatch:
    """Return the messages of a batch from an offset on."""
    first = int(np.searchsorted(batch.offsets, offset))
    if first == 0:
        return batch
    return replace(
        batch,
        values=batch.values[first:],
        offsets=batch.offsets[first:],
        appended_us=batch.appended_us[first:],
    )
