"""What is looked up when a sequence is read: what it compiles to, and what it is refused for."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import polars as pl
import pytest

from sequence_platform.definition import Dedupe, Enrichment, Files, Sequence, Vector
from sequence_platform.plan.diff import Impact, diff
from sequence_platform.plan.explain import explain
from sequence_platform.plan.manifest import build_manifest
from sequence_platform_tests.unit.plan.examples import (
    click,
    compiled,
    event_plan,
    feed,
    pins,
    problem,
    problems,
    save,
    sequence_plan,
)

BREAKING, COMPATIBLE, METADATA = Impact.BREAKING, Impact.COMPATIBLE, Impact.METADATA


def prices(**changes: Any) -> Enrichment:
    """Return what pins cost now."""
    fields: dict[str, Any] = {
        "name": "prices",
        "owner": "team:pins",
        "key": "pin_id",
        "schema": {"pin_id": pl.Int32, "since": pl.Datetime("us", "UTC"), "price": pl.Float64},
        "source": Files("prices.parquet"),
        "columns": ["price"],
        "available_time": "since",
        "resolve": "read",
    }
    return Enrichment(**(fields | changes))


def priced(enrichment: Enrichment | None = None, **changes: Any) -> Sequence:
    """Return a sequence of clicks, which have prices when they are read, and saves, without."""
    fields = {
        "events": [click(enrich=[enrichment or prices()]), save()],
        "columns": ["pin_id", "price"],
    }
    return feed(**(fields | changes))


def test_an_event_type_stores_nothing_of_it() -> None:
    plain, plan = event_plan(click()), event_plan(click(enrich=[prices()]))
    assert plan.schema == plain.schema
    assert plan.fingerprint == plain.fingerprint  # no day has to be built again
    assert plan.lookups == ()
    assert [(each.enrichment.name, each.column) for each in plan.read_lookups] == [
        ("prices", "pin_id")
    ]


def test_a_sequence_has_its_columns_beside_those_that_snapshots_hold() -> None:
    plan = sequence_plan(priced(request={"dear": pl.col("price") > 9}))
    assert dict(plan.columns) == {"pin_id": pl.Int64()}
    assert dict(plan.read) == {"price": pl.Float64()}
    assert dict(plan.request) == {"dear": pl.Boolean()}
    (lookup,) = plan.read_lookups
    assert (lookup.enrichment.name, lookup.by, lookup.columns) == (
        "prices",
        {"click": "pin_id"},
        ("price",),
    )
    assert plan.fingerprint == sequence_plan(feed(columns=["pin_id"])).fingerprint
    assert "price" not in plan.schema


def test_a_vector_that_is_read_is_no_late_column() -> None:
    schema = {"pin_id": pl.Int64, "vector": Vector(2)}
    vectors = prices(schema=schema, columns=["vector"], available_time=None)
    plan = sequence_plan(priced(vectors, columns=["pin_id", "vector"]))
    assert plan.late == ()
    assert dict(plan.read) == {"vector": Vector(2)}


def test_keys_may_differ_by_event_type() -> None:
    bought = prices()
    events = [
        click(enrich=[bought.by("shown")], columns={"shown": pl.col("pin_id") + 1}),
        save(enrich=[bought]),
    ]
    plan = sequence_plan(feed(events=events, columns=["shown", "pin_id", "price"]))
    assert plan.read_lookups[0].by == {"click": "shown", "save": "pin_id"}


@pytest.mark.parametrize("key", ["entity", "event_id"])
def test_what_every_sequence_carries_may_be_the_key(key: str) -> None:
    text = key == "event_id"
    schema = {"pin_id": pl.String if text else pl.Int64, "price": pl.Float64}
    profile = prices(schema=schema, available_time=None)
    plan = sequence_plan(priced(events=[click(enrich=[profile.by(key)])], columns=["price"]))
    assert plan.read_lookups[0].by == {"click": key}


def test_a_column_attached_at_ingest_may_be_the_key() -> None:
    by_topic = prices(schema={"pin_id": pl.String, "price": pl.Float64}, available_time=None)
    events = [click(enrich=[by_topic.by("topic"), pins()])]
    assert dict(sequence_plan(feed(events=events, columns=["topic", "price"])).read) == {
        "price": pl.Float64()
    }


def test_a_key_that_is_not_stored_is_refused() -> None:
    # It lives on as entity.
    reported = problem(click(enrich=[prices().by("user_id")]))
    assert (reported.field, reported.found) == ("enrich.prices", "column 'user_id'")
    assert reported.expected.startswith("a column that is stored; ")
    assert reported.next_step == "prices.by('<column of the event>')"


def test_a_key_of_another_type_is_refused() -> None:
    text = prices(schema={"pin_id": pl.String, "price": pl.Float64}, available_time=None)
    reported = problem(click(enrich=[text]))
    assert (reported.found, reported.expected) == (
        "'pin_id' of type Int64",
        "the key's type, String",
    )


def test_a_name_that_the_event_has_is_refused() -> None:
    reported = problem(click(enrich=[prices(columns={"dwell": pl.col("price")})]))
    assert reported.found == "'dwell' of enrichment 'prices'"
    assert reported.expected == "a name of its own: the event has this column"


def test_a_sequence_without_the_key_is_refused() -> None:
    reported = problem(priced(columns=["price"]))
    assert (reported.field, reported.found) == ("columns", "price without 'pin_id'")
    assert reported.next_step == "add 'pin_id' to columns"


def test_a_column_of_two_origins_is_refused() -> None:
    stored = save(columns={"price": pl.lit(1.0)})
    reported = problem(priced(events=[click(enrich=[prices()]), stored]))
    assert reported.found == "'price' is read from 'prices' and stored with 'save'"
    other = save(enrich=[prices(name="costs")])
    reported = problem(priced(events=[click(enrich=[prices()]), other]))
    assert reported.found == "'price' is read from 'costs' and read from 'prices'"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"dedupe": Dedupe(by=["pin_id", "price"])}, "dedupe.by"),
        ({"derived": {"spent": pl.col("price").cum_sum()}}, "derived.spent"),
        ({"late": ["price"]}, "late"),
    ],
)
def test_what_snapshots_hold_cannot_depend_on_it(changes: Any, field: str) -> None:
    reported = problem(priced(**changes))
    assert reported.field == field
    assert reported.found == "'price', which is looked up when the sequence is read"
    assert reported.expected == (
        "stored columns; read columns are for request columns and for answers"
    )


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"where": pl.col("price") > 1}, "where.where"),
        ({"columns": {"dear": pl.col("price") > 1}}, "columns.dear"),
        ({"executor": lambda rows: rows.filter(pl.col("price") > 1)}, "executor"),
    ],
)
def test_events_do_not_have_it(changes: Any, field: str) -> None:
    reported = problem(click(enrich=[prices()], **changes))
    assert reported.field == field
    assert "price" in reported.found


@pytest.mark.parametrize("kind", ["derived", "request", "context"])
def test_its_name_is_taken(kind: str) -> None:
    value = pl.Float64 if kind == "context" else pl.col("pin_id")
    changes: dict[str, Any] = {kind: {"price": value}}
    assert "'price'" in problem(priced(**changes)).found


def test_all_that_is_wrong_is_said_at_once() -> None:
    wrong = prices(deadline=timedelta(0), on_missing="reject")
    found = problems(wrong, click(enrich=[prices(name="other").by("nothing")], owner=""))
    assert {(each.definition, each.field) for each in found} == {
        ("enrichment 'prices'", "deadline"),
        ("enrichment 'prices'", "on_missing"),
        ("event type 'click'", "owner"),
        ("event type 'click'", "enrich.other"),
    }


# ---- what changes mean


def changed(old: Sequence, new: Sequence) -> set[tuple[str, str, Impact]]:
    found = diff(build_manifest(compiled(old)), build_manifest(compiled(new)))
    return {(each.definition, each.field, each.impact) for each in found}


def test_a_read_column_more_rebuilds_nothing() -> None:
    found = diff(
        build_manifest(compiled(feed(columns=["pin_id"]))), build_manifest(compiled(priced()))
    )
    assert [str(each) for each in found] == [
        "compatible enrichment 'prices', definition: added; backfill enrichments.prices",
        "metadata   event type 'click', enrich_when_read: None -> {'prices': 'pin_id'}",
        "compatible sequence 'feed', read: column 'price' added",
    ]


def test_a_read_column_less_breaks_readers() -> None:
    assert ("sequence 'feed'", "read", BREAKING) in changed(priced(), feed(columns=["pin_id"]))


def test_another_key_or_type_breaks_readers() -> None:
    other = priced(
        events=[click(enrich=[prices().by("dwell")]), save()], columns=["pin_id", "dwell", "price"]
    )
    kept = priced(columns=["pin_id", "dwell", "price"])
    assert ("sequence 'feed'", "read", BREAKING) in changed(kept, other)
    retyped = prices(schema={**prices().schema, "price": pl.Float32})
    assert ("sequence 'feed'", "read", BREAKING) in changed(priced(), priced(retyped))


def test_how_long_a_request_waits_is_no_new_table() -> None:
    old, new = compiled(priced()), compiled(priced(prices(deadline=timedelta(seconds=1))))
    assert old.enrichments["prices"].fingerprint == new.enrichments["prices"].fingerprint
    assert old.sequences["feed"].fingerprint == new.sequences["feed"].fingerprint
    assert old.sequences["feed"].request_fingerprint != new.sequences["feed"].request_fingerprint
    assert old.fingerprint != new.fingerprint
    assert changed(priced(), priced(prices(deadline=timedelta(seconds=1)))) == {
        ("enrichment 'prices'", "deadline_s", METADATA),
        ("sequence 'feed'", "read", COMPATIBLE),
    }


def test_attaching_it_at_ingest_instead_means_something_else() -> None:
    found = changed(priced(), priced(prices(resolve="ingest")))
    assert ("sequence 'feed'", "read", BREAKING) in found
    assert ("event type 'click'", "enrich", COMPATIBLE) in found


def test_words_say_when_it_is_looked_up() -> None:
    plan = compiled(priced(prices(on_timeout="fail")))
    words = {
        name: [" ".join(line.split()) for line in explain(plan, name).splitlines()]
        for name in ("feed", "click")
    }
    assert "price Float64 when read: newest 'prices' at as_of, by pin_id of click" in words["feed"]
    assert "price Float64 when read, not stored: newest 'prices' by pin_id" in words["click"]
    text = explain(plan, "prices")
    assert "looked up by pin_id: the newest available at as_of; no row: null" in text
    assert "no answer within 20 ms: the request fails" in text
