"""The lake sink: messages of one event type into its raw and enriched tables, offsets with them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta

import polars as pl
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from sequence_platform.clock import Clock
from sequence_platform.engine.amend import Amended, amend, keys_of, may_reject
from sequence_platform.engine.dead_letters import MESSAGE, STREAM_LETTERS
from sequence_platform.engine.decode import decode as decode_json
from sequence_platform.engine.enrich import Enriched, enrich_by
from sequence_platform.engine.raw import received_rows
from sequence_platform.errors import ConflictError
from sequence_platform.plan.plan import EnrichmentPlan, EventPlan, Window
from sequence_platform.plan.retention import first_kept
from sequence_platform.plan.tables import enriched_table, enrichment_table, raw_table
from sequence_platform.ports import (
    Append,
    Appended,
    Counts,
    DayAppend,
    Lake,
    LogBatch,
    OffsetMove,
    Staged,
)
from sequence_platform.runtimes.streaming.received import Decode, Received, receive
from sequence_platform.runtimes.streaming.sink import DayFlush, Flushed, Moves

ATTEMPTS = 12
"""Times a flush looks at partitions anew when other writers commit them first."""

PAUSE = wait_random_exponential(multiplier=0.02, max=0.3)
"""Seconds before it does. Shards of one day that look again at once keep in step, and one may
starve. All attempts take about a second; after that the worker waits longer and tells of it."""

AHEAD = timedelta(days=1)
"""A clock may be wrong by that much: a message of a later time waits as a dead letter."""

OPEN = "open"
"""The state of a partition that only streams have filled."""

NO_LETTERS = pl.DataFrame(schema={name: STREAM_LETTERS[name] for name in MESSAGE})


class LakeSink:
    """Writes what a log brings of one event type.

    Args:
        lake: Where to.
        event: The event type.
        clock: For when.
        decode: What its messages are written in: JSON unless given.
    """

    def __init__(
        self, lake: Lake, event: EventPlan, clock: Clock, decode: Decode = decode_json
    ) -> None:
        self._lake = lake
        self._event = event
        self._clock = clock
        self._decode = decode
        self._raw = raw_table(event)
        self._enriched = enriched_table(event)

    def flush(
        self, batches: Sequence[LogBatch], moves: Moves, replayed: pl.DataFrame = NO_LETTERS
    ) -> Flushed:
        """Commit messages and how far the log was read, at once.

        Args:
            batches: Messages.
            moves: Of the partitions they came from; none for messages that are replayed.
            replayed: MESSAGE of dead letters that these messages were.

        Raises:
            FencedError: another worker has read on from where this one started, or has replayed
                these dead letters; nothing is committed.
            StoreError: nothing is committed; if it is retryable, flushing again may help.
        """
        window = possible_times(self._event, self._clock)
        received = receive(self._event, batches, self._read_lookup, window, self._decode)
        attempts = Retrying(
            retry=retry_if_exception_type(ConflictError),
            wait=PAUSE,
            stop=stop_after_attempt(ATTEMPTS),
            reraise=True,
        )
        return attempts(self._commit, batches, received, moves, replayed)

    def _commit(
        self, batches: Sequence[LogBatch], received: Received, moves: Moves, replayed: pl.DataFrame
    ) -> Flushed:
        new, raw = _by_day(received.enriched), _raw_by_day(received.raw)
        ledger = self._ledger(list(new))
        amended = self._amended(new, [d for d, (_, state) in ledger.items() if state != OPEN])
        staged = self._stage(raw, amended)
        days = tuple(
            self._append_of(day, staged[day], amended[day], part, ledger.get(day, (0, OPEN))[0])
            for day, part in new.items()
        )
        appended = self._lake.append(
            Append(
                raw=self._raw,
                enriched=self._enriched,
                days=days,
                offsets=tuple(moves),
                dead=received.dead,
                replayed=replayed,
                fingerprint=self._event.fingerprint,
                committed_at=self._clock.now(),
            )
        )
        return self._flushed(batches, received, appended, days, tuple(moves))

    def _ledger(self, days: Sequence[date]) -> dict[date, tuple[int, str]]:
        """Return version and state of partitions that exist."""
        if not days:
            return {}
        span = (days[0], days[-1] + timedelta(days=1))
        ledger = self._lake.ledger(self._enriched.name, span)
        return {
            day: (v, state) for day, v, state in ledger.select("day", "version", "state").rows()
        }

    def _amended(self, new: Mapping[date, Enriched], built: Sequence[date]) -> dict[date, Amended]:
        """Weigh the new rows of each day against what it holds of the same keys."""
        if not new:
            return {}
        days, keys = list(new), pl.concat([keys_of(part) for part in new.values()]).unique()
        rejected = Enriched.empty(self._event).rejected
        if may_reject(self._event):
            before = self._lake.read_keys(self._raw, days, keys)
            rejected = self._rejected(before)
            # What a day holds that batch has not built, the log brought: it is among these keys.
            seen = before.select(entity="_entity", event_id="_event_id").unique()
            parts = [(built, keys), ([day for day in days if day not in built], seen)]
        else:
            parts = [(days, keys)]
        stored = pl.concat(self._lake.read_keys(self._enriched, at, of) for at, of in parts)
        return {
            day: amend(
                self._event,
                stored.filter(pl.col("day") == day).drop("day"),
                rejected.filter(pl.col("event_time").dt.date() == day),
                part,
            )
            for day, part in new.items()
        }

    def _rejected(self, before: pl.DataFrame) -> pl.DataFrame:
        """Return which earlier messages were rejected: such a one may still win."""
        if before.is_empty():
            return Enriched.empty(self._event).rejected
        again = received_rows(self._event, before)
        return enrich_by(self._event, again, self._read_lookup).rejected

    def _stage(
        self, raw: Mapping[date, pl.DataFrame], amended: Mapping[date, Amended]
    ) -> dict[date, tuple[Staged, Staged]]:
        """Write the raw and enriched rows of each day; all of them, or none are left."""
        done: list[Staged] = []
        try:
            for day, change in amended.items():
                done.append(self._lake.stage(self._raw, day, [raw[day].sort(self._raw.sort_by)]))
                done.append(self._lake.stage(self._enriched, day, [change.added]))
        except BaseException:
            self._lake.discard(done)
            raise
        return dict(zip(amended, zip(done[::2], done[1::2], strict=True), strict=True))

    def _append_of(
        self,
        day: date,
        staged: tuple[Staged, Staged],
        amended: Amended,
        new: Enriched,
        version: int,
    ) -> DayAppend:
        times = [new.rows["arrival_time"].max(), new.rejected["arrival_time"].max()]
        raw, rows = staged
        return DayAppend(
            day=day,
            raw=raw,
            rows=rows,
            removed=amended.removed,
            counts=Counts(
                received=amended.received,
                admitted=amended.admitted,
                filtered=amended.filtered,
                superseded=amended.superseded,
                deleted=amended.deleted,
            ),
            corrections=amended.corrections if self._event.corrects else None,
            arrival_watermark=max((t for t in times if isinstance(t, datetime)), default=None),
            expected_version=version,
        )

    def _flushed(
        self,
        batches: Sequence[LogBatch],
        received: Received,
        appended: Appended,
        days: Sequence[DayAppend],
        moves: tuple[OffsetMove, ...],
    ) -> Flushed:
        committed_at = self._clock.now()
        lateness = self._event.definition.allowed_lateness
        newest = received.raw["_event_time"].max()
        return Flushed(
            event=self._event.name,
            messages=sum(len(batch.values) for batch in batches),
            days={
                day.day: DayFlush(
                    day.counts.received,
                    day.counts.admitted,
                    is_late=Window.of_day(day.day).end + lateness <= committed_at,
                    after=appended.partitions[day.day],
                )
                for day in days
            },
            dead=received.dead.height,
            offsets=moves,
            corrected=appended.corrected,
            newest_event_time=newest if isinstance(newest, datetime) else None,
            oldest_appended=_extreme(batches, newest=False),
            newest_appended=_extreme(batches, newest=True),
            committed_at=committed_at,
        )

    def _read_lookup(self, enrichment: EnrichmentPlan, keys: pl.Series) -> pl.DataFrame:
        return self._lake.read_lookup(enrichment_table(enrichment), keys)


class LakeStream:
    """Streams into the lake: Sink.

    Args:
        lake: Where to.
        clock: For when.
        decode_of: Returns what an event type's messages are written in; JSON unless given.
    """

    def __init__(
        self, lake: Lake, clock: Clock, decode_of: Callable[[EventPlan], Decode] | None = None
    ) -> None:
        self._lake = lake
        self._clock = clock
        self._decode_of = decode_of
        self._sinks: dict[str, LakeSink] = {}

    def offsets(self, event: EventPlan) -> pl.DataFrame:
        """Return how far the log was read: Sink."""
        return self._lake.offsets(raw_table(event))

    def reset_offsets(
        self, event: EventPlan, moves: Iterable[OffsetMove], committed_at: datetime
    ) -> None:
        """Store offsets as an operator decided: Sink."""
        self._lake.reset_offsets(raw_table(event), moves, committed_at)

    def flush(self, event: EventPlan, batches: Sequence[LogBatch], moves: Moves) -> Flushed:
        """Commit messages and how far the log was read: Sink."""
        if event.name not in self._sinks:
            decode = decode_json if self._decode_of is None else self._decode_of(event)
            self._sinks[event.name] = LakeSink(self._lake, event, self._clock, decode)
        return self._sinks[event.name].flush(batches, moves)

    def heard(self, event: EventPlan, moves: Iterable[OffsetMove], until: datetime) -> None:
        """Note nothing: whoever reads the lake sees the time of its last commit."""


def possible_times(event: EventPlan, clock: Clock) -> Window:
    """Return the event times that can be: from the first day built and kept to tomorrow."""
    now = clock.now()
    first = max(event.definition.start, first_kept(event, now))
    tomorrow = now.astimezone(UTC).date() + AHEAD
    return Window(Window.of_day(first).start, Window.of_day(tomorrow).end)


def _by_day(enriched: Enriched) -> dict[date, Enriched]:
    day = pl.col("event_time").dt.date()
    rows = enriched.rows.with_columns(__day=day)
    rejected = enriched.rejected.with_columns(__day=day)
    days: list[date] = sorted({*rows["__day"].unique(), *rejected["__day"].unique()})
    return {
        at: Enriched(
            rows.filter(pl.col("__day") == at).drop("__day"),
            rejected.filter(pl.col("__day") == at).drop("__day"),
            enriched.dead,
        )
        for at in days
    }


def _raw_by_day(raw: pl.DataFrame) -> dict[date, pl.DataFrame]:
    days: list[date] = sorted(raw["_event_time"].dt.date().unique())
    return {at: raw.filter(pl.col("_event_time").dt.date() == at) for at in days}


def _extreme(batches: Sequence[LogBatch], *, newest: bool) -> datetime | None:
    times = [
        int(batch.appended_us.max() if newest else batch.appended_us.min())
        for batch in batches
        if len(batch.appended_us)
    ]
    if not times:
        return None
    epoch = datetime.combine(date(1970, 1, 1), time(), UTC)
    return epoch + timedelta(microseconds=max(times) if newest else min(times))
