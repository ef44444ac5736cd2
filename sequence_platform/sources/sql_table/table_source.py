"""Reads a table or view by windows of its time column: which rows belong to which day."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import duckdb
import polars as pl

from sequence_platform.definition.source import Table
from sequence_platform.engine.conform import conform, unusable_rows
from sequence_platform.errors import FrameSchemaError, StoreError, listed, nearest
from sequence_platform.plan.plan import Window
from sequence_platform.ports import RawBatch
from sequence_platform.sources.sql_table.database import (
    SOURCE,
    Databases,
    default_schema,
    open_database,
    quoted,
    reading,
    tables_of,
)

BATCH_ROWS = 100_000
"""Rows of a frame: enough to spread the cost of a call, few enough for rows with vectors."""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
ONE_DAY = timedelta(days=1)
UNITS = {
    "s": timedelta(seconds=1),
    "ms": timedelta(milliseconds=1),
    "us": timedelta(microseconds=1),
}
INTEGERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT")
INTEGER_TYPES = {*INTEGERS, *(f"U{name}" for name in INTEGERS)}
INSTANTS = ("TIMESTAMP", "TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP_NS")

Condition = tuple[str, Mapping[str, object]]
"""SQL with parameters, and their values."""


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
        with open_database(self.definition.database, self.databases, self._name) as connection:
            types = self._types(connection)
            select = f"SELECT {', '.join(map(quoted, self.schema))} FROM {self._table}"
            for condition, values in self._conditions(window, types):
                for frame in self._frames(connection, f"{select} WHERE {condition}", values):
                    yield self._batch(frame, window)

    @property
    def _name(self) -> str:
        return f"{self.definition.database}:{self.definition.name}"

    @property
    def _table(self) -> str:
        parts = self.definition.name.split(".")
        schema = parts[:-1] or [default_schema(self.definition.database, self.databases)]
        return ".".join(map(quoted, [SOURCE, *schema, parts[-1]]))

    def _batch(self, frame: pl.DataFrame, window: Window | None) -> RawBatch:
        decoded = conform(frame, self.schema, source=self._name, first_position=None)
        rows, dead = decoded.frame, decoded.dead
        if window is None or self.time is None:
            return RawBatch(rows, dead, self._name)
        times = self.time(rows)
        is_outside = ((times < window.start) | (times >= window.end)).fill_null(value=False)
        if not is_outside.any():
            return RawBatch(rows, dead, self._name)
        found = times.filter(is_outside).dt.to_string("iso:strict")
        outside = unusable_rows(
            rows.filter(is_outside),
            rules=pl.repeat("outside_partition", len(found), eager=True),
            details="found event_time " + found + f", expected that of {self._time_column}, which "
            f"is within {window.start} and {window.end}, or not possible",
            source=self._name,
            positions=None,
        )
        return RawBatch(rows.filter(~is_outside), pl.concat([dead, outside]), self._name)

    @property
    def _time_column(self) -> str:
        if self.definition.time_column is None:
            raise FrameSchemaError(
                "a table without time_column cannot be read by day",
                where=self._name,
                found="a window",
                expected="no window, or Table(..., time_column=...)",
                next_step="say time_column in the definition",
            )
        return self.definition.time_column

    def _conditions(self, window: Window | None, types: Mapping[str, str]) -> Iterator[Condition]:
        """Yield what selects each row of the window once; a range each, which is pushed down."""
        if window is None:
            yield "true", {}
            return
        column, bound = quoted(self._time_column), self._bound(types[self._time_column])
        start, end = bound(window.start), bound(window.end)
        yield f"{column} >= $start AND {column} < $end", {"start": start, "end": end}
        if window.start.date() == self.start:
            yield f"{column} IS NULL", {}
            if self.possible is not None:
                earliest, latest = self.possible
                yield f"{column} < $earliest", {"earliest": bound(min(earliest, window.start))}
                yield f"{column} >= $latest", {"latest": bound(max(latest, window.end))}

    def _bound(self, found: str) -> Callable[[datetime], object]:
        """Return how a time is said as a value of the time column; rounded up, as bounds are."""
        unit = self.definition.time_unit
        if found == "TIMESTAMP WITH TIME ZONE":
            return lambda time: time
        if found in INSTANTS:
            return lambda time: time.astimezone(UTC).replace(tzinfo=None)
        if found == "DATE":
            return lambda time: (EPOCH + -((EPOCH - time) // ONE_DAY) * ONE_DAY).date()
        if found in INTEGER_TYPES and unit is not None:
            return lambda time: -((EPOCH - time) // UNITS[unit])
        raise StoreError(
            "the time column of a table cannot be compared with a window",
            where=f"{self._name}, column '{self._time_column}'",
            found=found + (" without time_unit" if found in INTEGER_TYPES else ""),
            expected="a timestamp, a date, or an integer with time_unit 's', 'ms' or 'us'",
            next_step="say time_unit, or another time_column, or read a view that has one",
        )

    def _types(self, connection: duckdb.DuckDBPyConnection) -> dict[str, str]:
        """Return the types of the columns, as DuckDB calls them.

        Raises:
            StoreError: the table is absent, or columns are.
        """
        try:
            with reading(self._name):
                described = connection.execute(f"DESCRIBE SELECT * FROM {self._table}").fetchall()
        except StoreError as error:
            if not isinstance(error.__cause__, duckdb.CatalogException):
                raise
            raise StoreError(
                "a table is missing",
                where=self._name,
                found=nearest(self.definition.name, tables_of(connection)),
                expected=f"'{self.definition.name}'",
                next_step="check the name in the definition, and the database",
            ) from error.__cause__
        types = {str(name): str(dtype) for name, dtype, *_ in described}
        wanted = [*self.schema, *filter(None, [self.definition.time_column])]
        missing = [name for name in dict.fromkeys(wanted) if name not in types]
        if missing:
            raise StoreError(
                "a table does not have the columns of its source",
                where=self._name,
                found=nearest(missing[0], types),
                expected=f"also {listed(missing)}",
                next_step="mend the schema in the definition, or read a view that has them",
            )
        return types

    def _frames(
        self, connection: duckdb.DuckDBPyConnection, query: str, values: Mapping[str, object]
    ) -> Iterator[pl.DataFrame]:
        with reading(self._name):
            batches = connection.execute(query, dict(values)).to_arrow_reader(BATCH_ROWS)
        while True:
            with reading(self._name):
                batch = next(batches, None)
                frame = None if batch is None else pl.DataFrame(batch)
            if frame is None:
                return
            yield frame
