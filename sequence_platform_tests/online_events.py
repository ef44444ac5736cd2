"""A small event type, and what a stream and a publisher bring of it to an online store."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl

from sequence_platform.definition import EventType, Files, Log, Vector
from sequence_platform.engine.enrich import Enriched
from sequence_platform.plan.compile import Located, compile_plan
from sequence_platform.plan.plan import EventPlan
from sequence_platform.ports import LogPartition, OffsetMove
from sequence_platform.ports.online import (
    DayRows,
    DayVersion,
    OnlineStore,
    Reflected,
    TailAppend,
    log_id,
)

START = datetime(2026, 3, 1, tzinfo=UTC)
DAY = timedelta(days=1)
LOG = LogPartition("click", 0)
IDENTITY = "one"


def at(seconds: float) -> datetime:
    """Return a moment of the clock that writers have."""
    return START + 30 * DAY + timedelta(seconds=seconds)


def event_plan() -> EventPlan:
    """Return an event type with columns of every way of storing."""
    click = EventType(
        name="click",
        owner="team:tests",
        schema={
            "id": pl.String,
            "user": pl.String,
            "at": pl.Datetime("us", "UTC"),
            "number": pl.Int64,
            "text": pl.String,
            "flag": pl.Boolean,
            "tags": pl.List(pl.String),
            "vector": Vector(2),
        },
        event_id="id",
        event_time="at",
        entity="user",
        batch=Files("none.parquet"),
        log=Log("click"),
    )
    [event] = compile_plan([Located("tests", click)]).events.values()
    return event


def frame(event: EventPlan, numbers: Sequence[int], user: str, day: int = 0) -> pl.DataFrame:
    """Return rows: the number tells id and second of the day; every third lacks what may lack."""
    when = [START + day * DAY + timedelta(seconds=number) for number in numbers]
    lacking = [number % 3 == 0 for number in numbers]
    values: dict[str, list[Any]] = {
        "entity": [user] * len(numbers),
        "event_id": [f"{day}-{number}" for number in numbers],
        "event_time": when,
        "arrival_time": when,
        "revision": [0] * len(numbers),
        "id": [f"{day}-{number}" for number in numbers],
        "user": [user] * len(numbers),
        "at": when,
        "number": [None if no else n for n, no in zip(numbers, lacking, strict=True)],
        "text": [None if no else "é" * (n % 5) for n, no in zip(numbers, lacking, strict=True)],
        "flag": [None if no else n % 2 == 0 for n, no in zip(numbers, lacking, strict=True)],
        "tags": [None if no else ["a", str(n)] for n, no in zip(numbers, lacking, strict=True)],
        "vector": [None if no else [float(n), 0.5] for n, no in zip(numbers, lacking, strict=True)],
    }
    return pl.DataFrame([pl.Series(n, values[n], dtype=t) for n, t in event.schema.items()])


def streamed(
    event: EventPlan, numbers: Sequence[int], start: int | None, received: float, user: str = "ann"
) -> TailAppend:
    """Return a flush of messages, an offset each."""
    move = OffsetMove(LOG, IDENTITY, start, (start or 0) + len(numbers))
    none = Enriched.empty(event).rejected
    rows = frame(event, numbers, user)
    return TailAppend(event, rows, none, [move], at(received), {LOG: at(received)})


def day_rows(
    event: EventPlan, numbers: Sequence[int], day: int, *, version: str, read: int = 0
) -> DayRows:
    """Return a day to publish that holds the log up to an offset."""
    reflected = Reflected({(log_id(LOG.topic, IDENTITY), LOG.partition): read})
    found = date(2026, 3, 1) + timedelta(days=day)
    rows = frame(event, numbers, "ann", day)
    return DayRows(found, rows, Enriched.empty(event).rejected, DayVersion(version, reflected))


def ids(
    store: OnlineStore, event: EventPlan, user: str = "ann", known_at: datetime | None = None
) -> list[str]:
    """Return the ids that the store has of an entity: settled ones, then fresh ones."""
    with store.view(known_at) as view:
        found = view.candidates(event, user)
    parts = [rows for rows in (found.settled, found.fresh) if rows is not None]
    return [
        text
        for rows in parts
        for text in rows.column("event_id", 0, len(rows.time_us)).to_series("").to_list()
    ]
