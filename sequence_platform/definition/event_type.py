"""EventType: a kind of event, where it comes from, and how a raw row becomes an enriched one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import polars as pl

from sequence_platform.definition.enrichment import Enrichment, Lookup
from sequence_platform.definition.source import Log, Source

Executor = Callable[[pl.LazyFrame], pl.LazyFrame]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EventType:
    """A kind of event.

    Every expression works on one row at a time. A raw column bound by its name to event_id, entity,
    event_time, arrival_time, revision or operation lives on under that name; every other raw
    column keeps its own.

    Attributes:
        name: Unique; ``[a-z][a-z0-9_]*``.
        schema: Raw columns and types, as the source has them.
        event_id: Column or expression that names an event within its entity; becomes a string.
        event_time: When it happened: column or expression, a datetime; without a zone it is UTC.
        entity: Whose event it is: column or expression, an integer or a string.
        batch: Where history is.
        log: Where new events arrive.
        arrival_time: When it was accepted. None: arrival is assumed on time (equal to event_time).
        revision: For sources with corrections: an integer, the highest wins. None: newest arrival
            wins.
        operation: For sources with deletions: a string, ``upsert`` or ``delete``.
        where: What is kept: one expression, or several by rule name. False and null are filtered.
        executor: The event type's own transform, where columns and filters are not enough: a
            function of the frame after ``where``; it may add columns and drop rows.
        columns: Derived columns by name; each may use raw columns, not its siblings.
        enrich: Enrichments, each by its key: attached and stored, or, with ``resolve="read"``,
            looked up by a column that is stored.
        start: First day of event_time that exists.
        allowed_lateness: How late an event may arrive before its partition is sealed.
        retention: How long events are kept, by whole days; maintenance removes older ones.
        earliest: Event times before this are impossible and become dead letters.
        latest: Event times from this on are impossible and become dead letters.
        owner: An e-mail address or ``team:name``.
        description: What it is, for people.
        version: Raise it when the meaning changes: a new table is built beside the old one.
    """

    name: str
    schema: Mapping[str, pl.DataType | type[pl.DataType]]
    event_id: str | pl.Expr
    event_time: str | pl.Expr
    entity: str | pl.Expr
    batch: Source | None = None
    log: Log | None = None
    arrival_time: str | pl.Expr | None = None
    revision: str | pl.Expr | None = None
    operation: str | pl.Expr | None = None
    where: pl.Expr | Mapping[str, pl.Expr] | None = None
    executor: Executor | None = None
    columns: Mapping[str, pl.Expr] | None = None
    enrich: Sequence[Enrichment | Lookup] = ()
    start: date = date(2020, 1, 1)
    allowed_lateness: timedelta = timedelta(hours=6)
    retention: timedelta = timedelta(days=730)
    earliest: datetime = datetime(1971, 1, 1, tzinfo=UTC)
    latest: datetime = datetime(2100, 1, 1, tzinfo=UTC)
    owner: str = ""
    description: str = ""
    version: int = 1
