"""The online sink: messages into the tail of the online store within tens of milliseconds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta

import polars as pl

from sequence_platform.clock import Clock
from sequence_platform.engine.enrich import ReadLookup
from sequence_platform.plan.plan import EnrichmentPlan, EventPlan
from sequence_platform.ports import LogBatch, LogPartition, OffsetMove
from sequence_platform.ports.online import OnlineAppender, TailAppend
from sequence_platform.runtimes.streaming.lake_sink import possible_times
from sequence_platform.runtimes.streaming.received import Decode, receive
from sequence_platform.runtimes.streaming.sink import Flushed, Moves

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LOOKUP_SECONDS = 5.0
"""Enrichment rows are remembered for so long: a flush must not wait for the lake."""
REMEMBERED_KEYS = 200_000


class OnlineSink:
    """Streams into the online store.

    Dead letters are the lake sink's to keep: here they are counted and left out.

    Args:
        store: Where rows go.
        clock: For when.
        decode_of: Returns what an event type's messages are written in.
        read_lookup: Where enrichment rows come from.
    """

    def __init__(
        self,
        store: OnlineAppender,
        clock: Clock,
        decode_of: Callable[[EventPlan], Decode],
        read_lookup: ReadLookup,
    ) -> None:
        self._store = store
        self._clock = clock
        self._decode_of = decode_of
        self._read_lookup = Remembered(read_lookup)

    def offsets(self, event: EventPlan) -> pl.DataFrame:
        """Return how far the log was read: Sink."""
        return self._store.offsets(event)

    def reset_offsets(
        self, event: EventPlan, moves: Iterable[OffsetMove], committed_at: datetime
    ) -> None:
        """Store offsets as an operator decided: Sink."""
        self._store.reset_offsets(event, moves, committed_at)

    def heard(self, event: EventPlan, moves: Iterable[OffsetMove], until: datetime) -> None:
        """Note that all that the log held at a time is in the store: Sink."""
        self._store.heard(event, moves, until)

    def flush(self, event: EventPlan, batches: Sequence[LogBatch], moves: Moves) -> Flushed:
        """Commit messages and how far the log was read: Sink."""
        window = possible_times(event, self._clock)
        received = receive(event, batches, self._read_lookup, window, self._decode_of(event))
        committed_at = self._clock.now()
        appended = _appended_until(batches)
        self._store.append(
            TailAppend(
                event=event,
                rows=received.enriched.rows,
                removals=received.enriched.rejected,
                moves=moves,
                received_at=committed_at,
                appended_until=appended,
            )
        )
        newest = received.raw["_event_time"].max()
        firsts = [int(batch.appended_us.min()) for batch in batches if len(batch.appended_us)]
        return Flushed(
            event=event.name,
            messages=sum(len(batch.values) for batch in batches),
            days={},
            dead=received.dead.height,
            offsets=tuple(moves),
            corrected=(),
            newest_event_time=newest if isinstance(newest, datetime) else None,
            oldest_appended=_time(min(firsts)) if firsts else None,
            newest_appended=max(appended.values(), default=None),
            committed_at=self._clock.now(),
        )


class Remembered:
    """Enrichment rows of keys that were asked for lately: engine.enrich.ReadLookup."""

    def __init__(self, read: ReadLookup) -> None:
        self._read = read
        self._held: dict[str, tuple[float, pl.Series, pl.DataFrame]] = {}

    def __call__(self, enrichment: EnrichmentPlan, keys: pl.Series) -> pl.DataFrame:
        """Return the rows of these keys, and perhaps of others; some seconds old at most."""
        now = time.monotonic()
        began, known, rows = self._held.get(enrichment.name, (0.0, keys.clear(), None))
        if rows is None or now - began > LOOKUP_SECONDS or len(known) > REMEMBERED_KEYS:
            began, known, rows = now, keys.clear(), None
        new = keys.filter(~keys.is_in(known.implode()))
        if rows is None or len(new):
            found = self._read(enrichment, new)
            rows = found if rows is None else pl.concat([rows, found])
            self._held[enrichment.name] = (began, pl.concat([known, new]), rows)
        return rows


def _appended_until(batches: Sequence[LogBatch]) -> dict[LogPartition, datetime]:
    """Return when the log took the newest message of each partition."""
    newest: dict[LogPartition, int] = {}
    for batch in batches:
        if len(batch.appended_us):
            newest[batch.at] = max(newest.get(batch.at, 0), int(batch.appended_us.max()))
    return {at: _time(us) for at, us in newest.items()}


def _time(us: int) -> datetime:
    return EPOCH + timedelta(microseconds=us)
