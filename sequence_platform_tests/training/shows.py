"""A project about shows that are watched, for the tests of training; small, seeded, on a real lake.

Plays arrive up to two hours late, likes at once. What a model may see of them is computed here by
plain loops, too: ``seen_by``.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from sequence_platform.runtimes.batch import build_events
from sequence_platform.settings import Settings
from sequence_platform.wiring import open_platform

START, DAYS, USERS = date(2026, 3, 1), 12, 25
DAY = timedelta(days=1)
MAX_LENGTH, MAX_AGE = 20, timedelta(days=5)
Row = dict[str, Any]

DEFINITIONS = """
from datetime import date, timedelta

import polars as pl

from sequence_platform import Dedupe, EventType, Files, Sequence, Sessions, TrainingSet, Vector

play = EventType(
    name="play", owner="team:shows", description="A show was watched.", start=date(2026, 3, 1),
    schema={"id": pl.String, "user_id": pl.Int64, "at": pl.Datetime("us", "UTC"),
            "seen_at": pl.Datetime("us", "UTC"), "show": pl.String, "minutes": pl.Int32,
            "taste": Vector(4)},
    event_id="id", event_time="at", arrival_time="seen_at", entity="user_id",
    batch=Files("plays/{day}.parquet", missing="empty"))

like = EventType(
    name="like", owner="team:shows", description="A show was liked.", start=date(2026, 3, 1),
    schema={"id": pl.String, "user_id": pl.Int64, "at": pl.Datetime("us", "UTC"),
            "show": pl.String},
    event_id="id", event_time="at", entity="user_id",
    batch=Files("likes/{day}.parquet", missing="empty"))

watched = Sequence(
    name="watched", owner="team:shows", description="What a user watched and liked.",
    events=[play, like], columns=["show", "minutes", "taste"], max_length=20,
    max_age=timedelta(days=5), derived={"gap_s": pl.col("event_time").diff().dt.total_seconds()})

recent = Sequence(
    name="recent", owner="team:shows", description="The same, trimmed by every rule.",
    events=[play, like], columns=["show", "minutes"], max_length=10, max_age=timedelta(days=5),
    sessions=Sessions(gap=timedelta(hours=12), keep=4), dedupe=Dedupe(by="show"),
    quotas={"like": 3})

labels = {"label_id": pl.Int64, "user_id": pl.Int64, "asked_at": pl.Datetime("us", "UTC"),
          "liked": pl.Boolean}

next_show = TrainingSet(
    name="next_show", owner="team:shows", description="Was the show liked?", sequence=watched,
    labels=Files("labels.parquet"), schema=labels, request_time="asked_at", lists=True)

next_recent = TrainingSet(
    name="next_recent", owner="team:shows", description="Likewise.", sequence=recent,
    labels=Files("labels.parquet"), schema=labels, request_time="asked_at", lists=True,
    delay=timedelta(minutes=5))
"""


@dataclass(frozen=True, slots=True)
class Shows:
    """The project, and what happened in it."""

    root: Path
    settings: Settings
    plays: list[Row]
    likes: list[Row]
    labels: list[Row]

    def build(self, days: Sequence[date] | None = None) -> None:
        """Build days of both event types, all unless given."""
        with open_platform(self.settings) as platform:
            for day in days or [START + n * DAY for n in range(DAYS)]:
                for name, event in platform.plan.events.items():
                    source = platform.history_of(name)
                    build_events(platform.lake, source, event, day, platform.clock)

    def write(self, name: str, day: date) -> None:
        """Write the file of a day of ``plays`` or ``likes``."""
        rows = [row for row in getattr(self, name) if row["at"].date() == day]
        path = self.root / name / f"{day}.parquet"
        path.unlink(missing_ok=True)
        if rows:
            schema = {"minutes": pl.Int32(), "taste": pl.Array(pl.Float32, 4)}
            pl.DataFrame(rows, schema_overrides=schema).write_parquet(path)

    def write_labels(self, rows: Sequence[Row] | None = None) -> None:
        """Write the labels, in their order."""
        chosen = self.labels if rows is None else rows
        pl.DataFrame(list(chosen), infer_schema_length=None).write_parquet(
            self.root / "labels.parquet"
        )


def make_shows(root: Path, seed: int = 11) -> Shows:
    """Write the project; its lake is not built."""
    drawn = random.Random(seed)
    for name in ("definitions", "plays", "likes"):
        (root / name).mkdir(parents=True)
    (root / "definitions" / "shows.py").write_text(DEFINITIONS)
    settings = Settings(home=root / "home", definitions=root / "definitions", source_root=root)
    plays, likes = [], []
    for number in range(USERS * 60):
        at = _moment(drawn)
        user = int(drawn.paretovariate(0.7)) % USERS
        late = timedelta(minutes=drawn.choice([0, 0, 0, 1, 30, 120]))
        play: Row = {
            "id": f"p{number}",
            "user_id": user,
            "at": at,
            "seen_at": at + late,
            "show": drawn.choice([None, "news", "films", "döner", "sport", "music"]),
            "minutes": drawn.choice([None, 1, 40, 300]),
            "taste": [drawn.random() for _ in range(4)],
        }
        plays.append(play)
        if drawn.random() < 0.2:
            likes.append({"id": f"l{number}", "user_id": user, "at": at, "show": play["show"]})
    labels = [
        {
            "label_id": number,
            "user_id": drawn.randrange(USERS + 2),
            # At the very time of an event now and then.
            "asked_at": drawn.choice([_moment(drawn), drawn.choice(plays)["at"]]),
            "liked": drawn.random() < 0.5,
        }
        for number in range(400)
    ]
    shows = Shows(root, settings, plays, likes, labels)
    for day in (START + n * DAY for n in range(DAYS)):
        shows.write("plays", day)
        shows.write("likes", day)
    shows.write_labels()
    return shows


def _moment(drawn: random.Random) -> datetime:
    start = datetime(START.year, START.month, START.day, tzinfo=UTC)
    return start + timedelta(seconds=drawn.randrange(DAYS * 86_400 // 60) * 60)


def seen_by(shows: Shows, user: int, as_of: datetime, known_at: datetime | None) -> list[Row]:
    """Return what ``watched`` is for a user, by plain loops."""
    found = []
    for priority, (name, rows) in enumerate((("play", shows.plays), ("like", shows.likes))):
        for row in rows:
            arrived = row.get("seen_at", row["at"])
            if row["user_id"] != user or not as_of - MAX_AGE <= row["at"] < as_of:
                continue
            if known_at is not None and arrived > known_at:
                continue
            found.append({"type": name, "order": (row["at"], priority, row["id"]), **row})
    found.sort(key=lambda row: row["order"])
    return found[-MAX_LENGTH:]
