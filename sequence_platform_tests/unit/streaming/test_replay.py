"""Dead letters, tried again after a fix: each exactly once."""

from __future__ import annotations

from datetime import timedelta

import polars as pl
import pytest

from sequence_platform.clock import FixedClock
from sequence_platform.errors import FencedError
from sequence_platform.runtimes.streaming import Flushed, LakeStream, replay, resume
from sequence_platform.sources.memory_log import MemoryLog, MemoryTopics
from sequence_platform_tests.unit.streaming.streams import CLOCK, DAY, Streams, message

LATER = FixedClock(CLOCK.at + timedelta(hours=1))


def dead(streams: Streams) -> pl.DataFrame:
    """Send messages of which two name their user in words; return the dead letters."""
    streams.define()
    streams.send(
        message("a"), message("b", user="me"), b"{torn", message("c", user="you"), partitions=2
    )
    streams.catch_up()
    return streams.letters()


def up_to(pin: int) -> pl.Expr:
    """Return an event_time that messages of higher pins do not have: a fault to mend."""
    return pl.when(pl.col("pin") <= pin).then("at")


def replayed(streams: Streams, letters: pl.DataFrame) -> Flushed:
    return replay(streams.lake, streams.events["click"], letters, CLOCK)


def test_letters_that_can_be_used_now_become_rows_and_the_rest_stays(streams: Streams) -> None:
    dying = streams.define(event_time=up_to(8))
    streams.send(message("a"), message("b"), b"{torn", message("c", pin=9), message("d", pin=8))
    streams.catch_up()
    assert sorted(streams.letters()["rule"]) == ["malformed_json", "null_event_time"]
    assert streams.ids() == ["a", "b", "d"]
    mended = streams.define(event_time=up_to(9))
    assert dying.table == mended.table
    done = replayed(streams, streams.letters())
    assert (done.messages, done.dead, done.offsets) == (2, 1, ())
    assert (done.days[DAY].received, done.days[DAY].admitted) == (1, 1)
    assert streams.ids() == ["a", "b", "c", "d"]
    assert streams.letters()["rule"].to_list() == ["malformed_json"]


def test_a_letter_keeps_where_it_was_and_when_the_log_took_it(streams: Streams) -> None:
    before = dead(streams)
    offsets = streams.offsets()
    replayed(streams, before)
    after = streams.letters()
    assert after.drop("recorded_at").equals(before.drop("recorded_at"))
    assert streams.offsets() == offsets


def test_letters_that_another_replay_has_used_are_not_used_again(streams: Streams) -> None:
    streams.define(event_time=up_to(8))
    streams.send(message("a", pin=9), message("b", pin=9))
    streams.catch_up()
    letters = streams.letters()
    streams.define(event_time=up_to(9))
    replayed(streams, letters.head(1))
    with pytest.raises(FencedError) as caught:
        replayed(streams, letters)
    assert caught.value.found == "1 of them"
    assert "replay what is left" in caught.value.next_step
    assert (streams.ids(), streams.raw_ids()) == (["a"], ["a"])
    replayed(streams, streams.letters())
    assert (streams.ids(), streams.raw_ids()) == (["a", "b"], ["a", "b"])


def test_letters_of_one_reason_can_be_replayed_alone(streams: Streams) -> None:
    letters = dead(streams)
    done = replayed(streams, letters.filter(rule="malformed_json"))
    assert (done.messages, done.dead) == (1, 1)
    assert streams.letters().height == 3


def test_letters_of_a_topic_made_anew_can_be_replayed_alone(streams: Streams) -> None:
    streams.define()
    streams.send(b"{torn")
    streams.catch_up()
    later = Streams(streams.lake, streams.prefix, MemoryTopics(LATER), streams.events)
    later.send(b"[]")
    resume(
        LakeStream(later.lake, CLOCK),
        MemoryLog(later.topics),
        later.events["click"],
        "earliest",
        CLOCK,
    )
    later.catch_up()
    letters = streams.letters()
    assert letters.select("source", "position").rows() == [("clicks/0", 0)] * 2
    done = replayed(streams, letters.filter(rule="not_an_object"))
    assert (done.messages, done.dead) == (1, 1)
    assert sorted(streams.letters()["rule"]) == ["malformed_json", "not_an_object"]
