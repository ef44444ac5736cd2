"""Laws of resolve: one winner per event, whatever the order, however often it is fed."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sequence_platform.engine.resolve import Resolved, resolve
from sequence_platform.plan.plan import ENVELOPE
from sequence_platform.ports import CORRECTION_COLUMNS
from sequence_platform_tests import oracle
from sequence_platform_tests.oracle import Row, Rows
from sequence_platform_tests.strategies import as_set, frame, raw_rows, tables, world

HERE = world()
EVENTS = ("view", "buy", "search")
ENRICHED = {
    name: st.tuples(raw_rows(name, HERE.entities), tables(HERE.entities)) for name in EVENTS
}


def resolved(name: str, admitted: Rows, rejected: Rows) -> Resolved:
    event = HERE.event(name)
    rules = {column: event.schema[column] for column in ENVELOPE} | {"rule": pl.String()}
    return resolve(event, frame(admitted, event.schema), frame(rejected, rules))


def outcome(result: Resolved) -> tuple[Any, ...]:
    rows, corrections = (
        as_set(result.rows.to_dicts()),
        as_set(result.corrections.select(CORRECTION_COLUMNS).to_dicts()),
    )
    filtered = {rule: count for rule, count in result.filtered.items() if count}
    return rows, corrections, filtered, result.superseded, result.deleted


def correction(row: Row) -> Row:
    return {column: row.get(column, "rule" in row) for column in CORRECTION_COLUMNS}


def drawn(name: str, data: st.DataObject) -> tuple[Rows, Rows]:
    rows, known = data.draw(ENRICHED[name])
    admitted, rejected, _ = oracle.enrich(HERE.oracles[name], rows, known)
    return admitted, rejected


@pytest.mark.parametrize("name", EVENTS)
@given(data=st.data())
def test_resolve_equals_the_oracle(name: str, data: st.DataObject) -> None:
    admitted, rejected = drawn(name, data)
    truth = oracle.resolve(HERE.oracles[name], admitted, rejected, [])
    corrections = (
        [correction(row) for row in truth.corrections] if HERE.event(name).corrects else []
    )
    expected = (
        as_set(truth.rows),
        as_set(corrections),
        truth.filtered,
        truth.superseded,
        truth.deleted,
    )
    assert outcome(resolved(name, admitted, rejected)) == expected


@pytest.mark.parametrize("name", EVENTS)
@given(data=st.data())
def test_resolve_does_not_depend_on_the_order_of_rows(name: str, data: st.DataObject) -> None:
    admitted, rejected = drawn(name, data)
    again = resolved(
        name, data.draw(st.permutations(admitted)), data.draw(st.permutations(rejected))
    )
    assert outcome(again) == outcome(resolved(name, admitted, rejected))


@pytest.mark.parametrize("name", EVENTS)
@given(data=st.data())
def test_feeding_twice_only_adds_to_what_is_superseded(name: str, data: st.DataObject) -> None:
    admitted, rejected = drawn(name, data)
    *once, superseded, deleted = outcome(resolved(name, admitted, rejected))
    twice = outcome(resolved(name, admitted * 2, rejected * 2))
    assert twice == (*once, superseded + len(admitted) + len(rejected), deleted)


@pytest.mark.parametrize("name", EVENTS)
@given(data=st.data())
def test_resolving_what_is_resolved_changes_nothing(name: str, data: st.DataObject) -> None:
    admitted, rejected = drawn(name, data)
    once = resolved(name, admitted, rejected).rows
    again = resolved(name, once.to_dicts(), [])
    assert as_set(again.rows.to_dicts()) == as_set(once.to_dicts())
    assert (again.superseded, again.deleted, sum(again.filtered.values())) == (0, 0, 0)


@pytest.mark.parametrize("name", EVENTS)
@given(data=st.data())
def test_every_row_ends_in_exactly_one_outcome(name: str, data: st.DataObject) -> None:
    admitted, rejected = drawn(name, data)
    result = resolved(name, admitted, rejected)
    ended = result.rows.height + sum(result.filtered.values()) + result.superseded + result.deleted
    assert ended == len(admitted) + len(rejected)


@pytest.mark.parametrize("name", EVENTS)
@given(data=st.data())
def test_resolved_rows_have_one_row_per_event_in_the_order_of_tables(
    name: str, data: st.DataObject
) -> None:
    rows = resolved(name, *drawn(name, data)).rows
    assert rows.select("entity", "event_id").is_unique().all()
    keys = [
        (r["entity"].encode(), r["event_time"], r["event_id"].encode()) for r in rows.to_dicts()
    ]
    assert keys == sorted(keys)
