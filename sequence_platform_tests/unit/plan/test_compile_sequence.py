"""What a sequence compiles to, and what it is refused for."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import polars as pl
import pytest

from sequence_platform.definition import Dedupe, Vector
from sequence_platform.plan.plan import TIME, TRIMMED
from sequence_platform_tests.unit.plan.examples import (
    click,
    feed,
    pins,
    problem,
    problems,
    save,
    sequence_plan,
)

RAW = dict(click().schema)


def test_a_snapshot_row_holds_lists_between_entity_and_trimmed() -> None:
    plan = sequence_plan(
        feed(
            columns=["dwell", "pin_id"],
            derived={"gap": pl.col("event_time").diff().dt.total_hours()},
        )
    )
    assert dict(plan.schema) == {
        "entity": pl.Int64(),
        "as_of": TIME,
        "length": pl.Int32(),
        "event_type": pl.List(pl.String()),
        "event_time": pl.List(TIME),
        "event_id": pl.List(pl.String()),
        "dwell": pl.List(pl.Int32()),
        "pin_id": pl.List(pl.Int64()),
        "gap": pl.List(pl.Int64()),
        "trimmed": TRIMMED,
    }


def test_vectors_are_late_unless_said_otherwise() -> None:
    events = [click(enrich=[pins()])]
    columns = ["topic", "vector"]
    by_default = sequence_plan(feed(events=events, columns=columns))
    assert (by_default.late, by_default.carried) == (("vector",), ("topic",))
    nothing = sequence_plan(feed(events=events, columns=columns, late=[]))
    assert (nothing.late, nothing.carried) == ((), ("topic", "vector"))
    assert nothing.schema["vector"] == pl.List(Vector(2))
    other = sequence_plan(feed(events=events, columns=columns, late=["topic"]))
    assert (other.late, other.carried) == (("topic",), ("vector",))


def test_a_sequence_without_columns_still_has_events() -> None:
    assert list(sequence_plan(feed(columns=[])).columns) == []


@pytest.mark.parametrize(("version", "table"), [(1, "feed"), (2, "feed_v2")])
def test_a_version_past_the_first_has_a_table_of_its_own(version: int, table: str) -> None:
    assert sequence_plan(feed(version=version)).table == table


def test_lookback_is_max_age_or_the_shortest_retention() -> None:
    assert sequence_plan(feed(max_age=timedelta(days=9))).lookback == timedelta(days=9)
    events = [click(retention=timedelta(days=50)), save(retention=timedelta(days=40))]
    assert sequence_plan(feed(events=events, max_age=None)).lookback == timedelta(days=40)


def test_retention_covers_max_age_and_lateness() -> None:
    lateness = timedelta(hours=6)
    exact = click(retention=timedelta(days=30, hours=6), allowed_lateness=lateness)
    assert sequence_plan(feed(events=[exact])).lookback == timedelta(days=30)
    short = click(retention=timedelta(days=30), allowed_lateness=lateness)
    reported = problem(feed(events=[short]))
    assert reported.definition == "sequence 'feed'"
    assert (reported.field, reported.found) == ("max_age", "'click' is kept 30 days, 0:00:00")
    assert reported.expected == "at least max_age + allowed_lateness = 30 days, 6:00:00"
    assert reported.next_step == "raise its retention"


def test_an_event_type_stands_in_a_sequence_once() -> None:
    one = click()
    reported = problem(feed(events=[one, one]))
    assert (reported.field, reported.found) == ("events", "'click' twice")
    assert reported.expected == "each event type once"


def test_entities_have_one_type() -> None:
    other = save(entity=pl.col("user_id").cast(pl.String))
    reported = problem(feed(events=[click(), other]))
    assert (reported.field, reported.found) == (
        "events",
        "entity of 'save' is String, of 'click' Int64",
    )
    assert reported.expected == "one type of entity"


def test_a_column_of_no_event_type_is_named_with_the_closest() -> None:
    reported = problem(feed(columns=["pni_id"]))
    assert (reported.field, reported.found) == ("columns", "'pni_id'")
    assert reported.expected.startswith("a column of one of its event types; close: 'pin_id'; ")


def test_a_type_clash_between_event_types_is_named_with_both() -> None:
    other = save(schema={**save().schema, "dwell": pl.Int64})
    reported = problem(feed(events=[click(), other], columns=["dwell"]))
    assert (reported.field, reported.found) == ("columns", "'dwell' is click: Int32, save: Int64")
    assert reported.expected == "one type in all event types"
    assert reported.next_step == "cast it in columns={...}"


def test_vectors_of_varying_length_clash() -> None:
    events = [
        click(schema={**RAW, "vector": Vector(2)}),
        save(schema={**save().schema, "vector": Vector(3)}),
    ]
    reported = problem(feed(events=events, columns=["vector"]))
    assert reported.found == (
        "'vector' is click: Array(Float32, shape=(2,)), save: Array(Float32, shape=(3,))"
    )


@pytest.mark.parametrize("name", ["event_type", "event_time", "event_id", "entity"])
def test_columns_that_every_sequence_carries_are_not_asked_for(name: str) -> None:
    reported = problem(feed(columns=[name]))
    assert (reported.found, reported.next_step) == (f"'{name}'", "leave it out")


def test_a_column_is_asked_for_once() -> None:
    reported = problem(feed(columns=["pin_id", "pin_id"]))
    assert (reported.field, reported.found) == ("columns", "a name twice")


@pytest.mark.parametrize(
    ("changes", "field", "found", "expected"),
    [
        ({"late": ["vector"]}, "late", "'vector'", "one of its columns: pin_id"),
        (
            {"dedupe": Dedupe(by="pin")},
            "dedupe.by",
            "'pin'",
            "event_type or one of its columns: pin_id",
        ),
        (
            {"dedupe": Dedupe(by=["event_type", "pin_id"]), "late": ["pin_id"]},
            "dedupe.by",
            "'pin_id', a late column",
            "a column that snapshots hold",
        ),
        (
            {"derived": {"pin_id": pl.lit(1)}},
            "derived.pin_id",
            "'pin_id'",
            "a name that no other column of the sequence has",
        ),
        (
            {"derived": {"length": pl.lit(1)}},
            "derived.length",
            "'length'",
            "a name that no other column of the sequence has",
        ),
        (
            {"derived": {"x": pl.col("dwell")}},
            "derived.x",
            "column 'dwell'",
            "a column that is there; present: event_id, event_time, event_type, pin_id",
        ),
        (
            {"derived": {"x": pl.col("event_time").diff()}},
            "derived.x",
            "type Duration(time_unit='us')",
            "a type that tables hold",
        ),
        (
            {"derived": {"x": pl.col("pin_id").head(1)}},
            "derived.x",
            "another number of values than events",
            "one value an event, or one for all",
        ),
        (
            {"derived": {"x": pl.col("pin_id").unique()}},
            "derived.x",
            "another number of values than events",
            "one value an event, or one for all",
        ),
        (
            {"derived": {"x": pl.col("pin_id").filter(pl.col("pin_id") > 3) + 1}},
            "derived.x",
            "another number of values than events",
            "one value an event, or one for all",
        ),
        (
            {"derived": {"x": pl.col("event_id").cast(pl.Int64).unique()}},
            "derived.x",
            "another number of values than events",
            "one value an event, or one for all",
        ),
        (
            {"derived": {"x": pl.col("pin_id").map_batches(lambda s: s, return_dtype=pl.Int64)}},
            "derived.x",
            "a Python function, which cannot be fingerprinted or checked",
            "Polars expressions",
        ),
        (
            {"request": {"x": pl.col("event_time") - pl.col("request_time")}},
            "request.x",
            "type Duration(time_unit='us')",
            "a type that tables hold",
        ),
        (
            {"context": {"pin_id": pl.Int64}},
            "context",
            "'pin_id'",
            "a name that no column of the sequence has",
        ),
        (
            {"context": {"n": "Int64"}},
            "context",
            "cannot parse input of type 'str' into Polars data type (given: 'Int64')",
            "names and Polars types",
        ),
    ],
)
def test_what_cannot_be_compiled_is_refused(
    changes: Any, field: str, found: str, expected: str
) -> None:
    reported = problem(feed(**changes))
    assert (reported.field, reported.found, reported.expected) == (field, found, expected)


@pytest.mark.parametrize(
    "expr",
    [
        pl.col("event_time").diff().dt.total_seconds(),
        pl.col("pin_id").cum_sum(),
        pl.col("pin_id").n_unique(),
        pl.col("pin_id").max().over("event_type"),
        pl.col("pin_id").reverse(),
        pl.col("pin_id") * 2,
        pl.col("pin_id").is_first_distinct(),
        pl.lit(1),
        pl.len(),
        pl.int_range(pl.len()),
        pl.col("pin_id").head(1).get(0),
    ],
)
def test_derived_columns_may_look_at_the_whole_sequence(expr: pl.Expr) -> None:
    assert list(sequence_plan(feed(derived={"x": expr})).derived) == ["x"]


def test_derived_columns_do_not_see_late_ones_but_request_columns_do() -> None:
    columns = {"events": [click(enrich=[pins()])], "columns": ["vector"]}
    first = pl.col("vector").arr.get(0)
    assert problem(feed(**columns, derived={"x": first})).found == "column 'vector'"
    assert dict(sequence_plan(feed(**columns, request={"x": first})).request) == {"x": pl.Float32()}


def test_request_columns_see_the_request_the_context_and_derived_columns() -> None:
    plan = sequence_plan(
        feed(
            derived={"n": pl.col("pin_id").cum_count()},
            context={"shown": pl.Int64},
            request={
                "age_s": (pl.col("request_time") - pl.col("event_time")).dt.total_seconds(),
                "is_shown": pl.col("pin_id") == pl.col("shown"),
                "n2": pl.col("n") + 1,
            },
        )
    )
    assert dict(plan.request) == {"age_s": pl.Int64(), "is_shown": pl.Boolean(), "n2": pl.UInt32()}
    assert "age_s" not in plan.schema


def test_a_sequence_of_a_broken_event_type_reports_only_the_event_type() -> None:
    reported = problem(feed(events=[click(entity="usr"), save()], columns=["nothing"]))
    assert reported.definition == "event type 'click'"


def test_all_problems_of_a_sequence_come_at_once() -> None:
    found = problems(
        feed(
            owner="",
            columns=["a", "pin_id"],
            late=["b"],
            dedupe=Dedupe(by="c"),
            derived={"pin_id": pl.lit(1)},
            quotas={"view": 1},
        )
    )
    assert [p.field for p in found] == [
        "columns",
        "dedupe.by",
        "derived.pin_id",
        "late",
        "owner",
        "quotas",
    ]
