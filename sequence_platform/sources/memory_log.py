"""A log in memory, for tests and trials: it forgets everything with its process.

Its topics can lose old messages, hold gaps and be made anew, and its readers can be told to fail.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count, repeat
from threading import Condition
from time import monotonic
from uuid import uuid4

import numpy as np

from sequence_platform.clock import Clock, SystemClock
from sequence_platform.errors import StoreError, nearest
from sequence_platform.ports.log import Bounds, LogBatch, LogPartition
from sequence_platform.ports.log_positions import ensure_positions, ensure_same_topics

LOG = "the log in memory"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
ONE_MICROSECOND = timedelta(microseconds=1)

Failures = Mapping[tuple[str, int], Exception]
"""What the nth call of a method raises instead of doing anything: ``("poll", 3)`` is the third."""


@dataclass(slots=True, eq=False)
class _Partition:
    offsets: list[int] = field(default_factory=list)
    values: list[bytes | None] = field(default_factory=list)
    appended_us: list[int] = field(default_factory=list)
    first: int = 0
    end: int = 0


@dataclass(slots=True, eq=False)
class _Topic:
    partitions: list[_Partition]
    identity: str = field(default_factory=lambda: uuid4().hex)


class MemoryTopics:
    """The topics that logs and writers share; any thread may use them."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._topics: dict[str, _Topic] = {}
        self._changed = Condition()
        self._turns = count()

    def create(self, topic: str, partitions: int) -> None:
        """Make a topic; nothing if it exists."""
        with self._changed:
            made = _Topic([_Partition() for _ in range(partitions)])
            self._topics.setdefault(topic, made)

    def delete(self, topic: str) -> None:
        """Remove a topic; one made later under its name is another."""
        with self._changed:
            del self._topics[topic]
            self._changed.notify_all()

    def add_partitions(self, topic: str, partitions: int) -> None:
        """Add partitions to a topic."""
        with self._changed:
            self._get(topic).partitions.extend(_Partition() for _ in range(partitions))

    def expire(self, at: LogPartition, first: int) -> None:
        """Drop the messages before an offset, as retention does."""
        with self._changed:
            held = self._get(at.topic).partitions[at.partition]
            kept = int(np.searchsorted(held.offsets, first))
            for column in (held.offsets, held.values, held.appended_us):
                del column[:kept]
            held.first, held.end = first, max(first, held.end)
            self._changed.notify_all()

    def skip(self, at: LogPartition, offsets: int) -> None:
        """Take offsets for records that are no messages, as transactions do."""
        with self._changed:
            self._get(at.topic).partitions[at.partition].end += offsets
            self._changed.notify_all()

    def append(
        self, topic: str, values: Iterable[bytes | None], keys: Iterable[bytes | None] | None
    ) -> None:
        """Append messages: ports.LogWriter."""
        messages = list(
            zip(values, repeat(None) if keys is None else keys, strict=keys is not None)
        )
        with self._changed:
            partitions = self._get(topic).partitions
            now_us = (self._clock.now() - EPOCH) // ONE_MICROSECOND
            for value, key in messages:
                number = next(self._turns) if key is None else zlib.crc32(key)
                held = partitions[number % len(partitions)]
                held.offsets.append(held.end)
                held.values.append(value)
                held.appended_us.append(now_us)
                held.end += 1
            self._changed.notify_all()

    def identity(self, topic: str) -> str:
        """Return the identity of a topic: ports.EventLog."""
        with self._changed:
            return self._get(topic).identity

    def bounds(self, topic: str) -> dict[int, Bounds]:
        """Return what a topic holds: ports.EventLog."""
        with self._changed:
            return {
                number: Bounds(held.first, held.end)
                for number, held in enumerate(self._get(topic).partitions)
            }

    def ensure(
        self, positions: Mapping[LogPartition, int], identities: Mapping[str, str] | None = None
    ) -> dict[str, str]:
        """Raise unless these positions can be read, of topics that are the same; return which."""
        with self._changed:
            topics = {at.topic for at in positions}
            found = {topic: self.identity(topic) for topic in topics}
            ensure_same_topics(found, identities or found, log=LOG)
            ensure_positions(positions, {topic: self.bounds(topic) for topic in topics}, log=LOG)
            return found

    def read(
        self,
        positions: Mapping[LogPartition, int],
        identities: Mapping[str, str],
        max_messages: int,
        timeout_seconds: float,
    ) -> list[LogBatch]:
        """Return messages from these positions on, or nothing after the time."""
        deadline = monotonic() + timeout_seconds
        with self._changed:
            while True:
                self.ensure(positions, identities)
                batches = self._batches(positions, max_messages)
                remaining = deadline - monotonic()
                if batches or remaining <= 0:
                    return batches
                self._changed.wait(remaining)

    def _batches(self, positions: Mapping[LogPartition, int], max_messages: int) -> list[LogBatch]:
        batches: list[LogBatch] = []
        wanted = max_messages
        for at, position in positions.items():
            held = self._topics[at.topic].partitions[at.partition]
            start = int(np.searchsorted(held.offsets, position))
            end = min(start + wanted, len(held.offsets))
            if start == end:
                continue
            wanted -= end - start
            batches.append(
                LogBatch(
                    at=at,
                    values=held.values[start:end],
                    offsets=np.array(held.offsets[start:end], dtype=np.int64),
                    appended_us=np.array(held.appended_us[start:end], dtype=np.int64),
                    next_offset=held.offsets[end] if end < len(held.offsets) else held.end,
                )
            )
        return batches

    def _get(self, topic: str) -> _Topic:
        if topic in self._topics:
            return self._topics[topic]
        raise StoreError(
            "a topic does not exist",
            where=LOG,
            found=nearest(topic, self._topics),
            expected=f"'{topic}'",
            next_step="check the name, or create it",
        )


