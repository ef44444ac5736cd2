"""Where reading goes on: behind what the lake holds, or where an operator says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import pytest

from sequence_platform.definition import Files
from sequence_platform.errors import LogPositionError, StateMismatchError, StoreError
from sequence_platform.plan.tables import raw_table
from sequence_platform.ports import LogPartition, OffsetMove
from sequence_platform.runtimes.streaming import LakeStream, Shard, resume, starting_positions
from sequence_platform.runtimes.streaming.reader import Reader
from sequence_platform.sources.memory_log import MemoryLog
from sequence_platform_tests.unit.streaming.streams import CLOCK, Streams, messages

WHOLE = Shard()


def positions(streams: Streams, shard: Shard = WHOLE) -> dict[int, tuple[int | None, int]]:
    """Return what is stored of each partition and where reading goes on."""
    event = streams.events["click"]
    found = starting_positions(
        LakeStream(streams.lake, CLOCK), MemoryLog(streams.topics), event, shard
    )
    return {at.partition: (position.stored, position.next) for at, position in found.items()}


def go_on(
    streams: Streams, start: Literal["earliest", "latest"] | Mapping[int, int]
) -> dict[int, int]:
    log = MemoryLog(streams.topics)
    moves = resume(LakeStream(streams.lake, CLOCK), log, streams.events["click"], start, CLOCK)
    return {at.partition: move.next for at, move in moves.items()}


def refusal(streams: Streams, shard: Shard = WHOLE) -> LogPositionError:
    with pytest.raises(LogPositionError) as caught:
        positions(streams, shard)
    assert caught.value.where == f"event type '{streams.events['click'].name}'"
    assert "stream resume EVENT_TYPE --from earliest|latest|PARTITION=OFFSET" in (
        caught.value.next_step
    )
    return caught.value


@pytest.mark.parametrize(
    ("shard", "taken"),
    [
        (Shard(), [0, 1, 2, 3, 4]),
        (Shard(0, 2), [0, 2, 4]),
        (Shard(1, 2), [1, 3]),
        (Shard(7, 9), []),
    ],
)
def test_a_shard_takes_the_partitions_whose_numbers_leave_its_own(
    shard: Shard, taken: list[int]
) -> None:
    assert [partition for partition in range(5) if shard.takes(partition)] == taken


def test_a_shard_is_written_as_its_number_of_how_many() -> None:
    assert str(Shard(2, 4)) == "2/4"


def test_what_was_never_read_begins_at_its_start(streams: Streams) -> None:
    streams.define()
    streams.send(*messages(*"abc"), partitions=2)
    streams.topics.expire(LogPartition("clicks", 0), 1)
    assert positions(streams) == {0: (None, 1), 1: (None, 0)}


def test_reading_goes_on_behind_what_the_lake_holds(streams: Streams) -> None:
    streams.define()
    streams.send(*messages(*"abc"), partitions=2)
    streams.catch_up()
    streams.send(*messages("d"))
    assert positions(streams) == {0: (2, 2), 1: (1, 1)}
    assert positions(streams, Shard(1, 2)) == {1: (1, 1)}


def test_expired_offsets_are_refused_with_the_choices(streams: Streams) -> None:
    streams.define()
    streams.send(*messages("a"), partitions=2)
    streams.catch_up()
    streams.send(*messages(*"bcdefg"))
    streams.topics.expire(LogPartition("clicks", 0), 3)
    error = refusal(streams)
    assert error.found == "clicks/0 at 1, which expired: the first is 3"
    assert error.expected == "clicks/0 from 3 to 4"
    assert positions(streams, Shard(1, 2)) == {1: (0, 0)}  # the other shard is not concerned


def test_a_topic_made_anew_is_refused_with_the_choices(streams: Streams) -> None:
    streams.define()
    streams.send(*messages("a"))
    streams.catch_up()
    before = streams.topics.identity("clicks")
    streams.topics.delete("clicks")
    streams.send(*messages("b", "c"))
    error = refusal(streams)
    assert error.found == f"'clicks' made anew, as {streams.topics.identity('clicks')}"
    assert error.expected == f"'clicks' as {before}"


def store(streams: Streams, *offsets: int) -> None:
    """Store how far partitions were read, as a lake does that was restored from another day."""
    identity = streams.topics.identity("clicks")
    moves = [
        OffsetMove(LogPartition("clicks", partition), identity, None, offset)
        for partition, offset in enumerate(offsets)
    ]
    streams.lake.reset_offsets(raw_table(streams.events["click"]), moves, CLOCK.at)


def test_offsets_beyond_the_end_are_refused_with_the_choices(streams: Streams) -> None:
    streams.define()
    streams.send(*messages("a"))
    store(streams, 3)
    error = refusal(streams)
    assert error.found.startswith("clicks/0 at 3, which is beyond the end, 1")
    assert error.expected == "clicks/0 from 0 to 1"


def test_a_partition_that_is_not_there_is_not_passed_over(streams: Streams) -> None:
    streams.define()
    streams.send(*messages("a"))
    store(streams, 1, 4)
    with pytest.raises(StoreError, match="partitions of a log do not exist") as caught:
        positions(streams)
    assert caught.value.expected == "clicks/1"


def test_an_absent_topic_is_named(streams: Streams) -> None:
    streams.define()
    streams.topics.create("clickz", 1)
    with pytest.raises(StoreError) as caught:
        positions(streams)
    assert "close: 'clickz'" in caught.value.found


def test_an_event_type_without_a_log_is_refused(streams: Streams) -> None:
    streams.define(log=None, batch=Files("clicks/{day}.parquet"))
    with pytest.raises(StoreError, match="has no log") as caught:
        positions(streams)
    assert caught.value.expected == "log=Log('topic')"


# Resuming


def test_resume_goes_on_at_one_end_or_at_offsets(streams: Streams) -> None:
    streams.define()
    streams.send(*messages(*"abcdef"), partitions=2)
    streams.topics.expire(LogPartition("clicks", 0), 1)
    assert go_on(streams, "earliest") == {0: 1, 1: 0}
    assert positions(streams) == {0: (1, 1), 1: (0, 0)}
    assert go_on(streams, "latest") == {0: 3, 1: 3}
    assert positions(streams) == {0: (3, 3), 1: (3, 3)}
    assert go_on(streams, {1: 2}) == {1: 2}
    assert positions(streams) == {0: (3, 3), 1: (2, 2)}


def test_resuming_at_offsets_that_the_log_does_not_have_stores_nothing(streams: Streams) -> None:
    streams.define()
    streams.send(*messages(*"abcd"), partitions=2)
    streams.catch_up()
    with pytest.raises(StateMismatchError) as caught:
        go_on(streams, {0: 1, 1: 3, 2: 0, 7: -1})
    assert caught.value.found == "partition 1: 3, partition 2: 0, partition 7: -1"
    assert caught.value.expected == "partition 0: 0 to 2, partition 1: 0 to 2"
    assert positions(streams) == {0: (2, 2), 1: (2, 2)}


def test_resuming_from_earliest_reads_again_and_nothing_is_twice(streams: Streams) -> None:
    streams.define()
    streams.send(*messages("a", "b"), b"{torn")
    streams.catch_up()
    go_on(streams, "earliest")
    streams.catch_up()
    assert streams.ids() == ["a", "b"]
    assert streams.letters().select("source", "position").rows() == [("clicks/0", 2)]


def test_a_topic_made_anew_goes_on_once_resumed(streams: Streams) -> None:
    streams.define()
    streams.send(*messages("a", "b"))
    streams.catch_up()
    streams.topics.delete("clicks")
    streams.send(*messages("c", "d", "e"))
    refusal(streams)
    go_on(streams, "earliest")
    streams.catch_up()
    assert streams.ids() == ["a", "b", "c", "d", "e"]


def test_a_topic_made_anew_with_fewer_partitions_goes_on_once_resumed(streams: Streams) -> None:
    streams.define()
    streams.send(*messages(*"abc"), partitions=3)
    streams.catch_up()
    streams.topics.delete("clicks")
    streams.send(*messages("d"), partitions=1)
    refusal(streams)
    refusal(streams, Shard(2, 3))
    go_on(streams, "earliest")
    assert positions(streams) == {0: (0, 0)}
    assert positions(streams, Shard(2, 3)) == {}
    streams.catch_up()
    assert streams.ids() == list("abcd")


def test_a_topic_made_anew_while_reading_begins_is_not_read_from_the_old_positions(
    streams: Streams,
) -> None:
    streams.define()
    streams.send(*messages("a"))
    streams.catch_up()

    class Late(MemoryLog):
        def assign(self, positions: Mapping[LogPartition, int]) -> None:
            if not reader.refused:
                streams.topics.delete("clicks")
                streams.send(*messages("b", "c"))
            super().assign(positions)

    log = Late(streams.topics)
    reader = Reader(log, LakeStream(streams.lake, CLOCK), [streams.events["click"]], WHOLE)
    with pytest.raises(StoreError, match="made anew while reading began") as caught:
        reader.begin()
    assert caught.value.retryable
    reader.begin()
    assert [type(error) for error in reader.refused.values()] == [LogPositionError]
