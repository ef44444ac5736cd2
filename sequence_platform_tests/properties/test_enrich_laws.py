"""Laws of enrich: it says what the oracle says, row by row, and loses nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sequence_platform.engine.enrich import Enriched, enrich
from sequence_platform_tests import oracle
from sequence_platform_tests.oracle import Rows
from sequence_platform_tests.strategies import World, as_set, frame, raw_rows, tables, world

WORLDS = {"strings": world(pl.String()), "integers": world(pl.Int64())}
EVENTS = ("view", "buy", "search")


def enriched(here: World, name: str, rows: Rows, known: Mapping[str, Rows]) -> Enriched:
    event = here.event(name)
    schemas = {lookup.enrichment.name: lookup.enrichment.schema for lookup in event.lookups}
    frames = {table: frame(known[table], schema) for table, schema in schemas.items()}
    return enrich(event, frame(rows, event.raw_schema), frames)


def outcomes(result: Enriched) -> tuple[list[Any], list[Any], Counter[str]]:
    return (
        as_set(result.rows.to_dicts()),
        as_set(result.rejected.to_dicts()),
        Counter(result.dead["rule"].to_list()),
    )


def drawn_from(entities: str, name: str) -> st.SearchStrategy[tuple[Rows, Mapping[str, Rows]]]:
    pool = WORLDS[entities].entities
    return st.tuples(raw_rows(name, pool), tables(pool))


@pytest.mark.parametrize("entities", WORLDS)
@pytest.mark.parametrize("name", EVENTS)
@given(data=st.data())
def test_enrich_equals_the_oracle(entities: str, name: str, data: st.DataObject) -> None:
    rows, known = data.draw(drawn_from(entities, name))
    admitted, rejected, dead = oracle.enrich(WORLDS[entities].oracles[name], rows, known)
    expected = as_set(admitted), as_set(rejected), Counter(row["rule"] for row in dead)
    assert outcomes(enriched(WORLDS[entities], name, rows, known)) == expected


@pytest.mark.parametrize("name", EVENTS)
@given(data=st.data())
def test_enrich_of_a_split_batch_is_the_same(name: str, data: st.DataObject) -> None:
    here = WORLDS["strings"]
    rows, known = data.draw(drawn_from("strings", name))
    at = data.draw(st.integers(0, len(rows)))
    whole = enriched(here, name, rows, known)
    parts = [enriched(here, name, part, known) for part in (rows[:at], rows[at:])]
    for outcome in ("rows", "rejected", "dead"):
        joined = pl.concat([getattr(part, outcome) for part in parts])
        assert as_set(getattr(whole, outcome).to_dicts()) == as_set(joined.to_dicts())


@pytest.mark.parametrize("name", EVENTS)
@given(data=st.data())
def test_enrich_does_not_depend_on_the_order_of_rows_or_tables(
    name: str, data: st.DataObject
) -> None:
    here = WORLDS["strings"]
    rows, known = data.draw(drawn_from("strings", name))
    shuffled = {table: data.draw(st.permutations(its_rows)) for table, its_rows in known.items()}
    again = enriched(here, name, data.draw(st.permutations(rows)), shuffled)
    assert outcomes(again) == outcomes(enriched(here, name, rows, known))


@pytest.mark.parametrize("name", EVENTS)
@given(data=st.data())
def test_every_row_is_admitted_rejected_or_dead(name: str, data: st.DataObject) -> None:
    rows, known = data.draw(drawn_from("strings", name))
    result = enriched(WORLDS["strings"], name, rows, known)
    assert result.rows.height + result.rejected.height + result.dead.height == len(rows)


@pytest.mark.parametrize("name", EVENTS)
@given(data=st.data())
def test_enriched_rows_have_the_schema_of_the_plan(name: str, data: st.DataObject) -> None:
    rows, known = data.draw(drawn_from("strings", name))
    event = WORLDS["strings"].event(name)
    assert enriched(WORLDS["strings"], name, rows, known).rows.schema == event.schema


@given(data=st.data())
def test_an_enrichment_published_after_an_event_changes_nothing_for_it(data: st.DataObject) -> None:
    rows, known = data.draw(drawn_from("strings", "view"))
    newest = max((row["available_time"] for row in known["item_facts"]), default=None)
    past = [row for row in known["item_facts"] if row["available_time"] != newest]
    with_it = enriched(WORLDS["strings"], "view", rows, known).rows
    without = enriched(WORLDS["strings"], "view", rows, {**known, "item_facts": past}).rows
    if newest is not None:
        with_it, without = (f.filter(pl.col("event_time") < newest) for f in (with_it, without))
    assert as_set(with_it.to_dicts()) == as_set(without.to_dicts())
