"""Laws of assemble: it equals the oracle, sees no future, depends on nothing but the events."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sequence_platform.definition import Dedupe
from sequence_platform.engine.assemble import assemble
from sequence_platform.plan.plan import ENVELOPE
from sequence_platform_tests import oracle
from sequence_platform_tests.oracle import Row, Rows
from sequence_platform_tests.strategies import (
    D0,
    DAY,
    TIMES,
    Drawn,
    comparable,
    drawn,
    enriched_rows,
    frame,
    sequences,
    times,
    world,
)

HERE = world()
EVENTS = tuple(HERE.definitions)
ROWS = {name: enriched_rows(name, HERE.entities) for name in EVENTS}
AS_OF = st.sampled_from(
    [*20 * [D0 + DAY], *3 * [D0 + days * DAY for days in (2, 3, 4)], *TIMES, D0 + 91 * DAY]
)
SEQUENCES = sequences(HERE.definitions)
History = Mapping[str, Rows]


def frames(sequence: Drawn, history: History) -> dict[str, pl.DataFrame]:
    """Return what a runtime would give: the envelope and what the sequence carries."""
    return {
        event.name: frame(
            history[event.name],
            {
                name: event.schema[name]
                for name in (*ENVELOPE, *sequence.plan.carried)
                if name in event.schema
            },
        )
        for event in sequence.plan.events
    }


def assembled(sequence: Drawn, history: History, as_of: datetime) -> Rows:
    return assemble(sequence.plan, frames(sequence, history), as_of).to_dicts()


def lists_of(sequence: Row) -> dict[str, list[object]]:
    return {name: value for name, value in sequence.items() if isinstance(value, list)}


def history_of(sequence: Drawn) -> st.SearchStrategy[History]:
    return st.fixed_dictionaries({event.name: ROWS[event.name] for event in sequence.plan.events})


def drawn_case(data: st.DataObject) -> tuple[Drawn, History, datetime]:
    sequence = data.draw(SEQUENCES)
    return sequence, data.draw(history_of(sequence)), data.draw(AS_OF)


@given(data=st.data())
def test_assemble_equals_the_oracle(data: st.DataObject) -> None:
    sequence, history, as_of = drawn_case(data)
    expected = oracle.assemble(sequence.twin, history, as_of)
    assert comparable(assembled(sequence, history, as_of)) == comparable(expected)


@pytest.mark.parametrize("entity", [pl.Int64(), pl.String()], ids=str)
@given(data=st.data())
def test_one_event_type_with_a_plain_policy_equals_the_oracle(
    entity: pl.DataType, data: st.DataObject
) -> None:
    here = world(entity)
    sequence = data.draw(sequences({"buy": here.definitions["buy"]}))
    history = {"buy": data.draw(enriched_rows("buy", here.entities))}
    expected = oracle.assemble(sequence.twin, history, D0 + 2 * DAY)
    assert comparable(assembled(sequence, history, D0 + 2 * DAY)) == comparable(expected)


@given(data=st.data())
def test_a_sequence_has_the_schema_of_the_plan(data: st.DataObject) -> None:
    sequence, history, as_of = drawn_case(data)
    assert assemble(sequence.plan, frames(sequence, history), as_of).schema == sequence.plan.schema


@given(data=st.data())
def test_assemble_does_not_depend_on_the_order_of_rows(data: st.DataObject) -> None:
    sequence, history, as_of = drawn_case(data)
    shuffled = {name: data.draw(st.permutations(rows)) for name, rows in history.items()}
    assert comparable(assembled(sequence, shuffled, as_of)) == comparable(
        assembled(sequence, history, as_of)
    )


@given(data=st.data())
def test_assemble_does_not_depend_on_batching(data: st.DataObject) -> None:
    sequence, history, as_of = drawn_case(data)
    whole = frames(sequence, history)
    cut = {name: data.draw(st.integers(0, rows.height)) for name, rows in whole.items()}
    parts = {
        name: pl.concat([rows.head(cut[name]), rows.tail(rows.height - cut[name])], rechunk=False)
        for name, rows in whole.items()
    }
    again = assemble(sequence.plan, parts, as_of).to_dicts()
    assert comparable(again) == comparable(assembled(sequence, history, as_of))


@given(data=st.data())
def test_feeding_twice_changes_nothing(data: st.DataObject) -> None:
    sequence, history, as_of = drawn_case(data)
    twice = {name: rows * 2 for name, rows in history.items()}
    assert comparable(assembled(sequence, twice, as_of)) == comparable(
        assembled(sequence, history, as_of)
    )


@given(data=st.data())
def test_events_are_in_one_total_order(data: st.DataObject) -> None:
    sequence, history, as_of = drawn_case(data)
    priority = {event.name: position for position, event in enumerate(sequence.plan.events)}
    for row in assembled(sequence, history, as_of):
        ids = [event_id.encode() for event_id in row["event_id"]]
        ranks = [priority[name] for name in row["event_type"]]
        keys = list(zip(row["event_time"], ranks, ids, strict=True))
        assert keys == sorted(set(keys))


@given(data=st.data())
def test_entities_come_sorted_and_once(data: st.DataObject) -> None:
    entities = [row["entity"].encode() for row in assembled(*drawn_case(data))]
    assert entities == sorted(set(entities))


@given(data=st.data())
def test_all_lists_have_the_length_of_the_sequence(data: st.DataObject) -> None:
    for row in assembled(*drawn_case(data)):
        assert {len(values) for values in lists_of(row).values()} == {row["length"]}
        assert row["length"] > 0


@given(data=st.data())
def test_every_value_of_every_list_is_that_of_its_event(data: st.DataObject) -> None:
    sequence, history, as_of = drawn_case(data)
    known = {
        (
            name,
            row["entity"],
            row["event_id"],
            row["event_time"],
            comparable(row.get(column)),
            column,
        )
        for name, rows in history.items()
        for row in rows
        for column in sequence.twin.carried
    }
    for row in assembled(sequence, history, as_of):
        for column in sequence.twin.carried:
            for name, event_id, time, value in zip(
                row["event_type"], row["event_id"], row["event_time"], row[column], strict=True
            ):
                assert (name, row["entity"], event_id, time, comparable(value), column) in known


@given(data=st.data())
def test_changing_events_at_or_after_as_of_changes_nothing(data: st.DataObject) -> None:
    sequence, history, as_of = drawn_case(data)
    past = {
        name: [row for row in rows if row["event_time"] < as_of] for name, rows in history.items()
    }
    future = times.filter(lambda time: time >= as_of)
    if as_of > max(TIMES):
        future = st.just(as_of)
    other = {
        name: [*rows, *data.draw(enriched_rows(name, HERE.entities, when=future))]
        for name, rows in past.items()
    }
    before = comparable(assembled(sequence, history, as_of))
    assert comparable(assembled(sequence, other, as_of)) == before


@given(data=st.data())
def test_changing_events_older_than_the_lookback_changes_nothing(data: st.DataObject) -> None:
    sequence, history, as_of = drawn_case(data)
    start = as_of - sequence.plan.lookback
    old = times.map(lambda time: min(time, start - timedelta(microseconds=1)))
    other = {
        name: [
            *[row for row in rows if row["event_time"] >= start],
            *data.draw(enriched_rows(name, HERE.entities, when=old)),
        ]
        for name, rows in history.items()
    }
    before = comparable(assembled(sequence, history, as_of))
    assert comparable(assembled(sequence, other, as_of)) == before


@given(data=st.data())
def test_entities_do_not_touch_each_other(data: st.DataObject) -> None:
    sequence, history, as_of = drawn_case(data)
    alone = [
        row
        for entity in sorted(HERE.entities[:3], key=str.encode)
        for row in assembled(
            sequence,
            {name: [r for r in rows if r["entity"] == entity] for name, rows in history.items()},
            as_of,
        )
    ]
    assert comparable(alone) == comparable(assembled(sequence, history, as_of))


@given(data=st.data())
def test_max_length_cuts_the_merged_sequence_not_its_parts(data: st.DataObject) -> None:
    sequence, history, as_of = drawn_case(data)
    length = data.draw(st.integers(1, 4))
    bare = replace(sequence.twin.policy, derived=None)
    longest = assembled(drawn(replace(bare, max_length=1000)), history, as_of)
    cut = assembled(drawn(replace(bare, max_length=length)), history, as_of)
    for whole, part in zip(longest, cut, strict=True):
        newest = {name: values[-length:] for name, values in lists_of(whole).items()}
        assert comparable(lists_of(part)) == comparable(newest)
        assert part["trimmed"] == whole["trimmed"] | {
            "max_length": whole["length"] - part["length"]
        }


@given(data=st.data())
def test_dedupe_sees_the_merged_sequence(data: st.DataObject) -> None:
    sequence, history, as_of = drawn_case(data)
    bare = replace(sequence.twin.policy, derived=None, dedupe=None, quotas=None, max_length=1000)
    merged = assembled(drawn(bare), history, as_of)
    runs = replace(bare, dedupe=Dedupe(by="event_type", keep="last"))
    for whole, part in zip(merged, assembled(drawn(runs), history, as_of), strict=True):
        names = whole["event_type"]
        assert part["event_type"] == [
            n for n, following in zip(names, [*names[1:], None], strict=True) if n != following
        ]


@given(data=st.data())
def test_what_is_kept_and_what_is_trimmed_add_up(data: st.DataObject) -> None:
    sequence, history, as_of = drawn_case(data)
    bare = replace(
        sequence.twin.policy, sessions=None, dedupe=None, quotas=None, derived=None, max_length=1000
    )
    merged = {row["entity"]: row["length"] for row in assembled(drawn(bare), history, as_of)}
    for row in assembled(sequence, history, as_of):
        assert row["length"] + sum(row["trimmed"].values()) == merged[row["entity"]]
