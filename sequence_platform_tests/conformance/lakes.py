"""What the lake's suites share: small tables, rows by hand, and building as a runtime does."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl

from sequence_platform.engine.dead_letters import DEAD_LETTERS
from sequence_platform.plan.plan import KEY_ORDER, TIME, Window
from sequence_platform.ports import Committed, Counts, Lake, PartitionCommit, TableSpec

DAY = date(2026, 3, 1)
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
TOMORROW = NOON + timedelta(days=1)
NEXT_DAY = date(2026, 3, 2)
COMMITTED_AT = datetime(2026, 4, 1, tzinfo=UTC)
NO_DEAD = pl.DataFrame(schema=DEAD_LETTERS)

CLICKS = TableSpec(
    "enriched.click",
    pl.Schema(
        {
            "entity": pl.Int64(),
            "event_id": pl.String(),
            "event_time": TIME,
            "arrival_time": TIME,
            "revision": pl.Int64(),
            "surface": pl.String(),
            "vector": pl.Array(pl.Float32(), 3),
        }
    ),
    sort_by=KEY_ORDER,
    corrects=True,
    comment="Clicks",
)

PRICES = TableSpec(
    "enrichments.price",
    pl.Schema({"key": pl.Int64(), "available_time": TIME, "price": pl.Float64()}),
    is_daily=False,
    sort_by=("key", "available_time"),
)

HOME = TableSpec(
    "sequences.home",
    pl.Schema(
        {
            "entity": pl.Int64(),
            "as_of": TIME,
            "length": pl.Int32(),
            "event_type": pl.List(pl.String()),
            "event_time": pl.List(TIME),
            "event_id": pl.List(pl.String()),
            "surface": pl.List(pl.String()),
            "trimmed": pl.Struct({"dedupe": pl.Int32()}),
        }
    ),
    sort_by=("entity",),
    is_snapshot=True,
    max_age=timedelta(days=10),
)


def day_after(days: int) -> date:
    return DAY + timedelta(days=days)


def click(entity: Any, event_id: str, at: datetime, **values: Any) -> dict[str, Any]:
    """Return a row of CLICKS; what is not said is the plainest."""
    row = {
        "entity": entity,
        "event_id": event_id,
        "event_time": at,
        "arrival_time": at,
        "revision": 0,
    }
    return row | {"surface": "feed", "vector": [1.0, 2.0, 3.0]} | values


def clicks(*rows: dict[str, Any], spec: TableSpec = CLICKS) -> pl.DataFrame:
    return pl.DataFrame(list(rows), schema=spec.columns, orient="row").sort(KEY_ORDER)


def correction(row: dict[str, Any], **values: Any) -> dict[str, Any]:
    """Return the correction that a row is, as an upsert unless ``values`` say otherwise."""
    names = ("entity", "event_id", "revision", "arrival_time", "event_time")
    return {name: row[name] for name in names} | {"removes": False} | values


def corrections(*rows: dict[str, Any], spec: TableSpec = CLICKS) -> pl.DataFrame:
    kept = {
        name: spec.columns[name]
        for name in ("entity", "event_id", "revision", "arrival_time", "event_time")
    }
    return pl.DataFrame(list(rows), schema=kept | {"removes": pl.Boolean()}, orient="row")


def letters(*rules: str) -> pl.DataFrame:
    rows = [
        {"source": "a.csv", "position": i, "rule": rule, "detail": "d", "row": "{}"}
        for i, rule in enumerate(rules)
    ]
    return pl.DataFrame(rows, schema=DEAD_LETTERS, orient="row")


def version_of(lake: Lake, spec: TableSpec, day: date | None) -> int:
    ledger = lake.ledger(spec.name)
    found = ledger.filter(pl.col("day").eq_missing(pl.lit(day, pl.Date)))["version"]
    return int(found.item()) if len(found) else 0


def build(  # noqa: PLR0913 - what a commit may be made of
    lake: Lake,
    spec: TableSpec,
    day: date | None,
    frames: pl.DataFrame | Iterable[pl.DataFrame],
    *,
    dead: pl.DataFrame = NO_DEAD,
    corrected_by: pl.DataFrame | None = None,
    expected_version: int | None = None,
    counts: Counts | None = None,
    inputs: str = "",
    fingerprint: str = "f1",
    is_sealed: bool = False,
) -> Committed:
    """Stage and commit a partition as a runtime does."""
    version = version_of(lake, spec, day) if expected_version is None else expected_version
    staged = lake.stage(spec, day, [frames] if isinstance(frames, pl.DataFrame) else frames)
    counted = counts or Counts(
        received=staged.rows + dead.height, admitted=staged.rows, dead_lettered=dead.height
    )
    return lake.commit(
        PartitionCommit(
            table=spec,
            day=day,
            staged=staged,
            counts=counted,
            dead=dead,
            fingerprint=fingerprint,
            committed_at=COMMITTED_AT,
            expected_version=version,
            corrections=corrected_by,
            inputs=inputs,
            is_sealed=is_sealed,
        )
    )


def days(first: int, after: int) -> Window:
    """Return the window of days ``[DAY + first, DAY + after)``."""
    return Window(Window.of_day(day_after(first)).start, Window.of_day(day_after(after)).start)


def ids(frame: pl.DataFrame) -> list[str]:
    """Return event ids, sorted: events come in no particular order."""
    return sorted(frame["event_id"])


def read_all(lake: Lake, spec: TableSpec = CLICKS) -> pl.DataFrame:
    return lake.read_events(spec, spec.columns.names(), days(-400, 400)).sort(KEY_ORDER)


def snapshot(entity: int, day: date, *times: datetime) -> dict[str, Any]:
    """Return a row of HOME; its event ids are the days and hours of its events."""
    return {
        "entity": entity,
        "as_of": Window.of_day(day).end,
        "length": len(times),
        "event_type": ["click"] * len(times),
        "event_time": list(times),
        "event_id": [f"{at:%d-%H}" for at in times],
        "surface": ["feed"] * len(times),
        "trimmed": {"dedupe": 0},
    }


def snapshots(*rows: dict[str, Any]) -> pl.DataFrame:
    return pl.DataFrame(list(rows), schema=HOME.columns, orient="row")
