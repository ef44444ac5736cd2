"""The lake as runtimes need it: tables that are read, written in transactions, and kept up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Protocol

import polars as pl

from sequence_platform.plan.plan import Window
from sequence_platform.plan.tables import TableSpec
from sequence_platform.ports.log import LogPartition

CORRECTION_COLUMNS = ("entity", "event_id", "revision", "arrival_time", "event_time", "removes")
"""A correction beats a row of the same (entity, event_id) that is smaller by the others, taken as
(revision, arrival_time, removes, event_time); a stored row has ``removes`` false."""


EXPIRED = "expired"
"""The state of a partition that retention has emptied."""


@dataclass(frozen=True, slots=True)
class Staged:
    """Rows written outside any transaction, not yet visible.

    Attributes:
        content_hash: Of the rows, as ``platform.partitions`` will hold it.
    """

    files: tuple[str, ...]
    rows: int
    bytes: int
    content_hash: str


@dataclass(frozen=True, slots=True)
class Counts:
    """What became of the rows received for a partition. They add up: see ``is_conserved``."""

    received: int = 0
    admitted: int = 0
    filtered: Mapping[str, int] = field(default_factory=dict)
    superseded: int = 0
    deleted: int = 0
    dead_lettered: int = 0

    @property
    def is_conserved(self) -> bool:
        """Whether every row received ended in exactly one outcome."""
        ended = (
            self.admitted
            + sum(self.filtered.values())
            + self.superseded
            + self.deleted
            + self.dead_lettered
        )
        return self.received == ended


@dataclass(frozen=True, slots=True, eq=False)
class PartitionCommit:
    """All that one partition of one table becomes, at once.

    Attributes:
        table: The table.
        day: The partition; None for a table that is not partitioned (it is replaced whole).
        staged: The rows.
        counts: What became of the rows received.
        dead: Dead letters (DEAD_LETTERS), replacing those of the same table and day.
        corrections: CORRECTION_COLUMNS of winners that may beat rows of other partitions; only for
            tables that correct.
        inputs: Hash of what the rows were computed from; it tells whether a partition is stale.
        arrival_watermark: The newest arrival_time among the rows read.
        fingerprint: Of the definition that produced the rows.
        committed_at: Now, UTC.
        expected_version: The partition's version when its inputs were read (0: it did not exist).
        is_sealed: Whether no more rows are expected: its allowed lateness is over.
    """

    table: TableSpec
    day: date | None
    staged: Staged
    counts: Counts
    dead: pl.DataFrame
    fingerprint: str
    committed_at: datetime
    expected_version: int
    corrections: pl.DataFrame | None = None
    inputs: str = ""
    arrival_watermark: datetime | None = None
    is_sealed: bool = False


@dataclass(frozen=True, slots=True)
class Committed:
    """What a commit did.

    Attributes:
        changed: False when the partition already held exactly this, and nothing was written.
        corrected: Other days of the table that lost rows to this commit's corrections.
        superseded: Rows of this commit that corrections of other days had already beaten.
    """

    version: int
    changed: bool
    rows: int
    bytes: int
    corrected: tuple[date, ...] = ()
    superseded: int = 0


@dataclass(frozen=True, slots=True)
class OffsetMove:
    """How far a partition of a log was read.

    Attributes:
        at: The partition.
        identity: Of the topic, as the log says (``EventLog.identity``).
        start: The offset that is stored now; None if none is.
        next: The offset to store.
    """

    at: LogPartition
    identity: str
    start: int | None
    next: int


@dataclass(frozen=True, slots=True, eq=False)
class DayAppend:
    """What one partition gains.

    Attributes:
        day: The partition.
        raw: Rows of the raw table.
        rows: Rows of the enriched table, keys of which the partition holds no row but ``removed``.
        removed: ``entity, event_id, revision, arrival_time, event_time`` of rows that they replace.
        counts: How the counts change; numbers may be negative.
        corrections: CORRECTION_COLUMNS of winners that may beat rows of other partitions; only for
            tables that correct.
        arrival_watermark: The newest arrival_time among the rows.
        expected_version: The partition's version when its rows were looked at (0: none yet).
    """

    day: date
    raw: Staged
    rows: Staged
    removed: pl.DataFrame
    counts: Counts
    corrections: pl.DataFrame | None
    arrival_watermark: datetime | None
    expected_version: int


@dataclass(frozen=True, slots=True, eq=False)
class Append:
    """All that one flush of a stream changes, at once.

    Attributes:
        raw: The raw table.
        enriched: The enriched table.
        days: By partition.
        offsets: How far the log was read.
        dead: Dead letters (STREAM_LETTERS) to add.
        replayed: ``source, position, appended_at`` of dead letters that are used up.
        fingerprint: Of the definition that produced the rows.
        committed_at: Now, UTC.
    """

    raw: TableSpec
    enriched: TableSpec
    days: tuple[DayAppend, ...]
    offsets: tuple[OffsetMove, ...]
    dead: pl.DataFrame
    replayed: pl.DataFrame
    fingerprint: str
    committed_at: datetime


@dataclass(frozen=True, slots=True)
class Appended:
    """What an append did.

    Attributes:
        partitions: Version, rows and state by day after it.
        corrected: Other days of the table that lost rows to its corrections.
        superseded: Rows of it that corrections of other days had already beaten.
    """

    partitions: Mapping[date, PartitionState]
    corrected: tuple[date, ...] = ()
    superseded: int = 0


@dataclass(frozen=True, slots=True)
class PartitionState:
    """What the ledger says of a partition.

    Attributes:
        state: ``open``: only appended to; ``built``: by batch, while rows may still come;
            ``sealed``: by batch after its allowed lateness; ``corrected``: built or sealed, and
            changed since; ``expired``: older than retention, and emptied.
    """

    version: int
    rows: int
    state: str


class LakeAppender(Protocol):
    """Takes what streams bring. An append is one transaction, its offsets included."""

    def append(self, append: Append) -> Appended:
        """Add raw and enriched rows, dead letters, counts and offsets, in one transaction.

        Raises:
            FencedError: a stored offset is not the one a move starts from; nothing changed.
            ConflictError: a partition is not at its ``expected_version`` any more; nothing changed.
            StoreError: the catalog or the disk failed; nothing changed.
        """
        ...

    def discard(self, staged: Iterable[Staged]) -> None:
        """Remove staged rows that nobody will commit."""
        ...

    def offsets(self, raw: TableSpec) -> pl.DataFrame:
        """Return how far the log was read into a raw table, by topic and partition.

        Columns: ``topic, log_partition, identity, next_offset, committed_at``.
        """
        ...

    def reset_offsets(
        self, raw: TableSpec, offsets: Iterable[OffsetMove], committed_at: datetime
    ) -> None:
        """Store offsets as an operator decided, whatever is stored; ``start`` is ignored."""
        ...

    def read_keys(self, spec: TableSpec, days: Sequence[date], keys: pl.DataFrame) -> pl.DataFrame:
        """Return ``day`` and all columns of the rows of a raw or enriched table with these keys.

        Args:
            spec: The table.
            days: Partitions to look in; no other is opened.
            keys: ``entity, event_id``, in the types of the table.
        """
        ...

    def read_raw(self, spec: TableSpec, day: date) -> pl.DataFrame:
        """Return a day of a raw table, in the order of its keys and messages."""
        ...

    def dead_letters(self, raw: TableSpec) -> pl.DataFrame:
        """Return the dead letters of a raw table (STREAM_LETTERS and ``recorded_at``), in order."""
        ...


class LakeWriter(Protocol):
    """Writes tables. A change is one transaction; a crash leaves the state before or after it."""

    def ensure_tables(self, specs: Iterable[TableSpec]) -> None:
        """Create what is absent and add new columns (null in old partitions). Idempotent.

        Raises:
            StateMismatchError: an existing column has another type.
        """
        ...

    def stage(self, spec: TableSpec, day: date | None, frames: Iterable[pl.DataFrame]) -> Staged:
        """Write rows, in ``sort_by`` order, to files nobody reads yet. No lock is held."""
        ...

    def commit(self, commit: PartitionCommit) -> Committed:
        """Replace a partition, its dead letters, corrections and ledger row, in one transaction.

        Committing the same again changes nothing. Writers of any partitions may run at once.

        Raises:
            ConflictError: the partition is not at ``expected_version`` any more.
            StoreError: the catalog or the disk failed; nothing changed.
        """
        ...


class LakeReader(Protocol):
    """Reads tables; every call sees one snapshot. Times are TIME, vectors are Arrays."""

    def read_events(
        self,
        spec: TableSpec,
        columns: Sequence[str],
        window: Window,
        *,
        entities: pl.Series | None = None,
        between: tuple[object, object] | None = None,
    ) -> pl.DataFrame:
        """Return the rows with event_time in ``window``, in no particular order.

        Args:
            spec: An enriched table.
            columns: What to read; only these touch the disk.
            window: Of event_time; partitions outside it are not opened.
            entities: Only these entities: few, unless ``between`` is given.
            between: Only entities in this closed range (a bucket).
        """
        ...

    def entity_counts(
        self, specs: Sequence[TableSpec], window: Window, *, active: Window
    ) -> pl.DataFrame:
        """Return ``entity, rows``, sorted by entity.

        Who had an event in ``active``, and their rows in ``window`` over all tables.
        """
        ...

    def read_lookup(self, spec: TableSpec, keys: pl.Series) -> pl.DataFrame:
        """Return an enrichment table's rows with one of these keys, sorted by ``sort_by``."""
        ...

    def read_whole(self, spec: TableSpec) -> pl.DataFrame:
        """Return all rows of a table without days, an enrichment's, sorted by ``sort_by``."""
        ...

    def read_snapshots(
        self,
        spec: TableSpec,
        columns: Sequence[str],
        until: date,
        *,
        entities: pl.Series | None = None,
    ) -> pl.DataFrame:
        """Return each entity's newest row of a daily table with ``day <= until``.

        Columns are ``day`` and ``columns``.
        """
        ...

    def read_corrections(self, spec: TableSpec, day: date) -> pl.DataFrame:
        """Return the corrections that a day of a table that corrects holds (CORRECTION_COLUMNS)."""
        ...

    def snapshot_number(self) -> int:
        """Return the number of the newest snapshot; it rises with every commit."""
        ...

    def violations(self, spec: TableSpec, day: date | None) -> Mapping[str, int]:
        """Return how many rows of a partition break each guarantee, by check name.

        Recomputed from what is stored.

        Checks: ``unique_keys`` ((entity, event_id); entity for snapshots), ``null_entity``,
        ``in_partition``; for snapshots also ``alignment`` (all lists as long as ``length``) and
        ``order`` (event_time rises).
        """
        ...

    def ledger(
        self, table: str | None = None, window: tuple[date, date] | None = None
    ) -> pl.DataFrame:
        """Return the rows of ``platform.partitions``.

        Only of one table, and of days in ``[start, end)``, if given.
        """
        ...


