"""Where new events arrive: a replayable stream of messages in topics, partitions and offsets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]


class LogPartition(NamedTuple):
    """A partition of a topic."""

    topic: str
    partition: int


class Bounds(NamedTuple):
    """The offsets that a partition holds, ``[first, end)``; equal where it holds none."""

    first: int
    end: int


@dataclass(frozen=True, slots=True, eq=False)
class LogBatch:
    """Messages of one partition, in the order of their offsets.

    Attributes:
        at: The partition.
        values: The messages; None is a tombstone.
        offsets: Of each message; they rise, and may leave gaps.
        appended_us: When the log took each message, by the log's word: microseconds, UTC.
        next_offset: Where to read on. At least the last offset + 1; more where the log holds
            records that are no messages.
    """

    at: LogPartition
    values: Sequence[bytes | None]
    offsets: Ints
    appended_us: Ints
    next_offset: int


class EventLog(Protocol):
    """Reads a log from positions that the caller keeps. Used by one thread at a time.

    Nothing of what was read is stored in the log: no groups, no commits. A log of another process
    may grow while it is read, may gain partitions, and may lose its oldest messages.
    """

    def identity(self, topic: str) -> str:
        """Return what tells this topic from another of the same name, made after this was deleted.

        Raises:
            StoreError: the topic does not exist, or the log cannot be reached (retryable).
        """
        ...

    def bounds(self, topic: str) -> Mapping[int, Bounds]:
        """Return the offsets that each partition of a topic holds now, by partition.

        Raises:
            StoreError: as ``identity``.
        """
        ...

    def assign(self, positions: Mapping[LogPartition, int]) -> None:
        """Read these partitions, and no others, from these offsets on; called again, begin anew.

        Raises:
            LogPositionError: an offset is not within ``first <= offset <= end``; tells all such.
            StoreError: as ``identity``, or a partition does not exist.
        """
        ...

    def poll(self, *, max_messages: int, timeout_seconds: float) -> Sequence[LogBatch]:
        """Return the next messages of the assigned partitions; empty when none came in time.

        At most about ``max_messages``, none of them empty batches. Returns as soon as there is
        something. Every message from the assigned offset on comes exactly once; a message that is
        not whole yet (a half-written line) is waited for.

        Raises:
            LogPositionError: the next offset is gone (expired, or the log was cut).
            StoreError: the log cannot be read; retryable if trying again can help. Positions are
                as before, so polling again loses nothing.
        """
        ...

    def close(self) -> None:
        """Release connections and files; closing twice does nothing."""
        ...


class LogWriter(Protocol):
    """Appends to a log; for demos, tests and small producers."""

    def create_topic(self, topic: str, partitions: int) -> None:
        """Make a topic; nothing if it exists."""
        ...

    def append(
        self, topic: str, values: Iterable[bytes | None], keys: Iterable[bytes | None] | None = None
    ) -> None:
        """Append messages, durable when this returns.

        Messages of one key go to one partition, in order; those without a key to any.

        Raises:
            StoreError: the log did not take them all; some may be there.
        """
        ...

    def close(self) -> None:
        """Release connections and files; closing twice does nothing."""
        ...
