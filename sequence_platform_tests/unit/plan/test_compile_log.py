"""What an event type with a log asks of its raw columns, told before anything is made."""

from __future__ import annotations

import polars as pl
import pytest

from sequence_platform.definition import EventType, Log
from sequence_platform.plan.explain import explain
from sequence_platform.plan.tables import RAW_ENVELOPE, all_tables, raw_stored, raw_table
from sequence_platform_tests.unit.plan.examples import (
    click,
    compiled,
    event_plan,
    problem,
    problems,
    save,
)

KEYS = {"id": pl.String, "user_id": pl.Int32, "ts": pl.Int64}


def streamed(**columns: pl.DataType) -> EventType:
    return click(log=Log("clicks"), schema=KEYS | columns)


@pytest.mark.parametrize("name", [*RAW_ENVELOPE, "_Topic", "day", "DAY"])
def test_a_raw_column_that_would_hide_one_of_the_raw_table_is_refused(name: str) -> None:
    found = problem(streamed(**{name: pl.String()}))
    assert (found.definition, found.field) == ("event type 'click'", f"schema.{name}")
    assert (found.found, found.next_step) == (f"'{name}'", "rename it at the source")


def test_raw_columns_that_differ_by_case_alone_are_refused() -> None:
    found = problems(streamed(pin=pl.Int64(), Pin=pl.Int64()))
    assert [each.field for each in found] == ["schema.Pin", "schema.pin"]


@pytest.mark.parametrize(
    "dtype",
    [
        *(pl.Datetime("ns"), pl.Datetime("ns", "UTC"), pl.List(pl.Datetime("ns"))),
        *(pl.Array(pl.Datetime("ns"), 2), pl.Struct({"a": pl.Int8, "b": pl.Datetime("ns")})),
    ],
)
def test_nanoseconds_that_the_raw_table_would_cut_are_refused(dtype: pl.DataType) -> None:
    found = problem(streamed(at=dtype))
    assert (found.field, found.found) == ("schema.at", f"type {dtype}")
    assert "pl.Datetime('us')" in found.next_step


@pytest.mark.parametrize(
    ("dtype", "next_step"),
    [
        (pl.Duration("us"), ".dt.total_microseconds()"),
        (pl.List(pl.Time), "as a number of microseconds"),
        (pl.Int128(), "cast it"),
    ],
)
def test_a_type_that_no_table_holds_is_refused(dtype: pl.DataType, next_step: str) -> None:
    found = problems(streamed(odd=dtype))
    assert {each.field for each in found} == {"schema.odd"}
    assert all(next_step in each.next_step for each in found)
    assert any("what the log brings" in each.expected for each in found)


def test_without_a_log_the_same_columns_are_no_concern_of_the_raw_table() -> None:
    plan = compiled(click(schema=KEYS | {"at": pl.Datetime("ns"), "_topic": pl.String}))
    assert [spec.name for spec in all_tables(plan)] == ["enriched.click"]


def test_every_fault_is_told_at_once() -> None:
    wrong = streamed(day=pl.String(), at=pl.Datetime("ns"), _offset=pl.Int64())
    assert [each.field for each in problems(wrong)] == ["schema._offset", "schema.at", "schema.day"]


def test_an_event_type_with_a_log_has_a_raw_table_beside_the_enriched_one() -> None:
    plan = compiled(click(log=Log("clicks"), version=2), save())
    assert [spec.name for spec in all_tables(plan)] == [
        *("enriched.click_v2", "enriched.save", "raw.click_v2"),
    ]
    assert "live from log 'clicks'" in explain(plan, "click")


@pytest.mark.parametrize(
    ("dtype", "kept"),
    [
        (pl.Int8(), pl.Int8()),
        (pl.Datetime("ms"), pl.Datetime("us")),
        (pl.Datetime("ms", "Asia/Tokyo"), pl.Datetime("us", "UTC")),
        (pl.List(pl.Datetime("ms")), pl.List(pl.Datetime("us"))),
        (pl.Array(pl.Datetime("ms"), 2), pl.Array(pl.Datetime("us"), 2)),
        (
            pl.Struct({"a": pl.Int8, "b": pl.Datetime("ms", "Asia/Tokyo")}),
            pl.Struct({"a": pl.Int8(), "b": pl.Datetime("us", "UTC")}),
        ),
    ],
)
def test_raw_times_are_kept_in_microseconds_and_utc_however_deep(
    dtype: pl.DataType, kept: pl.DataType
) -> None:
    assert raw_stored(dtype) == kept


def test_raw_table_starts_with_the_key_and_the_message() -> None:
    spec = raw_table(event_plan(streamed(pin=pl.Int64())))
    assert spec.columns.names() == [*RAW_ENVELOPE, "id", "user_id", "ts", "pin"]
    assert spec.columns["_entity"] == pl.Int64()
    assert spec.sort_by == (
        *("_entity", "_event_time", "_event_id", "_topic", "_partition", "_offset"),
    )
    assert spec.is_daily
    assert not spec.corrects
