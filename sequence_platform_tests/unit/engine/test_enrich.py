"""Enrich, by hand: what is dead or rejected and by which rule, derived columns, lookups."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest

from sequence_platform.definition import Enrichment, EventType, Files, Vector
from sequence_platform.engine.enrich import Enriched, enrich, prepare_lookup
from sequence_platform.plan.compile import Located, compile_plan
from sequence_platform.plan.plan import EventPlan

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
US = timedelta(microseconds=1)
SCHEMA = {
    "id": pl.String,
    "user": pl.Int64,
    "at": pl.Datetime("us", "UTC"),
    "item": pl.Int64,
    "price": pl.Float64,
}
PRODUCTS = Enrichment(
    name="products",
    owner="team:tests",
    key="item",
    schema={
        "item": pl.Int64,
        "since": pl.Datetime("us", "UTC"),
        "brand": pl.String,
        "vector": Vector(2),
    },
    source=Files("products.parquet"),
    columns=["brand", "vector"],
    available_time="since",
)
COUNTRIES = Enrichment(
    name="countries",
    owner="team:tests",
    key="user",
    schema={"user": pl.Int64, "country": pl.String},
    source=Files("countries.csv"),
    columns=["country"],
)


def compiled(**changes: Any) -> EventPlan:
    given: dict[str, Any] = {
        "name": "click",
        "owner": "team:tests",
        "schema": SCHEMA,
        "event_id": "id",
        "entity": "user",
        "event_time": "at",
        "batch": Files("clicks.parquet"),
    }
    return compile_plan([Located("tests.py", EventType(**(given | changes)))]).events["click"]


def raw(event: EventPlan, *rows: dict[str, Any]) -> pl.DataFrame:
    usual = {"id": "e1", "user": 7, "at": NOON, "item": 1, "price": 2.5}
    return pl.DataFrame([usual | row for row in rows], schema=event.raw_schema)


def run(
    event: EventPlan, *rows: dict[str, Any], tables: dict[str, pl.DataFrame] | None = None
) -> Enriched:
    return enrich(event, raw(event, *rows), tables or {})


def rules(frame: pl.DataFrame) -> list[str]:
    return frame["rule"].to_list()


# ---- the envelope


def test_the_envelope_leads_and_raw_columns_keep_their_names() -> None:
    assert run(compiled(), {}).rows.to_dicts() == [
        {
            "entity": 7,
            "event_id": "e1",
            "event_time": NOON,
            "arrival_time": NOON,
            "revision": 0,
            "item": 1,
            "price": 2.5,
        }
    ]


def test_an_integer_id_becomes_text() -> None:
    assert run(compiled(event_id="item"), {"item": -12}).rows["event_id"].to_list() == ["-12"]


def test_a_time_without_a_zone_is_utc() -> None:
    event = compiled(schema=SCHEMA | {"at": pl.Datetime("ms")})
    assert run(event, {"at": datetime(2024, 5, 1, 12)}).rows["event_time"].to_list() == [NOON]  # noqa: DTZ001


def test_a_time_of_another_zone_is_the_same_moment_in_utc() -> None:
    event = compiled(schema=SCHEMA | {"at": pl.Datetime("ns", "America/New_York")})
    assert run(event, {"at": NOON}).rows["event_time"].to_list() == [NOON]


def test_no_arrival_means_on_time() -> None:
    event = compiled(schema=SCHEMA | {"seen": pl.Datetime("us", "UTC")}, arrival_time="seen")
    rows = run(event, {"seen": None}, {"id": "e2", "seen": NOON + HOUR}).rows
    assert rows["arrival_time"].to_list() == [NOON, NOON + HOUR]


def test_no_revision_is_the_first() -> None:
    event = compiled(schema=SCHEMA | {"rev": pl.Int16}, revision="rev")
    assert run(event, {"rev": None}, {"id": "e2", "rev": 3}).rows["revision"].to_list() == [0, 3]


# ---- dead letters


@pytest.mark.parametrize(
    ("row", "rule"),
    [
        ({"user": None}, "null_entity"),
        ({"id": None}, "null_event_id"),
        ({"at": None}, "null_event_time"),
        ({"at": datetime(1970, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)}, "impossible_event_time"),
        ({"at": datetime(2100, 1, 1, tzinfo=UTC)}, "impossible_event_time"),
    ],
)
def test_a_row_that_cannot_be_an_event_is_a_dead_letter(row: dict[str, Any], rule: str) -> None:
    result = run(compiled(), row, {"id": "good"})
    assert rules(result.dead) == [rule]
    assert result.rows["event_id"].to_list() == ["good"]
    assert result.rejected.is_empty()


def test_the_first_and_the_last_possible_time_are_kept() -> None:
    first, last = datetime(1971, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC) - US
    assert run(compiled(), {"at": first}, {"at": last}).rows["event_time"].to_list() == [
        first,
        last,
    ]


def test_an_epoch_beyond_any_calendar_is_an_impossible_time() -> None:
    event = compiled(
        schema=SCHEMA | {"at": pl.Int64}, event_time=pl.from_epoch("at", time_unit="ms")
    )
    assert rules(run(event, {"at": 2**62}, {"at": -(2**62)}).dead) == ["impossible_event_time"] * 2


@pytest.mark.parametrize("text", ["DELETE", "", "insert", " delete"])
def test_an_unknown_operation_is_a_dead_letter(text: str) -> None:
    event = compiled(schema=SCHEMA | {"op": pl.String}, operation="op")
    assert rules(run(event, {"op": text}).dead) == ["unknown_operation"]


def test_a_row_with_several_faults_is_one_dead_letter_named_by_the_first() -> None:
    assert rules(run(compiled(), {"user": None, "id": None, "at": None}).dead) == ["null_entity"]


def test_a_dead_letter_keeps_the_row() -> None:
    letter = run(compiled(), {"id": None, "item": 99}).dead.to_dicts()[0]
    assert json.loads(letter["row"])["item"] == 99


def test_empty_text_is_an_entity_and_an_id() -> None:
    event = compiled(schema=SCHEMA | {"user": pl.String})
    rows = run(event, {"user": "", "id": ""}).rows
    assert rows.select("entity", "event_id").rows() == [("", "")]


# ---- rejected


def test_a_delete_is_rejected_as_such_whatever_the_filters_say() -> None:
    event = compiled(schema=SCHEMA | {"op": pl.String}, operation="op", where=pl.col("price") > 100)
    result = run(event, {"op": "delete", "price": None}, {"id": "e2", "op": None, "price": 101.0})
    assert rules(result.rejected) == ["delete"]
    assert result.rows["event_id"].to_list() == ["e2"]


def test_a_condition_that_is_false_or_null_filters() -> None:
    result = run(compiled(where=pl.col("price") > 1), {"price": 1.0}, {"price": None}, {"id": "e2"})
    assert rules(result.rejected) == ["where", "where"]
    assert result.rows["event_id"].to_list() == ["e2"]


def test_the_first_rule_that_fails_names_the_rejection() -> None:
    event = compiled(where={"cheap": pl.col("price") < 10, "known": pl.col("item").is_not_null()})
    result = run(event, {"price": 11.0, "item": None}, {"item": None})
    assert rules(result.rejected) == ["cheap", "known"]


def test_a_filter_may_use_a_column_that_became_part_of_the_envelope() -> None:
    assert rules(run(compiled(where=pl.col("user") != 7), {}).rejected) == ["where"]


def test_rows_that_an_executor_drops_are_counted_even_when_they_share_an_envelope() -> None:
    def dear(frame: pl.LazyFrame) -> pl.LazyFrame:
        return frame.filter(pl.col("price") > 5).with_columns(
            cents=(pl.col("price") * 100).cast(pl.Int64)
        )

    result = run(compiled(executor=dear), {"price": 1.0}, {"price": 6.0}, {"price": 2.0})
    assert rules(result.rejected) == ["executor", "executor"]
    assert result.rows["cents"].to_list() == [600]


def test_a_rejected_row_keeps_its_envelope() -> None:
    rejected = run(compiled(where=pl.lit(value=False)), {}).rejected.to_dicts()
    envelope = {
        "entity": 7,
        "event_id": "e1",
        "event_time": NOON,
        "arrival_time": NOON,
        "revision": 0,
    }
    assert rejected == [envelope | {"rule": "where"}]


# ---- derived columns


def test_derived_columns_see_raw_columns_under_both_names() -> None:
    columns = {
        "twice": pl.col("price") * 2,
        "is_seven": pl.col("user") == 7,
        "hour": pl.col("event_time").dt.hour(),
    }
    rows = run(compiled(columns=columns), {}, {"id": "e2", "user": 8, "price": None}).rows
    assert rows.select("twice", "is_seven", "hour").rows() == [(5.0, True, 12), (None, False, 12)]


def test_a_derived_column_may_use_what_the_executor_added() -> None:
    def tagged(frame: pl.LazyFrame) -> pl.LazyFrame:
        return frame.with_columns(tag=pl.concat_str(pl.lit("item-"), pl.col("item")))

    event = compiled(executor=tagged, columns={"n": pl.col("tag").str.len_chars()})
    assert run(event, {"item": 12}).rows.select("tag", "n").rows() == [("item-12", 7)]


def test_a_constant_column_has_its_value_in_every_row() -> None:
    rows = run(compiled(columns={"kind": pl.lit("click")}), {}, {"id": "e2"}).rows
    assert rows["kind"].to_list() == ["click", "click"]


# ---- lookups


def products(*rows: tuple[int, datetime, str]) -> dict[str, pl.DataFrame]:
    data = [
        {"key": key, "available_time": since, "brand": brand, "vector": [0.5, 1.5]}
        for key, since, brand in rows
    ]
    schema = compiled(enrich=[PRODUCTS]).lookups[0].enrichment.schema
    return {"products": pl.DataFrame(data, schema=schema)}


@pytest.mark.parametrize(
    ("at", "brand"),
    [
        (NOON - US, None),  # nothing was known yet
        (NOON, "old"),  # known from that very moment
        (NOON + HOUR - US, "old"),
        (NOON + HOUR, "new"),
        (NOON + 1000 * HOUR, "new"),
    ],
)
def test_a_lookup_finds_the_newest_row_available_at_the_event(
    at: datetime, brand: str | None
) -> None:
    tables = products((1, NOON + HOUR, "new"), (1, NOON, "old"), (2, NOON - HOUR, "other"))
    rows = run(compiled(enrich=[PRODUCTS]), {"at": at}, tables=tables).rows
    assert rows["brand"].to_list() == [brand]
    assert rows["vector"].to_list() == [None if brand is None else [0.5, 1.5]]


def test_a_null_key_finds_nothing() -> None:
    rows = run(compiled(enrich=[PRODUCTS]), {"item": None}, tables=products((1, NOON, "a"))).rows
    assert rows["brand"].to_list() == [None]


def test_a_lookup_in_an_empty_table_gives_nulls() -> None:
    assert run(compiled(enrich=[PRODUCTS]), {}, tables=products()).rows["brand"].to_list() == [None]


def test_a_missing_row_rejects_where_the_enrichment_says_so() -> None:
    strict = Enrichment(
        name="products",
        owner="team:tests",
        key="item",
        schema=PRODUCTS.schema,
        source=PRODUCTS.source,
        columns=["brand", "vector"],
        available_time="since",
        on_missing="reject",
    )
    result = run(
        compiled(enrich=[strict]),
        {"item": 1},
        {"item": 2},
        {"item": None},
        tables=products((1, NOON, "a")),
    )
    assert rules(result.rejected) == ["missing:products", "missing:products"]
    assert result.rows["brand"].to_list() == ["a"]


def test_a_row_without_available_time_was_known_at_all_times() -> None:
    event = compiled(enrich=[COUNTRIES])
    table = pl.DataFrame({"key": [7], "country": ["CH"]}, schema=event.lookups[0].enrichment.schema)
    rows = run(event, {"at": datetime(1971, 1, 1, tzinfo=UTC)}, tables={"countries": table}).rows
    assert rows["country"].to_list() == ["CH"]


def test_an_enrichment_is_looked_up_by_the_column_that_by_names() -> None:
    event = compiled(enrich=[COUNTRIES.by("item")])
    table = pl.DataFrame(
        {"key": [7, 1], "country": ["CH", "FR"]}, schema=event.lookups[0].enrichment.schema
    )
    assert run(event, {"item": 1}, tables={"countries": table}).rows["country"].to_list() == ["FR"]


def test_rows_keep_their_order_through_lookups() -> None:
    tables = products((1, NOON, "a"), (2, NOON, "b"))
    given = [{"id": str(n), "item": n % 2 + 1, "at": NOON + (9 - n) * HOUR} for n in range(6)]
    rows = run(compiled(enrich=[PRODUCTS]), *given, tables=tables).rows
    assert rows["event_id"].to_list() == ["0", "1", "2", "3", "4", "5"]
    assert rows["brand"].to_list() == ["a", "b", "a", "b", "a", "b"]


# ---- the table of an enrichment


def prepared(
    *rows: tuple[int | None, datetime | None, str | None],
) -> tuple[pl.DataFrame, pl.DataFrame]:
    plan = compiled(enrich=[PRODUCTS]).lookups[0].enrichment
    frame = pl.DataFrame([(*row, [0.5, 1.5]) for row in rows], schema=plan.raw_schema, orient="row")
    return prepare_lookup(plan, frame)


def test_of_several_rows_available_at_the_same_time_the_largest_counts() -> None:
    table, dead = prepared((1, NOON, "a"), (1, NOON, "b"), (1, NOON, None), (1, NOON + HOUR, "a"))
    assert table.select("key", "available_time", "brand").rows() == [
        (1, NOON, "b"),
        (1, NOON + HOUR, "a"),
    ]
    assert dead.is_empty()


def test_an_enrichment_row_without_key_or_time_is_a_dead_letter() -> None:
    table, dead = prepared((None, NOON, "a"), (1, None, "b"), (2, NOON, "c"))
    assert table["brand"].to_list() == ["c"]
    assert sorted(rules(dead)) == ["null_available_time", "null_key"]


# ---- expressions that fail


def test_a_row_on_which_an_expression_fails_is_dead_and_its_neighbours_are_not() -> None:
    event = compiled(
        schema=SCHEMA | {"count": pl.String}, columns={"n": pl.col("count").cast(pl.Int64)}
    )
    rows = [{"id": str(n), "count": text} for n, text in enumerate(["1", "many", "3", "", "5"])]
    result = run(event, *rows)
    assert rules(result.dead) == ["failed", "failed"]
    assert [json.loads(row)["count"] for row in result.dead["row"]] == ["many", ""]
    assert result.rows["n"].to_list() == [1, 3, 5]


def test_a_column_is_not_computed_for_rows_that_were_filtered_before() -> None:
    columns = {"n": pl.col("count").cast(pl.Int64)}
    event = compiled(
        schema=SCHEMA | {"count": pl.String}, columns=columns, where=pl.col("count") != "many"
    )
    result = run(event, {"count": "many"}, {"count": "2"})
    assert (rules(result.rejected), result.dead.height) == (["where"], 0)


def test_a_time_that_cannot_be_parsed_is_a_dead_letter() -> None:
    time = pl.col("at").str.to_datetime("%Y-%m-%d %H:%M:%S")
    event = compiled(schema=SCHEMA | {"at": pl.String}, event_time=time)
    result = run(event, {"at": "yesterday"}, {"id": "e2", "at": "2024-05-01 12:00:00"})
    assert rules(result.dead) == ["failed"]
    assert result.rows["event_time"].to_list() == [NOON]
