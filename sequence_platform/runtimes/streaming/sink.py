"""Where a worker's messages go: a place that commits them with how far the log was read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Protocol

import polars as pl

from sequence_platform.plan.plan import EventPlan
from sequence_platform.ports import LogBatch, OffsetMove, PartitionState

Moves = Sequence[OffsetMove]


@dataclass(frozen=True, slots=True)
class DayFlush:
    """What a flush did to a partition.

    Attributes:
        received: Messages of the day.
        admitted: More rows in the enriched partition; fewer if negative.
        is_late: Whether the day's allowed lateness was over.
        after: The partition since.
    """

    received: int
    admitted: int
    is_late: bool
    after: PartitionState


@dataclass(frozen=True, slots=True)
class Flushed:
    """What a flush did.

    Attributes:
        event: Name of the event type.
        messages: All that came; ``received + dead``.
        days: By partition of the lake; empty for other sinks.
        dead: Dead letters.
        offsets: How far the log was read.
        corrected: Other days that lost rows to corrections.
        newest_event_time: Of the messages that could be used; None if none could.
        oldest_appended: When the log took the message that waited longest.
        newest_appended: Likewise, the least long.
        committed_at: When all this could be read.
    """

    event: str
    messages: int
    days: Mapping[date, DayFlush]
    dead: int
    offsets: tuple[OffsetMove, ...]
    corrected: tuple[date, ...]
    newest_event_time: datetime | None
    oldest_appended: datetime | None
    newest_appended: datetime | None
    committed_at: datetime

    @property
    def freshness(self) -> timedelta | None:
        """How long the message that waited longest took from the log into the sink."""
        return None if self.oldest_appended is None else self.committed_at - self.oldest_appended

    @property
    def late(self) -> int:
        """Messages of days whose allowed lateness was over."""
        return sum(day.received for day in self.days.values() if day.is_late)


class Sink(Protocol):
    """Takes what a log brings, with offsets of its own: it can be run without any other sink."""

    def offsets(self, event: EventPlan) -> pl.DataFrame:
        """Return how far the log was read: the columns of ``LakeAppender.offsets``."""
        ...

    def reset_offsets(
        self, event: EventPlan, moves: Iterable[OffsetMove], committed_at: datetime
    ) -> None:
        """Store offsets as an operator decided, whatever is stored."""
        ...

    def flush(self, event: EventPlan, batches: Sequence[LogBatch], moves: Moves) -> Flushed:
        """Commit messages and how far the log was read, at once.

        Raises:
            FencedError: another worker has read on from where this one started.
            StoreError: nothing is committed; if it is retryable, flushing again may help.
        """
        ...

    def heard(self, event: EventPlan, moves: Iterable[OffsetMove], until: datetime) -> None:
        """Note that all that the log held at a time is committed."""
        ...
