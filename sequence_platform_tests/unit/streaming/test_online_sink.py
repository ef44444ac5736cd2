"""The online sink: what the log brings can be read at once, and is there once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from threading import Event

import pytest

from sequence_platform.engine.decode import decode
from sequence_platform.engine.enrich import Enriched
from sequence_platform.errors import FencedError
from sequence_platform.ports import LogPartition, OffsetMove
from sequence_platform.ports.online import TailAppend
from sequence_platform.runtimes.streaming import LakeStream, OnlineSink, Pace, StreamWorker, resume
from sequence_platform.runtimes.streaming.side_by_side import run_side_by_side
from sequence_platform.sources.memory_log import MemoryLog
from sequence_platform.stores.local_online import LocalOnlineStore
from sequence_platform_tests.unit.streaming.streams import CLOCK, IN_ONE, Streams, messages


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LocalOnlineStore]:
    opened = LocalOnlineStore(tmp_path / "online", tail_mb=64)
    yield opened
    opened.close()


def sink_of(store: LocalOnlineStore) -> OnlineSink:
    return OnlineSink(store, CLOCK, lambda _: decode, lambda *_: pytest.fail("no enrichment"))


def catch_up(streams: Streams, store: LocalOnlineStore) -> None:
    """Let a new worker read all that the log holds into the online store."""
    log = MemoryLog(streams.topics)
    sink = sink_of(store)
    worker = StreamWorker(log, sink, streams.events.values(), CLOCK, pace=IN_ONE)
    worker.run(Event(), until_caught_up=True)


def test_what_the_log_brings_is_in_the_tail(streams: Streams, store: LocalOnlineStore) -> None:
    streams.define()
    streams.send(*messages("0", "1", "2", "3", "4", "5", "6"))
    catch_up(streams, store)
    assert store.tail_size().rows == 7


def test_another_worker_goes_on_where_the_first_was(
    streams: Streams, store: LocalOnlineStore
) -> None:
    event = streams.define()
    streams.send(*messages("0", "1", "2"))
    catch_up(streams, store)
    streams.send(*messages("3", "4"))
    catch_up(streams, store)
    catch_up(streams, store)
    assert store.tail_size().rows == 5
    assert store.offsets(event)["next_offset"].to_list() == [5]


def test_offsets_are_those_of_this_sink_alone(streams: Streams, store: LocalOnlineStore) -> None:
    event = streams.define()
    streams.send(*messages("0", "1", "2", "3"))
    streams.catch_up()  # into the lake
    assert store.offsets(event).is_empty()
    catch_up(streams, store)
    assert store.tail_size().rows == 4


def test_a_message_that_cannot_be_used_stops_nothing(
    streams: Streams, store: LocalOnlineStore
) -> None:
    event = streams.define()
    streams.send(*messages("0", "1"), b"{nonsense", None, *messages("2"))
    catch_up(streams, store)
    assert store.tail_size().rows == 3
    assert store.offsets(event)["next_offset"].to_list() == [5]


def test_a_rival_that_read_on_fences_a_worker(streams: Streams, store: LocalOnlineStore) -> None:
    event = streams.define()
    at = LogPartition("clicks", 0)
    first = OffsetMove(at, "x", None, 3)
    nothing = Enriched.empty(event)
    none = TailAppend(event, nothing.rows, nothing.rejected, [first], CLOCK.at)
    store.append(none)
    with pytest.raises(FencedError, match="another worker"):
        store.append(none)
    assert store.offsets(event)["next_offset"].to_list() == [3]


def test_a_quiet_log_is_not_behind(streams: Streams, store: LocalOnlineStore) -> None:
    event = streams.define()
    streams.send(*messages("0"), partitions=2)
    catch_up(streams, store)
    with store.view() as view:
        assert view.freshness(event).streamed_until == CLOCK.at


def test_an_operator_decides_where_to_go_on(streams: Streams, store: LocalOnlineStore) -> None:
    event = streams.define()
    streams.send(*messages("0", "1", "2", "3"))
    resume(sink_of(store), MemoryLog(streams.topics), event, {0: 2}, CLOCK)
    catch_up(streams, store)
    assert store.tail_size().rows == 2


def test_lake_and_online_store_are_fed_side_by_side(
    streams: Streams, store: LocalOnlineStore
) -> None:
    streams.define()
    streams.send(*messages("0", "1", "2", "3", "4", "5"))
    workers = [
        StreamWorker(MemoryLog(streams.topics), sink, streams.events.values(), CLOCK, pace=IN_ONE)
        for sink in (LakeStream(streams.lake, CLOCK), sink_of(store))
    ]
    run_side_by_side(workers, Event(), until_caught_up=True)
    assert len(streams.ids()) == 6
    assert store.tail_size().rows == 6


def test_the_failure_of_one_worker_ends_the_other(
    streams: Streams, store: LocalOnlineStore
) -> None:
    streams.define()
    streams.send(*messages("0", "1"))

    def refuse() -> None:
        raise FencedError("no more")

    lake = LakeStream(streams.lake, CLOCK)
    events = streams.events.values()
    failing = StreamWorker(
        MemoryLog(streams.topics), lake, events, CLOCK,
        pace=Pace(look_seconds=0, poll_seconds=0.01), ensure=refuse,
    )  # fmt: skip
    other = StreamWorker(MemoryLog(streams.topics), sink_of(store), events, CLOCK, pace=IN_ONE)
    with pytest.raises(FencedError, match="no more"):
        run_side_by_side([failing, other], Event())
