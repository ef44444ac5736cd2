"""A removal that takes away nothing yet still keeps a copy that streams in later from coming back.

A deletion may arrive before what it deletes. The lake then keeps it and no row changes; so must the
segment of its day, once it says that it holds what the log has brought.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from threading import Event
from typing import Any

import polars as pl
import pytest

from sequence_platform.clock import FixedClock
from sequence_platform.definition import Sequence
from sequence_platform.engine.decode import decode
from sequence_platform.plan.compile import Located, compile_plan
from sequence_platform.plan.plan import EventPlan, Plan
from sequence_platform.ports.online import OnlineStore
from sequence_platform.runtimes.batch import build_events
from sequence_platform.runtimes.segments import (
    collect,
    confirm_days,
    publish_day,
    unpublished_days,
)
from sequence_platform.runtimes.serving import Query, SequenceReader
from sequence_platform.runtimes.streaming import OnlineSink, StreamWorker
from sequence_platform.sources.memory_log import MemoryLog
from sequence_platform_tests.backends import ONLINE_STORES
from sequence_platform_tests.unit.streaming.streams import (
    CLOCK,
    DAY,
    IN_ONE,
    NOON,
    Streams,
    message,
)

SCHEMA = {"id": pl.String, "user": pl.Int64, "at": pl.Datetime("us", "UTC"), "pin": pl.Int64}
CORRECTED: dict[str, Any] = {
    "schema": SCHEMA | {"rev": pl.Int32, "op": pl.String},
    "revision": "rev",
    "operation": "op",
}
FILTERED: dict[str, Any] = {
    "schema": SCHEMA | {"seen": pl.Datetime("us", "UTC")},
    "arrival_time": "seen",
    "where": {"pinned": pl.col("pin") > 0},
}
SOON, LATER = NOON.isoformat(), (NOON + timedelta(hours=1)).isoformat()
CASES = {
    "a deletion": (
        CORRECTED,
        message("x", rev=2, op="delete"),
        message("x", rev=1, op="upsert"),
        message("a", rev=0, op="upsert"),
    ),
    "a rejection": (
        FILTERED,
        message("x", pin=0, seen=LATER),
        message("x", seen=SOON),
        message("a", seen=SOON),
    ),
}


@pytest.fixture(params=ONLINE_STORES)
def store(request: pytest.FixtureRequest) -> Iterator[OnlineStore]:
    with ONLINE_STORES[request.param]() as opened:
        yield opened


def follow(streams: Streams, store: OnlineStore) -> None:
    """Let lake and online store read all that the log holds."""
    streams.catch_up()
    sink = OnlineSink(store, CLOCK, lambda _: decode, lambda *_: pytest.fail("no enrichment"))
    log = MemoryLog(streams.topics)
    StreamWorker(log, sink, streams.events.values(), CLOCK, pace=IN_ONE).run(
        Event(), until_caught_up=True
    )


def served(event: EventPlan, store: OnlineStore) -> list[str]:
    """Return the ids that a sequence of the event type holds online."""
    sequence = Sequence(name="feed", owner="team:feed", events=[event.definition], columns=["pin"])
    plan: Plan = compile_plan([Located("tests.py", sequence)])
    reader = SequenceReader(plan, store, FixedClock(CLOCK.at))
    query = Query(as_of=CLOCK.at, columns=("event_id",))
    return reader.read("feed", 1, query).columns["event_id"].to_series("event_id").to_list()


@pytest.mark.parametrize("case", CASES)
def test_what_was_removed_before_it_came_stays_away(
    streams: Streams, store: OnlineStore, case: str
) -> None:
    changes, removal, removed, other = CASES[case]
    event = streams.define(**changes)
    streams.send(other)
    follow(streams, store)
    build_events(streams.lake, None, event, DAY, CLOCK)
    publish_day(streams.lake, store, event, DAY, CLOCK)
    streams.send(removal)
    follow(streams, store)
    # Upkeep, as it runs now and then: days are confirmed, and the tail drops what they hold.
    confirm_days(streams.lake, store, event, CLOCK)
    collect(store, event, timedelta(0), CLOCK)
    streams.send(removed)
    follow(streams, store)
    assert streams.ids() == ["a"]
    assert served(event, store) == ["a"]
    publish_day(streams.lake, store, event, DAY, CLOCK)
    collect(store, event, timedelta(0), CLOCK)
    assert served(event, store) == ["a"]
    assert not unpublished_days(streams.lake, store, event)
