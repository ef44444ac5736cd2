"""Columns of a read that need nothing that is stored."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl

from sequence_platform.clock import FixedClock
from sequence_platform.definition import EventType, Files, Sequence
from sequence_platform.engine.enrich import Enriched
from sequence_platform.plan.compile import Located, compile_plan
from sequence_platform.ports.online import DayRows, DayVersion, Reflected
from sequence_platform.runtimes.serving import Query, SequenceReader
from sequence_platform_tests.backends import local_online

NOW = datetime(2026, 3, 2, tzinfo=UTC)


def test_columns_that_need_nothing_stored_say_something_of_each_event() -> None:
    click = EventType(
        name="click",
        owner="team:tests",
        schema={
            "id": pl.String,
            "user": pl.String,
            "at": pl.Datetime("us", "UTC"),
            "number": pl.Int64,
        },
        event_id="id",
        event_time="at",
        entity="user",
        batch=Files("none.parquet"),
    )
    clicks = Sequence(
        name="clicks",
        owner="team:tests",
        events=[click],
        columns=["number"],
        max_length=10,
        max_age=timedelta(days=9),
        derived={"events": pl.len()},
        context={"price": pl.Int64},
        request={"price_then": pl.col("price")},
    )
    plan = compile_plan([Located("tests", click), Located("tests", clicks)])
    [event] = plan.events.values()
    at = [NOW - timedelta(hours=hours) for hours in (2, 1)]
    values: dict[str, list[Any]] = {
        "entity": ["ann"] * 2,
        "event_id": ["a", "b"],
        "event_time": at,
        "arrival_time": at,
        "revision": [0, 0],
        "id": ["a", "b"],
        "user": ["ann"] * 2,
        "at": at,
        "number": [1, 2],
    }
    rows = pl.DataFrame([pl.Series(n, values[n], dtype=t) for n, t in event.schema.items()])
    none = Enriched.empty(event).rejected
    with local_online() as store:
        day = DayRows(at[0].date(), rows, none, DayVersion("a", Reflected()))
        store.publish(event, [day], NOW)
        reader = SequenceReader(plan, store, FixedClock(NOW))
        derived = reader.read("clicks", "ann", Query(columns=("events",)))
        asked = Query(columns=("price_then",), context={"price": 7})
        requested = reader.read("clicks", "ann", asked)
    assert derived.columns["events"].to_series("").to_list() == [2, 2]
    assert requested.columns["price_then"].to_series("").to_list() == [7, 7]
