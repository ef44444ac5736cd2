"""Days beyond retention leave lake and online store, do not come back, and make nothing stale."""

from __future__ import annotations

from datetime import date, timedelta

import polars as pl
import pytest

from sequence_platform.clock import FixedClock
from sequence_platform.definition import Sequence
from sequence_platform.plan.compile import Located, compile_plan
from sequence_platform.plan.plan import EventPlan, Plan
from sequence_platform.plan.tables import all_tables, enriched_table, raw_table, sequence_table
from sequence_platform.ports import Expired
from sequence_platform.ports.online import OnlineStore
from sequence_platform.runtimes.batch import (
    build_events,
    build_sequence,
    stale_days,
    unsealed_days,
)
from sequence_platform.runtimes.retention import expire
from sequence_platform.runtimes.segments import collect, publish_days, unpublished_days
from sequence_platform.runtimes.streaming import LakeStream
from sequence_platform_tests.unit.streaming.online import follow, served
from sequence_platform_tests.unit.streaming.streams import CLOCK, DAY, NOON, START, Streams, message

KEPT = timedelta(days=9)
"""At CLOCK, 10 March 00:00, all days from START on are kept."""
LATER = FixedClock(CLOCK.at + timedelta(days=1))
"""START is not kept any more; DAY, which is the next one, is."""
EARLIER = NOON - timedelta(days=1)


@pytest.fixture
def event(streams: Streams) -> EventPlan:
    """A click on START and one on DAY, streamed."""
    event = streams.define(retention=KEPT)
    streams.send(message("old", EARLIER), message("kept"), b"{nonsense")
    streams.catch_up()
    return event


def plan_of(streams: Streams, event: EventPlan) -> Plan:
    """Return the plan of a sequence that looks back two days, its tables made."""
    feed = Sequence(
        name=f"{event.name}_feed", owner="team:feed", events=[event.definition], columns=["pin"],
        max_age=timedelta(days=2),
    )  # fmt: skip
    plan = compile_plan([Located("tests.py", feed)])
    streams.lake.ensure_tables(all_tables(plan))
    return plan


def state_of(streams: Streams, event: EventPlan, day: date) -> tuple[str, int]:
    ledger = streams.lake.ledger(enriched_table(event).name).filter(pl.col("day") == day)
    found: tuple[str, int] = ledger.select("state", "rows").row(0)
    return found


def test_days_beyond_retention_are_removed_by_the_clock(streams: Streams, event: EventPlan) -> None:
    plan = plan_of(streams, event)
    assert expire(streams.lake, plan, CLOCK) == []
    assert expire(streams.lake, plan, LATER) == [
        Expired(raw_table(event).name, DAY, days=1, rows=1),
        Expired(enriched_table(event).name, DAY, days=1, rows=1),
    ]
    assert expire(streams.lake, plan, LATER) == []
    assert streams.ids() == streams.raw_ids(days=[START, DAY]) == ["kept"]
    assert state_of(streams, event, START) == ("expired", 0)


def test_a_day_beyond_retention_is_not_built_again(streams: Streams, event: EventPlan) -> None:
    expire(streams.lake, plan_of(streams, event), LATER)
    assert unsealed_days(streams.lake, event, LATER) == [DAY]
    report = build_events(streams.lake, None, event, START, LATER)
    assert (report.is_beyond_retention, report.changed, report.rows) == (True, False, 0)
    assert state_of(streams, event, START) == ("expired", 0)
    assert not build_events(streams.lake, None, event, DAY, LATER).is_beyond_retention
    assert streams.ids() == ["kept"]


def test_snapshots_over_days_that_went_stay_as_they_are(streams: Streams, event: EventPlan) -> None:
    plan = plan_of(streams, event)
    [sequence] = plan.sequences.values()
    for day in (START, DAY):
        build_events(streams.lake, None, event, day, CLOCK)
        build_sequence(streams.lake, sequence, day, CLOCK)
    done = expire(streams.lake, plan, LATER)
    assert Expired(sequence_table(sequence).name, DAY, days=1, rows=1) in done
    assert stale_days(streams.lake, sequence, LATER) == []
    report = build_sequence(streams.lake, sequence, DAY, LATER)
    assert (report.is_beyond_retention, report.rows) == (True, 1)
    held = streams.lake.read_snapshots(sequence_table(sequence), ["event_id"], DAY)
    assert held["event_id"].to_list() == [["old", "kept"]]


def test_a_message_of_a_day_beyond_retention_is_a_dead_letter(
    streams: Streams, event: EventPlan, online: OnlineStore
) -> None:
    expire(streams.lake, plan_of(streams, event), LATER)
    streams.send(message("late", EARLIER), message("in time"))
    follow(streams, online, LATER)
    assert streams.ids() == ["in time", "kept"]
    assert streams.letters()["rule"].to_list() == ["malformed_json", "outside_partition"]
    assert served(event, online) == ["in time", "kept"]
    assert LakeStream(streams.lake, LATER).offsets(event)["next_offset"].to_list() == [5]


def test_days_beyond_retention_leave_the_online_store(
    streams: Streams, event: EventPlan, online: OnlineStore
) -> None:
    follow(streams, online)
    streams.send(message("late", EARLIER))
    for day in (START, DAY):
        build_events(streams.lake, None, event, day, CLOCK)
    publish_days(streams.lake, online, event, [START, DAY], CLOCK)
    follow(streams, online)  # the tail has what the segment has not
    collect(online, event, timedelta(0), CLOCK)
    assert served(event, online) == ["late", "old", "kept"]
    expire(streams.lake, plan_of(streams, event), LATER)
    collect(online, event, timedelta(0), LATER)
    assert list(online.manifest(event).days) == [DAY]
    assert served(event, online) == ["kept"]
    collect(online, event, timedelta(0), FixedClock(LATER.at + timedelta(hours=1)))
    assert online.tail_size().rows == 0
    assert unpublished_days(streams.lake, online, event) == {}
