"""What every log promises: ports.EventLog and ports.LogWriter, over the register of adapters."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from uuid import uuid4

import pytest

from sequence_platform.errors import LogPositionError, StoreError
from sequence_platform.ports.log import Bounds, EventLog, LogPartition, LogWriter
from sequence_platform_tests.backends import LOGS
from sequence_platform_tests.conformance.log_places import GAPS, LogPlace, messages, poll_all

ROOT = Path(__file__).parents[2]
WRITER = Path(__file__).with_name("log_writer.py")

Needs = Callable[[str], None]


@pytest.fixture(
    params=[
        pytest.param(name, marks=[pytest.mark.kafka] * (name == "kafka")) for name in sorted(LOGS)
    ]
)
def kind(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def place(kind: str, tmp_path: Path) -> LogPlace:
    return LOGS[kind](tmp_path)


@pytest.fixture
def needs(kind: str, request: pytest.FixtureRequest) -> Needs:
    """Expect a test to fail where an adapter has a gap."""

    def expect(ability: str) -> None:
        if (kind, ability) in GAPS:
            request.applymarker(
                pytest.mark.xfail(
                    strict=True,
                    raises=(StoreError, NotImplementedError),
                    reason=GAPS[kind, ability],
                )
            )

    return expect


@pytest.fixture
def writer(place: LogPlace) -> Iterator[LogWriter]:
    with closing(place.writer()) as opened:
        yield opened


@pytest.fixture
def log(place: LogPlace) -> Iterator[EventLog]:
    with closing(place.open()) as opened:
        yield opened


@pytest.fixture
def topic(writer: LogWriter) -> str:
    """A topic of one partition."""
    name = f"clicks-{uuid4().hex}"
    writer.create_topic(name, 1)
    return name


@pytest.fixture
def wide(writer: LogWriter) -> str:
    """A topic of three partitions."""
    name = f"views-{uuid4().hex}"
    writer.create_topic(name, 3)
    return name


def only(topic: str) -> LogPartition:
    return LogPartition(topic, 0)


def read(log: EventLog, topic: str, start: int, count: int) -> list[tuple[int, bytes | None]]:
    log.assign({only(topic): start})
    return messages(poll_all(log, count), only(topic))


def poll_in_vain(log: EventLog) -> None:
    """Poll for a minute, through errors that may pass; no message must come."""
    deadline = monotonic() + 60
    while monotonic() < deadline:
        try:
            assert list(log.poll(max_messages=10, timeout_seconds=1)) == []
        except StoreError as error:
            if not error.retryable:
                raise


def test_an_empty_topic_holds_nothing_in_each_partition(log: EventLog, wide: str) -> None:
    assert log.bounds(wide) == {0: Bounds(0, 0), 1: Bounds(0, 0), 2: Bounds(0, 0)}


def test_bounds_tell_the_first_offset_and_the_one_after_the_last(
    log: EventLog, writer: LogWriter, topic: str
) -> None:
    writer.append(topic, [b"a", b"b"])
    assert log.bounds(topic) == {0: Bounds(0, 2)}
    writer.append(topic, [b"c"])
    assert log.bounds(topic) == {0: Bounds(0, 3)}


def test_creating_a_topic_that_exists_changes_nothing(
    log: EventLog, writer: LogWriter, topic: str
) -> None:
    writer.append(topic, [b"a"])
    before = log.identity(topic)
    writer.create_topic(topic, 5)
    assert (log.identity(topic), log.bounds(topic)) == (before, {0: Bounds(0, 1)})


@pytest.mark.parametrize("start", range(6))
def test_messages_come_in_order_with_their_offsets_from_any_position(
    log: EventLog, writer: LogWriter, topic: str, start: int
) -> None:
    writer.append(topic, [b"a", b"b", b"c"])
    writer.append(topic, [b"d", b"e"])
    every = [(0, b"a"), (1, b"b"), (2, b"c"), (3, b"d"), (4, b"e")]
    assert read(log, topic, start, 5 - start) == every[start:]


def test_a_batch_says_where_to_read_on(
    log: EventLog, place: LogPlace, writer: LogWriter, topic: str
) -> None:
    writer.append(topic, [b"a", b"b", b"c", b"d", b"e"])
    log.assign({only(topic): 0})
    (first,) = log.poll(max_messages=2, timeout_seconds=5)
    assert 0 < len(first.values) < 5
    with closing(place.open()) as another:
        rest = read(another, topic, first.next_offset, 5 - len(first.values))
    read_on = messages([first], only(topic)) + rest
    assert read_on == [(0, b"a"), (1, b"b"), (2, b"c"), (3, b"d"), (4, b"e")]


def test_polls_go_on_where_the_one_before_ended(
    log: EventLog, writer: LogWriter, topic: str
) -> None:
    values = [b"%d" % number for number in range(500)]
    writer.append(topic, values)
    log.assign({only(topic): 0})
    assert messages(poll_all(log, 500, max_messages=7), only(topic)) == list(enumerate(values))


def test_only_assigned_partitions_are_read(log: EventLog, writer: LogWriter, wide: str) -> None:
    for number in range(30):
        writer.append(wide, [b"%d" % number], [b"key %d" % number])
    second = LogPartition(wide, 1)
    log.assign({second: 0})
    batches = poll_all(log, log.bounds(wide)[1].end)
    assert {batch.at for batch in batches} == {second}
    assert len(messages(batches, second)) == log.bounds(wide)[1].end > 0


def test_assigning_again_begins_anew(log: EventLog, writer: LogWriter, topic: str) -> None:
    writer.append(topic, [b"a", b"b"])
    assert read(log, topic, 0, 2) == [(0, b"a"), (1, b"b")]
    assert read(log, topic, 1, 1) == [(1, b"b")]


def test_nothing_assigned_brings_nothing(log: EventLog, writer: LogWriter, topic: str) -> None:
    writer.append(topic, [b"a"])
    assert read(log, topic, 0, 1) == [(0, b"a")]
    log.assign({})
    assert list(log.poll(max_messages=10, timeout_seconds=0.1)) == []


def test_a_poll_without_messages_ends_in_time(log: EventLog, topic: str) -> None:
    log.assign({only(topic): 0})
    start = monotonic()
    assert list(log.poll(max_messages=10, timeout_seconds=0.3)) == []
    assert 0.25 < monotonic() - start < 5


def test_a_poll_returns_as_soon_as_a_message_comes(
    log: EventLog, writer: LogWriter, topic: str
) -> None:
    log.assign({only(topic): 0})
    later = threading.Timer(0.3, writer.append, (topic, [b"a"]))
    later.start()
    start = monotonic()
    (batch,) = log.poll(max_messages=10, timeout_seconds=60)
    later.join()
    assert (batch.values, monotonic() - start < 20) == ([b"a"], True)


def test_a_poll_brings_about_as_many_messages_as_asked_for(
    log: EventLog, writer: LogWriter, wide: str
) -> None:
    values = [b"%d" % number for number in range(3000)]
    writer.append(wide, values, values)
    log.assign({LogPartition(wide, number): 0 for number in range(3)})
    sizes: list[int] = []
    seen: set[int] = set()
    while sum(sizes) < 3000:
        batches = log.poll(max_messages=100, timeout_seconds=10)
        assert all(len(batch.values) for batch in batches)
        seen |= {batch.at.partition for batch in batches}
        sizes.append(sum(len(batch.values) for batch in batches))
    assert max(sizes) <= 200
    assert seen == {0, 1, 2}


def test_messages_of_a_key_are_in_one_partition_in_order(
    log: EventLog, writer: LogWriter, wide: str
) -> None:
    keys = [b"%d" % (number % 10) for number in range(200)]
    writer.append(wide, [b"%d" % number for number in range(200)], keys)
    places = [LogPartition(wide, number) for number in range(3)]
    log.assign(dict.fromkeys(places, 0))
    batches = poll_all(log, 200)
    by_place = [[int(value or b"") for _, value in messages(batches, at)] for at in places]
    assert all(numbers for numbers in by_place)
    for key in range(10):
        of_key = [[n for n in numbers if n % 10 == key] for numbers in by_place]
        assert [numbers for numbers in of_key if numbers] == [list(range(key, 200, 10))]


def test_an_empty_message_is_a_message(log: EventLog, writer: LogWriter, topic: str) -> None:
    writer.append(topic, [b"", b"a", b""])
    assert read(log, topic, 0, 3) == [(0, b""), (1, b"a"), (2, b"")]


def test_bytes_come_as_they_were_written(log: EventLog, writer: LogWriter, topic: str) -> None:
    values = [b"\r", b" a ", b"\x00\xff\xfe", b'{"a": 1}\r', "\u2028\N{SNOWMAN}".encode()]
    writer.append(topic, values)
    assert [value for _, value in read(log, topic, 0, 5)] == values


def test_a_tombstone_is_no_empty_message(
    log: EventLog, writer: LogWriter, topic: str, needs: Needs
) -> None:
    needs("tombstones")
    writer.append(topic, [b"a", None, b""], [b"k", b"k", b"k"])
    assert read(log, topic, 0, 3) == [(0, b"a"), (1, None), (2, b"")]


def test_a_message_may_hold_line_breaks(
    log: EventLog, writer: LogWriter, topic: str, needs: Needs
) -> None:
    needs("line breaks")
    writer.append(topic, [b"a\nb\n"])
    assert read(log, topic, 0, 1) == [(0, b"a\nb\n")]


def test_a_message_of_20_mb_passes(log: EventLog, writer: LogWriter, topic: str) -> None:
    large = b"x" * 20_000_000
    writer.append(topic, [b"a", large, b"b"])
    found = read(log, topic, 0, 3)
    assert [(offset, len(value or b"")) for offset, value in found] == [
        (0, 1),
        (1, 20_000_000),
        (2, 1),
    ]
    assert found[1][1] == large


def test_offsets_that_are_no_messages_are_left_out_and_passed(
    log: EventLog, place: LogPlace, writer: LogWriter, topic: str, needs: Needs
) -> None:
    needs("skipped offsets")
    writer.append(topic, [b"a"])
    place.skip(only(topic))
    end = log.bounds(topic)[0].end
    assert end > 1
    writer.append(topic, [b"b"])
    assert read(log, topic, 0, 2) == [(0, b"a"), (end, b"b")]
    log.assign({only(topic): 0})
    batches = poll_all(log, 2)
    assert [batch.next_offset for batch in batches][-1] == end + 1
    for start in range(1, end + 1):
        assert read(log, topic, start, 1) == [(end, b"b")]


def test_the_log_says_when_it_took_a_message(log: EventLog, writer: LogWriter, topic: str) -> None:
    before = datetime.now(UTC).timestamp()
    writer.append(topic, [b"a"])
    middle = datetime.now(UTC).timestamp()
    writer.append(topic, [b"b", b"c"])
    after = datetime.now(UTC).timestamp()
    log.assign({only(topic): 0})
    batches = poll_all(log, 3)
    first, *others = [int(us) / 1e6 for batch in batches for us in batch.appended_us]
    assert before - 0.01 <= first <= middle + 0.01
    assert [middle - 0.01 <= other <= after + 0.01 for other in others] == [True, True]


def test_a_topic_that_does_not_exist_is_said(log: EventLog, topic: str) -> None:
    for ask in (log.identity, log.bounds):
        with pytest.raises(StoreError, match="a topic does not exist"):
            ask("unheard-of")
    with pytest.raises(StoreError, match="a topic does not exist"):
        log.assign({LogPartition("unheard-of", 0): 0})


def test_appending_to_a_topic_that_does_not_exist_is_refused(writer: LogWriter) -> None:
    with pytest.raises(StoreError, match="a topic does not exist"):
        writer.append("unheard-of", [b"a"])


def test_a_partition_that_does_not_exist_is_said(log: EventLog, topic: str) -> None:
    with pytest.raises(StoreError, match=f"{topic}/7"):
        log.assign({LogPartition(topic, 7): 0})


def test_a_position_beyond_the_end_is_refused(log: EventLog, writer: LogWriter, topic: str) -> None:
    writer.append(topic, [b"a"])
    with pytest.raises(LogPositionError, match="at 2, which is beyond the end, 1"):
        log.assign({only(topic): 2})


def test_every_position_that_is_refused_is_told(
    log: EventLog, place: LogPlace, writer: LogWriter, wide: str
) -> None:
    writer.append(wide, [b"a"])
    with pytest.raises(LogPositionError) as raised:
        log.assign({LogPartition(wide, 0): 5, LogPartition(wide, 1): -1, LogPartition(wide, 2): 9})
    assert all(f"{wide}/{number} at" in str(raised.value) for number in range(3))


def test_a_position_that_expired_is_refused(
    log: EventLog, place: LogPlace, writer: LogWriter, topic: str
) -> None:
    writer.append(topic, [b"a", b"b", b"c"])
    writer.append(topic, [b"d"])
    place.expire(only(topic), 3)
    assert log.bounds(topic) == {0: Bounds(3, 4)}
    with pytest.raises(LogPositionError, match="at 1, which expired: the first is 3"):
        log.assign({only(topic): 1})
    assert read(log, topic, 3, 1) == [(3, b"d")]


def test_messages_that_expire_before_they_are_read_are_missed_aloud(
    log: EventLog, place: LogPlace, writer: LogWriter, topic: str
) -> None:
    writer.append(topic, [b"a", b"b", b"c"])
    log.assign({only(topic): 0})
    writer.append(topic, [b"d"])
    place.expire(only(topic), 3)
    with pytest.raises(LogPositionError, match="at 0, which"):
        poll_in_vain(log)


def test_a_topic_made_anew_is_another(
    log: EventLog, place: LogPlace, writer: LogWriter, topic: str
) -> None:
    writer.append(topic, [b"a"])
    before = log.identity(topic)
    assert log.identity(topic) == before
    with closing(place.open()) as another:
        assert another.identity(topic) == before
    place.recreate(topic, 1)
    assert log.identity(topic) != before
    with closing(place.open()) as another:
        assert another.identity(topic) == log.identity(topic)


def test_topics_have_different_identities(log: EventLog, topic: str, wide: str) -> None:
    assert log.identity(topic) != log.identity(wide)


def test_a_topic_made_anew_is_not_read_on_silently(
    log: EventLog, place: LogPlace, writer: LogWriter, topic: str
) -> None:
    writer.append(topic, [b"a", b"b"])
    assert read(log, topic, 0, 2) == [(0, b"a"), (1, b"b")]
    place.recreate(topic, 1)
    writer.append(topic, [b"A", b"B", b"C"])
    with pytest.raises(LogPositionError):
        poll_in_vain(log)
    assert read(log, topic, 0, 3) == [(0, b"A"), (1, b"B"), (2, b"C")]


def test_new_partitions_are_seen(
    log: EventLog, place: LogPlace, writer: LogWriter, topic: str
) -> None:
    writer.append(topic, [b"a"])
    assert read(log, topic, 0, 1) == [(0, b"a")]
    place.add_partition(topic)
    deadline = monotonic() + 30
    while len(log.bounds(topic)) < 2 and monotonic() < deadline:
        pass
    assert log.bounds(topic) == {0: Bounds(0, 1), 1: Bounds(0, 0)}
    log.assign({LogPartition(topic, 1): 0})
    with closing(place.writer()) as informed:
        numbers = [b"%d" % number for number in range(20)]
        informed.append(topic, numbers, numbers)
    added = log.bounds(topic)[1].end
    assert added > 0
    assert len(messages(poll_all(log, added), LogPartition(topic, 1))) == added


def test_two_readers_do_not_disturb_each_other(
    log: EventLog, place: LogPlace, writer: LogWriter, topic: str
) -> None:
    writer.append(topic, [b"a", b"b"])
    with closing(place.open()) as another:
        log.assign({only(topic): 0})
        another.assign({only(topic): 1})
        assert messages(poll_all(another, 1), only(topic)) == [(1, b"b")]
        assert messages(poll_all(log, 2), only(topic)) == [(0, b"a"), (1, b"b")]


def test_a_log_outlives_its_reader(
    log: EventLog, place: LogPlace, writer: LogWriter, topic: str
) -> None:
    writer.append(topic, [b"a"])
    log.close()
    log.close()
    writer.close()
    writer.close()
    with closing(place.writer()) as another:
        another.append(topic, [b"b"])
    with closing(place.open()) as reopened:
        assert read(reopened, topic, 0, 2) == [(0, b"a"), (1, b"b")]


def test_writers_in_other_processes_lose_nothing_and_stay_in_order(
    log: EventLog, place: LogPlace, topic: str, needs: Needs
) -> None:
    needs("other processes")
    log.assign({only(topic): 0})
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(WRITER), *place.command(topic, 200)]
    processes = [
        subprocess.Popen([*command, name], env=environment, stdout=subprocess.DEVNULL)
        for name in ("a", "b", "c")
    ]
    found = messages(poll_all(log, 600), only(topic))
    assert [process.wait(timeout=60) for process in processes] == [0, 0, 0]
    assert [offset for offset, _ in found] == list(range(600))
    values = [(value or b"").decode() for _, value in found]
    for name in "abc":
        numbers = [int(value[1:]) for value in values if value[0] == name]
        assert numbers == list(range(200))
