"""What every batch source promises: ports.BatchSource, over the register of adapters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from sequence_platform.engine.dead_letters import DEAD_LETTERS
from sequence_platform.errors import StoreError
from sequence_platform.ports import BatchSource
from sequence_platform_tests.backends import SOURCES
from sequence_platform_tests.conformance.source_rows import (
    DAYS,
    IDS_BY_DAY,
    ROWS,
    SCHEMA,
    START,
    dead_in,
    event_times,
    ids_in,
    of_day,
    rows_in,
)

MakeSource = Callable[[pl.DataFrame], BatchSource]


@pytest.fixture(params=sorted(SOURCES))
def make(request: pytest.FixtureRequest, tmp_path: Path) -> MakeSource:
    def source(rows: pl.DataFrame) -> BatchSource:
        return SOURCES[request.param](tmp_path, rows)

    return source


def test_a_day_has_its_rows_and_the_first_day_those_without_a_possible_time(
    make: MakeSource,
) -> None:
    source = make(ROWS)
    assert {day: ids_in(of_day(source, day)) for day in DAYS} == IDS_BY_DAY


def test_values_arrive_as_they_are_in_the_raw_schema(make: MakeSource) -> None:
    batches = list(make(ROWS).read(None))
    assert rows_in(batches) == sorted(ROWS.iter_rows(), key=repr)
    assert all(batch.frame.schema == SCHEMA for batch in batches)
    assert all(batch.dead.schema == DEAD_LETTERS for batch in batches)


def test_days_together_are_the_whole_source(make: MakeSource) -> None:
    source = make(ROWS)
    by_day = [row for day in DAYS for row in rows_in(of_day(source, day))]
    assert Counter(map(repr, by_day)) == Counter(map(repr, rows_in(list(source.read(None)))))


def test_reading_twice_gives_the_same(make: MakeSource) -> None:
    source = make(ROWS)
    for day in DAYS:
        assert rows_in(of_day(source, day)) == rows_in(of_day(source, day))


def test_a_reader_that_stops_early_leaves_the_source_readable(make: MakeSource) -> None:
    source = make(ROWS)
    batches = source.read(None)
    next(batches)
    del batches
    assert ids_in(of_day(source, DAYS[1])) == ["c", "c"]


def test_a_value_that_does_not_fit_makes_its_row_one_dead_letter_of_one_day(
    make: MakeSource,
) -> None:
    told = ROWS.with_columns(n=pl.col("n").cast(pl.String))
    source = make(
        told.with_columns(n=pl.when(pl.col("id") == "b").then(pl.lit("many")).otherwise("n"))
    )
    assert ids_in(of_day(source, START)) == ["a", "d", "e", "f"]
    rules = {day: [rule for _, _, rule in dead_in(of_day(source, day))] for day in DAYS}
    assert rules == {DAYS[0]: ["wrong_type:n"], DAYS[1]: [], DAYS[2]: [], DAYS[3]: []}
    [letter] = [row for batch in source.read(None) for row in batch.dead.iter_rows(named=True)]
    assert "'many'" in letter["detail"]
    assert "Int64" in letter["detail"]
    assert '"id":"b"' in letter["row"].replace(" ", "")


def test_a_missing_column_is_an_error_that_names_it_and_the_closest(
    make: MakeSource, request: pytest.FixtureRequest
) -> None:
    if "ndjson" in request.node.name:
        pytest.skip("a message may leave any field out: it is null")
    source = make(ROWS.rename({"price": "prize"}))
    with pytest.raises(StoreError, match=r"close: 'prize'(.|\n)*price"):
        of_day(source, START)


def test_a_source_without_rows_yields_none(make: MakeSource) -> None:
    source = make(ROWS.clear())
    assert rows_in(of_day(source, START)) == []


def test_rows_keep_together_over_many_batches(make: MakeSource) -> None:
    many = pl.concat([ROWS.filter(event_times(ROWS).is_not_null())] * 24_000)
    source = make(many)
    counts = {day: sum(batch.frame.height for batch in of_day(source, day)) for day in DAYS}
    assert counts == {DAYS[0]: 48_000, DAYS[1]: 48_000, DAYS[2]: 24_000, DAYS[3]: 0}
