"""The lake as the ports want it.

One object that binds a connection to the functions of this package.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from types import TracebackType
from typing import Self

import polars as pl

from sequence_platform.plan.plan import Window
from sequence_platform.ports import (
    CORRECTION_COLUMNS,
    Append,
    Appended,
    Committed,
    Expired,
    Maintenance,
    OffsetMove,
    PartitionCommit,
    Staged,
    TableSpec,
)
from sequence_platform.stores.ducklake import checks, manifests, read
from sequence_platform.stores.ducklake.append import append_rows, read_offsets, reset_offsets
from sequence_platform.stores.ducklake.checks import LawfulFiles
from sequence_platform.stores.ducklake.commit import commit_partition
from sequence_platform.stores.ducklake.connection import LakeAddress, Resources
from sequence_platform.stores.ducklake.corrections import stored_corrections
from sequence_platform.stores.ducklake.maintenance import maintain
from sequence_platform.stores.ducklake.platform_tables import corrections_of
from sequence_platform.stores.ducklake.retention import expire_days
from sequence_platform.stores.ducklake.scan import FileCache
from sequence_platform.stores.ducklake.schema import ensure_tables
from sequence_platform.stores.ducklake.session import Session
from sequence_platform.stores.ducklake.sql import day_is
from sequence_platform.stores.ducklake.stage import remove, stage
from sequence_platform.stores.ducklake.types import from_stored


class DuckLakeLake:
    """Implements ``ports.Lake``.

    Used from one thread at a time, by any number of processes at once.

    Args:
        catalog: Path of a SQLite file, or ``postgresql://user@host/database``.
        data_path: Folder, or ``s3://bucket/prefix``.
        read_only: Refuse every write.
        memory_limit_mb: What DuckDB may use before it spills to ``temp_directory``.
        threads: Threads of DuckDB.
        temp_directory: Where it spills; None is DuckDB's default.
    """

    def __init__(  # noqa: PLR0913 - one argument per setting
        self,
        catalog: str,
        data_path: str,
        *,
        read_only: bool = False,
        memory_limit_mb: int = 1024,
        threads: int = 2,
        temp_directory: str | None = None,
    ) -> None:
        resources = Resources(memory_limit_mb, threads, temp_directory)
        self._session = Session(LakeAddress.of(catalog, data_path), resources, read_only=read_only)
        self._cache = FileCache()
        self._lawful = LawfulFiles()
        if not read_only:
            try:
                ensure_tables(self._session, ())
            except BaseException:
                self._session.close()
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; closing twice does nothing."""
        self._session.close()

    def ensure_tables(self, specs: Iterable[TableSpec]) -> None:
        """Create what is absent and add new columns."""
        ensure_tables(self._session, specs)

    def stage(self, spec: TableSpec, day: date | None, frames: Iterable[pl.DataFrame]) -> Staged:
        """Write rows to files nobody reads yet."""
        return stage(self._session, self._lawful, spec, day, frames)

    def commit(self, commit: PartitionCommit) -> Committed:
        """Replace a partition in one transaction."""
        return commit_partition(self._session, commit)

    def append(self, append: Append) -> Appended:
        """Add what a stream brought, in one transaction."""
        return append_rows(self._session, append)

    def discard(self, staged: Iterable[Staged]) -> None:
        """Remove staged rows that nobody will commit."""
        remove(self._session, (path for part in staged for path in part.files))

    def offsets(self, raw: TableSpec) -> pl.DataFrame:
        """Return how far the log was read into a raw table."""
        return read_offsets(self._session, raw)

    def reset_offsets(
        self, raw: TableSpec, offsets: Iterable[OffsetMove], committed_at: datetime
    ) -> None:
        """Store offsets as an operator decided."""
        reset_offsets(self._session, raw, offsets, committed_at)

    def read_keys(self, spec: TableSpec, days: Sequence[date], keys: pl.DataFrame) -> pl.DataFrame:
        """Return the rows of some days with these keys."""
        return read.read_keys(self._session, spec, days, keys)

    def read_raw(self, spec: TableSpec, day: date) -> pl.DataFrame:
        """Return a day of a raw table."""
        return read.read_raw(self._session, spec, day)

    def dead_letters(self, raw: TableSpec) -> pl.DataFrame:
        """Return the dead letters of a raw table."""
        return read.read_dead_letters(self._session, raw)

    def read_events(
        self,
        spec: TableSpec,
        columns: Sequence[str],
        window: Window,
        *,
        entities: pl.Series | None = None,
        between: tuple[object, object] | None = None,
    ) -> pl.DataFrame:
        """Return the rows with event_time in ``window``, in no particular order."""
        return read.read_events(
            self._session,
            self._cache,
            spec,
            columns,
            window,
            entities=entities,
            between=between,
        )

    def entity_counts(
        self, specs: Sequence[TableSpec], window: Window, *, active: Window
    ) -> pl.DataFrame:
        """Return who was active, and their rows in ``window``."""
        return read.entity_counts(self._session, self._cache, specs, window, active)

    def read_corrections(self, spec: TableSpec, day: date) -> pl.DataFrame:
        """Return the corrections that a day holds: ports.LakeReader."""
        found = stored_corrections(self._session, spec, day_is(day))
        types = corrections_of(spec).columns
        return from_stored(found, types).select(CORRECTION_COLUMNS)

    def read_lookup(self, spec: TableSpec, keys: pl.Series) -> pl.DataFrame:
        """Return the rows of an enrichment table with one of these keys."""
        return read.read_lookup(self._session, spec, keys)

    def read_whole(self, spec: TableSpec) -> pl.DataFrame:
        """Return all rows of an enrichment table."""
        return read.read_whole(self._session, spec)

    def read_snapshots(
        self,
        spec: TableSpec,
        columns: Sequence[str],
        until: date,
        *,
        entities: pl.Series | None = None,
    ) -> pl.DataFrame:
        """Return each entity's newest row with ``day <= until``, sorted by entity."""
        return read.read_snapshots(self._session, spec, columns, until, entities=entities)

    def snapshot_number(self) -> int:
        """Return the number of the newest snapshot."""
        return read.snapshot_number(self._session)

    def violations(self, spec: TableSpec, day: date | None) -> Mapping[str, int]:
        """Return how many rows of a partition break each guarantee."""
        return checks.violations(self._session, self._lawful, spec, day)

    def ledger(
        self, table: str | None = None, window: tuple[date, date] | None = None
    ) -> pl.DataFrame:
        """Return the rows of ``platform.partitions``."""
        return read.read_ledger(self._session, table, window)

    def expire(self, spec: TableSpec, before: date) -> Expired:
        """Remove the partitions of a daily table before a day, in one transaction."""
        return expire_days(self._session, spec, before)

    def maintain(self, *, keep_snapshots: timedelta, orphans_older_than: timedelta) -> Maintenance:
        """Merge small files, drop deleted rows, expire old snapshots, delete orphaned files."""
        return maintain(
            self._session, keep_snapshots=keep_snapshots, orphans_older_than=orphans_older_than
        )

    def published(self) -> str | None:
        """Return the manifest in force, or None."""
        return manifests.published(self._session)

    def publish(
        self, manifest: str, fingerprint: str, published_at: datetime, *, replaces: str | None
    ) -> None:
        """Store a manifest and put it in force."""
        manifests.publish(self._session, manifest, fingerprint, published_at, replaces=replaces)
