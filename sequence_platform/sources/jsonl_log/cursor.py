"""Where reading of one partition stands, and one step of it. A step changes nothing that is seen.

Segments are listed before they are read: what precedes a segment that is there has all its lines.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from sequence_platform.errors import LogPositionError, StoreError
from sequence_platform.ports.log import LogBatch, LogPartition
from sequence_platform.ports.log_positions import position_gone, shown
from sequence_platform.sources.jsonl_log.folder import Segment, segments, translated
from sequence_platform.sources.jsonl_log.lines import SegmentLines

LEAST_BYTES, MOST_BYTES = 64 << 10, 8 << 20
"""Read at a time; a longer line is read whole nevertheless."""
USUAL_MESSAGE_BYTES = 512
"""From which follows how much to read for so many messages."""
LONGEST_MESSAGE_BYTES = 256 << 20
"""A longer line is no message, but a file that is none of lines."""
GUARD_BYTES = 256
"""Of what precedes the next line: if it is still there, the file was not written anew."""


@dataclass(frozen=True, slots=True, eq=False)
class Cursor:
    """Where reading of a partition stands.

    Attributes:
        at: The partition.
        folder: Of its segments.
        offset: Of the next message.
        lines: Of the segment; shared by the cursors of a segment, and never wrong.
        segment: That holds the next message, or ends before it; None if there was none yet.
        byte: Where the next message begins there.
        inode: Of the segment; 0 until it is opened.
        guard: What stands before ``byte``.
        half_bytes: How much of a half-written line there was at the last look.
    """

    at: LogPartition
    folder: Path
    offset: int
    lines: SegmentLines
    segment: Segment | None = None
    byte: int = 0
    inode: int = 0
    guard: bytes = b""
    half_bytes: int = 0

    @property
    def waits_at(self) -> int:
        """The size of a file that is not worth reading: it ends in the same long half line.

        A short one is read again: a writer may have cut it off and written as many bytes.
        """
        return self.byte + self.half_bytes if self.half_bytes > LEAST_BYTES else self.byte


def cursor_at(at: LogPartition, folder: Path, offset: int) -> Cursor:
    """Return where to read a partition from an offset on.

    Raises:
        LogPositionError: no segment holds it.
        StoreError: the segment cannot be read.
    """
    held = [segment for segment in segments(folder) if segment.first <= offset]
    if not held:
        return Cursor(at, folder, offset, SegmentLines(folder, 0))
    cursor = _enter(Cursor(at, folder, offset, SegmentLines(folder, 0)), held[-1])
    with _opened(cursor) as descriptor:
        if cursor.lines.end(descriptor) < offset:
            raise _gone(cursor, "is between two segments: lines or a segment were taken away")
        byte = cursor.lines.byte_of(descriptor, offset)
        size = min(byte, GUARD_BYTES)
        return replace(
            cursor,
            byte=byte,
            inode=os.fstat(descriptor).st_ino,
            guard=os.pread(descriptor, size, byte - size),
        )


def advance(cursor: Cursor, max_messages: int) -> tuple[Cursor, LogBatch | None]:
    """Return the next messages, if there are any, and where to read on after them.

    Raises:
        LogPositionError: they are gone, or the segment is not the one that was read.
        StoreError: the segment cannot be read, or is none of lines.
    """
    held = segments(cursor.folder)
    while True:
        following = _following(cursor, held)
        if cursor.segment is None or cursor.segment not in held:
            if following is None and cursor.segment is None:
                return cursor, None
            if following is None or following.first != cursor.offset:
                raise _gone(cursor, f"expired or was taken away: held are {_range(held)}")
            cursor = _enter(cursor, following)
            continue
        most = max_messages if following is None else following.first - cursor.offset
        after, batch = _read(cursor, min(max_messages, most), is_complete=following is not None)
        if batch is not None or following is None:
            return after, batch
        if following.first != cursor.offset:
            raise _gone(cursor, f"is missing: the next segment begins with {following.first}")
        cursor = _enter(cursor, following)


def _enter(cursor: Cursor, segment: Segment) -> Cursor:
    """Return the cursor at the beginning of a segment."""
    lines = SegmentLines(segment.path, segment.first)
    return Cursor(cursor.at, cursor.folder, cursor.offset, lines, segment)


def _following(cursor: Cursor, held: Sequence[Segment]) -> Segment | None:
    before = -1 if cursor.segment is None else cursor.segment.first
    return next((segment for segment in held if segment.first > before), None)


def _read(cursor: Cursor, most: int, *, is_complete: bool) -> tuple[Cursor, LogBatch | None]:
    """Return what is next in the segment of the cursor.

    Where another segment follows, this one is complete: what looks like a half line is whole.
    """
    with _opened(cursor) as descriptor:
        facts = os.fstat(descriptor)
        if cursor.inode not in {0, facts.st_ino} or facts.st_size < cursor.byte:
            raise _gone(cursor, "is in a file that was cut or made anew")
        if facts.st_size in {cursor.byte, cursor.waits_at} and not is_complete:
            return cursor, None
        data = _read_lines(cursor, descriptor, most)
    if not data.startswith(cursor.guard):
        raise _gone(cursor, "is in a file that was written anew")
    *values, rest = data[len(cursor.guard) :].split(b"\n", max(most, 1))
    if is_complete:
        if most == 0 and values:
            raise _overlap(cursor)
        if most == 1 and not values and rest:
            values, rest = [rest], b""
    if not values or most == 0:
        return replace(cursor, inode=facts.st_ino, half_bytes=len(rest)), None
    read = data[: len(data) - len(rest)]
    after = replace(
        cursor,
        offset=cursor.offset + len(values),
        byte=cursor.byte + len(read) - len(cursor.guard),
        inode=facts.st_ino,
        guard=read[-GUARD_BYTES:],
        half_bytes=0,
    )
    offsets = np.arange(cursor.offset, after.offset, dtype=np.int64)
    times = cursor.lines.appended_us(offsets, facts.st_mtime_ns // 1000)
    return after, LogBatch(cursor.at, values, offsets, times, after.offset)


def _read_lines(cursor: Cursor, descriptor: int, most: int) -> bytes:
    """Return the guard and at least one whole line, or all there is."""
    size = min(max(most * USUAL_MESSAGE_BYTES, LEAST_BYTES), MOST_BYTES)
    before = len(cursor.guard)
    while True:
        data = os.pread(descriptor, before + size, cursor.byte - before)
        if len(data) < before + size or data.find(b"\n", before) >= 0:
            return data
        if size > LONGEST_MESSAGE_BYTES:
            raise StoreError(
                "a line of a log is too long for a message",
                where=str(cursor.segment and cursor.segment.path),
                found=f"no line break within {size} bytes from byte {cursor.byte} on",
                expected=f"lines of at most {LONGEST_MESSAGE_BYTES} bytes",
                next_step="look at the file; if it is none of lines, take it away",
            )
        size *= 2


@contextmanager
def _opened(cursor: Cursor) -> Iterator[int]:
    assert cursor.segment is not None  # noqa: S101 - whoever opens one has entered it
    path = cursor.segment.path
    with translated("a segment of a log cannot be read", path):
        try:
            descriptor = os.open(path, os.O_RDONLY)
        except FileNotFoundError as error:
            raise _gone(cursor, "expired while it was read") from error
        try:
            yield descriptor
        finally:
            os.close(descriptor)


def _gone(cursor: Cursor, why: str) -> LogPositionError:
    return position_gone(
        [f"{shown(cursor.at)} at {cursor.offset}, which {why}"],
        log=str(cursor.folder),
        expected="segments that are only appended to, and taken away oldest first",
    )


def _overlap(cursor: Cursor) -> StoreError:
    return StoreError(
        "two segments of a log hold the same offset",
        where=str(cursor.segment and cursor.segment.path),
        found=f"a line after {shown(cursor.at)} {cursor.offset - 1}, where the next segment begins",
        expected="a segment that ends where the next one begins",
        next_step="end the writer that still appends to the old segment, then move its last lines "
        "to the newest",
    )


def _range(held: Sequence[Segment]) -> str:
    return f"segments from {held[0].first} on" if held else "no segments"
