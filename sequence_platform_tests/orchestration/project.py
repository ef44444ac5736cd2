"""A small project on disk for the Dagster tests; every number is known by hand.

On every day each of USERS users clicks twice (09:00 and 10:00) and saves once (11:00).
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl

from sequence_platform.settings import Settings

USERS = 3
START = date(2026, 1, 1)
DAY = timedelta(days=1)

DEFINITIONS = """
from datetime import UTC, date, timedelta

import polars as pl

from sequence_platform.definition import Enrichment, EventType, Files, Sequence

pins = Enrichment(
    name="pins", owner="team:pins", description="What a pin is about.", key="pin_id",
    schema={"pin_id": pl.Int64, "topic": pl.String}, columns=["topic"],
    source=Files("pins.parquet"))

click = EventType(
    name="click", owner="team:feed", description="A click on a pin.", start=date(2026, 1, 1),
    schema={"id": pl.String, "user_id": pl.Int64, "at": pl.Datetime("us", "UTC"),
            "pin_id": pl.Int64, "dwell": pl.Int32},
    retention=timedelta(days=36500),
    event_id="id", event_time="at", entity="user_id", batch=Files("clicks/{day}.parquet"),
    where={"dwelt": pl.col("dwell") >= 0}, columns={"is_long": pl.col("dwell") > 10}, enrich=[pins])

save = EventType(
    name="save", owner="team:feed", description="A pin kept.", start=date(2026, 1, 1),
    schema={"id": pl.String, "user_id": pl.Int64, "ts": pl.Int64, "pin_id": pl.Int64},
    retention=timedelta(days=36500),
    event_id="id", event_time=pl.from_epoch("ts", time_unit="ms"), entity="user_id",
    batch=Files("saves/{day}.ndjson"), allowed_lateness=timedelta(hours=2, minutes=30))

feed = Sequence(
    name="feed", owner="ml@example.com", description="What a user did with pins.",
    events=[click, save], columns=["pin_id", "topic", "is_long"], max_age=timedelta(days=3),
    derived={"gap": pl.col("event_time").diff().dt.total_seconds()})
"""


@dataclass(frozen=True, slots=True)
class Project:
    """A folder with definitions and sources, and the settings that point at it."""

    root: Path
    settings: Settings

    def write_day(self, day: date, *, dwell: int = 20) -> None:
        """Write the sources of a day; ``dwell`` tells two versions of it apart."""
        noon = datetime(day.year, day.month, day.day, 12, tzinfo=UTC)
        clicks = pl.DataFrame(
            [
                (f"{day}-{user}-{n}", user, noon - timedelta(hours=3 - n), n + 1, dwell)
                for user in range(USERS)
                for n in range(2)
            ],
            schema=["id", "user_id", "at", "pin_id", "dwell"],
            orient="row",
        )
        path = self.root / "clicks" / f"{day}.parquet"
        clicks.cast({"dwell": pl.Int32}).write_parquet(path)
        ts = int((noon - timedelta(hours=1)).timestamp() * 1000)
        saves = [
            {"id": f"{day}-{user}", "user_id": user, "ts": ts, "pin_id": 1} for user in range(USERS)
        ]
        text = "".join(json.dumps(row) + "\n" for row in saves)
        (self.root / "saves" / f"{day}.ndjson").write_text(text)

    def break_day(self, day: date) -> None:
        """Leave half of a day's clicks file, as a copy that was cut off does."""
        path = self.root / "clicks" / f"{day}.parquet"
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def make_project(root: Path, days: int, start: date = START) -> Project:
    """Write a project whose sources hold some days from its start."""
    for name in ("definitions", "clicks", "saves"):
        (root / name).mkdir(parents=True)
    since = f"date({start.year}, {start.month}, {start.day})"
    text = DEFINITIONS.replace("date(2026, 1, 1)", since)
    (root / "definitions" / "feed.py").write_text(text)
    pl.DataFrame({"pin_id": [1, 2], "topic": ["cats", "boats"]}).write_parquet(
        root / "pins.parquet"
    )
    project = _in(root)
    for n in range(days):
        project.write_day(start + n * DAY)
    return project


def copy_project(project: Project, root: Path) -> Project:
    """Copy a project with all that was built of it; nothing must have it open."""
    shutil.copytree(project.root, root)
    return _in(root)


def _in(root: Path) -> Project:
    settings = Settings(
        home=root / "home",
        definitions=root / "definitions",
        source_root=root,
        threads=1,  # of few rows a second one only costs
    )
    return Project(root, settings)
