"""The online store as runtimes need it: settled days in segments, what streamed in since in a tail.

What a segment covers is told by the log's own offsets, not by clocks: a segment of a day says how
far the log was in the lake when the day was read, so a streamed row counts if its offset lies
behind that, however late it came and whatever any clock says. Reading a row twice changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Protocol

import polars as pl

from sequence_platform.engine.point import Candidates
from sequence_platform.plan.plan import EventPlan
from sequence_platform.ports.lake import OffsetMove
from sequence_platform.ports.log import LogPartition

LogId = str
"""``topic/identity``: what tells a log from one of the same name made anew."""


def log_id(topic: str, identity: str) -> LogId:
    """Return the name of a log that no other has."""
    return f"{topic}/{identity}"


@dataclass(frozen=True, slots=True, eq=False)
class Reflected:
    """How far a log has been taken into something: offsets below these are in it.

    Attributes:
        offsets: By log and partition.
    """

    offsets: Mapping[tuple[LogId, int], int] = field(default_factory=dict)

    def holds(self, log: LogId, partition: int, offset: int) -> bool:
        """Return whether a message is in it."""
        return offset < self.offsets.get((log, partition), 0)


@dataclass(frozen=True, slots=True)
class DayVersion:
    """A day as a segment holds it.

    Attributes:
        content_hash: Of the rows and removals of the lake's partition; tells whether the lake has
            changed since.
        reflected: How far the log was in it, or in a later look that found it unchanged.
    """

    content_hash: str
    reflected: Reflected


@dataclass(frozen=True, slots=True, eq=False)
class DayRows:
    """A day of an event type to publish.

    Attributes:
        day: Which.
        rows: In the event type's schema, sorted by KEY_ORDER, a key once.
        removals: ENVELOPE and rule of keys that were deleted or rejected.
        version: What it is made of.
    """

    day: date
    rows: pl.DataFrame
    removals: pl.DataFrame
    version: DayVersion


@dataclass(frozen=True, slots=True, eq=False)
class Segment:
    """An immutable piece of the store.

    Attributes:
        name: Unique within its event type, never used again.
        days: Those it answers for. It may hold others, which newer segments answer for.
        held_days: How many days it holds.
        rows: All that it holds.
        checksum: Of its files.
    """

    name: str
    days: Mapping[date, DayVersion]
    held_days: int
    rows: int
    bytes: int
    checksum: str


@dataclass(frozen=True, slots=True, eq=False)
class Manifest:
    """Which segments are live for an event type, from a moment on.

    Attributes:
        number: Rises by one; 0 is the empty manifest.
        reason: For people: ``publish 2026-08-01``, ``rollback to 4``.
        segments: Each day is answered for by at most one.
        kept_from: Streamed rows of days before it do not count: they are beyond retention.
    """

    number: int
    activated_at: datetime
    reason: str = ""
    segments: tuple[Segment, ...] = ()
    kept_from: date = date.min

    @property
    def days(self) -> dict[date, DayVersion]:
        """All days that segments answer for."""
        return {day: version for each in self.segments for day, version in each.days.items()}

    @property
    def settled_until(self) -> date | None:
        """The day after the newest that a segment answers for."""
        days = self.days
        return max(days) + timedelta(days=1) if days else None


@dataclass(frozen=True, slots=True, eq=False)
class TailAppend:
    """What one flush of a stream brings, at once.

    Attributes:
        event: The event type.
        rows: In its schema; keys may repeat.
        removals: ENVELOPE and rule of deletions and rejected rows.
        moves: How far the log was read. Rows count until a segment holds all of these.
        received_at: When these rows can be read, by the clock of the writer.
        appended_until: When the log took the newest of the messages of each partition.
    """

    event: EventPlan
    rows: pl.DataFrame
    removals: pl.DataFrame
    moves: Sequence[OffsetMove]
    received_at: datetime
    appended_until: Mapping[LogPartition, datetime] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Freshness:
    """How far the store is for an event type.

    Attributes:
        manifest: Number of the manifest that is live.
        settled_until: The end of the newest day in segments; None if there is none.
        streamed_until: Every message that the log took before this can be read; None if nothing
            was ever streamed.
        activated_at: Since when the manifest is live.
    """

    manifest: int
    settled_until: datetime | None
    streamed_until: datetime | None
    activated_at: datetime | None


@dataclass(frozen=True, slots=True)
class TailSize:
    """What the tail holds of all event types: rows, and bytes of its file."""

    rows: int
    bytes: int


class OnlineView(Protocol):
    """The store at one moment: manifests and tail belong together."""

    def candidates(self, event: EventPlan, entity: object) -> Candidates:
        """Return all that may count of an event type and an entity, unknown ones have none."""
        ...

    def freshness(self, event: EventPlan) -> Freshness:
        """Return how far the store is for an event type."""
        ...


class OnlineReader(Protocol):
    """Reads; used by many threads and processes at once."""

    def view(self, known_at: datetime | None = None) -> AbstractContextManager[OnlineView]:
        """Open the store as it is, or as it was at a time.

        Columns of candidates stay usable after the view is closed.

        Raises:
            StateMismatchError: ``known_at`` is before what the store still holds.
            StoreError: a segment is damaged or gone.
        """
        ...


class OnlineAppender(Protocol):
    """Takes what streams bring. Rows and offsets are one transaction."""

    def append(self, append: TailAppend) -> None:
        """Add rows, removals and offsets.

        Raises:
            FencedError: a stored offset is not the one a move starts from; nothing changed.
            StoreError: nothing changed; retryable if trying again may help.
        """
        ...

    def heard(self, event: EventPlan, moves: Iterable[OffsetMove], until: datetime) -> None:
        """Note that all that partitions held at a time has been read: they are quiet, not behind.

        Args:
            event: The event type.
            moves: The partitions; ``next`` is what is stored.
            until: The time.
        """
        ...

    def offsets(self, event: EventPlan) -> pl.DataFrame:
        """Return how far the log was read: the columns of ``LakeAppender.offsets``."""
        ...

    def reset_offsets(
        self, event: EventPlan, moves: Iterable[OffsetMove], committed_at: datetime
    ) -> None:
        """Store offsets as an operator decided, whatever is stored; ``start`` is ignored."""
        ...


class OnlinePublisher(Protocol):
    """Switches segments. A switch is atomic: a reader sees the manifest before it or after it."""

    def publish(self, event: EventPlan, days: Sequence[DayRows], at: datetime) -> Manifest:
        """Store days as a new segment, which answers for them from now on.

        Publishing what is published already, by content, only moves ``reflected`` on.
        """
        ...

    def confirm(
        self, event: EventPlan, unchanged: Mapping[date, str], reflected: Reflected, at: datetime
    ) -> Manifest:
        """Note that days, by their content hash, have not changed while the log moved on."""
        ...

    def manifest(self, event: EventPlan) -> Manifest:
        """Return the live manifest; an empty one if nothing was published."""
        ...

    def manifests(self, event: EventPlan) -> list[Manifest]:
        """Return all manifests kept, oldest first."""
        ...

    def rollback(self, event: EventPlan, number: int, at: datetime) -> Manifest:
        """Make the segments of an earlier manifest live again, under a new number.

        Raises:
            StateMismatchError: that manifest is not kept any more.
        """
        ...

    def expire(self, event: EventPlan, before: date, at: datetime) -> Manifest:
        """Let the days before one go, of segments and of what was streamed."""
        ...

    def compact(self, event: EventPlan, at: datetime) -> Manifest:
        """Merge small segments into longer ones; answers stay the same."""
        ...

    def collect(self, event: EventPlan, *, keep: timedelta, at: datetime) -> int:
        """Drop manifests replaced longer than ``keep`` ago, their segments, and covered tail rows.

        Returns:
            How many tail rows were dropped.
        """
        ...

    def tail_size(self) -> TailSize:
        """Return how much the tail holds."""
        ...


class OnlineStore(OnlineReader, OnlineAppender, OnlinePublisher, Protocol):
    """All of it."""

    def close(self) -> None:
        """Release files and connections; views must be closed before."""
        ...
