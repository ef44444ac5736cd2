"""Which types tables hold, what samples are like, and the tables that a plan asks for."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import polars as pl
import pytest

from sequence_platform.plan.plan import KEY_ORDER
from sequence_platform.plan.samples import SAMPLE_ROWS, sample_frame
from sequence_platform.plan.storage import storage_fault, stored
from sequence_platform.plan.tables import all_tables, columns_to_assemble
from sequence_platform_tests.unit.plan.examples import click, compiled, feed, pins, save


@pytest.mark.parametrize(
    "dtype",
    [
        *(pl.Int8(), pl.UInt64(), pl.Float32(), pl.Boolean(), pl.String(), pl.Binary(), pl.Date()),
        *(pl.Datetime("ns"), pl.Decimal(10, 2), pl.Categorical(), pl.Enum(["a"])),
        pl.List(pl.Struct({"a": pl.Array(pl.Float32, 3), "b": pl.List(pl.String)})),
    ],
)
def test_types_that_tables_hold(dtype: pl.DataType) -> None:
    assert storage_fault(dtype) == ""


@pytest.mark.parametrize(
    "dtype",
    [
        *(pl.Duration("us"), pl.Time(), pl.Int128(), pl.Null(), pl.Object()),
        *(pl.List(pl.Time), pl.Array(pl.Duration("us"), 2), pl.Struct({"a": pl.Time})),
    ],
)
def test_types_that_they_do_not(dtype: pl.DataType) -> None:
    assert storage_fault(dtype).startswith(("say it as a number", "cast it"))


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        (pl.Enum(["a"]), pl.String()),
        (pl.Categorical(), pl.String()),
        (pl.Datetime("ns", "Asia/Tokyo"), pl.Datetime("us", "UTC")),
        (pl.Datetime("ms"), pl.Datetime("us")),
        (pl.Int8(), pl.Int8()),
    ],
)
def test_categories_are_kept_as_text_and_times_in_microseconds(dtype: Any, expected: Any) -> None:
    assert stored(dtype) == expected


def test_samples_have_nulls_and_repeats_and_are_always_the_same() -> None:
    frame = sample_frame({"a": pl.Int64(), "b": pl.String()})
    assert frame.height == SAMPLE_ROWS
    assert frame["a"].null_count() > 0
    assert frame["a"].drop_nulls().n_unique() < frame["a"].drop_nulls().len()
    assert frame.equals(sample_frame({"a": pl.Int64(), "b": pl.String()}))


def test_a_plan_asks_for_a_table_per_definition() -> None:
    event = click(enrich=[pins()], description="Clicks.", version=2, revision=pl.col("dwell"))
    plan = compiled(feed(events=[event, save()], columns=["topic"], max_age=timedelta(days=3)))
    specs = {spec.name: spec for spec in all_tables(plan)}
    assert list(specs) == [
        "enrichments.pins",
        "enriched.click_v2",
        "enriched.save",
        "sequences.feed",
    ]
    lookup, clicks, saves, snapshots = specs.values()
    assert (lookup.is_daily, lookup.sort_by) == (False, ("key", "available_time"))
    assert (clicks.sort_by, clicks.corrects, clicks.comment) == (KEY_ORDER, True, "Clicks.")
    assert not saves.corrects
    assert (snapshots.is_snapshot, snapshots.sort_by) == (True, ("entity",))
    assert snapshots.max_age == timedelta(days=3)


def test_an_unversioned_enrichment_is_sorted_by_key() -> None:
    (spec,) = all_tables(compiled(pins(available_time=None)))
    assert spec.sort_by == ("key",)


def test_a_sequence_reads_of_an_event_type_what_it_carries_of_it() -> None:
    events = [click(enrich=[pins()]), save()]
    plan = compiled(feed(events=events, columns=["topic", "vector", "pin_id"])).sequences["feed"]
    envelope = ["entity", "event_id", "event_time", "arrival_time", "revision"]
    assert columns_to_assemble(plan, plan.events[0]) == [*envelope, "topic", "pin_id"]
    assert columns_to_assemble(plan, plan.events[1]) == [*envelope, "pin_id"]
