"""Brings a training store up to what the lake holds: only parts whose days changed are written."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import polars as pl

from sequence_platform.clock import Clock
from sequence_platform.engine.assemble import gather, in_order
from sequence_platform.engine.buckets import entity_buckets
from sequence_platform.engine.point import HASHER
from sequence_platform.errors import ConflictError, StateMismatchError
from sequence_platform.plan.fingerprint import fingerprint
from sequence_platform.plan.plan import SequencePlan, Window
from sequence_platform.plan.tables import enriched_table
from sequence_platform.ports import LakeReader
from sequence_platform.ports.training import Lineage, PartInfo, TrainingStore, VersionInfo

ATTEMPTS = 3
"""Times a version is built when the lake changes meanwhile."""
BUCKET_ROWS = 1_000_000
"""Events of a bucket of entities, the most that is in memory at once."""
LARGEST_PART = 50_000_000
"""Events of a part that takes no more days in: a correction writes its whole part again."""
MOST_PARTS = 8
"""A reader looks every part of a version up."""

Tell = Callable[[int, int], None]
"""Is told how many of how many events have been written."""


def refresh(  # noqa: PLR0913 - from where, to where, what, when, how
    lake: LakeReader,
    store: TrainingStore,
    sequence: SequencePlan,
    columns: Sequence[str],
    clock: Clock,
    *,
    bucket_rows: int = BUCKET_ROWS,
    tell: Tell | None = None,
    anew: bool = False,
) -> VersionInfo:
    """Return a version of the store that holds what the lake holds now; make it if there is none.

    Args:
        lake: Where events are.
        store: Where versions are.
        sequence: Whose events.
        columns: Of the sequence's columns and event_id.
        clock: For when.
        bucket_rows: Bounds memory; an entity's events of a part are never split.
        tell: Hears of progress.
        anew: Whether all is written, whatever there is.

    Raises:
        StateMismatchError: no day of the sequence's event types has been built.
        ConflictError: the lake kept changing while it was read.
    """
    lineage = lineage_of(sequence, columns)
    for attempt in range(1, ATTEMPTS + 1):
        snapshot, days = lake.snapshot_number(), lake_days(lake, sequence)
        if not days:
            raise StateMismatchError(
                f"no day of the events of '{sequence.name}' has been built",
                next_step="launch a backfill in the Dagster UI, or: "
                f"sequence-platform backfill {sequence.name}",
            )
        newest = None if anew else store.newest(lineage)
        digests = {day: held.digest for day, held in days.items()}
        if newest is not None and newest.digests == digests:
            return newest
        kept, missing = plan_parts(newest.parts if newest else (), days)
        reader = _PartReader(lake, sequence, lineage, bucket_rows, tell, missing, days)
        try:
            return store.add(lineage, kept, reader.parts(), clock.now(), snapshot)
        except ConflictError:
            if attempt == ATTEMPTS:
                raise
    raise AssertionError  # pragma: no cover - the last attempt returns or raises


def lineage_of(sequence: SequencePlan, columns: Sequence[str]) -> Lineage:
    """Return what versions of the store for these columns have in common."""
    types: Mapping[str, pl.DataType] = {**sequence.columns, "event_id": pl.String()}
    held = {name: types[name] for name in columns}
    names = tuple(event.name for event in sequence.events)
    has_copies = not all(event.corrects for event in sequence.events)
    described = [
        sequence.name,
        sequence.fingerprint,
        {name: str(dtype) for name, dtype in held.items()},
        HASHER,
    ]
    return Lineage(
        sequence=sequence.name,
        fingerprint=sequence.fingerprint,
        entity=sequence.entity_type,
        columns=held,
        types=names,
        has_copies=has_copies,
        id=fingerprint(described),
    )


@dataclass(frozen=True, slots=True)
class HeldDay:
    """What the lake holds of a day: a hash of it, and how many events."""

    digest: str
    rows: int


Days = Mapping[date, HeldDay]


def plan_parts(held: Sequence[PartInfo], days: Days) -> tuple[list[PartInfo], list[list[date]]]:
    """Return which parts stay, and the days of each part that is to be written.

    A part stays while the lake holds just its days. New days become a part; one that is not at
    least twice as large as what follows it is written together with it, so that every event is
    written again only about log2(days) times, and there are few parts.
    """
    stay = [part for part in held if _is_current(part, days)]
    covered = {day: part for part in stay for day in part.digests}
    spans: list[PartInfo | list[date]] = []
    for day in sorted(days):
        part = covered.get(day)
        last = spans[-1] if spans else None
        if part is not None:
            if part is not last:
                spans.append(part)
        elif isinstance(last, list):
            last.append(day)
        else:
            spans.append([day])
    while (at := _to_join(spans, days)) is not None:
        spans[at : at + 2] = [sorted([*_days_of(spans[at]), *_days_of(spans[at + 1])])]
    return (
        [span for span in spans if isinstance(span, PartInfo)],
        [span for span in spans if isinstance(span, list)],
    )


def _is_current(part: PartInfo, days: Days) -> bool:
    return all(day in days and days[day].digest == digest for day, digest in part.digests.items())


def _to_join(spans: Sequence[PartInfo | list[date]], days: Days) -> int | None:
    """Return the first of two neighbours that are to be one part, or None."""
    rows = [sum(days[day].rows for day in _days_of(span)) for span in spans]
    pairs = [at for at in range(len(spans) - 1) if rows[at] + rows[at + 1] <= LARGEST_PART]
    for at in pairs:
        is_new = isinstance(spans[at], list) or isinstance(spans[at + 1], list)
        if is_new and rows[at] <= 2 * rows[at + 1]:
            return at
    if len(spans) > MOST_PARTS and pairs:
        return min(pairs, key=lambda at: rows[at] + rows[at + 1])
    return None


def _days_of(span: PartInfo | list[date]) -> list[date]:
    return span if isinstance(span, list) else list(span.digests)


def lake_days(lake: LakeReader, sequence: SequencePlan) -> dict[date, HeldDay]:
    """Return what the lake holds of the events of a sequence, by day."""
    names = [enriched_table(event).name for event in sequence.events]
    ledger = lake.ledger().filter(pl.col("table_name").is_in(names), pl.col("rows") > 0)
    by_day = ledger.sort("table_name").group_by("day").agg("table_name", "content_hash", "rows")
    return {
        day: HeldDay(fingerprint([tables, hashes]), sum(rows))
        for day, tables, hashes, rows in by_day.sort("day").iter_rows()
    }


@dataclass(frozen=True, slots=True, eq=False)
class _PartReader:
    """Reads the events of parts, a bucket of entities at a time."""

    lake: LakeReader
    sequence: SequencePlan
    lineage: Lineage
    bucket_rows: int
    tell: Tell | None
    missing: Sequence[Sequence[date]]
    days: Days

    def parts(self) -> Iterator[tuple[Mapping[date, str], Iterator[pl.DataFrame]]]:
        """Yield the days of each part, and its events."""
        total = sum(self.days[day].rows for days in self.missing for day in days)
        done = 0
        for days in self.missing:
            yield {day: self.days[day].digest for day in days}, self._frames(days, done, total)
            done += sum(self.days[day].rows for day in days)

    def _frames(self, days: Sequence[date], done: int, total: int) -> Iterator[pl.DataFrame]:
        window = Window(Window.of_day(days[0]).start, Window.of_day(days[-1]).end)
        tables = [enriched_table(event) for event in self.sequence.events]
        counts = self.lake.entity_counts(tables, window, active=window)
        for bucket in entity_buckets(counts, self.bucket_rows):
            frame = self._events(window, bucket)
            done += frame.height
            yield frame
            if self.tell is not None:
                self.tell(done, total)
        # Each bucket was read from a snapshot of its own.
        now = lake_days(self.lake, self.sequence)
        inside = range((days[-1] - days[0]).days + 1)
        for day in (days[0] + timedelta(days=past) for past in inside):
            if now.get(day) != self.days.get(day):
                raise ConflictError(
                    "the lake changed while a training store was built from it",
                    where=f"sequence '{self.sequence.name}'",
                    found=f"other events of {day}",
                    next_step="build it again",
                    retryable=True,
                )

    def _events(self, window: Window, bucket: pl.Series) -> pl.DataFrame:
        """Return entities' events of all types, in sequence order."""
        wanted = [name for name in self.lineage.columns if name != "event_id"]
        rows = {
            event.name: self.lake.read_events(
                enriched_table(event),
                [
                    *("entity", "event_time", "event_id", "arrival_time"),
                    *(name for name in wanted if name in event.schema and name not in _READ),
                ],
                window,
                entities=bucket,
                between=(bucket[0], bucket[-1]),
            )
            for event in self.sequence.events
        }
        ordered = in_order(self.sequence, rows)
        events = gather(self.sequence, ordered, rows, [*_extra(wanted), *wanted])
        return events.with_columns(type=ordered["type"])


_READ = ("entity", "event_time", "event_id", "arrival_time")


def _extra(columns: Sequence[str]) -> list[str]:
    """Return arrival_time, unless it is a column of the sequence anyway."""
    return [] if "arrival_time" in columns else ["arrival_time"]
