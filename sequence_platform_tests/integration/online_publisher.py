"""A process that publishes two days again and again; tests kill it, and read meanwhile.

Every publication is whole in a way that a reader can check: all rows of both days carry its number.

Usage: python online_publisher.py FOLDER FIRST_NUMBER
"""

from __future__ import annotations

import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl

from sequence_platform.definition import EventType, Files
from sequence_platform.engine.enrich import Enriched
from sequence_platform.plan.compile import Located, compile_plan
from sequence_platform.plan.plan import EventPlan
from sequence_platform.ports.online import DayRows, DayVersion, Reflected
from sequence_platform.stores.local_online import LocalOnlineStore
from sequence_platform_tests.integration.lake_writer import say

DAYS = (date(2026, 3, 1), date(2026, 3, 2))
ENTITIES = 20
EACH = 50


def event_plan() -> EventPlan:
    """Return an event type whose rows say which publication they are of."""
    click = EventType(
        name="click",
        owner="team:tests",
        schema={
            "id": pl.String,
            "user": pl.Int64,
            "at": pl.Datetime("us", "UTC"),
            "number": pl.Int64,
        },
        event_id="id",
        event_time="at",
        entity="user",
        batch=Files("none.parquet"),
    )
    [event] = compile_plan([Located("tests", click)]).events.values()
    return event


def day_rows(event: EventPlan, day: date, number: int) -> DayRows:
    """Return a day of which every row has a number."""
    start = datetime(day.year, day.month, day.day, tzinfo=UTC)
    count = ENTITIES * EACH
    at = [start + timedelta(seconds=n % EACH) for n in range(count)]
    frame = pl.DataFrame(
        {
            "entity": [n // EACH for n in range(count)],
            "event_id": [f"{day}-{n}" for n in range(count)],
            "event_time": at,
            "arrival_time": at,
            "revision": [0] * count,
            "id": [f"{day}-{n}" for n in range(count)],
            "user": [n // EACH for n in range(count)],
            "at": at,
            "number": [number] * count,
        }
    )
    rows = frame.select(pl.col(name).cast(dtype) for name, dtype in event.schema.items())
    version = DayVersion(str(number), Reflected())
    return DayRows(day, rows, Enriched.empty(event).rejected, version)


def main(folder: str, first: str) -> None:
    event, store = event_plan(), LocalOnlineStore(Path(folder))
    number = int(first)
    while True:
        now = datetime.now(UTC)
        store.publish(event, [day_rows(event, day, number) for day in DAYS], now)
        say(f"{number}")
        if number % 5 == 0:
            store.collect(event, keep=timedelta(0), at=now)
        number += 1


if __name__ == "__main__":
    main(*sys.argv[1:])
