"""The batch runtime: one partition of one table at a time, from ports to ports.

What is right, the engine decides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from hashlib import blake2b
from typing import TypeVar

import polars as pl

from sequence_platform.clock import Clock
from sequence_platform.engine.assemble import assemble_current
from sequence_platform.engine.buckets import entity_buckets
from sequence_platform.engine.dead_letters import DEAD_LETTERS
from sequence_platform.engine.enrich import Enriched, enrich_by, latest_versions, prepare_lookup
from sequence_platform.engine.raw import received_rows
from sequence_platform.engine.resolve import may_repeat, resolve, unique_rows
from sequence_platform.errors import ConflictError
from sequence_platform.plan.plan import EnrichmentPlan, EventPlan, SequencePlan, Window
from sequence_platform.plan.retention import first_kept, first_whole_snapshot
from sequence_platform.plan.tables import (
    TableSpec,
    columns_of_unique,
    columns_to_assemble,
    enriched_table,
    enrichment_table,
    raw_table,
    sequence_table,
)
from sequence_platform.ports import BatchSource, Counts, Lake, PartitionCommit, RawBatch, Staged

K = TypeVar("K")
T = TypeVar("T")

ATTEMPTS = 3
"""Times a partition is built when other writers commit it first."""
DEFAULT_BUCKET_ROWS = 1_500_000


@dataclass(frozen=True, slots=True)
class Report:
    """What building one partition did.

    Attributes:
        violations: Rows that break a guarantee, by check name, counted over what the lake now
            holds.
        newest_event_time: Of the partition's rows; None if it has none.
        corrected: Other days of the table that lost rows to this partition's corrections.
        seconds: From the first read to the end.
        is_beyond_retention: Whether it was left as it is, since what it is built from is not kept.
    """

    table: str
    day: date | None
    version: int
    changed: bool
    counts: Counts
    rows: int
    bytes: int
    seconds: float
    violations: Mapping[str, int]
    newest_event_time: datetime | None = None
    corrected: tuple[date, ...] = ()
    is_beyond_retention: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class _Built:
    """What a partition becomes, before it is committed."""

    staged: Staged
    counts: Counts
    dead: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=DEAD_LETTERS))
    corrections: pl.DataFrame | None = None
    inputs: str = ""
    arrival_watermark: datetime | None = None
    newest_event_time: datetime | None = None
    is_sealed: bool = False


def build_enrichment(
    lake: Lake, source: BatchSource, enrichment: EnrichmentPlan, clock: Clock
) -> Report:
    """Replace an enrichment's table by what its source holds now."""
    spec = enrichment_table(enrichment)

    def build() -> _Built:
        rows, dead, received = [], [], 0
        for batch in source.read(None):
            received += batch.frame.height + batch.dead.height
            kept, unusable = prepare_lookup(enrichment, batch.frame, source=batch.source)
            rows.append(kept)
            dead += [batch.dead, unusable]
        table = latest_versions(enrichment, rows)
        letters = pl.concat([pl.DataFrame(schema=DEAD_LETTERS), *dead])
        repeats = received - table.height - letters.height
        counts = Counts(received, table.height, {}, repeats, 0, letters.height)
        return _Built(lake.stage(spec, None, [table]), counts, letters)

    return _commit(lake, spec, None, enrichment.fingerprint, clock, build)


def build_events(
    lake: Lake, source: BatchSource | None, event: EventPlan, day: date, clock: Clock
) -> Report:
    """Replace a day of an event type by what its source and its log brought for it.

    Enriched and resolved as one. Days before the event type's start are empty. Once the day's
    allowed lateness is over, the partition is sealed. Days beyond retention are left as they are.

    Args:
        lake: Where raw rows of the log are, and where the day goes.
        source: History; None if the event type has only a log.
        event: The event type.
        day: The partition.
        clock: For when.
    """
    spec, window = enriched_table(event), Window.of_day(day)
    if day < first_kept(event, clock.now()):
        return _left(lake, spec, day)
    settled = window.end + event.definition.allowed_lateness
    is_sealed = settled <= clock.now()

    def read_lookup(enrichment: EnrichmentPlan, keys: pl.Series) -> pl.DataFrame:
        return lake.read_lookup(enrichment_table(enrichment), keys)

    def build() -> _Built:
        parts, dead, received = [Enriched.empty(event)], [], 0
        for batch in _received(lake, source, event, day):
            received += batch.frame.height + batch.dead.height
            dead.append(batch.dead)
            parts.append(
                enrich_by(event, batch.frame, read_lookup, source=batch.source, window=window)
            )
        enriched = Enriched.concat(parts)
        winners = resolve(event, enriched.rows, enriched.rejected)
        letters = pl.concat([enriched.dead, *dead])
        counts = Counts(
            received=received,
            admitted=winners.rows.height,
            filtered=winners.filtered,
            superseded=winners.superseded,
            deleted=winners.deleted,
            dead_lettered=letters.height,
        )
        return _Built(
            staged=lake.stage(spec, day, [winners.rows]),
            counts=counts,
            dead=letters,
            corrections=winners.corrections if event.corrects else None,
            arrival_watermark=_newest(
                enriched.rows["arrival_time"], enriched.rejected["arrival_time"]
            ),
            newest_event_time=_newest(winners.rows["event_time"]),
            is_sealed=is_sealed,
        )

    return _commit(lake, spec, day, event.fingerprint, clock, build)


