"""Reads the partitions of a log of files, from any line on, while others write and rotate them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import monotonic, sleep

from sequence_platform.ports.log import Bounds, LogBatch, LogPartition
from sequence_platform.ports.log_positions import ensure_positions, ensure_same_topics
from sequence_platform.sources.jsonl_log.cursor import Cursor, advance, cursor_at
from sequence_platform.sources.jsonl_log.folder import (
    Segment,
    identity,
    partitions,
    segments,
    topic_folder,
    translated,
)
from sequence_platform.sources.jsonl_log.lines import SegmentLines

POLL_BYTES = 64 << 20
"""What one poll returns at most, beside one message; bounds memory."""
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.001, 0.05
"""Between looks at files that had nothing new: nobody announces a line."""


class JsonlLog:
    """Reads a log of files: ports.EventLog. No file stays open between calls."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._cursors: list[Cursor] = []
        self._identities: dict[str, str] = {}
        self._newest: dict[Path, tuple[Segment, SegmentLines]] = {}

    def identity(self, topic: str) -> str:
        """Return what tells this topic from another of the same name: ports.EventLog."""
        return identity(topic_folder(self._root, topic))

    def bounds(self, topic: str) -> Mapping[int, Bounds]:
        """Return the offsets that each partition holds: ports.EventLog."""
        folders = partitions(topic_folder(self._root, topic))
        return {number: self._bounds(folder) for number, folder in sorted(folders.items())}

    def assign(self, positions: Mapping[LogPartition, int]) -> None:
        """Read these partitions from these offsets on: ports.EventLog."""
        topics = {at.topic for at in positions}
        identities = {topic: self.identity(topic) for topic in topics}
        bounds = {topic: self.bounds(topic) for topic in topics}
        ensure_positions(positions, bounds, log=str(self._root))
        folders = {topic: partitions(topic_folder(self._root, topic)) for topic in topics}
        self._cursors = [
            cursor_at(at, folders[at.topic][at.partition], offset)
            for at, offset in positions.items()
        ]
        self._identities = identities

    def poll(self, *, max_messages: int, timeout_seconds: float) -> Sequence[LogBatch]:
        """Return the next messages: ports.EventLog."""
        deadline = monotonic() + timeout_seconds
        wait = FIRST_WAIT_SECONDS
        while True:
            batches = self._read(max_messages)
            remaining = deadline - monotonic()
            if batches or remaining <= 0:
                return batches
            sleep(min(wait, remaining))
            wait = min(wait * 2, LONGEST_WAIT_SECONDS)

    def close(self) -> None:
        """Forget what was read."""
        self._cursors = []
        self._newest.clear()

    def _read(self, max_messages: int) -> list[LogBatch]:
        self._ensure_same_topics()
        batches: list[LogBatch] = []
        moved: list[Cursor] = []
        bytes_left = POLL_BYTES
        for cursor in self._cursors:
            if max_messages <= 0 or bytes_left <= 0:
                break
            after, batch = advance(cursor, max_messages)
            moved.append(after)
            if batch is not None:
                batches.append(batch)
                max_messages -= len(batch.values)
                bytes_left -= sum(map(len, filter(None, batch.values)))
        if batches:
            self._ensure_same_topics()  # what was made anew after the first look was not seen then
        # Only now, so that a failure leaves all positions; those not looked at are next.
        self._cursors = [*self._cursors[len(moved) :], *moved]
        return batches

    def _ensure_same_topics(self) -> None:
        found = {topic: self.identity(topic) for topic in self._identities}
        ensure_same_topics(found, self._identities, log=str(self._root))

    def _bounds(self, folder: Path) -> Bounds:
        held = segments(folder)
        if not held:
            return Bounds(0, 0)
        newest, lines = self._newest.get(folder, (None, None))
        if lines is None or newest != held[-1]:
            lines = SegmentLines(held[-1].path, held[-1].first)
            self._newest[folder] = held[-1], lines
        with translated("a segment of a log cannot be read", held[-1].path):
            descriptor = os.open(held[-1].path, os.O_RDONLY)
            try:
                end = lines.end(descriptor)
            finally:
                os.close(descriptor)
        lines.trim()
        return Bounds(held[0].first, end)
