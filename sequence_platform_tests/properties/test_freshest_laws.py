"""What is looked up when a sequence is read equals the oracle, at any time and for any keys."""

from __future__ import annotations

from datetime import timedelta

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from sequence_platform.definition import Enrichment, EventType, Files, Sequence
from sequence_platform.engine.freshest import attach_read, freshest_of, key_columns
from sequence_platform.engine.point import narrowed
from sequence_platform.plan.compile import Located, compile_plan
from sequence_platform.plan.plan import EnrichmentPlan, SequencePlan
from sequence_platform_tests import oracle
from sequence_platform_tests.oracle import Rows
from sequence_platform_tests.read_lookups import T0, Asked, asked, listed


@given(wanted=asked())
def test_the_newest_row_available_counts(wanted: Asked) -> None:
    found = freshest_of(wanted.enrichment, wanted.frame, wanted.column, wanted.at)
    assert listed(found) == wanted.expected()


@given(wanted=asked())
def test_rows_of_other_keys_change_nothing(wanted: Asked) -> None:
    frame = wanted.frame
    only = frame.filter(frame["key"].is_in([key for key in wanted.keys if key is not None]))
    found = freshest_of(wanted.enrichment, only, wanted.column, wanted.at)
    assert listed(found) == wanted.expected()


@given(wanted=asked())
def test_what_becomes_available_later_changes_nothing(wanted: Asked) -> None:
    if not wanted.enrichment.is_versioned:
        return
    past = wanted.frame.filter(wanted.frame["available_time"] <= wanted.at)
    later = wanted.frame.with_columns(
        available_time=wanted.frame["available_time"] + timedelta(days=1)
    )
    for more in (past, past.vstack(later).sort("key", "available_time")):
        found = freshest_of(wanted.enrichment, more, wanted.column, wanted.at)
        assert listed(found) == wanted.expected()


# ---- whole sequences: keys by event type


def read_plan() -> SequencePlan:
    """Return views and buys that name a product by different columns, and notes that name none.

    Notes have a column ``item``, too, which is not the key of anything. Levels are of the entity.
    """
    prices = Enrichment(
        name="prices",
        owner="team:tests",
        key="product",
        schema={"product": pl.Int64, "since": pl.Datetime("us", "UTC"), "price": pl.Float64},
        source=Files("prices.parquet"),
        available_time="since",
        columns=["price"],
        resolve="read",
    )
    levels = Enrichment(
        name="levels",
        owner="team:tests",
        key="user",
        schema={"user": pl.String, "level": pl.Int8},
        source=Files("levels.parquet"),
        columns=["level"],
        resolve="read",
    )
    enrich = {
        "view": [prices.by("item"), levels.by("entity")],
        "buy": [prices.by("bought"), levels.by("entity")],
        "note": [],
    }
    columns: dict[str, dict[str, type[pl.DataType]]] = {
        "view": {"item": pl.Int32},
        "buy": {"bought": pl.Int64},
        "note": {"item": pl.Int32},
    }
    events = [
        EventType(
            name=name,
            owner="team:tests",
            schema={"id": pl.String, "user": pl.String, "at": pl.Datetime("us"), **columns[name]},
            event_id="id",
            event_time="at",
            entity="user",
            batch=Files(f"{name}.parquet"),
            enrich=enrich[name],
        )
        for name in columns
    ]
    sequence = Sequence(
        name="all",
        owner="team:tests",
        events=events,
        columns=["item", "bought", "price", "level"],
    )
    return compile_plan([Located("tests.py", sequence)]).sequences["all"]


PLAN = read_plan()
PRICES, LEVELS = (lookup.enrichment for lookup in PLAN.read_lookups)
PRODUCTS = st.none() | st.integers(0, 3)
HOURS = st.integers(-2, 2)


@st.composite
def histories(draw: st.DrawFn) -> tuple[dict[str, Rows], dict[str, Rows]]:
    """Draw events by entity, oldest first, and rows by enrichment."""
    event = st.one_of(
        st.fixed_dictionaries({"event_type": st.just("view"), "item": PRODUCTS}),
        st.fixed_dictionaries({"event_type": st.just("buy"), "bought": PRODUCTS}),
        st.fixed_dictionaries({"event_type": st.just("note"), "item": PRODUCTS}),
    )
    events = st.lists(event, min_size=1, max_size=4)
    by_entity = draw(st.dictionaries(st.sampled_from(["ann", "bo", "é"]), events, max_size=3))
    prices = draw(st.dictionaries(st.tuples(st.integers(0, 3), HOURS), st.floats(0, 9), max_size=8))
    levels = draw(st.dictionaries(st.sampled_from(["ann", "é"]), st.integers(0, 9)))
    facts: dict[str, Rows] = {
        "prices": [
            {"key": key, "available_time": T0 + timedelta(hours=hour), "price": price}
            for (key, hour), price in sorted(prices.items())
        ],
        "levels": [{"key": key, "level": level} for key, level in sorted(levels.items())],
    }
    return by_entity, facts


def expected(events: Rows, entity: str, facts: dict[str, Rows]) -> dict[str, list[object]]:
    keys = [{"view": event.get("item"), "buy": event.get("bought")} for event in events]
    names = [event["event_type"] for event in events]
    prices = [
        oracle.look_up(facts["prices"], key.get(name), T0)
        for key, name in zip(keys, names, strict=True)
    ]
    level = oracle.look_up(facts["levels"], entity, T0)
    return {
        "price": [None if row is None else row["price"] for row in prices],
        "level": [None if level is None or name == "note" else level["level"] for name in names],
    }


@given(drawn=histories())
def test_each_event_has_the_row_of_its_own_key(
    drawn: tuple[dict[str, Rows], dict[str, Rows]],
) -> None:
    by_entity, facts = drawn
    lists = [
        {
            "entity": entity,
            **{name: [e.get(name) for e in events] for name in ("event_type", "item", "bought")},
            "event_id": [str(number) for number in range(len(events))],
        }
        for entity, events in by_entity.items()
    ]
    types = {name: PLAN.columns.get(name, pl.String()) for name in ("item", "bought")}
    schema = {"entity": pl.String(), "event_type": pl.List(pl.String())}
    schema |= {name: pl.List(dtype) for name, dtype in types.items()}
    sequences = pl.DataFrame(lists, schema={**schema, "event_id": pl.List(pl.String())})

    def read_rows(enrichment: EnrichmentPlan, keys: pl.Series) -> pl.DataFrame:
        rows = pl.DataFrame(facts[enrichment.name], schema=enrichment.schema)
        return rows.filter(pl.col("key").is_in(keys.implode()))

    found = attach_read(PLAN, sequences, PLAN.read_lookups, read_rows, T0)
    assert found.schema["price"] == pl.List(pl.Float64())
    for entity, price, level in found.select("entity", "price", "level").iter_rows():
        wanted = expected(by_entity[entity], entity, facts)
        assert {"price": price, "level": level} == wanted


def test_only_what_tells_the_key_is_read() -> None:
    prices, levels = PLAN.read_lookups
    assert key_columns(PLAN, prices) == ["event_type", "item", "bought"]
    assert key_columns(PLAN, levels) == ["event_type", "entity"]
    assert key_columns(narrowed(PLAN, types=["buy"]), prices) == ["bought"]
    assert key_columns(narrowed(PLAN, types=["view", "buy"]), levels) == ["entity"]
    assert key_columns(narrowed(PLAN, types=["note"]), prices) == ["event_type"]