def build_sequence(
    lake: Lake,
    sequence: SequencePlan,
    day: date,
    clock: Clock,
    *,
    bucket_rows: int = DEFAULT_BUCKET_ROWS,
) -> Report:
    """Replace a day of a sequence: each entity with an event that day, as of the day's end.

    Entities are taken in ranges of at most about ``bucket_rows`` events, which bounds memory. A day
    that looks back on days beyond retention is left as it is: it could only lose events.
    """
    spec = sequence_table(sequence)
    if day < first_whole_snapshot(sequence, clock.now()):
        return _left(lake, spec, day)
    active = Window.of_day(day)
    window = Window(active.end - sequence.lookback, active.end)
    tables = [enriched_table(event) for event in sequence.events]

    def read(event: EventPlan, columns: list[str], bucket: pl.Series) -> pl.DataFrame:
        between = (bucket[0], bucket[-1])
        return lake.read_events(
            enriched_table(event), columns, window, entities=bucket, between=between
        )

    def read_current(bucket: pl.Series) -> dict[str, pl.DataFrame]:
        current = {}
        for event in sequence.events:
            rows = read(event, columns_of_unique(sequence, event), bucket)
            if may_repeat(rows):  # as keys seldom do
                rows = read(event, columns_to_assemble(sequence, event), bucket)
                rows = unique_rows(rows, event.payload)
            current[event.name] = rows
        return current

    def build() -> _Built:
        ledger = _ledger(lake, sequence, (window.start.date(), active.end.date()))
        is_one = int(ledger["rows"].sum()) <= bucket_rows
        counts = lake.entity_counts(tables, active if is_one else window, active=active)
        buckets = entity_buckets(counts, bucket_rows)
        snapshots = (
            assemble_current(sequence, current, active.end)
            for current in _read_ahead(read_current, buckets)
        )
        staged = lake.stage(spec, day, snapshots)
        inputs = _inputs(sequence, day, _content(ledger))
        return _Built(staged, Counts(staged.rows, staged.rows), inputs=inputs)

    return _commit(lake, spec, day, sequence.fingerprint, clock, build)


def stale_days(lake: Lake, sequence: SequencePlan, clock: Clock) -> list[date]:
    """Return built days of a sequence whose events or definition have changed since.

    Only those that can be built again: see ``build_sequence``.
    """
    first = first_whole_snapshot(sequence, clock.now())
    content = _content(_ledger(lake, sequence))
    built = (
        lake.ledger(sequence_table(sequence).name)
        .sort("day")
        .select("day", "inputs", "fingerprint")
    )
    return [
        day
        for day, inputs, fingerprint in built.filter(pl.col("day") >= first).iter_rows()
        if fingerprint != sequence.fingerprint or inputs != _inputs(sequence, day, content)
    ]


def unsealed_days(lake: Lake, event: EventPlan, clock: Clock) -> list[date]:
    """Return days whose allowed lateness is over and that the log changed since they were sealed.

    Also those that were never sealed, but none beyond retention.
    """
    first = first_kept(event, clock.now())
    settled = (clock.now() - event.definition.allowed_lateness).date()
    ledger = lake.ledger(enriched_table(event).name)
    is_settled = pl.col("day").is_between(first, settled, closed="left")
    open_ = ledger.filter(pl.col("state") != "sealed", is_settled)
    return open_["day"].sort().to_list()


