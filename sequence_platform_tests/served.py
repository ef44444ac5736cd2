"""A small project with a filled online store, for the tests of serving; every value is known.

User 7 has clicked a and b and saved s on 1 March, which is settled; c and d, a repeat, streamed in
on 2 March, and e, late, of 1 March. User 8 has one click.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from sequence_platform.catalog import load_plan
from sequence_platform.engine.enrich import Enriched, enrich
from sequence_platform.plan.plan import EventPlan, Plan
from sequence_platform.ports import LogPartition, OffsetMove
from sequence_platform.ports.online import (
    DayRows,
    DayVersion,
    OnlineStore,
    Reflected,
    TailAppend,
    log_id,
)
from sequence_platform.settings import Settings
from sequence_platform.wiring import open_online

DEFINITIONS = """
from datetime import date, timedelta

import polars as pl

from sequence_platform import Dedupe, EventType, Files, Log, Sequence, Vector

click = EventType(
    name="click", owner="team:feed", description="A pin was clicked.", start=date(2026, 3, 1),
    schema={"id": pl.String, "user_id": pl.Int64, "at": pl.Datetime("us", "UTC"),
            "pin": pl.Int64, "score": pl.Float64, "vector": Vector(2)},
    event_id="id", event_time="at", entity="user_id", log=Log("clicks"),
    batch=Files("clicks/{day}.parquet", missing="empty"))

save = EventType(
    name="save", owner="team:pins", description="A pin was kept.", start=date(2026, 3, 1),
    schema={"id": pl.String, "user_id": pl.Int64, "at": pl.Datetime("us", "UTC"),
            "pin": pl.Int64, "board": pl.String},
    event_id="id", event_time="at", entity="user_id",
    batch=Files("saves/{day}.parquet", missing="empty"))

note = EventType(
    name="note", owner="team:notes", description="A note was written.", start=date(2026, 3, 1),
    schema={"id": pl.String, "author": pl.String, "at": pl.Datetime("us", "UTC"),
            "text": pl.String},
    event_id="id", event_time="at", entity="author",
    batch=Files("notes/{day}.parquet", missing="empty"))

feed = Sequence(
    name="feed", owner="ml@example.com", description="What a user did with pins.",
    events=[click, save], columns=["pin", "score", "board", "vector"],
    max_length=10, max_age=timedelta(days=30), quotas={"save": 3},
    dedupe=Dedupe(by=["event_type", "pin"], keep="last", within="consecutive"),
    derived={"gap_s": pl.col("event_time").diff().dt.total_seconds()},
    context={"pin_shown": pl.Int64},
    request={"age_s": (pl.col("request_time") - pl.col("event_time")).dt.total_seconds(),
             "is_shown": pl.col("pin") == pl.col("pin_shown")})

notes = Sequence(
    name="notes", owner="team:notes", description="What an author wrote.",
    events=[note], columns=["text"], max_age=timedelta(days=30))
"""
DAY = date(2026, 3, 1)
NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
STREAMED_UNTIL = datetime(2026, 3, 2, 11, 59, tzinfo=UTC)
IDENTITY = "log-1"


def at(day: int, hour: int, minute: int = 0) -> datetime:
    return datetime(2026, 3, day, hour, minute, tzinfo=UTC)


SETTLED_CLICKS = [
    ("a", 7, at(1, 9), 10, 0.5, [1.0, 2.0]),
    ("b", 7, at(1, 10), 11, float("nan"), [3.0, 4.0]),
    ("x", 8, at(1, 9), 10, 0.1, None),
]
STREAMED_CLICKS = [
    ("c", 7, at(2, 9), 10, None, None),
    ("d", 7, at(2, 9, 1), 10, 0.25, [5.0, 6.0]),
    ("e", 7, at(1, 8), 12, 0.75, None),
]
SAVES = [("s", 7, at(1, 11), 10, "<b>boards & co</b>")]
NOTES = [("n", "Zoë/é 1", at(1, 9), "<script>alert(1)</script>"), ("m", "max", at(1, 9), "hello")]
ORDER = ["e", "a", "b", "s", "d"]
"""Of user 7: c repeats d."""


@dataclass(frozen=True, slots=True)
class Served:
    """A project on disk."""

    root: Path
    settings: Settings
    plan: Plan


def make_served(root: Path, definitions: str = DEFINITIONS, **more: Any) -> Served:
    """Write a project and fill its online store."""
    folder = root / "definitions"
    folder.mkdir(parents=True)
    (folder / "feed.py").write_text(definitions, encoding="utf-8")
    settings = Settings(
        home=root / "home", definitions=folder, source_root=root, online_tail_mb=64, **more
    )
    plan = load_plan(folder)
    with open_online(settings) as store:
        fill(store, plan)
    return Served(root, settings, plan)


def fill(store: OnlineStore, plan: Plan) -> None:
    """Publish what is settled and append what streamed in."""
    click = plan.events["click"]
    publish(store, click, SETTLED_CLICKS)
    publish(store, plan.events["save"], SAVES)
    publish(store, plan.events["note"], NOTES)
    stream(store, click, STREAMED_CLICKS, 0)


def enriched(event: EventPlan, rows: Iterable[tuple[object, ...]]) -> Enriched:
    frame = pl.DataFrame(list(rows), schema=event.raw_schema, orient="row")
    return enrich(event, frame, {})


def publish(
    store: OnlineStore,
    event: EventPlan,
    rows: Iterable[tuple[object, ...]],
    content: str = "first",
    published_at: datetime = datetime(2026, 3, 2, 1, tzinfo=UTC),
) -> None:
    """Publish 1 March; the log was not in it."""
    day = enriched(event, rows)
    version = DayVersion(content, Reflected({(log_id("clicks", IDENTITY), 0): 0}))
    ordered = day.rows.sort("entity", "event_time", "event_id")
    store.publish(event, [DayRows(DAY, ordered, day.rejected, version)], published_at)


def stream(
    store: OnlineStore,
    event: EventPlan,
    rows: Iterable[tuple[object, ...]],
    start: int,
    received_at: datetime = NOW - timedelta(minutes=1),
) -> None:
    """Append messages from an offset on, one a row."""
    parts = enriched(event, rows)
    offsets = pl.int_range(start, start + pl.len(), dtype=pl.Int64).alias("offset")
    message = (pl.lit(0, pl.Int32).alias("log_partition"), offsets)
    partition = LogPartition("clicks", 0)
    move = OffsetMove(partition, IDENTITY, start or None, start + parts.rows.height)
    store.append(
        TailAppend(
            event,
            parts.rows.with_columns(message),
            parts.rejected.with_columns(message),
            [move],
            received_at,
            {partition: STREAMED_UNTIL},
        )
    )
