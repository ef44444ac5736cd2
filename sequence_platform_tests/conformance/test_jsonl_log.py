"""What a log of files does with what others do to its files."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic

import pytest

from sequence_platform.clock import FixedClock
from sequence_platform.errors import LogPositionError, StoreError
from sequence_platform.ports.log import Bounds, LogPartition
from sequence_platform.sources.jsonl_log import JsonlLog, JsonlLogWriter
from sequence_platform_tests.conformance.log_places import messages, poll_all

AT = LogPartition("clicks", 0)
ROOT = Path(__file__).parents[2]


@pytest.fixture
def log(tmp_path: Path) -> JsonlLog:
    return JsonlLog(tmp_path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The partition's folder, made by somebody who knows nothing of us."""
    made = tmp_path / "clicks" / "partition=0"
    made.mkdir(parents=True)
    return made


def segment(folder: Path, first: int = 0) -> Path:
    return folder / f"{first:020}.jsonl"


def add(file: Path, content: bytes) -> None:
    with file.open("ab") as stream:
        stream.write(content)


def read(log: JsonlLog, start: int, count: int) -> list[tuple[int, bytes | None]]:
    log.assign({AT: start})
    return messages(poll_all(log, count), AT)


def test_files_that_anybody_writes_are_a_log(log: JsonlLog, folder: Path) -> None:
    segment(folder).write_bytes(b'{"n": 0}\n{"n": 1}\n')
    segment(folder, 2).write_bytes(b'{"n": 2}\n')
    assert log.bounds("clicks") == {0: Bounds(0, 3)}
    assert read(log, 1, 2) == [(1, b'{"n": 1}'), (2, b'{"n": 2}')]


def test_a_folder_that_somebody_made_gets_an_identity_once(log: JsonlLog, folder: Path) -> None:
    identity = log.identity("clicks")
    assert JsonlLog(folder.parents[1]).identity("clicks") == identity
    shutil.rmtree(folder.parent)
    folder.mkdir(parents=True)
    assert log.identity("clicks") != identity


def test_an_identity_that_cannot_be_read_is_said(log: JsonlLog, folder: Path) -> None:
    (folder.parent / "topic.json").write_text("[]")
    with pytest.raises(StoreError, match="the identity of a topic cannot be read"):
        log.identity("clicks")


def test_a_half_written_line_is_waited_for(log: JsonlLog, folder: Path) -> None:
    add(segment(folder), b"a\nhal")
    assert log.bounds("clicks") == {0: Bounds(0, 1)}
    assert read(log, 0, 1) == [(0, b"a")]
    assert list(log.poll(max_messages=10, timeout_seconds=0.1)) == []
    add(segment(folder), b"f")
    assert list(log.poll(max_messages=10, timeout_seconds=0.1)) == []
    add(segment(folder), b"\nb\n")
    assert messages(poll_all(log, 2), AT) == [(1, b"half"), (2, b"b")]


def test_a_long_half_written_line_is_waited_for(log: JsonlLog, folder: Path) -> None:
    add(segment(folder), b"x" * 3_000_000)
    log.assign({AT: 0})
    for _ in range(3):
        assert list(log.poll(max_messages=10, timeout_seconds=0.05)) == []
        add(segment(folder), b"x" * 3_000_000)
    add(segment(folder), b"\n")
    ((offset, value),) = messages(poll_all(log, 1), AT)
    assert (offset, len(value or b"")) == (0, 12_000_000)


def test_a_writer_cuts_off_what_a_killed_one_left_half_written(log: JsonlLog, folder: Path) -> None:
    add(segment(folder), b"a\n{half")
    log.assign({AT: 0})
    assert messages(poll_all(log, 1), AT) == [(0, b"a")]
    JsonlLogWriter(folder.parents[1]).append("clicks", [b"54321"])
    assert segment(folder).read_bytes() == b"a\n54321\n"
    assert messages(poll_all(log, 1), AT) == [(1, b"54321")]


def test_the_last_line_of_a_segment_that_another_follows_needs_no_line_break(
    log: JsonlLog, folder: Path
) -> None:
    segment(folder).write_bytes(b"a\nb")
    segment(folder, 2).write_bytes(b"c\n")
    assert read(log, 0, 3) == [(0, b"a"), (1, b"b"), (2, b"c")]
    assert read(log, 1, 2) == [(1, b"b"), (2, b"c")]


def test_lines_missing_between_two_segments_are_told(log: JsonlLog, folder: Path) -> None:
    segment(folder).write_bytes(b"a\n")
    segment(folder, 5).write_bytes(b"f\n")
    log.assign({AT: 0})
    (batch,) = log.poll(max_messages=10, timeout_seconds=1)
    assert (batch.values, batch.next_offset) == ([b"a"], 1)
    with pytest.raises(LogPositionError, match="the next segment begins with 5"):
        log.poll(max_messages=10, timeout_seconds=0.1)
    with pytest.raises(LogPositionError, match="is between two segments"):
        log.assign({AT: 3})


