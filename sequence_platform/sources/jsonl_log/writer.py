"""Appends lines and rotates segments, under a lock: several processes may write a partition."""

from __future__ import annotations

import fcntl
import os
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import repeat
from pathlib import Path

import numpy as np

from sequence_platform.clock import Clock, SystemClock
from sequence_platform.errors import StoreError
from sequence_platform.sources.jsonl_log import folder
from sequence_platform.sources.jsonl_log.lines import NOTE, SegmentLines, index_path

SEGMENT_BYTES = 64 << 20
"""A segment that has reached this gets no more lines."""
BUFFER_BYTES = 4 << 20
"""Of lines for one partition in memory before they are written."""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class JsonlLogWriter:
    """Appends to a log of files: ports.LogWriter.

    A message is a line, so it holds no line break, and there are no tombstones. A half-written
    last line, which a writer that was killed left behind, is cut off: nobody has read it.
    """

    def __init__(
        self, root: Path, *, segment_bytes: int = SEGMENT_BYTES, clock: Clock | None = None
    ) -> None:
        self._root = root
        self._segment_bytes = segment_bytes
        self._clock = clock or SystemClock()
        self._turn = os.getpid()  # so that short-lived writers do not all begin with partition 0

    def create_topic(self, topic: str, partitions: int) -> None:
        """Make a topic; nothing if it exists."""
        folder.create_topic(self._root, topic, partitions)

    def append(
        self, topic: str, values: Iterable[bytes | None], keys: Iterable[bytes | None] | None = None
    ) -> None:
        """Append messages: ports.LogWriter. Those without a key go to one partition a call."""
        places = sorted(folder.partitions(folder.topic_folder(self._root, topic)).items())
        if not places:
            raise StoreError(
                "a topic has no partitions",
                where=str(self._root / topic),
                expected="folders partition=0, partition=1, ...",
                next_step="make them, or the topic anew",
            )
        self._turn += 1
        waiting: dict[int, list[bytes]] = defaultdict(list)
        sizes: dict[int, int] = defaultdict(int)
        given = repeat(None) if keys is None else keys
        for value, key in zip(values, given, strict=keys is not None):
            number = (self._turn if key is None else zlib.crc32(key)) % len(places)
            waiting[number].append(_line(value, topic))
            sizes[number] += len(waiting[number][-1]) + 1
            if sizes[number] >= BUFFER_BYTES:
                self._write(places[number][1], waiting.pop(number))
                sizes[number] = 0
        for number, lines in waiting.items():
            self._write(places[number][1], lines)

    def close(self) -> None:
        """Do nothing: files are closed, and durable, after each append."""

    def _write(self, partition: Path, lines: list[bytes]) -> None:
        with folder.translated("a log cannot be written", partition), _locked(partition):
            segment, end = self._segment(partition)
            descriptor = os.open(segment.path, os.O_RDWR | os.O_APPEND)
            try:
                self._note(segment.path, end, os.fstat(descriptor).st_size)
                try:
                    _write_all(descriptor, b"\n".join([*lines, b""]))
                    os.fsync(descriptor)
                except OSError:
                    _cut_half_line(descriptor)
                    raise
            finally:
                os.close(descriptor)

    def _segment(self, partition: Path) -> tuple[folder.Segment, int]:
        """Return the segment to append to, made if need be, and the offset of its next line."""
        last = next(reversed(folder.segments(partition)), None)
        end = 0
        if last is not None:
            descriptor = os.open(last.path, os.O_RDWR)
            try:
                _cut_half_line(descriptor)
                end = SegmentLines(last.path, last.first).end(descriptor)
                if os.fstat(descriptor).st_size < self._segment_bytes:
                    return last, end
            finally:
                os.close(descriptor)
        path = partition / folder.segment_name(end)
        path.touch()
        folder.sync_folder(partition)
        return folder.Segment(end, path), end

    def _note(self, segment: Path, offset: int, byte: int) -> None:
        """Note an append before it is made, so that no reader sees a line without its time."""
        now_us = (self._clock.now() - EPOCH) // timedelta(microseconds=1)
        descriptor = os.open(index_path(segment), os.O_WRONLY | os.O_CREAT, 0o666)
        try:
            whole = os.fstat(descriptor).st_size // NOTE.itemsize * NOTE.itemsize
            os.pwrite(descriptor, np.array([(offset, byte, now_us)], NOTE).tobytes(), whole)
        finally:
            os.close(descriptor)


def _line(value: bytes | None, topic: str) -> bytes:
    if value is not None and b"\n" not in value:
        return value
    raise StoreError(
        "a log of lines cannot hold a message",
        where=topic,
        found="a tombstone" if value is None else "a line break within it",
        expected="a message on one line",
        next_step="write JSON without line breaks, and deletions as events; or use Kafka",
    )


@contextmanager
def _locked(partition: Path) -> Iterator[None]:
    descriptor = os.open(partition, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _write_all(descriptor: int, content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _cut_half_line(descriptor: int) -> None:
    """Cut off what follows the last line break."""
    size = os.fstat(descriptor).st_size
    at = size
    while at > 0:
        start = max(at - 65_536, 0)
        last = os.pread(descriptor, at - start, start).rfind(b"\n")
        if last >= 0:
            at = start + last + 1
            break
        at = start
    if at < size:
        os.ftruncate(descriptor, at)
