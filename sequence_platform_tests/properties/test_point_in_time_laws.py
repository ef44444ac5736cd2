"""Law 7: a training row sees what the platform could have known, and equals the oracle."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from sequence_platform.engine.assemble import assemble
from sequence_platform.engine.point_in_time import point_in_time
from sequence_platform.plan.plan import ENVELOPE, TIME
from sequence_platform_tests import oracle
from sequence_platform_tests.oracle import Row, Rows
from sequence_platform_tests.strategies import (
    D0,
    DAY,
    TIMES,
    Drawn,
    comparable,
    enriched_rows,
    frame,
    sequences,
    world,
)

HERE = world()
ROWS = {name: enriched_rows(name, HERE.entities) for name in HERE.definitions}
SEQUENCES = sequences(HERE.definitions)
MOMENTS = st.sampled_from([*TIMES, *(D0 + days * DAY for days in (1, 1, 1, 2, 3, 4, 91))])
History = dict[str, Rows]


@st.composite
def cases(draw: st.DrawFn) -> tuple[Drawn, History, Rows]:
    """Draw a sequence, what happened, and requests of which some ask for what nobody has."""
    sequence = draw(SEQUENCES)
    history = {event.name: draw(ROWS[event.name]) for event in sequence.plan.events}
    request = st.fixed_dictionaries(
        {
            "entity": st.sampled_from([*HERE.entities, "nobody"]),
            "as_of": MOMENTS,
            "known_at": st.none() | MOMENTS,
        }
    )
    return sequence, history, draw(st.lists(request, max_size=5))


def frames(sequence: Drawn, history: History) -> dict[str, pl.DataFrame]:
    """Return what a runtime would give, late columns among it."""
    return {
        event.name: frame(
            history[event.name],
            {
                name: event.schema[name]
                for name in (*ENVELOPE, *sequence.plan.columns)
                if name in event.schema
            },
        )
        for event in sequence.plan.events
    }


def found(
    sequence: Drawn, history: History, requests: Rows, columns: list[str] | None = None
) -> Rows:
    schema = {"entity": pl.String(), "as_of": TIME, "known_at": TIME}
    asked = pl.DataFrame(requests, schema=schema)
    return point_in_time(sequence.plan, frames(sequence, history), asked, columns).to_dicts()


def visible(history: History, request: Row) -> History:
    """Return the history that had arrived when a request was made, of its entity."""
    return {
        name: [
            row
            for row in rows
            if row["entity"] == request["entity"]
            and (request["known_at"] is None or row["arrival_time"] <= request["known_at"])
        ]
        for name, rows in history.items()
    }


def expected(sequence: Drawn, history: History, request: Row) -> Row:
    rows = oracle.assemble(sequence.twin, visible(history, request), request["as_of"])
    names = [name for name, dtype in sequence.plan.schema.items() if isinstance(dtype, pl.List)]
    empty: dict[str, Any] = {"entity": request["entity"], "as_of": request["as_of"], "length": 0}
    row = rows[0] if rows else empty | {name: [] for name in names}
    return {name: row[name] for name in ("entity", "as_of", "length", *names)}


@given(case=cases())
def test_point_in_time_equals_the_oracle(case: tuple[Drawn, History, Rows]) -> None:
    sequence, history, requests = case
    assert comparable(found(sequence, history, requests)) == comparable(
        [expected(sequence, history, request) for request in requests]
    )


@given(case=cases(), data=st.data())
def test_what_happens_or_arrives_later_changes_nothing(
    case: tuple[Drawn, History, Rows], data: st.DataObject
) -> None:
    sequence, history, requests = case
    for request in requests:
        more = {name: data.draw(ROWS[name]) for name in history}
        later = {
            name: [
                row
                for row in rows
                if row["event_time"] >= request["as_of"]
                or (request["known_at"] is not None and row["arrival_time"] > request["known_at"])
            ]
            for name, rows in more.items()
        }
        with_later = {name: history[name] + later[name] for name in history}
        assert comparable(found(sequence, with_later, [request])) == comparable(
            found(sequence, history, [request])
        )


@given(case=cases())
def test_a_request_does_not_depend_on_its_neighbours(case: tuple[Drawn, History, Rows]) -> None:
    sequence, history, requests = case
    alone = [row for request in requests for row in found(sequence, history, [request])]
    assert comparable(found(sequence, history, requests)) == comparable(alone)


@given(case=cases(), as_of=MOMENTS)
def test_with_all_known_it_is_what_assemble_gives(
    case: tuple[Drawn, History, Rows], as_of: datetime
) -> None:
    sequence, history, _ = case
    whole = assemble(sequence.plan, frames(sequence, history), as_of).drop("trimmed").to_dicts()
    requests = [{"entity": row["entity"], "as_of": as_of, "known_at": None} for row in whole]
    assert comparable(found(sequence, history, requests)) == comparable(whole)


@given(case=cases())
def test_late_columns_come_when_asked_for(case: tuple[Drawn, History, Rows]) -> None:
    sequence, history, requests = case
    columns = list(sequence.plan.columns)
    for row in found(sequence, history, requests, columns):
        assert {len(row[name]) for name in columns} <= {row["length"]}
