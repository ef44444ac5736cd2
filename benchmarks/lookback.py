"""A day of a sequence costs the same whether the lake holds 30 days or 300.

Its lookback is 30 days. Both lakes hold the same last 30 days; results of the day are asserted
equal.

    python benchmarks/lookback.py [--events-per-day 20000] [--runs 7]
"""

from __future__ import annotations

import argparse
import tempfile
from datetime import UTC, date, datetime, timedelta
from statistics import median

import numpy as np
import polars as pl
from rich.console import Console
from rich.table import Table

from sequence_platform import EventType, Files, Sequence
from sequence_platform.clock import SystemClock
from sequence_platform.engine.dead_letters import DEAD_LETTERS
from sequence_platform.plan.compile import Located, compile_plan
from sequence_platform.plan.tables import all_tables, enriched_table, sequence_table
from sequence_platform.ports import Counts, PartitionCommit
from sequence_platform.runtimes.batch import build_sequence
from sequence_platform.stores.ducklake import DuckLakeLake

LOOKBACK, USERS = 30, 20_000
LAST = date(2026, 3, 1)

event = EventType(
    name="engagement",
    owner="team:benchmarks",
    schema={
        "id": pl.String,
        "user_id": pl.Int64,
        "time": pl.Datetime("us", "UTC"),
        "item": pl.Int64,
        "dwell_ms": pl.Int32,
    },
    event_id="id",
    event_time="time",
    entity="user_id",
    batch=Files("unused/day={day}/*.parquet"),
)
sequence = Sequence(
    name="engagements",
    owner="team:benchmarks",
    events=[event],
    columns=["item", "dwell_ms"],
    max_age=timedelta(days=LOOKBACK),
)
plan = compile_plan([Located("benchmark", sequence)])


def fill(lake: DuckLakeLake, days: int, per_day: int) -> None:
    """Commit the last ``days`` days; the same day holds the same events in every lake."""
    lake.ensure_tables(all_tables(plan))
    table = enriched_table(plan.events["engagement"])
    for age in reversed(range(days)):
        day = LAST - timedelta(days=age)
        rng = np.random.default_rng(age)
        start_us = int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * 1_000_000
        time_us = pl.Series(start_us + rng.integers(0, 86_400_000_000, per_day)).cast(
            pl.Datetime("us", "UTC")
        )
        frame = pl.DataFrame(
            {
                "entity": rng.zipf(1.2, per_day) % USERS,
                "event_id": pl.Series(np.arange(per_day)).cast(pl.String) + f"/{day}",
                "event_time": time_us,
                "arrival_time": time_us,
                "revision": np.zeros(per_day, np.int64),
                "item": rng.integers(0, 100_000, per_day),
                "dwell_ms": rng.integers(0, 60_000, per_day).astype(np.int32),
            }
        ).sort("entity", "event_time", "event_id")
        counts, none = Counts(per_day, per_day), pl.DataFrame(schema=DEAD_LETTERS)
        staged = lake.stage(table, day, [frame])
        lake.commit(
            PartitionCommit(table, day, staged, counts, none, "benchmark", datetime.now(UTC), 0)
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events-per-day", type=int, default=20_000)
    parser.add_argument("--runs", type=int, default=7)
    options = parser.parse_args()
    console = Console()
    clock = SystemClock()
    times: dict[int, list[float]] = {LOOKBACK: [], LOOKBACK * 10: []}
    with tempfile.TemporaryDirectory() as temporary:
        lakes = {
            days: DuckLakeLake(f"{temporary}/{days}.sqlite", f"{temporary}/{days}")
            for days in times
        }
        for days, lake in lakes.items():
            fill(lake, days, options.events_per_day)
        for _ in range(options.runs + 1):
            for days, lake in lakes.items():
                times[days].append(
                    build_sequence(lake, plan.sequences["engagements"], LAST, clock).seconds
                )
        table = sequence_table(plan.sequences["engagements"])
        frames = [
            lake.read_snapshots(table, table.columns.names(), LAST).sort("entity")
            for lake in lakes.values()
        ]
        assert frames[0].equals(frames[1])
        for lake in lakes.values():
            lake.close()
    result = Table("days in the lake", "seconds (median)", "all runs but the first", "ratio")
    base = median(times[LOOKBACK][1:])
    for days, values in times.items():
        result.add_row(
            str(days),
            f"{median(values[1:]):.3f}",
            " ".join(f"{v:.3f}" for v in values[1:]),
            f"{median(values[1:]) / base:.2f}",
        )
    console.print(result)
    console.print(
        f"results equal; lookback {LOOKBACK} days, {options.events_per_day:,} events a day"
    )


if __name__ == "__main__":
    main()
