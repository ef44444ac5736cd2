"""Sequences read at a later time than that of their snapshot: what was cut then may count now."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from sequence_platform.clock import FixedClock
from sequence_platform.definition import Dedupe, EventType, Files, Sequence
from sequence_platform.plan.compile import Located, compile_plan
from sequence_platform.plan.tables import all_tables
from sequence_platform.runtimes.batch import build_events, build_sequence
from sequence_platform.runtimes.offline import read_sequences
from sequence_platform.settings import Settings
from sequence_platform.stores.ducklake import DuckLakeLake
from sequence_platform.wiring import Platform

MIDNIGHT = datetime(2024, 5, 1, tzinfo=UTC)
CLOCK = FixedClock(MIDNIGHT)
HOUR = timedelta(hours=1)
VIEW = EventType(
    name="view",
    owner="team:tests",
    schema={
        "id": pl.String,
        "user": pl.String,
        "at": pl.Datetime("us", "UTC"),
        "seen": pl.Datetime("us", "UTC"),
        "item": pl.Int64,
    },
    event_id="id",
    entity="user",
    event_time="at",
    arrival_time="seen",
    batch=Files("views/*.parquet"),
)


def view(event_id: str, hours: float, item: int = 1, seen: float | None = None) -> dict[str, Any]:
    at = MIDNIGHT + hours * HOUR
    arrived = at if seen is None else MIDNIGHT + seen * HOUR
    return {"id": event_id, "user": "ann", "at": at, "seen": arrived, "item": item}


def read(
    root: Path, policy: dict[str, Any], views: list[dict[str, Any]], hours: float
) -> pl.DataFrame:
    """Build two days and read as of some hours after the first midnight."""
    day = timedelta(days=1)
    sequence = Sequence(
        name="seen",
        owner="team:tests",
        events=[VIEW],
        columns=["item"],
        **{"max_age": day, **policy},
    )
    (root / "views").mkdir()
    pl.DataFrame(views, schema=VIEW.schema).write_parquet(root / "views/all.parquet")
    plan = compile_plan([Located("tests.py", sequence)])
    with DuckLakeLake(str(root / "catalog.sqlite"), str(root / "data")) as lake:
        platform = Platform(plan, lake, CLOCK, Settings(home=root, source_root=root))
        lake.ensure_tables(all_tables(plan))
        for date in (MIDNIGHT.date(), (MIDNIGHT + day).date()):
            build_events(lake, platform.source_of("view"), plan.events["view"], date, CLOCK)
        for date in (MIDNIGHT.date(), (MIDNIGHT + day).date()):
            build_sequence(lake, plan.sequences["seen"], date, CLOCK)
        return read_sequences(lake, plan.sequences["seen"], as_of=MIDNIGHT + hours * HOUR)


def test_an_event_counts_again_when_the_one_it_repeated_has_grown_too_old(tmp_path: Path) -> None:
    policy = {"max_length": 1, "dedupe": Dedupe(by="item", keep="first", within=24 * HOUR)}
    views = [view("first", 1), view("other", 12, item=2), view("again", 13)]
    rows = read(tmp_path, policy, views, hours=26)
    assert rows["event_id"].to_list() == [["again"]]


def test_an_event_that_a_rule_cut_is_not_counted_any_more_when_too_old(tmp_path: Path) -> None:
    rows = read(tmp_path, {"max_length": 1}, [view("old", 1), view("new", 12)], hours=26)
    assert rows["event_id"].to_list() == [["new"]]
    assert rows["trimmed"].struct.field("max_length").to_list() == [0]


def test_a_version_counts_again_when_the_one_that_beat_it_has_grown_too_old(tmp_path: Path) -> None:
    # Without a revision both days keep their row; the earlier arrived last, and so counts first.
    views = [view("1", 12, seen=48), view("1", 30)]
    rows = read(tmp_path, {"max_age": 36 * HOUR}, views, hours=49)
    assert rows["event_time"].to_list() == [[MIDNIGHT + 30 * HOUR]]


@pytest.mark.parametrize("hours", [24, 36])
def test_a_snapshot_answers_while_nothing_changes(tmp_path: Path, hours: float) -> None:
    rows = read(tmp_path, {}, [view("1", 12), view("2", 13)], hours=hours)
    assert rows["event_id"].to_list() == [["1", "2"]]
