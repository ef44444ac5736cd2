"""A table or view of a SQL database as a batch source: DuckDB files and PostgreSQL, read only.

DuckDB reads both. Columns and the window are pushed down, so that the database sends no more.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

import duckdb
import polars as pl

from sequence_platform.definition.source import Table
from sequence_platform.engine.conform import conform, unusable_rows
from sequence_platform.errors import FrameSchemaError, StoreError, listed, nearest
from sequence_platform.plan.plan import Window
from sequence_platform.ports import RawBatch

BATCH_ROWS = 100_000
"""Rows of a frame: enough to spread the cost of a call, few enough for rows with vectors."""
NO_DOWNLOADS = {"autoinstall_known_extensions": "false", "autoload_known_extensions": "false"}
"""DuckDB must not reach for the network by itself: without one, it hangs."""
POSTGRES = ("postgresql://", "postgres://")
PASSWORD = re.compile(r"(?<=:)[^:@/\s]+(?=@)|(?<=password=)\S+")
RETRYABLE = re.compile(r"lock|connect|timed out|closed", re.IGNORECASE)
UNITS = {"s": timedelta(seconds=1), "ms": timedelta(milliseconds=1), "us": timedelta(microseconds=1)}
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
INTEGERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT")
INTEGER_TYPES = {*INTEGERS, *(f"U{name}" for name in INTEGERS)}
INSTANTS = ("TIMESTAMP", "TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP_NS")

Condition = tuple[str, Mapping[str, object]]
"""SQL with parameters, and their values."""


class Databases(Protocol):
    """Where databases are, and what reading them may use; settings are this."""

    @property
    def databases(self) -> Mapping[str, str]:
        """DuckDB files or ``postgresql://...``, by name."""

    @property
    def source_root(self) -> Path:
        """Where relative paths start."""

    @property
    def memory_limit_mb(self) -> int:
        """Memory of DuckDB."""

    @property
    def threads(self) -> int:
        """Threads of DuckDB."""


@dataclass(frozen=True, slots=True)
class TableSource:
    """Reads a Table: ports.BatchSource.

    Attributes:
        definition: Which table, and the column that windows are compared with.
        schema: The raw schema.
        time: Returns the event_time of raw rows (TIME), null where it is absent or impossible.
        databases: What the name of a database means.
        start: The first day, which also gets the rows whose time_column is null or not possible.
        possible: The first possible time, and the first one after that is not.
    """

    definition: Table
    schema: pl.Schema
    time: Callable[[pl.DataFrame], pl.Series] | None
    databases: Databases
    start: date | None = None
    possible: tuple[datetime, datetime] | None = None

    def read(self, window: Window | None) -> Iterator[RawBatch]:
        """Yield the rows of a day, or all: see ports.BatchSource.

        A row whose event_time is another day than its time_column says is a dead letter of the rule
        ``outside_partition`` on the day of its time_column.
        """
        with self._connected() as connection:
            types = self._types(connection)
            select = f"SELECT {', '.join(map(quoted, self.schema))} FROM {self._table}"
            for condition, values in self._conditions(window, types):
                for frame in self._frames(connection, f"{select} WHERE {condition}", values):
                    yield self._batch(frame, window)

    def _batch(self, frame: pl.DataFrame, window: Window | None) -> RawBatch:
        decoded = conform(frame, self.schema, source=self._name, first_position=None)
        rows, dead = decoded.frame, decoded.dead
        if window is None or self.time is None:
            return RawBatch(rows, dead, self._name)
        times = self.time(rows)
        is_outside = (times < window.start) | (times >= window.end)
        outside = rows.filter(is_outside)
        found = times.filter(is_outside).dt.to_string("iso:strict")
        other = unusable_rows(
            outside,
            rules=pl.repeat("outside_partition", outside.height, dtype=pl.String, eager=True),
            details=f"found event_time " + found + f", expected {window.start} <= it < {window.end}",
            source=self._name,
            positions=None,
        )
        return RawBatch(rows.filter(~is_outside.fill_null(value=False)), pl.concat([dead, other]), self._name)
