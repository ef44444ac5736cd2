"""Logs of each kind, and what happens to them from outside: they lose, gain and become others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import monotonic
from typing import Protocol

from sequence_platform.ports.log import EventLog, LogBatch, LogPartition, LogWriter

PATIENCE_SECONDS = 30.0

Message = tuple[int, bytes | None]
"""Offset and value."""


class LogPlace(Protocol):
    """Where a log is, so that a test can open it more than once and do things to it."""

    def open(self) -> EventLog: ...

    def writer(self) -> LogWriter: ...

    def expire(self, at: LogPartition, first: int) -> None:
        """Drop what is before an offset that an append began with."""
        ...

    def recreate(self, topic: str, partitions: int) -> None: ...

    def add_partition(self, topic: str) -> None:
        """Add one to a topic of one partition."""
        ...

    def skip(self, at: LogPartition) -> None:
        """Take some offset for what is no message."""
        ...

    def command(self, topic: str, count: int) -> Sequence[str]:
        """Return the arguments of log_writer.py, for another process."""
        ...


GAPS: Mapping[tuple[str, str], str] = {
    ("jsonl", "tombstones"): "never, because a line cannot be absent: an empty one is empty",
    ("jsonl", "line breaks"): "never, because they end lines",
    ("jsonl", "skipped offsets"): "never, because an offset is the number of a line",
    ("memory", "other processes"): "never, because it is in the memory of one",
}
"""What an adapter does not do, and why. A test that needs it must then fail."""

MakePlace = Callable[[Path], LogPlace]


def poll_all(log: EventLog, count: int, *, max_messages: int = 1000) -> list[LogBatch]:
    """Poll until so many messages came; a second more must not bring others."""
    batches: list[LogBatch] = []
    deadline = monotonic() + PATIENCE_SECONDS
    while sum(len(batch.values) for batch in batches) < count and monotonic() < deadline:
        batches += log.poll(max_messages=max_messages, timeout_seconds=0.5)
    return [*batches, *log.poll(max_messages=max_messages, timeout_seconds=0.1)]


def messages(batches: Sequence[LogBatch], at: LogPartition) -> list[Message]:
    """Return the messages of a partition."""
    return [
        (int(offset), value)
        for batch in batches
        if batch.at == at
        for offset, value in zip(batch.offsets, batch.values, strict=True)
    ]
