"""What training reads through the store's files is what the engine, so the oracle, says."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sequence_platform.engine.assemble import gather, in_order
from sequence_platform.engine.columns import Ints
from sequence_platform.engine.point_in_time import point_in_time
from sequence_platform.plan.plan import ENVELOPE, TIME
from sequence_platform.ports.training import Rules
from sequence_platform.runtimes.training.building import lineage_of
from sequence_platform.runtimes.training.pointing import Pointed, checksums_of, point
from sequence_platform.runtimes.training.reading import SequenceRows
from sequence_platform_tests import oracle
from sequence_platform_tests.backends import TRAINING_STORES
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
NOW = datetime(2026, 11, 1, tzinfo=UTC)
Frames = dict[str, pl.DataFrame]


def as_in_a_lake(rows: Rows, payload: tuple[str, ...], *, corrects: bool) -> Rows:
    """Return one row a key and day; where events correct each other, one a key."""
    days: dict[object, Rows] = defaultdict(list)
    for row in rows:
        days[None if corrects else row["event_time"].date()].append(row)
    return [row for held in days.values() for row in oracle.winners(held, payload)]


@st.composite
def cases(draw: st.DrawFn) -> tuple[Drawn, Frames, Rows, list[list[date]]]:
    """Draw a sequence, what the lake holds, requests, and the days of each part of the store."""
    sequence = draw(SEQUENCES)
    frames = {}
    for event in sequence.plan.events:
        rows = as_in_a_lake(draw(ROWS[event.name]), event.payload, corrects=event.corrects)
        schema = {
            name: event.schema[name]
            for name in (*ENVELOPE, *sequence.plan.columns)
            if name in event.schema
        }
        frames[event.name] = frame(rows, schema)
    request = st.fixed_dictionaries(
        {"entity": st.sampled_from([*HERE.entities, "nobody", None]), "time": st.none() | MOMENTS}
    )
    requests = draw(st.lists(request, max_size=6))
    days = sorted({time.date() for held in frames.values() for time in held["event_time"]})
    cuts = sorted(draw(st.sets(st.integers(1, max(1, len(days) - 1)), max_size=3)))
    bounds = zip([0, *cuts], [*cuts, len(days)], strict=True)
    return sequence, frames, requests, [part for a, b in bounds if (part := days[a:b])]


def events_of(
    sequence: Drawn, frames: Frames, columns: list[str], days: list[date]
) -> Iterator[pl.DataFrame]:
    """Yield the events of some days, an entity a frame."""
    inside = {
        name: rows.filter(pl.col("event_time").dt.date().is_in(days))
        for name, rows in frames.items()
    }
    ordered = in_order(sequence.plan, inside)
    extra = [name for name in ("arrival_time",) if name not in columns]
    carried = [name for name in columns if name != "event_id"]
    flat = gather(sequence.plan, ordered, inside, [*extra, *carried])
    flat = flat.with_columns(type=ordered["type"])
    yield from flat.partition_by("entity", maintain_order=True)


def read(
    case: tuple[Drawn, Frames, Rows, list[list[date]]],
    kind: str,
    *,
    delay_us: int,
    known: Any,
) -> tuple[SequenceRows, Pointed, Rows]:
    """Write a store, point into it, and return what is read from it, a dict a request."""
    sequence, frames, requests, parts = case
    columns = [*sequence.plan.columns, "event_id"]
    lineage = lineage_of(sequence.plan, columns)
    with TRAINING_STORES[kind]() as store:
        built = [
            ({day: str(day) for day in days}, events_of(sequence, frames, columns, days))
            for days in parts
        ]
        info = store.add(lineage, (), built, NOW, 1)
        version = store.open("drawn", info.id)
        asked = pl.DataFrame(requests, schema={"entity": pl.String(), "time": TIME})
        rules = Rules.of(sequence.plan)
        pointed = point(
            version, rules, asked["entity"], asked["time"], delay_us=delay_us, known=known
        )
        assert (checksums_of(version, pointed.pointers) == pointed.checksums).all()
        rows = SequenceRows(version, rules)
        found = rows.read(pointed.pointers, list(rows.types))
        series = {name: rows.decoded(name, values) for name, values in found.columns.items()}
        return rows, pointed, as_rows(found.offsets, series)


def as_rows(offsets: Ints, series: dict[str, pl.Series]) -> Rows:
    bounds = list(zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True))
    return [
        {name: values.slice(a, b - a).to_list() for name, values in series.items()}
        for a, b in bounds
    ]


def expected(
    case: tuple[Drawn, Frames, Rows, list[list[date]]], names: list[str], *, delay: Any, known: Any
) -> Rows:
    sequence, frames, requests, _ = case
    asked: list[Row] = [
        {
            "entity": request["entity"],
            "as_of": (request["time"] or D0 - 999 * DAY) - delay,
            "known_at": (request["time"] or D0) - delay if known == "at_request" else None,
        }
        for request in requests
    ]
    schema = {"entity": pl.String(), "as_of": TIME, "known_at": TIME}
    answer = point_in_time(sequence.plan, frames, pl.DataFrame(asked, schema=schema), names)
    return answer.select(names).to_dicts()


@pytest.mark.parametrize("kind", TRAINING_STORES)
@given(
    case=cases(),
    delay=st.sampled_from([timedelta(0), timedelta(seconds=1), DAY]),
    known=st.sampled_from(["at_request", "now"]),
)
def test_what_is_read_through_pointers_is_what_the_engine_says(
    kind: str, case: tuple[Drawn, Frames, Rows, list[list[date]]], delay: Any, known: Any
) -> None:
    if not case[3]:
        return
    rows, pointed, found = read(
        case, kind, delay_us=delay // timedelta(microseconds=1), known=known
    )
    names = list(rows.types)
    assert comparable(found) == comparable(expected(case, names, delay=delay, known=known))
    outcomes = pointed.outcomes.to_list()
    for request, outcome, row in zip(case[2], outcomes, found, strict=True):
        if request["entity"] is None:
            assert outcome == "null_entity"
        elif request["time"] is None:
            assert outcome == "null_time"
        elif row["event_time"]:
            assert outcome in {"ok", "after_data"}