@dataclass(frozen=True, slots=True)
class Maintenance:
    """What maintenance did."""

    files_before: int
    files_after: int
    bytes_before: int
    bytes_after: int
    snapshots_expired: int


@dataclass(frozen=True, slots=True)
class Expired:
    """What retention removed of a table.

    Attributes:
        before: The first day that is kept.
        days: Partitions that went.
    """

    table: str
    before: date
    days: int = 0
    rows: int = 0
    dead_letters: int = 0

    @property
    def is_any(self) -> bool:
        """Whether anything went."""
        return bool(self.days or self.rows or self.dead_letters)


class LakeKeeper(Protocol):
    """Keeps the lake healthy and its published manifest."""

    def expire(self, spec: TableSpec, before: date) -> Expired:
        """Remove the partitions of a daily table before a day, in one transaction. Idempotent.

        With their rows go their dead letters and corrections; dead letters of a log go by when it
        took them. Ledger rows of snapshots go, too; others stay as ``expired``, with the hash of
        what they held, so that nothing that was computed from them looks stale.

        Raises:
            StoreError: the catalog or the disk failed; nothing changed.
        """
        ...

    def maintain(self, *, keep_snapshots: timedelta, orphans_older_than: timedelta) -> Maintenance:
        """Merge small files, drop deleted rows, expire old snapshots, delete orphaned files."""
        ...

    def published(self) -> str | None:
        """Return the manifest (canonical JSON) that ``current`` points at, or None."""
        ...

    def publish(
        self, manifest: str, fingerprint: str, published_at: datetime, *, replaces: str | None
    ) -> None:
        """Store a manifest, immutable, named by fingerprint; switch ``current`` to it atomically.

        Raises:
            ConflictError: ``current`` is not the manifest with fingerprint ``replaces``.
        """
        ...


class Lake(LakeWriter, LakeAppender, LakeReader, LakeKeeper, Protocol):
    """All of it."""
