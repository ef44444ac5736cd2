"""What an enrichment compiles to, and what it is refused for."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import polars as pl
import pytest

from sequence_platform.definition import Vector
from sequence_platform.plan.plan import TIME, EnrichmentPlan
from sequence_platform_tests.unit.plan.examples import compiled, pins, problem, problems

RAW = {"pin_id": pl.Int64, "since": pl.Datetime("us", "UTC"), "topic": pl.String}


def plan(**changes: Any) -> EnrichmentPlan:
    return compiled(pins(**changes)).enrichments["pins"]


def test_a_table_starts_with_key_and_available_time() -> None:
    found = plan()
    assert dict(found.schema) == {
        "key": pl.Int64(),
        "available_time": TIME,
        "topic": pl.String(),
        "vector": Vector(2),
    }
    assert found.columns == ("topic", "vector")
    assert found.is_versioned


def test_without_available_time_rows_are_known_at_all_times() -> None:
    found = plan(available_time=None)
    assert list(found.schema) == ["key", "topic", "vector"]
    assert not found.is_versioned


def test_columns_may_be_expressions_under_new_names() -> None:
    found = plan(columns={"first": pl.col("vector").arr.get(0), "about": pl.col("topic")})
    assert found.schema["first"] == pl.Float32()
    assert found.columns == ("first", "about")


@pytest.mark.parametrize(("version", "table"), [(1, "pins"), (3, "pins_v3")])
def test_a_version_past_the_first_has_a_table_of_its_own(version: int, table: str) -> None:
    assert plan(version=version).table == table


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        (pl.Int16, pl.Int64()),
        (pl.UInt64, pl.UInt64()),
        (pl.Enum(["a"]), pl.String()),
        (pl.String, pl.String()),
    ],
)
def test_keys_are_as_wide_as_entities(dtype: Any, expected: pl.DataType) -> None:
    assert plan(schema={**RAW, "pin_id": dtype}, columns=["topic"]).schema["key"] == expected


def test_times_and_categories_are_normalised() -> None:
    schema = {"pin_id": pl.Int64, "since": pl.Datetime("ms"), "topic": pl.Categorical}
    found = plan(schema=schema, columns=["topic"])
    row = pl.DataFrame(
        {"pin_id": [1], "since": [datetime(2026, 3, 1)], "topic": ["a"]},  # noqa: DTZ001 - without a zone, as the source has it
        schema=found.raw_schema,
    )
    values = row.select(**found.expressions)
    assert values.schema == found.schema
    assert values.rows() == [(1, datetime(2026, 3, 1, tzinfo=UTC), "a")]


@pytest.mark.parametrize("dtype", [pl.Float64, pl.Boolean, pl.Date, pl.Struct({"a": pl.Int8})])
def test_a_key_of_another_type_is_refused(dtype: Any) -> None:
    reported = problem(pins(schema={**RAW, "pin_id": dtype}, columns=["topic"]))
    assert reported.definition == "enrichment 'pins'"
    assert (reported.field, reported.expected) == ("key", "an integer or a string")
    assert reported.found.startswith("type ")


@pytest.mark.parametrize(
    ("changes", "field", "found", "expected"),
    [
        (
            {"key": "pin"},
            "key",
            "column 'pin'",
            "a column that is there; close: 'pin_id'; present: pin_id, since, topic",
        ),
        (
            {"columns": ["tpoic"]},
            "columns.tpoic",
            "column 'tpoic'",
            "a column that is there; close: 'topic'; present: pin_id, since, topic",
        ),
        ({"available_time": "topic"}, "available_time", "type String", "a datetime"),
        ({"columns": []}, "columns", "none", "at least one column to attach"),
        (
            {"columns": {"n": pl.col("topic").n_unique()}},
            "columns.n",
            "an expression over several rows (window, aggregate, order or position)",
            "one value per row, from that row alone",
        ),
        (
            {"columns": {"age": pl.col("since") - pl.datetime(2020, 1, 1, time_zone="UTC")}},
            "columns.age",
            "type Duration(time_unit='us')",
            "a type that tables hold",
        ),
        (
            {"schema": {"pin_id": "Int64"}},
            "schema",
            "cannot parse input of type 'str' into Polars data type (given: 'Int64')",
            "column names and Polars types",
        ),
    ],
)
def test_what_cannot_be_compiled_is_refused(
    changes: Any, field: str, found: str, expected: str
) -> None:
    reported = problem(pins(**{"schema": RAW, "columns": ["topic"]} | changes))
    assert (reported.field, reported.found, reported.expected) == (field, found, expected)


@pytest.mark.parametrize("name", ["key", "available_time", "entity", "day", "event_type"])
def test_columns_have_names_that_the_platform_does_not_use(name: str) -> None:
    found = problems(pins(columns={name: pl.col("topic")}))
    (reported,) = [p for p in found if p.field == "columns"]
    assert reported.found == f"'{name}'"
    assert reported.expected == "a name that the platform does not use itself"
    assert reported.next_step == f"rename it: {{'my_{name}': ...}}"
