"""The worker: how much it takes at a time, what it waits out, and what stops it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from threading import Event, Thread
from time import monotonic
from typing import Any

import polars as pl
import pytest

from sequence_platform.errors import (
    ConflictError,
    FencedError,
    LogPositionError,
    SequencePlatformError,
    StoreError,
)
from sequence_platform.ports import LogPartition
from sequence_platform.runtimes.streaming import (
    LakeSink,
    LakeStream,
    Shard,
    StreamReport,
    resume,
)
from sequence_platform.runtimes.streaming.lake_sink import ATTEMPTS
from sequence_platform.sources.memory_log import MemoryLog
from sequence_platform.stores.ducklake import DuckLakeLake
from sequence_platform_tests.unit.streaming.streams import (
    AT_ONCE,
    CLOCK,
    DAY,
    IN_ONE,
    NOON,
    PATIENCE_SECONDS,
    Heard,
    Streams,
    message,
    messages,
)

PASSING = StoreError("the broker is away", retryable=True)
FINAL = StoreError("access denied")


class Running:
    """A worker in a thread, until it is stopped."""

    def __init__(self, streams: Streams, **values: Any) -> None:
        self.heard = Heard()
        self.stop = Event()
        self.error: SequencePlatformError | None = None
        self._worker = streams.worker(self.heard, **values)
        self._thread = Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._worker.run(self.stop)
        except SequencePlatformError as error:
            self.error = error

    def until(self, condition: Callable[[], object], what: str) -> None:
        deadline = monotonic() + PATIENCE_SECONDS
        while not condition():
            assert monotonic() < deadline, what
            assert self._thread.is_alive(), f"{what}: the worker ended with {self.error}"
            Event().wait(0.02)

    def end(self) -> Heard:
        self.stop.set()
        return self.join()

    def join(self) -> Heard:
        self._thread.join(PATIENCE_SECONDS)
        assert not self._thread.is_alive()
        return self.heard


# What is taken at a time


def test_all_that_the_log_holds_is_in_the_lake_once(streams: Streams) -> None:
    event = streams.define()
    streams.send(*messages("a", "b", "c", "d"), message("a"), partitions=2)
    heard = streams.catch_up()
    assert streams.ids() == ["a", "b", "c", "d"]
    assert streams.raw_ids() == ["a", "a", "b", "c", "d"]
    assert streams.offsets() == {LogPartition("clicks", 0): 3, LogPartition("clicks", 1): 2}
    [flushed] = [flush for flush in heard.flushes if flush.messages]
    assert (flushed.event, flushed.messages, flushed.dead) == (event.name, 5, 0)
    change = flushed.days[DAY]
    assert (change.received, change.admitted, change.is_late) == (5, 4, True)
    assert (change.after.rows, change.after.state) == (4, "open")
    assert flushed.newest_event_time == NOON
    assert flushed.oldest_appended == flushed.newest_appended == CLOCK.at
    assert flushed.freshness == timedelta(0)
    assert flushed.late == 5
    assert streams.catch_up().sizes == []


def test_where_an_empty_partition_begins_is_stored_at_once(streams: Streams) -> None:
    streams.define()
    streams.send(partitions=2)
    streams.catch_up()
    assert streams.offsets() == {LogPartition("clicks", 0): 0, LogPartition("clicks", 1): 0}


def test_messages_are_committed_when_so_many_have_come(streams: Streams) -> None:
    streams.define()
    streams.send(*messages(*"abcdefg"))
    heard = streams.catch_up(pace=replace(IN_ONE, flush_messages=3, poll_messages=1))
    assert streams.ids() == list("abcdefg")
    assert len(heard.sizes) >= 2
    # While one flush is under way, no more than another one is read.
    assert max(heard.sizes) <= 3


def test_messages_are_committed_when_so_many_bytes_have_come(streams: Streams) -> None:
    streams.define()
    streams.send(*messages(*"abcd"))
    size = len(message("a"))
    heard = streams.catch_up(pace=replace(IN_ONE, flush_bytes=2 * size, poll_messages=1))
    assert streams.ids() == list("abcd")
    assert heard.sizes == [2, 2]


def test_messages_are_committed_after_the_flush_interval_while_none_come(streams: Streams) -> None:
    streams.define()
    streams.send(*messages("a"))
    running = Running(streams, pace=AT_ONCE)
    running.until(lambda: running.heard.sizes, "the first flush")
    assert streams.ids() == ["a"]
    streams.send(*messages("b"))
    running.until(lambda: len(running.heard.sizes) == 2, "the second flush")
    heard = running.end()
    assert running.error is None
    assert streams.ids() == ["a", "b"]
    assert heard.sizes == [1, 1]


def test_a_stop_flushes_what_was_read(streams: Streams) -> None:
    event = streams.define()
    streams.send(*messages("a", "b"))
    running = Running(streams, pace=replace(IN_ONE, look_seconds=0.05))
    # It has read, which only the lag of nothing committed does not tell; wait for two looks.
    running.until(lambda: len(running.heard.lags) > 3, "signs of life")
    assert running.heard.lags[-1] == {event.name: 2}
    assert streams.ids() == []
    running.end()
    assert running.error is None
    assert streams.ids() == ["a", "b"]


def test_a_worker_that_is_stopped_before_it_began_changes_nothing(streams: Streams) -> None:
    streams.define()
    streams.send(*messages("a"))
    stop = Event()
    stop.set()
    streams.worker().run(stop)
    assert streams.ids() == []


def test_lag_is_what_the_lake_does_not_hold_yet(streams: Streams) -> None:
    event = streams.define()
    streams.send(*messages("a", "b", "c"), partitions=2)
    running = Running(streams, pace=AT_ONCE)
    running.until(lambda: running.heard.lags[-1:] == [{event.name: 0}], "no lag")
    running.end()
    assert streams.ids() == ["a", "b", "c"]


# Shards and partitions


def test_shards_share_a_topic_and_together_read_all_of_it(streams: Streams) -> None:
    streams.define()
    streams.send(*messages(*"abcdef"), partitions=3)
    streams.catch_up(shard=Shard(0, 2))
    assert streams.offsets() == {LogPartition("clicks", 0): 2, LogPartition("clicks", 2): 2}
    streams.catch_up(shard=Shard(1, 2))
    assert streams.ids() == list("abcdef")
    assert streams.offsets() == {LogPartition("clicks", n): 2 for n in range(3)}


def test_the_number_of_shards_can_change_between_runs(streams: Streams) -> None:
    streams.define()
    streams.send(*messages(*"abc"), partitions=3)
    streams.catch_up(shard=Shard(0, 2))
    for index in range(3):
        streams.catch_up(shard=Shard(index, 3))
    assert streams.ids() == streams.raw_ids() == list("abc")


def test_a_shard_without_partitions_is_at_rest(streams: Streams) -> None:
    streams.define()
    streams.send(*messages("a"))
    assert streams.catch_up(shard=Shard(1, 2)).sizes == []
    assert streams.ids() == []


def test_partitions_that_a_topic_gains_are_picked_up_from_their_start(streams: Streams) -> None:
    streams.define()
    streams.send(*messages("a"))
    running = Running(streams, pace=AT_ONCE)
    running.until(lambda: running.heard.sizes, "the first flush")
    streams.topics.add_partitions("clicks", 1)
    streams.send_to(1, *messages("b"))
    running.until(lambda: len(running.heard.sizes) == 2, "the new partition")
    streams.send_to(0, *messages("c"))
    running.until(lambda: len(running.heard.sizes) == 3, "the old one goes on")
    running.end()
    assert streams.ids() == streams.raw_ids() == ["a", "b", "c"]


def test_two_event_types_of_one_topic_each_get_every_message(streams: Streams) -> None:
    streams.define("low", where=pl.col("pin") < 5)
    streams.define("high", where=pl.col("pin") >= 5)
    streams.send(message("a", pin=1), message("b", pin=9))
    streams.catch_up(names=["low"])
    streams.send(message("c", pin=2), message("d", pin=8))
    streams.catch_up()  # low is ahead of high
    assert (streams.ids("low"), streams.ids("high")) == (["a", "c"], ["b", "d"])
    assert streams.raw_ids("low") == streams.raw_ids("high") == ["a", "b", "c", "d"]


def test_records_that_are_no_messages_are_passed_over(streams: Streams) -> None:
    streams.define()
    at = LogPartition("clicks", 0)
    streams.send(*messages("a"))
    streams.topics.skip(at, 3)
    streams.send(*messages("b"))
    streams.topics.skip(at, 2)
    streams.catch_up()
    assert streams.ids() == ["a", "b"]
    streams.send(*messages("c"))
    streams.catch_up()
    assert streams.ids() == streams.raw_ids() == ["a", "b", "c"]


# What a worker refuses


def test_a_refused_event_type_does_not_stop_others_and_goes_on_once_resumed(
    streams: Streams,
) -> None:
    stuck = streams.define("stuck", "stuck")
    streams.define("fine", "fine")
    at = LogPartition("stuck", 0)
    streams.send(*messages("a"), topic="stuck")
    streams.catch_up(names=["stuck"])
    streams.send(*messages("b", "c", "d"), topic="stuck")
    streams.topics.expire(at, 3)
    streams.send(*messages("x"), topic="fine")
    running = Running(streams, pace=AT_ONCE)
    running.until(lambda: running.heard.sizes, "the other event type")
    assert streams.ids("fine") == ["x"]
    [trouble] = set(running.heard.troubles)
    assert stuck.name in trouble
    assert "stuck/0 at 1, which expired: the first is 3" in trouble
    assert "stream resume EVENT_TYPE --from earliest|latest|PARTITION=OFFSET" in trouble
    resume(LakeStream(streams.lake, CLOCK), MemoryLog(streams.topics), stuck, "earliest", CLOCK)
    running.until(lambda: len(running.heard.sizes) == 2, "the resumed event type")
    running.end()
    assert running.error is None
    assert streams.ids("stuck") == ["a", "d"]


def test_an_event_type_that_stays_refused_is_the_error_at_the_end(streams: Streams) -> None:
    streams.define("absent", "absent")
    streams.define("fine", "fine")
    streams.send(*messages("x"), topic="fine")
    with pytest.raises(StoreError, match="a topic does not exist"):
        streams.catch_up()
    assert streams.ids("fine") == ["x"]


def test_a_topic_that_comes_to_be_is_taken_up(streams: Streams) -> None:
    streams.define("absent", "absent")
    running = Running(streams, pace=AT_ONCE)
    running.until(lambda: running.heard.troubles, "trouble")
    streams.send(*messages("a"), topic="absent")
    running.until(lambda: running.heard.sizes, "the first flush")
    running.end()
    assert running.error is None
    assert streams.ids("absent") == ["a"]


def test_a_topic_that_is_made_anew_while_it_is_read_is_refused_and_others_go_on(
    streams: Streams,
) -> None:
    streams.define("anew", "anew")
    streams.define("fine", "fine")
    streams.send(*messages("a"), topic="anew")
    streams.send(*messages("x"), topic="fine")
    running = Running(streams, pace=AT_ONCE)
    running.until(lambda: len(running.heard.sizes) == 2, "both")
    streams.topics.delete("anew")
    streams.send(*messages("b"), topic="anew")
    streams.send(*messages("y"), topic="fine")
    running.until(lambda: len(running.heard.sizes) == 3, "the other event type")
    running.end()
    assert isinstance(running.error, LogPositionError)
    assert "'anew' made anew" in str(running.error)
    assert (streams.ids("anew"), streams.ids("fine")) == (["a"], ["x", "y"])


def test_a_topic_that_is_deleted_while_it_is_read_is_refused_and_others_go_on(
    streams: Streams,
) -> None:
    streams.define("gone", "gone")
    streams.define("fine", "fine")
    streams.send(*messages("a"), topic="gone")
    streams.send(*messages("x"), topic="fine")
    running = Running(streams, pace=AT_ONCE)
    running.until(lambda: len(running.heard.sizes) == 2, "both")
    streams.topics.delete("gone")
    streams.send(*messages("y"), topic="fine")
    running.until(lambda: len(running.heard.sizes) == 3, "the other event type")
    running.end()
    assert isinstance(running.error, StoreError)
    assert "'gone'" in str(running.error)
    assert (streams.ids("gone"), streams.ids("fine")) == (["a"], ["x", "y"])


def test_messages_that_expire_before_they_are_read_are_an_error_with_choices(
    streams: Streams,
) -> None:
    streams.define()
    streams.send(*messages("a", "b", "c"))
    streams.catch_up()
    streams.send(*messages("d", "e", "f"))
    streams.topics.expire(LogPartition("clicks", 0), 5)
    with pytest.raises(LogPositionError) as caught:
        streams.catch_up()
    assert "clicks/0 at 3, which expired: the first is 5" in caught.value.found
    assert "clicks/0 from 5 to 6" in caught.value.expected
    assert "nothing was skipped" in caught.value.next_step
    assert streams.offsets() == {LogPartition("clicks", 0): 3}


def test_of_two_workers_of_one_shard_one_is_fenced_and_nothing_is_twice(streams: Streams) -> None:
    streams.define()
    streams.send(*messages("a"))
    streams.catch_up()
    first = Running(streams, pace=replace(IN_ONE, look_seconds=0.05))
    first.until(lambda: first.heard.lags, "it reads")
    streams.send(*messages("b", "c"))
    looks = len(first.heard.lags)
    first.until(lambda: len(first.heard.lags) > looks + 2, "it has read what came")
    streams.catch_up()
    streams.send(*messages("d"))
    first.end()
    assert isinstance(first.error, FencedError)
    assert "let one worker a shard run" in first.error.next_step
    streams.catch_up()
    assert streams.ids() == streams.raw_ids() == ["a", "b", "c", "d"]


# Failures


@pytest.mark.parametrize("method", ["poll", "bounds", "identity", "assign"])
def test_a_failure_of_the_log_that_passes_is_waited_out(streams: Streams, method: str) -> None:
    streams.define()
    streams.send(*messages("a", "b"))
    heard = streams.catch_up(failures={(method, 1): PASSING, (method, 2): PASSING})
    assert streams.ids() == streams.raw_ids() == ["a", "b"]
    assert [trouble.splitlines()[0] for trouble in heard.troubles] == ["the broker is away"] * 2


def test_a_failure_of_the_log_that_passes_is_waited_out_while_catching_up(streams: Streams) -> None:
    streams.define()
    streams.send(*messages("a", "b"))
    # The second look at the bounds is the one that tells whether all is read.
    heard = streams.catch_up(failures={("bounds", 2): PASSING})
    assert streams.ids() == ["a", "b"]
    assert len(heard.troubles) == 1


@pytest.mark.parametrize("method", ["poll", "identity"])
def test_a_failure_of_the_log_that_stays_ends_the_worker(streams: Streams, method: str) -> None:
    streams.define()
    streams.send(*messages("a"))
    with pytest.raises(StoreError, match="access denied"):
        streams.catch_up(failures={(method, 1): FINAL})
    assert streams.ids() == []
    streams.catch_up()
    assert streams.ids() == ["a"]


def test_a_failure_that_does_not_pass_in_time_ends_the_worker(streams: Streams) -> None:
    streams.define()
    streams.send(*messages("a"))
    away = {("poll", number): PASSING for number in range(1, 99)}
    with pytest.raises(StoreError, match="the broker is away"):
        streams.catch_up(failures=away, pace=replace(IN_ONE, give_up_seconds=0.1))


def test_a_stop_is_heard_while_a_failure_is_waited_out(streams: Streams) -> None:
    streams.define()
    streams.send(*messages("a"))
    away = {("poll", number): PASSING for number in range(1, 999)}
    running = Running(streams, failures=away)
    running.until(lambda: running.heard is not None, "it runs")
    Event().wait(0.2)
    began = monotonic()
    running.end()
    assert running.error is None
    assert monotonic() - began < 10


class Failing:
    """A lake of which some appends fail: after a while it works again."""

    def __init__(self, lake: DuckLakeLake, failures: list[StoreError]) -> None:
        self._lake = lake
        self._failures = failures

    def __getattr__(self, name: str) -> object:
        if name == "append" and self._failures:
            raise self._failures.pop()
        return getattr(self._lake, name)


@pytest.mark.parametrize("is_stopped", [False, True])
def test_a_flush_that_fails_and_may_pass_is_tried_again_also_when_told_to_stop(
    streams: Streams, *, is_stopped: bool
) -> None:
    streams.define()
    streams.send(*messages("a", "b"))
    streams.catch_up()
    streams.send(*messages("c"))
    full = [StoreError("the catalog is locked", retryable=True)]
    failing: Streams = replace(streams, lake=Failing(streams.lake, full))  # type: ignore[arg-type]  # a lake, when it works
    stop = Event()

    class Listening(Heard):
        def tell(self, report: StreamReport) -> None:
            super().tell(report)
            if is_stopped and report.trouble:
                stop.set()

    heard = Listening()
    failing.worker(heard).run(stop, until_caught_up=True)
    assert streams.ids() == streams.raw_ids() == ["a", "b", "c"]
    assert [trouble.splitlines()[0] for trouble in heard.troubles] == ["the catalog is locked"]


def test_a_flush_that_fails_for_good_ends_the_worker_and_the_next_one_goes_on(
    streams: Streams,
) -> None:
    streams.define()
    streams.send(*messages("a"))
    failing = replace(streams, lake=Failing(streams.lake, [StoreError("the disk is full")]))  # type: ignore[arg-type]  # a lake, when it works
    with pytest.raises(StoreError, match="the disk is full"):
        failing.catch_up()
    streams.catch_up()
    assert streams.ids() == streams.raw_ids() == ["a"]


def test_a_day_that_another_writer_changed_meanwhile_is_looked_at_anew(streams: Streams) -> None:
    streams.define()
    streams.send(*messages("a", "b"))
    faster = [ConflictError("another writer has committed this partition", retryable=True)]
    failing = replace(streams, lake=Failing(streams.lake, [*faster, *faster]))  # type: ignore[arg-type]  # a lake, when it works
    assert failing.catch_up().troubles == []
    assert streams.ids() == streams.raw_ids() == ["a", "b"]


def test_a_day_that_others_change_again_and_again_is_waited_for(streams: Streams) -> None:
    streams.define()
    streams.send(*messages("a"))
    faster = [ConflictError("another writer has committed this partition", retryable=True)]
    failing = replace(streams, lake=Failing(streams.lake, faster * ATTEMPTS))  # type: ignore[arg-type]  # a lake, when it works
    assert len(failing.catch_up().troubles) == 1
    assert streams.ids() == streams.raw_ids() == ["a"]


# What a flush does


def test_late_events_go_to_the_day_of_their_event_time(streams: Streams) -> None:
    streams.define()
    earlier = NOON - timedelta(days=1)
    streams.send(message("a"), message("b", earlier), message("c", CLOCK.at))
    [flushed] = [flush for flush in streams.catch_up().flushes if flush.messages]
    assert {day: change.is_late for day, change in flushed.days.items()} == {
        earlier.date(): True,
        DAY: True,
        CLOCK.at.date(): False,
    }
    assert flushed.late == 2
    assert streams.raw_ids(days=[earlier.date()]) == ["b"]


def test_revisions_replace_and_deletions_remove_across_flushes(streams: Streams) -> None:
    streams.define(
        schema={
            "id": pl.String,
            "user": pl.Int64,
            "at": pl.Datetime("us", "UTC"),
            "pin": pl.Int64,
            "rev": pl.Int64,
            "op": pl.String,
        },
        revision="rev",
        operation="op",
    )
    next_day = NOON + timedelta(days=1)
    streams.send(message("a", rev=0), message("b", rev=0), message("c", rev=0))
    streams.catch_up()
    streams.send(message("a", next_day, rev=1), message("b", rev=1, op="delete"))
    [flushed] = [flush for flush in streams.catch_up().flushes if flush.messages]
    assert flushed.corrected == (DAY,) or flushed.days[DAY].admitted == -1
    streams.send(message("b", rev=0), message("a", rev=0))  # old ones, late
    streams.catch_up()
    assert streams.ids() == ["a", "c"]


def test_bad_messages_are_dead_letters_and_the_flush_counts_them(streams: Streams) -> None:
    streams.define()
    streams.send(message("a"), b"{torn", None, message("b"), message("c", "2200-01-01T00:00:00Z"))
    [flushed] = [flush for flush in streams.catch_up().flushes if flush.messages]
    assert (flushed.messages, flushed.dead) == (5, 3)
    letters = streams.letters().select("source", "position", "payload").rows()
    assert letters == [
        ("clicks/0", 1, b"{torn"),
        ("clicks/0", 2, None),
        ("clicks/0", 4, message("c", "2200-01-01T00:00:00Z")),
    ]
    assert streams.ids() == ["a", "b"]


def test_a_message_that_a_rule_filtered_wins_over_an_older_row_as_in_batch(
    streams: Streams,
) -> None:
    streams.define(
        arrival_time="seen",
        where={"has_pin": pl.col("pin") >= 0},
        schema={
            "id": pl.String,
            "user": pl.Int64,
            "at": pl.Datetime("us", "UTC"),
            "seen": pl.Datetime("us", "UTC"),
            "pin": pl.Int64,
        },
    )
    late = NOON + timedelta(hours=1)
    streams.send(message("a", seen=late.isoformat(), pin=-1))
    streams.catch_up()
    streams.send(message("a", seen=NOON.isoformat(), pin=4))  # older: it loses
    streams.catch_up()
    assert streams.ids() == []
    ledger = streams.lake.ledger(f"enriched.{streams.events['click'].table}")
    [row] = ledger.select("received", "admitted", "filtered", "superseded").rows()
    assert row == (2, 0, json.dumps({"has_pin": 1}), 1)


def test_a_sink_that_flushes_nothing_says_so(streams: Streams) -> None:
    event = streams.define()
    flushed = LakeSink(streams.lake, event, CLOCK).flush([], [])
    assert (flushed.messages, flushed.days, flushed.dead) == (0, {}, 0)
    assert (flushed.freshness, flushed.newest_event_time, flushed.late) == (None, None, 0)
