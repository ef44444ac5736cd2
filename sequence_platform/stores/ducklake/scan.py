"""Events read by Polars straight from the lake's files: several times faster than through SQL.

Only where the files alone are the table: in a folder, with no deleted or inlined rows. What holds
  is checked
against the ledger, not assumed; everything else is read through DuckLake.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Sequence
from datetime import date

import polars as pl

from sequence_platform.plan.plan import Window
from sequence_platform.ports import TableSpec
from sequence_platform.stores.ducklake.session import Session
from sequence_platform.stores.ducklake.sql import CATALOG, days_of, split_name, text
from sequence_platform.stores.ducklake.types import stored_dtype

DAY_FOLDER = re.compile(r"/day=(\d{4}-\d{2}-\d{2})/")

CACHED_ROWS = 1_000_000
"""A window of more rows is read without the cache, all its files at once."""

CACHED_BYTES = 256 << 20
"""Decoded files kept: the next day of a backfill then reads one new file, not all its lookback."""


class FileCache:
    """The newest decoded columns of files, which never change."""

    def __init__(self) -> None:
        self._frames: OrderedDict[tuple[str, tuple[str, ...]], pl.DataFrame] = OrderedDict()
        self._bytes = 0
        self._counted: tuple[list[str], int] = ([], 0)

    def rows_of(self, files: list[str], schema: pl.Schema) -> int:
        """Return how many rows files hold; buckets of one window ask again and again."""
        if self._counted[0] != files:
            held = scan(files, schema).select(pl.len()).collect().item()
            self._counted = (files, int(held))
        return self._counted[1]

    def read(
        self, files: Sequence[str], columns: tuple[str, ...], schema: pl.Schema
    ) -> pl.DataFrame:
        """Return columns of files, one after the other."""
        return pl.concat([self._read(path, columns, schema) for path in files])

    def _read(self, path: str, columns: tuple[str, ...], schema: pl.Schema) -> pl.DataFrame:
        key = (path, columns)
        frame = self._frames.pop(key, None)
        if frame is None:
            frame = scan([path], schema).select(columns).collect()
            self._bytes += int(frame.estimated_size())
        self._frames[key] = frame
        while self._bytes > CACHED_BYTES and len(self._frames) > 1:
            self._bytes -= int(self._frames.popitem(last=False)[1].estimated_size())
        return frame


def scan(files: Sequence[str], schema: pl.Schema) -> pl.LazyFrame:
    """Return files of a table as a lazy frame; columns younger than a file are null."""
    return pl.scan_parquet(
        list(files),
        schema=schema,
        missing_columns="insert",
        extra_columns="ignore",
        hive_partitioning=False,
    )


def read_files(  # noqa: PLR0913, PLR0917 - each narrows the read
    session: Session,
    cache: FileCache,
    spec: TableSpec,
    columns: Sequence[str],
    window: Window,
    entities: pl.Series | None,
    between: tuple[object, object] | None,
    ledger_rows: int,
) -> pl.DataFrame | None:
    """Return the rows of a window, or None where files are not the whole truth.

    Args:
        session: The lake.
        cache: Of decoded files; used where the window's days hold at most CACHED_ROWS.
        spec: A daily table.
        columns: What to return.
        window: Of event_time.
        entities: Only these.
        between: Only entities in this closed range.
        ledger_rows: How many rows the ledger says the window's days hold.
    """
    files = current_files(session, spec, days_of(window))
    if not files:
        return None
    schema = pl.Schema({name: stored_dtype(dtype) for name, dtype in spec.columns.items()})
    needed = tuple(name for name in schema if name in {*columns, "entity", "event_time"})
    try:
        if ledger_rows <= CACHED_ROWS:
            decoded = cache.read(files, needed, schema)
            rows, held = decoded.lazy(), decoded.height
        else:
            rows, held = scan(files, schema), cache.rows_of(files, schema)
        if held != ledger_rows:
            return None
        return _narrowed(rows, window, entities, between).select(columns).collect().rechunk()
    except pl.exceptions.SchemaError:
        return None  # written by another hand (merged, say), in types that only DuckLake maps


def count_in_files(
    session: Session, cache: FileCache, spec: TableSpec, window: Window, ledger_rows: int
) -> pl.DataFrame | None:
    """Return ``entity, rows`` of a window, or None where files are not the whole truth."""
    files = current_files(session, spec, days_of(window))
    if not files:
        return None
    schema = pl.Schema({name: stored_dtype(dtype) for name, dtype in spec.columns.items()})
    try:
        rows = scan(files, schema)
        if cache.rows_of(files, schema) != ledger_rows:
            return None
        counted = _narrowed(rows, window, None, None).group_by("entity").agg(rows=pl.len())
        return counted.select(pl.col("entity").cast(spec.columns["entity"]), "rows").collect()
    except pl.exceptions.SchemaError:
        return None


def _narrowed(
    rows: pl.LazyFrame,
    window: Window,
    entities: pl.Series | None,
    between: tuple[object, object] | None,
) -> pl.LazyFrame:
    """Return the rows wanted, of those of the days that the window touches."""
    if not _is_of_whole_days(window):
        rows = rows.filter(pl.col("event_time").is_between(window.start, window.end, closed="left"))
    if between is not None:
        rows = rows.filter(pl.col("entity").is_between(pl.lit(between[0]), pl.lit(between[1])))
    if entities is not None:
        rows = rows.filter(pl.col("entity").is_in(entities.implode()))
    return rows


def _is_of_whole_days(window: Window) -> bool:
    first, last = days_of(window)
    return window == Window(Window.of_day(first).start, Window.of_day(last).end)


def current_files(session: Session, spec: TableSpec, days: tuple[date, date]) -> list[str] | None:
    """Return the current files of days ``[first, last]``, in the order of their days.

    None if rows were deleted from one, or none is local.
    """
    if not session.address.is_local:
        return None
    schema, plain = split_name(spec.name)
    listed = session.query(
        f"SELECT data_file, delete_file FROM ducklake_list_files({text(CATALOG)}, {text(plain)}, "
        f"schema => {text(schema)})"
    )
    first, last = (day.isoformat() for day in days)
    files = []
    for path, deletions in listed.iter_rows():
        folder = DAY_FOLDER.search(path)
        if folder is None:
            return None
        if first <= folder[1] <= last:
            if deletions is not None:
                return None
            files.append((folder[1], path))
    # Day after day: rows of an entity then come in the order of their times, or nearly so.
    return [path for _, path in sorted(files, key=lambda file: file[0])]