def test_lines_after_the_beginning_of_the_next_segment_are_told(
    log: JsonlLog, folder: Path
) -> None:
    segment(folder).write_bytes(b"a\nb\n")
    segment(folder, 1).write_bytes(b"B\n")
    log.assign({AT: 0})
    (batch,) = log.poll(max_messages=10, timeout_seconds=1)
    assert batch.values == [b"a"]
    with pytest.raises(StoreError, match="two segments of a log hold the same offset"):
        log.poll(max_messages=10, timeout_seconds=0.1)


def test_files_whose_names_are_no_offsets_are_told(log: JsonlLog, folder: Path) -> None:
    (folder / "events.jsonl").write_bytes(b"a\n")
    with pytest.raises(StoreError, match=r"events\.jsonl"):
        log.bounds("clicks")


@pytest.mark.parametrize(
    "content",
    [b"a\n", b"A\nB\nC\nD\n", b""],
    ids=["cut", "written anew and longer", "emptied"],
)
def test_a_file_that_was_read_must_not_change(log: JsonlLog, folder: Path, content: bytes) -> None:
    segment(folder).write_bytes(b"a\nb\n")
    assert read(log, 0, 2) == [(0, b"a"), (1, b"b")]
    segment(folder).write_bytes(content)
    with pytest.raises(LogPositionError):
        log.poll(max_messages=10, timeout_seconds=0.1)


def test_a_file_that_was_replaced_is_another(log: JsonlLog, folder: Path) -> None:
    segment(folder).write_bytes(b"a\nb\n")
    assert read(log, 0, 2) == [(0, b"a"), (1, b"b")]
    (folder / "new").write_bytes(b"b\nc\nd\n")
    (folder / "new").rename(segment(folder))
    with pytest.raises(LogPositionError, match="cut or made anew"):
        log.poll(max_messages=10, timeout_seconds=0.1)
    assert log.bounds("clicks") == {0: Bounds(0, 3)}


def test_a_read_segment_may_go_while_its_reader_waits_for_the_next(
    log: JsonlLog, folder: Path
) -> None:
    segment(folder).write_bytes(b"a\n")
    assert read(log, 0, 1) == [(0, b"a")]
    segment(folder, 1).write_bytes(b"b\n")
    segment(folder).unlink()
    assert messages(poll_all(log, 1), AT) == [(1, b"b")]


def test_a_failure_of_one_partition_loses_nothing_of_another(log: JsonlLog, folder: Path) -> None:
    segment(folder).write_bytes(b"a\nb\n")
    other = folder.with_name("partition=1")
    other.mkdir()
    segment(other).write_bytes(b"c\n")
    log.assign({AT: 0, LogPartition("clicks", 1): 0})
    other.rename(folder.with_name("away"))
    with pytest.raises(StoreError):
        log.poll(max_messages=10, timeout_seconds=0.1)
    folder.with_name("away").rename(other)
    batches = poll_all(log, 3)
    assert messages(batches, AT) == [(0, b"a"), (1, b"b")]
    assert messages(batches, LogPartition("clicks", 1)) == [(0, b"c")]


def test_segments_rotate_and_offsets_go_on(log: JsonlLog, tmp_path: Path) -> None:
    writer = JsonlLogWriter(tmp_path, segment_bytes=100)
    writer.create_topic("clicks", 1)
    values = [b"%030d" % number for number in range(50)]
    for value in values:
        writer.append("clicks", [value])
    names = [file.stem for file in sorted((tmp_path / "clicks/partition=0").glob("*.jsonl"))]
    assert names[:3] == [f"{first:020}" for first in (0, 4, 8)]
    for start in (0, 3, 4, 5, 49, 50):
        assert read(log, start, 50 - start) == list(enumerate(values))[start:]


def test_a_message_keeps_its_time_when_others_follow(log: JsonlLog, tmp_path: Path) -> None:
    times = [datetime(2026, 3, day, tzinfo=UTC) for day in (1, 2, 3)]
    JsonlLogWriter(tmp_path).create_topic("clicks", 1)
    for time in times:
        JsonlLogWriter(tmp_path, clock=FixedClock(time)).append("clicks", [b"a", b"b"])
    expected = [int(time.timestamp()) * 1_000_000 for time in times for _ in range(2)]
    for start in (0, 3, 5):
        log.assign({AT: start})
        found = [int(us) for batch in poll_all(log, 6 - start) for us in batch.appended_us]
        assert found == expected[start:]


