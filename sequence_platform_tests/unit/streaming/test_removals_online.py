"""A removal that takes away nothing yet still keeps a copy that streams in later from coming back.

A deletion may arrive before what it deletes. The lake then keeps it and no row changes; so must the
segment of its day, once it says that it holds what the log has brought.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import polars as pl
import pytest

from sequence_platform.ports.online import OnlineStore
from sequence_platform.runtimes.batch import build_events
from sequence_platform.runtimes.segments import (
    collect,
    confirm_days,
    publish_day,
    unpublished_days,
)
from sequence_platform_tests.unit.streaming.online import follow, served
from sequence_platform_tests.unit.streaming.streams import CLOCK, DAY, NOON, Streams, message

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


@pytest.mark.parametrize("case", CASES)
def test_what_was_removed_before_it_came_stays_away(
    streams: Streams, online: OnlineStore, case: str
) -> None:
    changes, removal, removed, other = CASES[case]
    event = streams.define(**changes)
    streams.send(other)
    follow(streams, online)
    build_events(streams.lake, None, event, DAY, CLOCK)
    publish_day(streams.lake, online, event, DAY, CLOCK)
    streams.send(removal)
    follow(streams, online)
    # Upkeep, as it runs now and then: days are confirmed, and the tail drops what they hold.
    confirm_days(streams.lake, online, event, CLOCK)
    collect(online, event, timedelta(0), CLOCK)
    streams.send(removed)
    follow(streams, online)
    assert streams.ids() == ["a"]
    assert served(event, online) == ["a"]
    publish_day(streams.lake, online, event, DAY, CLOCK)
    collect(online, event, timedelta(0), CLOCK)
    assert served(event, online) == ["a"]
    assert not unpublished_days(streams.lake, online, event)
