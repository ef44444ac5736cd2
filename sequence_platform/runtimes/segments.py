"""Publishing: days of the lake as segments of the online store."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

import polars as pl

from sequence_platform.clock import Clock
from sequence_platform.engine.amend import may_reject
from sequence_platform.engine.enrich import DELETE, Enriched, enrich_by
from sequence_platform.engine.raw import received_rows
from sequence_platform.plan.plan import ENVELOPE, KEY_ORDER, EnrichmentPlan, EventPlan, Window
from sequence_platform.plan.retention import first_kept
from sequence_platform.plan.tables import enriched_table, enrichment_table, raw_table
from sequence_platform.ports import EXPIRED, Lake
from sequence_platform.ports.online import DayRows, DayVersion, OnlinePublisher, Reflected, log_id

OPEN = "open"
SEGMENT_ROWS = 1_000_000
"""Days that are published together make a segment of about so many rows."""


@dataclass(frozen=True, slots=True)
class Published:
    """What publishing a day did.

    Attributes:
        changed: False when the store held exactly this.
        manifest: Number of the manifest that is live since.
    """

    day: date
    rows: int
    bytes: int
    changed: bool
    manifest: int
    seconds: float
    newest_event_time: datetime | None


def publish_day(
    lake: Lake, store: OnlinePublisher, event: EventPlan, day: date, clock: Clock
) -> Published:
    """Publish a day as the lake holds it; then note which other days have not changed.

    Costs what the day holds, whatever else is published.
    """
    [published] = publish_days(lake, store, event, [day], clock)
    return published


def publish_days(
    lake: Lake, store: OnlinePublisher, event: EventPlan, days: Sequence[date], clock: Clock
) -> list[Published]:
    """Publish days as the lake holds them, as one segment; they pass through memory together.

    How far the log was is read before the rows: what streams in between is in both, which does no
    harm.
    """
    began = clock.now()
    reflected, content = _reflected(lake, event), _content(lake, event)
    held = store.manifest(event).days
    changed = [
        day for day in days if day not in held or held[day].content_hash != content.get(day, "")
    ]
    rows = {day: _rows(lake, event, day) for day in changed}
    store.publish(
        event,
        [
            DayRows(
                day,
                rows[day],
                _removals(lake, event, day),
                DayVersion(content.get(day, ""), reflected),
            )
            for day in changed
        ],
        clock.now(),
    )
    confirm_days(lake, store, event, clock)
    live = store.compact(event, clock.now()).number
    seconds = (clock.now() - began).total_seconds() / max(1, len(days))
    none = pl.DataFrame(schema=event.schema)
    return [
        _published(day, rows.get(day, none), live, seconds, is_changed=day in rows) for day in days
    ]


def in_segments(
    lake: Lake, event: EventPlan, days: Iterable[date], most_rows: int = SEGMENT_ROWS
) -> Iterator[list[date]]:
    """Yield days in groups that are worth a segment, of not too many rows for memory."""
    ledger = lake.ledger(enriched_table(event).name)
    rows = dict(ledger.select("day", "rows").iter_rows())
    group: list[date] = []
    held = 0
    for day in sorted(days):
        if group and held + rows.get(day, 0) > most_rows:
            yield group
            group, held = [], 0
        group.append(day)
        held += rows.get(day, 0)
    if group:
        yield group


def _published(
    day: date, rows: pl.DataFrame, manifest: int, seconds: float, *, is_changed: bool
) -> Published:
    newest = rows["event_time"].max()
    return Published(
        day=day,
        rows=rows.height,
        bytes=int(rows.estimated_size()),
        changed=is_changed,
        manifest=manifest,
        seconds=seconds,
        newest_event_time=newest if isinstance(newest, datetime) else None,
    )


def confirm_days(lake: Lake, store: OnlinePublisher, event: EventPlan, clock: Clock) -> int:
    """Note that published days that the lake has not changed hold all that the log has brought."""
    reflected = _reflected(lake, event)
    return store.confirm(event, _content(lake, event), reflected, clock.now()).number


def unpublished_days(lake: Lake, store: OnlinePublisher, event: EventPlan) -> dict[date, str]:
    """Return days that the store does not hold as the lake does, with what tells their content.

    Days that only streams have filled are left to the tail until batch has built them.
    """
    held = {day: version.content_hash for day, version in store.manifest(event).days.items()}
    found = _content(lake, event, pl.col("state") != OPEN)
    return {day: content for day, content in found.items() if held.get(day) != content}


def _reflected(lake: Lake, event: EventPlan) -> Reflected:
    if event.definition.log is None:
        return Reflected()
    stored = lake.offsets(raw_table(event))
    places = stored.select("topic", "identity", "log_partition", "next_offset").iter_rows()
    return Reflected({(log_id(topic, known), part): next_ for topic, known, part, next_ in places})


def _content(lake: Lake, event: EventPlan, where: pl.Expr | None = None) -> dict[date, str]:
    """Return by day what changes with the rows and removals that ``_rows`` and ``_removals`` read.

    A removal may come before what it removes, and change no row: the hash of the rows does not tell
    it, the version of the partition does. Where nothing can be removed, the hash alone spares
    publishing a day again that only repeats have reached.
    """
    ledger = lake.ledger(enriched_table(event).name)
    held = pl.format("{}@{}", "content_hash", "version")
    wanted = pl.lit(value=True) if where is None else where
    found = ledger.filter(wanted, pl.col("state") != EXPIRED).select(
        "day", held if _keeps_removals(event) else "content_hash"
    )
    return dict(found.sort("day").iter_rows())


def _keeps_removals(event: EventPlan) -> bool:
    """Return whether ``_removals`` may find any."""
    return event.corrects or _logs_rejections(event)


def _logs_rejections(event: EventPlan) -> bool:
    return event.definition.log is not None and may_reject(event)


def _rows(lake: Lake, event: EventPlan, day: date) -> pl.DataFrame:
    spec = enriched_table(event)
    rows = lake.read_events(spec, spec.columns.names(), Window.of_day(day))
    return rows.select(event.schema.names()).sort(KEY_ORDER)


def _removals(lake: Lake, event: EventPlan, day: date) -> pl.DataFrame:
    """Return keys that were deleted or rejected: a copy that streams in later must not win."""
    parts = [Enriched.empty(event).rejected]
    if event.corrects:  # which rule it was the lake does not keep: it removes like a deletion
        corrections = lake.read_corrections(enriched_table(event), day).filter("removes")
        parts.append(corrections.with_columns(rule=pl.lit(DELETE)).select(*ENVELOPE, "rule"))
    if _logs_rejections(event):
        raw = lake.read_raw(raw_table(event), day)
        parts += [] if raw.is_empty() else [_rejected(lake, event, day, raw)]
    return pl.concat(parts).unique()


def _rejected(lake: Lake, event: EventPlan, day: date, raw: pl.DataFrame) -> pl.DataFrame:
    """Return ENVELOPE and rule of messages of a day that were rejected."""

    def read_lookup(enrichment: EnrichmentPlan, keys: pl.Series) -> pl.DataFrame:
        return lake.read_lookup(enrichment_table(enrichment), keys)

    rows = received_rows(event, raw)
    return enrich_by(event, rows, read_lookup, window=Window.of_day(day)).rejected


def collect(store: OnlinePublisher, event: EventPlan, keep: timedelta, clock: Clock) -> int:
    """Let days beyond retention go; then drop old manifests, segments and rows that are covered."""
    now = clock.now()
    store.expire(event, first_kept(event, now), now)
    return store.collect(event, keep=keep, at=now)