def test_without_a_note_a_message_has_the_time_of_the_last_change(
    log: JsonlLog, folder: Path
) -> None:
    segment(folder).write_bytes(b"a\nb\n")
    os.utime(segment(folder), (1_700_000_000, 1_700_000_000))
    log.assign({AT: 0})
    (batch,) = log.poll(max_messages=10, timeout_seconds=1)
    assert batch.appended_us.tolist() == [1_700_000_000_000_000] * 2


def test_notes_that_a_power_cut_left_blank_are_none(log: JsonlLog, tmp_path: Path) -> None:
    writer = JsonlLogWriter(tmp_path)
    writer.create_topic("clicks", 1)
    writer.append("clicks", [b"a", b"b"])
    index = tmp_path / "clicks/partition=0" / f"{0:020}.index"
    add(index, bytes(24) + b"half")
    writer.append("clicks", [b"c"])
    assert log.bounds("clicks") == {0: Bounds(0, 3)}
    assert read(log, 2, 1) == [(2, b"c")]


def test_a_far_offset_is_found_without_reading_all_before_it(log: JsonlLog, folder: Path) -> None:
    lines = 2_000_000
    segment(folder).write_bytes(b"".join(b"%0100d\n" % number for number in range(lines)))
    log.bounds("clicks")
    start = monotonic()
    for offset in (lines - 1, 1_234_567, 7):
        log.assign({AT: offset})
        (batch,) = log.poll(max_messages=1, timeout_seconds=1)
        assert batch.values == [b"%0100d" % offset]
    assert monotonic() - start < 10


def test_several_processes_write_and_rotate_one_partition(log: JsonlLog, tmp_path: Path) -> None:
    JsonlLogWriter(tmp_path).create_topic("clicks", 1)
    program = (
        "import sys; from pathlib import Path;"
        "from sequence_platform.sources.jsonl_log import JsonlLogWriter;"
        "w = JsonlLogWriter(Path(sys.argv[1]), segment_bytes=500);"
        "[w.append('clicks', [f'{sys.argv[2]}{n}'.encode()] * 3) for n in range(100)]"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    writers = [
        subprocess.Popen([sys.executable, "-c", program, tmp_path, name], env=environment)
        for name in "ab"
    ]
    log.assign({AT: 0})
    found = messages(poll_all(log, 600), AT)
    assert [writer.wait(timeout=60) for writer in writers] == [0, 0]
    assert [offset for offset, _ in found] == list(range(600))
    values = [value for _, value in found]
    for name in (b"a", b"b"):
        expected = [b"%s%d" % (name, n) for n in range(100) for _ in range(3)]
        assert [value for value in values if value and value.startswith(name)] == expected
    assert len(list((tmp_path / "clicks/partition=0").glob("*.jsonl"))) > 3


@pytest.mark.parametrize("topic", ["", "..", "a/b", "a b", "x" * 250])
def test_a_topic_that_could_not_be_a_folder_is_refused(log: JsonlLog, topic: str) -> None:
    with pytest.raises(StoreError, match="a name that logs do not allow"):
        log.bounds(topic)


def test_a_message_that_is_no_line_is_refused_before_its_neighbours_are_written(
    log: JsonlLog, tmp_path: Path
) -> None:
    with closing(JsonlLogWriter(tmp_path)) as writer:
        writer.create_topic("clicks", 1)
        with pytest.raises(StoreError, match="a line break within it"):
            writer.append("clicks", [b"a", b"b\nc"])
    assert log.bounds("clicks") == {0: Bounds(0, 0)}


def test_the_identity_is_a_file_that_tells_it(log: JsonlLog, tmp_path: Path) -> None:
    JsonlLogWriter(tmp_path).create_topic("clicks", 2)
    told = json.loads((tmp_path / "clicks/topic.json").read_text())
    assert log.identity("clicks") == told["identity"]


def test_a_topic_made_anew_in_the_middle_of_a_poll_is_not_read(tmp_path: Path) -> None:
    def poll_until_it_is_told(log: JsonlLog) -> None:
        while True:
            with suppress(StoreError):  # for a moment there is no topic
                assert list(log.poll(max_messages=10, timeout_seconds=0)) == []

    for number in range(50):
        root, aside = tmp_path / f"{number}", tmp_path / f"{number}-aside"
        JsonlLogWriter(root).create_topic("clicks", 1)
        another = JsonlLogWriter(aside)
        another.create_topic("clicks", 1)
        another.append("clicks", [b"A"])
        log = JsonlLog(root)
        log.assign({AT: 0})

        def exchange(root: Path = root, aside: Path = aside) -> None:
            (root / "clicks").rename(root / "before")
            (aside / "clicks").rename(root / "clicks")

        exchanging = threading.Timer(number / 25_000, exchange)
        exchanging.start()
        try:
            with pytest.raises(LogPositionError):
                poll_until_it_is_told(log)
        finally:
            exchanging.join()
