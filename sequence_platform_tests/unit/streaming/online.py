"""What the tests of streaming share of the online store: feeding it, and asking it."""

from __future__ import annotations

from threading import Event

import pytest

from sequence_platform.clock import Clock, FixedClock
from sequence_platform.definition import Sequence
from sequence_platform.engine.decode import decode
from sequence_platform.plan.compile import Located, compile_plan
from sequence_platform.plan.plan import EventPlan
from sequence_platform.ports.online import OnlineStore
from sequence_platform.runtimes.serving import Query, SequenceReader
from sequence_platform.runtimes.streaming import LakeStream, OnlineSink, StreamWorker
from sequence_platform.sources.memory_log import MemoryLog
from sequence_platform_tests.unit.streaming.streams import CLOCK, IN_ONE, Streams


def follow(streams: Streams, store: OnlineStore, clock: Clock = CLOCK) -> None:
    """Let lake and online store read all that the log holds."""
    online = OnlineSink(store, clock, lambda _: decode, lambda *_: pytest.fail("no enrichment"))
    for sink in (LakeStream(streams.lake, clock), online):
        log, events = MemoryLog(streams.topics), streams.events.values()
        StreamWorker(log, sink, events, clock, pace=IN_ONE).run(Event(), until_caught_up=True)


def served(event: EventPlan, store: OnlineStore) -> list[str]:
    """Return the ids that a sequence of the event type holds online."""
    sequence = Sequence(
        name="feed", owner="team:feed", events=[event.definition], columns=["pin"], max_age=None
    )
    plan = compile_plan([Located("tests.py", sequence)])
    reader = SequenceReader(plan, store, FixedClock(CLOCK.at))
    query = Query(as_of=CLOCK.at, columns=("event_id",))
    return reader.read("feed", 1, query).columns["event_id"].to_series("event_id").to_list()