class MemoryLog:
    """Reads topics in memory: ports.EventLog."""

    def __init__(self, topics: MemoryTopics, failures: Failures | None = None) -> None:
        self._topics = topics
        self._failures = failures or {}
        self._calls: dict[str, int] = {}
        self._positions: dict[LogPartition, int] = {}
        self._identities: dict[str, str] = {}

    def identity(self, topic: str) -> str:
        """Return what tells this topic from another of the same name: ports.EventLog."""
        self._called("identity")
        return self._topics.identity(topic)

    def bounds(self, topic: str) -> Mapping[int, Bounds]:
        """Return the offsets that each partition holds: ports.EventLog."""
        self._called("bounds")
        return self._topics.bounds(topic)

    def assign(self, positions: Mapping[LogPartition, int]) -> None:
        """Read these partitions from these offsets on: ports.EventLog."""
        self._called("assign")
        self._identities = self._topics.ensure(positions)
        self._positions = dict(positions)

    def poll(self, *, max_messages: int, timeout_seconds: float) -> Sequence[LogBatch]:
        """Return the next messages: ports.EventLog."""
        self._called("poll")
        batches = self._topics.read(
            self._positions, self._identities, max_messages, timeout_seconds
        )
        for batch in batches:  # and to the end of the line: no partition starves another
            del self._positions[batch.at]
            self._positions[batch.at] = batch.next_offset
        return batches

    def close(self) -> None:
        """Do nothing: there is nothing to release."""

    def _called(self, method: str) -> None:
        number = self._calls[method] = self._calls.get(method, 0) + 1
        failure = self._failures.get((method, number))
        if failure is not None:
            raise failure


class MemoryLogWriter:
    """Appends to topics in memory: ports.LogWriter."""

    def __init__(self, topics: MemoryTopics) -> None:
        self._topics = topics

    def create_topic(self, topic: str, partitions: int) -> None:
        """Make a topic; nothing if it exists."""
        self._topics.create(topic, partitions)

    def append(
        self, topic: str, values: Iterable[bytes | None], keys: Iterable[bytes | None] | None = None
    ) -> None:
        """Append messages: ports.LogWriter."""
        self._topics.append(topic, values, keys)

    def close(self) -> None:
        """Do nothing: there is nothing to release."""