def _received(
    lake: Lake, source: BatchSource | None, event: EventPlan, day: date
) -> Iterator[RawBatch]:
    """Yield what a day consists of: the rows of its source, and what the log brought."""
    if day < event.definition.start:
        return
    if source is not None:
        yield from source.read(Window.of_day(day))
    if event.definition.log is not None:
        spec = raw_table(event)
        brought = received_rows(event, lake.read_raw(spec, day))
        yield RawBatch(brought, pl.DataFrame(schema=DEAD_LETTERS), spec.name)


def _commit(  # noqa: PLR0913, PLR0917 - what, where, by what, when, how
    lake: Lake,
    spec: TableSpec,
    day: date | None,
    fingerprint: str,
    clock: Clock,
    build: Callable[[], _Built],
) -> Report:
    """Build and commit; again from the start when another writer was faster."""
    began = clock.now()
    for attempt in range(1, ATTEMPTS + 1):
        version = _version(lake, spec, day)
        built = build()
        commit = PartitionCommit(
            table=spec,
            day=day,
            staged=built.staged,
            counts=built.counts,
            dead=built.dead,
            fingerprint=fingerprint,
            committed_at=clock.now(),
            expected_version=version,
            corrections=built.corrections,
            inputs=built.inputs,
            arrival_watermark=built.arrival_watermark,
            is_sealed=built.is_sealed,
        )
        try:
            committed = lake.commit(commit)
            break
        except ConflictError:
            if attempt == ATTEMPTS:
                raise
    lost = committed.superseded
    counts = built.counts
    return Report(
        table=spec.name,
        day=day,
        version=committed.version,
        changed=committed.changed,
        counts=replace(
            counts, admitted=counts.admitted - lost, superseded=counts.superseded + lost
        ),
        rows=committed.rows,
        bytes=committed.bytes,
        seconds=(clock.now() - began).total_seconds(),
        violations=lake.violations(spec, day),
        newest_event_time=built.newest_event_time,
        corrected=committed.corrected,
    )


def _left(lake: Lake, spec: TableSpec, day: date) -> Report:
    """Return the report of a partition beyond retention."""
    found = lake.ledger(spec.name, (day, day + timedelta(days=1)))
    version, rows, size = (
        found.select("version", "rows", "bytes").row(0) if len(found) else 3 * (0,)
    )
    return Report(
        table=spec.name,
        day=day,
        version=version,
        changed=False,
        counts=Counts(),
        rows=rows,
        bytes=size,
        seconds=0.0,
        violations=lake.violations(spec, day),
        is_beyond_retention=True,
    )


def _version(lake: Lake, spec: TableSpec, day: date | None) -> int:
    ledger = lake.ledger(spec.name, None if day is None else (day, day + timedelta(days=1)))
    return 0 if ledger.is_empty() else int(ledger["version"].item())


def _read_ahead(read: Callable[[K], T], keys: Iterable[K]) -> Iterator[T]:
    """Yield what each key reads; the next is read while the caller works, so two are in memory."""
    with ThreadPoolExecutor(max_workers=1) as reader:
        following: Future[T] | None = None
        for key in keys:
            current, following = following, reader.submit(read, key)
            if current is not None:
                yield current.result()
        if following is not None:
            yield following.result()


Content = Mapping[date, list[str]]


def _ledger(
    lake: Lake, sequence: SequencePlan, days: tuple[date, date] | None = None
) -> pl.DataFrame:
    """Return the ledger of the enriched tables of a sequence, of days in ``[start, end)``."""
    names = [enriched_table(event).name for event in sequence.events]
    return lake.ledger(window=days).filter(pl.col("table_name").is_in(names))


def _content(ledger: pl.DataFrame) -> Content:
    """Return by day what the tables hold."""
    content: dict[date, list[str]] = {}
    for name, day, digest in ledger.select("table_name", "day", "content_hash").iter_rows():
        content.setdefault(day, []).append(f"{name}={digest}")
    return content


def _inputs(sequence: SequencePlan, day: date, content: Content) -> str:
    """Return the hash of all that a day of a sequence is computed from."""
    first = (Window.of_day(day).end - sequence.lookback).date()
    digest = blake2b(digest_size=16)
    for within in sorted(d for d in content if first <= d <= day):
        digest.update(f"{within}:{sorted(content[within])};".encode())
    return digest.hexdigest()


def _newest(*times: pl.Series) -> datetime | None:
    found = [value for series in times if isinstance(value := series.max(), datetime)]
    return max(found, default=None)
