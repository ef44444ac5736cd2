"""What an event type compiles to, and what it is refused for."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import polars as pl
import pytest

from sequence_platform.definition import EventType
from sequence_platform.plan.plan import TIME
from sequence_platform_tests.unit.plan.examples import (
    FILE,
    click,
    compiled,
    event_plan,
    pins,
    problem,
    problems,
    save,
)

RAW = {"id": pl.String, "user_id": pl.Int32, "ts": pl.Int64, "pin_id": pl.Int64, "dwell": pl.Int32}
RESERVED = "a name that the platform does not use itself"


def test_a_row_starts_with_the_envelope_and_keeps_raw_columns_not_bound_by_name() -> None:
    assert dict(event_plan(click()).schema) == {
        "entity": pl.Int64(),
        "event_id": pl.String(),
        "event_time": TIME,
        "arrival_time": TIME,
        "revision": pl.Int64(),
        "ts": pl.Int64(),  # used in an expression, so not bound
        "pin_id": pl.Int64(),
        "dwell": pl.Int32(),
    }


def test_envelope_columns_have_their_final_types_and_defaults() -> None:
    plan = event_plan(save())
    raw = pl.DataFrame(
        {"id": [7], "user_id": [1], "at": [datetime(2026, 3, 1, 12)], "pin_id": [2]},  # noqa: DTZ001 - without a zone, as the source has it
        schema=plan.raw_schema,
    )
    noon = datetime(2026, 3, 1, 12, tzinfo=UTC)
    assert raw.select(**plan.envelope).row(0, named=True) == {
        "entity": 1,
        "event_id": "7",
        "event_time": noon,
        "arrival_time": noon,
        "revision": 0,
        "operation": "upsert",
    }


def test_times_with_a_zone_become_utc_microseconds() -> None:
    event = save(schema={**save().schema, "at": pl.Datetime("ns", "Europe/Paris")})
    plan = event_plan(event)
    raw = pl.DataFrame({"at": [datetime(2026, 3, 1, 11, tzinfo=UTC)]}).cast(
        {"at": pl.Datetime("ns", "Europe/Paris")}
    )
    times = raw.select(t=plan.envelope["event_time"])["t"]
    assert times.dtype == TIME
    assert times.to_list() == [datetime(2026, 3, 1, 11, tzinfo=UTC)]


def test_null_revision_operation_and_arrival_fall_back() -> None:
    schema = {**RAW, "seen": pl.Datetime("us", "UTC"), "rev": pl.UInt8, "op": pl.Categorical}
    event = click(schema=schema, arrival_time="seen", revision="rev", operation="op")
    plan = event_plan(event)
    row = dict.fromkeys(schema) | {"ts": 0}
    raw = pl.DataFrame([row], schema=plan.raw_schema)
    found = raw.select(**plan.envelope).row(0, named=True)
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    assert (found["arrival_time"], found["revision"], found["operation"]) == (epoch, 0, "upsert")
    assert plan.corrects


@pytest.mark.parametrize(("field", "column"), [("revision", "dwell"), ("operation", "id")])
def test_an_event_type_with_revision_or_operation_corrects(field: str, column: str) -> None:
    assert event_plan(click(**{field: pl.col(column)})).corrects
    assert not event_plan(click()).corrects


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        (pl.Int8, pl.Int64()),
        (pl.UInt32, pl.Int64()),
        (pl.UInt64, pl.UInt64()),
        (pl.String, pl.String()),
        (pl.Categorical, pl.String()),
        (pl.Enum(["a"]), pl.String()),
    ],
)
def test_an_entity_is_an_integer_or_a_string(dtype: Any, expected: pl.DataType) -> None:
    plan = event_plan(click(schema={**RAW, "user_id": dtype}))
    assert plan.schema["entity"] == expected


def test_categories_become_text_and_times_utc_microseconds() -> None:
    extra = {
        "kind": pl.Categorical,
        "size": pl.Enum(["s", "m"]),
        "local": pl.Datetime("ms"),
        "zoned": pl.Datetime("ns", "Asia/Tokyo"),
        "on": pl.Date,
    }
    plan = event_plan(click(schema=RAW | extra, columns={"kind2": pl.col("kind")}))
    assert {name: plan.schema[name] for name in (*extra, "kind2")} == {
        "kind": pl.String(),
        "size": pl.String(),
        "local": pl.Datetime("us"),
        "zoned": pl.Datetime("us", "UTC"),
        "on": pl.Date(),
        "kind2": pl.String(),
    }


@pytest.mark.parametrize(("version", "table"), [(1, "click"), (2, "click_v2"), (10, "click_v10")])
def test_a_version_past_the_first_has_a_table_of_its_own(version: int, table: str) -> None:
    assert event_plan(click(version=version)).table == table


def test_payload_is_raw_then_derived_then_looked_up() -> None:
    event = click(columns={"is_long": pl.col("dwell") > 10}, enrich=[pins()])
    assert event_plan(event).payload == ("ts", "pin_id", "dwell", "is_long", "topic", "vector")


def test_rules_keep_their_names_and_order() -> None:
    dwell = pl.col("dwell")
    assert list(event_plan(click(where=dwell > 0)).rules) == ["where"]
    assert list(event_plan(click(where={"b": dwell > 0, "a": dwell < 9})).rules) == ["b", "a"]


ONE_ROW = "one value per row, from that row alone"
SEVERAL = "an expression over several rows (window, aggregate, order or position)"
PYTHON = "a Python function, which cannot be fingerprinted or checked"
NOT_ROW_BY_ROW = [
    (pl.col("dwell").max().over("pin_id"), SEVERAL),
    (pl.col("dwell").sum(), SEVERAL),
    (pl.col("dwell").cum_sum(), SEVERAL),
    (pl.col("dwell").shift(1), SEVERAL),
    (pl.col("dwell").sort(), SEVERAL),
    (pl.col("dwell").rank(), SEVERAL),
    (pl.col("dwell") - pl.col("dwell").mean(), SEVERAL),
    (pl.len(), SEVERAL),
    (pl.col("dwell").fill_null(pl.col("dwell").mean()), SEVERAL),
    (pl.when(pl.col("dwell") > pl.col("dwell").max()).then(1).otherwise(2), SEVERAL),
    (pl.col("pin_id").is_in(pl.col("ts").implode()), SEVERAL),
    (pl.struct("dwell").struct.with_fields(pl.field("dwell").mean()), SEVERAL),
    (pl.concat_list("dwell").list.eval(pl.element() + 1).list.sum().sum(), SEVERAL),
    (
        pl.col("dwell") + pl.lit(pl.Series(range(12))),
        "an expression that changes the number of rows",
    ),
    (pl.int_range(pl.len()), SEVERAL),
    (pl.col("dwell").is_duplicated(), SEVERAL),
    (pl.col("id").map_elements(len, return_dtype=pl.Int64), PYTHON),
    (pl.col("dwell").map_batches(lambda s: s, return_dtype=pl.Int32), PYTHON),
]


@pytest.mark.parametrize(("expr", "found"), NOT_ROW_BY_ROW)
def test_a_column_over_several_rows_is_refused(expr: pl.Expr, found: str) -> None:
    reported = problem(click(columns={"x": expr}))
    assert reported.definition == "event type 'click'"
    assert (reported.field, reported.found, reported.expected) == ("columns.x", found, ONE_ROW)
    assert "Sequence.derived" in reported.next_step
    assert "executor" in reported.next_step


@pytest.mark.parametrize("field", ["where", "event_id", "entity", "revision"])
def test_a_window_is_refused_wherever_rows_are_judged_alone(field: str) -> None:
    expr = pl.col("dwell").cum_sum() if field != "where" else pl.col("dwell").cum_sum() > 3
    (reported,) = [p for p in problems(click(**{field: expr})) if p.expected == ONE_ROW]
    assert reported.field == ("where.where" if field == "where" else field)


@pytest.mark.parametrize(
    "expr",
    [
        pl.col("dwell").filter(pl.col("dwell") > 0),
        pl.col("tags").explode(),
        pl.col("dwell").unique(),
    ],
)
def test_a_column_that_changes_the_number_of_rows_is_refused(expr: pl.Expr) -> None:
    event = click(schema={**RAW, "tags": pl.List(pl.String)}, columns={"x": expr})
    reported = problem(event)
    assert (reported.field, reported.expected) == ("columns.x", ONE_ROW)


@pytest.mark.parametrize(
    "expr",
    [
        pl.col("tags").list.eval(pl.element().str.to_uppercase()),
        pl.col("tags").list.eval(pl.element().rank()),
        pl.col("tags").list.len(),
        pl.col("tags").list.sort(),
        pl.col("tags").list.eval(pl.element().len()).list.first(),
        pl.col("id").str.split("-").list.get(0, null_on_oob=True),
        pl.concat_list("pin_id", "ts"),
        pl.sum_horizontal("pin_id", "ts"),
        pl.when(pl.col("dwell") > 3).then(1).otherwise(None),
        pl.struct("pin_id", "dwell"),
        pl.struct("pin_id", "dwell").struct.with_fields(pl.field("dwell") * 2),
        pl.col("pin_id").is_in(pl.Series([1, 2])),
        pl.col("id").str.to_datetime("%Y-%m-%d", time_zone="UTC"),
        pl.col("pin_id") / pl.col("dwell"),
        pl.lit(3),
        pl.lit("a").str.to_uppercase(),
        pl.col("pin_id").is_in([1, 2]),
        pl.col("id").replace_strict({"a": 1}, default=0),
        pl.coalesce("dwell", pl.lit(0)),
        pl.from_epoch("ts", time_unit="ms").dt.date(),
    ],
)
def test_expressions_of_one_row_are_accepted(expr: pl.Expr) -> None:
    event = click(schema={**RAW, "tags": pl.List(pl.String)}, columns={"x": expr})
    assert "x" in event_plan(event).schema


def test_a_missing_column_is_named_with_the_closest() -> None:
    reported = problem(click(columns={"x": pl.col("dwel") + 1}))
    assert (reported.file, reported.field) == (FILE, "columns.x")
    assert reported.found == "column 'dwel'"
    assert reported.expected.startswith("a column that is there; close: 'dwell'; present: ")


@pytest.mark.parametrize("field", ["event_id", "entity", "event_time", "arrival_time"])
def test_a_missing_envelope_column_is_named(field: str) -> None:
    reported = problem(click(**{field: "nothing"}))
    assert (reported.field, reported.found) == (field, "column 'nothing'")


def test_an_expression_whose_types_clash_is_told_in_polars_words() -> None:
    reported = problem(click(columns={"x": pl.col("id").dt.year()}))
    assert reported.field == "columns.x"
    assert reported.expected == "an expression that resolves over its columns"
    assert "year" in reported.found


def test_a_column_without_a_type_is_refused() -> None:
    reported = problem(click(columns={"x": pl.lit(None)}))
    assert reported.found == "an expression of type Null; cast it to the type meant"


def test_a_condition_is_boolean() -> None:
    reported = problem(click(where={"long": pl.col("dwell")}))
    assert (reported.field, reported.found) == ("where.long", "type Int32")
    assert reported.expected == "a condition (Boolean)"


@pytest.mark.parametrize("name", ["delete", "executor", "missing:pins"])
def test_rules_have_names_that_the_platform_does_not_use(name: str) -> None:
    reported = problem(click(where={name: pl.col("dwell") > 0}))
    assert (reported.field, reported.found) == ("where", f"a rule named '{name}'")
    assert reported.expected == RESERVED


@pytest.mark.parametrize(
    ("field", "column", "found", "expected"),
    [
        ("entity", "score", "type Float64", "an integer or a string"),
        ("entity", "flag", "type Boolean", "an integer or a string"),
        ("event_id", "score", "type Float64", "an integer or a string"),
        ("event_time", "pin_id", "type Int64", "a datetime"),
        ("event_time", "on", "type Date", "a datetime"),
        ("arrival_time", "id", "type String", "a datetime"),
        ("revision", "score", "type Float64", "an integer"),
        ("operation", "flag", "type Boolean", "a string, 'upsert' or 'delete'"),
    ],
)
def test_an_envelope_column_has_a_type_that_fits(
    field: str, column: str, found: str, expected: str
) -> None:
    schema = {**RAW, "score": pl.Float64, "flag": pl.Boolean, "on": pl.Date}
    reported = problem(click(schema=schema, **{field: column}))
    assert (reported.field, reported.found, reported.expected) == (field, found, expected)
    assert reported.next_step.startswith("pl.from_epoch" if "time" in field else "")


@pytest.mark.parametrize("name", ["entity", "event_id", "event_time", "arrival_time", "revision"])
def test_a_raw_column_that_the_envelope_would_hide_is_refused(name: str) -> None:
    reported = problem(click(schema={**RAW, name: pl.Int64}))
    assert (reported.field, reported.found) == ("schema", f"raw column '{name}'")
    assert reported.expected == RESERVED
    assert f"say {name}='{name}'" in reported.next_step


def test_a_raw_column_may_be_bound_under_its_own_name_or_another() -> None:
    schema = {
        "event_id": pl.Int64,
        "revision": pl.String,
        "event_time": pl.Int64,
        "user": pl.Int64,
    }
    event = EventType(
        name="e",
        owner="team:a",
        schema=schema,
        event_id="event_id",
        entity="revision",
        event_time=pl.from_epoch("event_time"),
        batch=click().batch,
    )
    assert event_plan(event).payload == ("user",)


@pytest.mark.parametrize("name", ["entity", "day", "as_of", "event_type", "rule", "trimmed"])
def test_derived_columns_have_names_that_the_platform_does_not_use(name: str) -> None:
    reported = problem(click(columns={name: pl.col("dwell")}))
    assert (reported.field, reported.found, reported.expected) == ("columns", f"'{name}'", RESERVED)


def test_a_derived_column_does_not_hide_a_raw_one() -> None:
    reported = problem(click(columns={"dwell": pl.col("dwell") * 2}))
    assert reported.expected == "a new name: the raw schema has this one"


@pytest.mark.parametrize(
    ("dtype", "step"),
    [
        (pl.Duration("us"), ".dt.total_microseconds()"),
        (pl.Time, "pl.col(...).cast(pl.Int64) // 1000"),
        (pl.List(pl.Duration("us")), ".dt.total_microseconds()"),
        (pl.Struct({"a": pl.Int8, "b": pl.Time}), "number of microseconds"),
        (pl.Int128, "cast it: whole numbers to pl.Int64"),
    ],
)
def test_types_that_tables_cannot_hold_are_refused(dtype: Any, step: str) -> None:
    reported = problem(click(schema={**RAW, "x": dtype}))
    assert reported.field == "schema.x"
    assert reported.expected == "a type that tables hold"
    assert step in reported.next_step


def test_a_derived_duration_is_refused() -> None:
    at = pl.from_epoch("ts", time_unit="ms")
    reported = problem(click(columns={"x": at - pl.datetime(2020, 1, 1)}))
    assert (reported.field, reported.expected) == ("columns.x", "a type that tables hold")


@pytest.mark.parametrize(
    ("schema", "found"),
    [
        ({**RAW, "x": "Int64"}, "cannot parse input of type 'str'"),
        ({**RAW, "x": 3}, "cannot parse input of type 'int'"),
        ({**RAW, "x": pl.Object}, "'x': Object"),
        ({**RAW, "x": pl.Null}, "'x': Null"),
    ],
)
def test_a_schema_of_something_else_than_types_is_refused(schema: Any, found: str) -> None:
    reported = problem(click(schema=schema))
    assert reported.field == "schema"
    assert found in reported.found


def test_a_lookup_needs_its_key_among_the_columns() -> None:
    schema = {k: v for k, v in RAW.items() if k != "pin_id"} | {"pin": pl.Int64}
    reported = problem(click(schema=schema, enrich=[pins()]))
    assert (reported.field, reported.found) == ("enrich.pins", "column 'pin_id'")
    assert reported.expected.startswith("a column that is there; close: 'pin'; present: ")
    assert reported.next_step == "pins.by('<column of the event>')"


def test_a_lookup_may_use_another_column_and_a_derived_one() -> None:
    for column in ("ts", "key2"):
        event = click(enrich=[pins().by(column)], columns={"key2": pl.col("pin_id") + 1})
        assert event_plan(event).lookups[0].column == column


def test_a_lookup_key_has_the_type_of_the_enrichment() -> None:
    reported = problem(click(enrich=[pins().by("id")]))
    assert (reported.field, reported.found) == ("enrich.pins", "'id' of type String")
    assert reported.expected == "the key's type, Int64"


def test_any_integer_looks_up_any_other() -> None:
    narrow = pins(schema={**pins().schema, "pin_id": pl.UInt16})
    assert event_plan(click(enrich=[narrow.by("dwell")])).lookups[0].column == "dwell"


def test_a_looked_up_column_has_a_name_of_its_own() -> None:
    reported = problem(click(columns={"topic": pl.lit("a")}, enrich=[pins()]))
    assert (reported.field, reported.found) == ("enrich", "'topic' of enrichment 'pins'")
    assert reported.expected == "a name of its own: the event has this column"


def test_a_lookup_of_something_broken_reports_only_that() -> None:
    reported = problem(click(enrich=[pins(columns=["colour"])]))
    assert (reported.definition, reported.field) == ("enrichment 'pins'", "columns.colour")


def test_all_problems_of_one_event_type_come_at_once() -> None:
    event = click(
        entity="usr",
        where={"delete": pl.col("dwell") > 0},
        columns={"day": pl.lit(1), "x": pl.col("id").len()},
        enrich=[pins().by("pin")],
    )
    assert [p.field for p in problems(event)] == [
        "columns",
        "columns.x",
        "enrich.pins",
        "entity",
        "where",
    ]


# Executors: proven on samples, whole and split, in both orders.


def test_an_executor_may_add_columns_and_drop_rows() -> None:
    def clean(frame: pl.LazyFrame) -> pl.LazyFrame:
        return frame.filter(pl.col("dwell") > 0).with_columns(half=pl.col("dwell") / 2)

    plan = event_plan(click(executor=clean, columns={"twice": pl.col("half") * 4}))
    assert plan.payload == ("ts", "pin_id", "dwell", "half", "twice")


def first_of_each_user(frame: pl.LazyFrame) -> pl.LazyFrame:
    return frame.filter(pl.int_range(pl.len()).over("user_id") == 0)


EXECUTORS = {
    "sorts": (
        lambda frame: frame.sort("dwell"),
        "another result when the batch is split",
        "the same rows whether the batch is whole or split, in any order",
    ),
    "aggregates": (
        lambda frame: frame.with_columns(mean=pl.col("dwell").mean()),
        "another result when the batch is split",
        "the same rows whether the batch is whole or split, in any order",
    ),
    "windows": (
        first_of_each_user,
        "another result when the batch is split",
        "the same rows whether the batch is whole or split, in any order",
    ),
    "drops the envelope": (
        lambda frame: frame.drop("event_id", "operation"),
        "columns event_id, operation gone or retyped",
        "the envelope as it was",
    ),
    "retypes the envelope": (
        lambda frame: frame.with_columns(pl.col("entity").cast(pl.String)),
        "columns entity gone or retyped",
        "the envelope as it was",
    ),
    "multiplies rows": (
        lambda frame: pl.concat([frame, frame]),
        "one event became several",
        "at most one row per row",
    ),
    "raises": (
        lambda frame: frame.nothing(),
        "AttributeError: 'LazyFrame' object has no attribute 'nothing'",
        "a LazyFrame for a LazyFrame",
    ),
    "returns nothing": (
        lambda _: None,
        "AttributeError: 'NoneType' object has no attribute 'collect_schema'",
        "a LazyFrame for a LazyFrame",
    ),
}


@pytest.mark.parametrize("name", EXECUTORS)
def test_an_executor_that_is_not_row_by_row_is_refused(name: str) -> None:
    executor, found, expected = EXECUTORS[name]
    reported = problem(click(executor=executor))
    assert (reported.file, reported.definition) == (FILE, "event type 'click'")
    assert (reported.field, reported.found, reported.expected) == ("executor", found, expected)


HANDLE = iter(())
"""A value without a stable form."""


def test_an_executor_that_names_what_cannot_be_fingerprinted_is_refused() -> None:
    def clean(frame: pl.LazyFrame) -> pl.LazyFrame:
        return frame.head(len(list(HANDLE)))

    reported = problem(click(executor=clean))
    assert reported.field == "executor"
    assert reported.found == "a value of type tuple_iterator, which cannot be fingerprinted"
    assert reported.expected == "functions, expressions and plain constants"


def test_an_executor_is_not_run_on_a_broken_definition() -> None:
    def never(frame: pl.LazyFrame) -> pl.LazyFrame:
        raise AssertionError

    reported = problem(click(entity="usr", executor=never))
    assert reported.field == "entity"


def test_an_executor_may_make_a_column_that_tables_hold_no_more() -> None:
    def wrong(frame: pl.LazyFrame) -> pl.LazyFrame:
        return frame.with_columns(span=pl.duration(seconds="dwell"))

    reported = problem(click(executor=wrong))
    assert (reported.field, reported.expected) == ("schema.span", "a type that tables hold")


def test_a_compiled_event_type_knows_its_definition() -> None:
    event = click()
    plan = compiled(event).events["click"]
    assert plan.definition is event
    assert plan.raw_schema == pl.Schema(RAW)
