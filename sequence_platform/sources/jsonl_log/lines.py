"""Where the lines of a segment are and when they were appended, without reading all of it.

A writer notes each append in an index beside the segment. Segments that others write have none:
their lines are counted once by whoever reads them, and carry the time of the file's last change,
which is not before they were appended.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from pathlib import Path

import numpy as np
import numpy.typing as npt

BLOCK_BYTES = 1 << 20
"""Counted at a time; also how much is read to find one line."""
NOTE = np.dtype([("offset", "<i8"), ("byte", "<i8"), ("appended_us", "<i8")])
"""An append: the offset of its first line, where that begins, and when it was."""
NEWLINE = 10

Ints = npt.NDArray[np.int64]


def index_path(segment: Path) -> Path:
    """Return where the appends to a segment are noted."""
    return segment.with_suffix(".index")


class SegmentLines:
    """The lines of one segment, as far as anybody asked."""

    def __init__(self, path: Path, first: int) -> None:
        self._path = path
        self._first = first
        self.forget()

    def forget(self) -> None:
        """Know nothing, as when the file is another."""
        self._inode = -1
        self._offsets, self._bytes = [self._first], [0]
        self._notes = np.empty(0, NOTE)
        self._notes_read = 0

    def end(self, descriptor: int) -> int:
        """Return the offset after the last whole line."""
        facts = os.fstat(descriptor)
        if facts.st_ino != self._inode or facts.st_size < self._bytes[-1]:
            self.forget()
            self._inode = facts.st_ino
        self._read_notes()
        if len(self._notes):
            offset, at, _ = self._notes[-1].tolist()
            if offset > self._offsets[-1] and _begins_line(descriptor, at):
                self._mark(offset, at)
        self._count(descriptor)
        return self._offsets[-1]

    def byte_of(self, descriptor: int, offset: int) -> int:
        """Return where a line begins: one before ``end``, or ``end`` itself."""
        known = bisect_right(self._offsets, offset) - 1
        start, at = self._offsets[known], self._bytes[known]
        note = int(np.searchsorted(self._notes["offset"], offset, side="right")) - 1
        if note >= 0:
            noted, byte, _ = self._notes[note].tolist()
            if noted > start and _begins_line(descriptor, byte):
                start, at = noted, byte
        lines = offset - start
        while lines and (block := os.pread(descriptor, BLOCK_BYTES, at)):
            ends = np.flatnonzero(np.frombuffer(block, np.uint8) == NEWLINE)
            if len(ends) >= lines:
                return at + int(ends[lines - 1]) + 1
            lines -= len(ends)
            at += len(block)
        return at

    def appended_us(self, offsets: Ints, changed_us: int) -> Ints:
        """Return when lines were appended; the time of the last change if nobody noted it.

        Asked for lines further and further on, this forgets what was noted of earlier ones.
        """
        if len(self._notes) and self._notes["offset"][0] > offsets[0]:
            self._notes, self._notes_read = self._notes[:0], 0
        self._read_notes()
        if not len(self._notes):
            return np.full(len(offsets), changed_us, dtype=np.int64)
        note = np.searchsorted(self._notes["offset"], offsets, side="right") - 1
        times = np.where(note >= 0, self._notes["appended_us"][note], changed_us)
        self._notes = self._notes[max(note[-1], 0) :]
        return times

    def trim(self) -> None:
        """Forget what was noted of any append but the last."""
        self._notes = self._notes[-1:]

    def _read_notes(self) -> None:
        """Read what was noted since; notes that a power cut left blank are none."""
        try:
            at = self._notes_read * NOTE.itemsize
            new = np.fromfile(index_path(self._path), NOTE, offset=at)
        except OSError:
            return
        if len(new):
            self._notes_read += len(new)
            is_sound = (new["appended_us"] > 0) & (new["offset"] >= self._first)
            self._notes = np.concatenate([self._notes, new[is_sound]])

    def _count(self, descriptor: int) -> None:
        """Count on from the last line start that is known to the last whole line."""
        offset, at = self._offsets[-1], self._bytes[-1]
        while block := os.pread(descriptor, BLOCK_BYTES, at):
            lines = block.count(b"\n")
            if lines:
                offset += lines
                self._mark(offset, at + block.rfind(b"\n") + 1)
            at += len(block)

    def _mark(self, offset: int, at: int) -> None:
        """Remember where a line begins; marks stand a block apart, but for the last."""
        if len(self._bytes) > 1 and at - self._bytes[-2] < BLOCK_BYTES:
            self._offsets[-1], self._bytes[-1] = offset, at
        else:
            self._offsets.append(offset)
            self._bytes.append(at)


def _begins_line(descriptor: int, at: int) -> bool:
    return at == 0 or os.pread(descriptor, 1, at - 1) == b"\n"
