"""What the suites of batch sources share: a raw schema, rows by hand, and which day each is of."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta

import polars as pl

from sequence_platform.plan.plan import TIME, Window
from sequence_platform.ports import BatchSource, RawBatch

START = date(2026, 3, 1)
DAYS = [START + timedelta(days=n) for n in range(4)]
POSSIBLE = (datetime(1971, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC))
SCHEMA = pl.Schema({"id": pl.String(), "at": TIME, "n": pl.Int64(), "price": pl.Float64()})

ROWS = pl.DataFrame(
    [
        ("a", datetime(2026, 3, 1, 0, 0, 0, tzinfo=UTC), 1, 0.5),
        ("b", datetime(2026, 3, 1, 23, 59, 59, 999999, tzinfo=UTC), 2, None),
        ("c", datetime(2026, 3, 2, 0, 0, 0, tzinfo=UTC), None, 1.5),
        ("c", datetime(2026, 3, 2, 0, 0, 0, tzinfo=UTC), None, 1.5),
        ('é,\n"q"', datetime(2026, 3, 3, 12, 0, 0, tzinfo=UTC), -(2**62), 2.5),
        ("d", None, 4, 3.5),
        ("e", datetime(1970, 6, 1, tzinfo=UTC), 5, 4.5),
        ("f", datetime(2100, 1, 1, tzinfo=UTC), 6, 5.5),
    ],
    schema=SCHEMA,
    orient="row",
)
IDS_BY_DAY = {
    DAYS[0]: ["a", "b", "d", "e", "f"],
    DAYS[1]: ["c", "c"],
    DAYS[2]: ['é,\n"q"'],
    DAYS[3]: [],
}
"""Rows without a possible time are of the first day."""


def event_times(frame: pl.DataFrame) -> pl.Series:
    """Return the times of raw rows, null where they are not possible."""
    is_possible = pl.col("at").is_between(*POSSIBLE, closed="left")
    return frame.select(pl.when(is_possible).then("at"))["at"]


def by_file_day(rows: pl.DataFrame) -> Iterator[tuple[date, pl.DataFrame]]:
    """Yield the rows of each day's file: those without a possible time land on the first."""
    days = event_times(rows).dt.date().fill_null(START)
    for day in days.unique().sort():
        yield day, rows.filter(days == day)


def of_day(source: BatchSource, day: date) -> list[RawBatch]:
    """Return what a source yields for a day."""
    return list(source.read(Window.of_day(day)))


def rows_in(batches: list[RawBatch]) -> list[tuple[object, ...]]:
    """Return the rows of batches in an order of their own."""
    return sorted((row for batch in batches for row in batch.frame.iter_rows()), key=repr)


def ids_in(batches: list[RawBatch]) -> list[str]:
    """Return the ids of the rows of batches, sorted."""
    return sorted(name for batch in batches for name in batch.frame["id"])


def dead_in(batches: list[RawBatch]) -> list[tuple[str, int | None, str]]:
    """Return source, position and rule of the dead letters of batches."""
    return [row[:3] for batch in batches for row in batch.dead.iter_rows()]
