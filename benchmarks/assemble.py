"""Assembling sequences of N=500 from 5M events of 100k users.

The platform against hand-written scripts.

Every contender reads the same Parquet files of the lake and writes its sequences as Parquet, in a
process of its own, whose wall time and peak memory are taken from the operating system. Results
are asserted equal.

    python benchmarks/assemble.py [--events 5000000] [--runs 3]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
from rich.console import Console
from rich.table import Table

from sequence_platform import EventType, Files, Sequence
from sequence_platform.clock import SystemClock
from sequence_platform.engine.dead_letters import DEAD_LETTERS
from sequence_platform.plan.compile import Located, compile_plan
from sequence_platform.plan.tables import TableSpec, all_tables, enriched_table
from sequence_platform.ports import Counts, PartitionCommit
from sequence_platform.runtimes.batch import build_sequence
from sequence_platform.stores.ducklake import DuckLakeLake

DAYS, USERS, LENGTH = 90, 100_000, 500
FIRST = date(2026, 1, 1)
LAST = FIRST + timedelta(days=DAYS - 1)
FEATURES = {
    **dict.fromkeys(("item",), pl.Int64),
    **dict.fromkeys(("surface", "device", "country"), pl.String),
    **dict.fromkeys(("category", "dwell_ms", "experiment"), pl.Int32),
    **dict.fromkeys(("score", "depth"), pl.Float32),
    "position": pl.Int16,
    "price": pl.Float64,
    "is_ad": pl.Boolean,
}

event = EventType(
    name="engagement",
    owner="team:benchmarks",
    schema={"id": pl.String, "user_id": pl.Int64, "time": pl.Datetime("us", "UTC"), **FEATURES},
    event_id="id",
    event_time="time",
    entity="user_id",
    batch=Files("unused/day={day}/*.parquet"),
    start=FIRST,
)
sequence = Sequence(
    name="engagements",
    owner="team:benchmarks",
    events=[event],
    columns=list(FEATURES),
    max_length=LENGTH,
    max_age=timedelta(days=DAYS),
)
plan = compile_plan([Located("benchmark", sequence)])


def generate(folder: Path, events: int) -> None:
    """Write the events as a lake: Zipf users, each of whom does something on the last day."""
    rng = np.random.default_rng(7)
    weights = 1 / np.arange(1, USERS + 1) ** 0.8
    weights /= weights.sum()
    per_day = (events - USERS) // DAYS
    table = enriched_table(plan.events["engagement"])
    with DuckLakeLake(str(folder / "catalog.sqlite"), str(folder / "data")) as lake:
        lake.ensure_tables(all_tables(plan))
        for number in range(DAYS):
            day = FIRST + timedelta(days=number)
            users = rng.choice(USERS, per_day, p=weights)
            users = np.concatenate([users, np.arange(USERS)]) if day == LAST else users
            frame = _events(rng, users, day, number)
            staged = lake.stage(table, day, [frame])
            counts = Counts(frame.height, frame.height)
            none = pl.DataFrame(schema=DEAD_LETTERS)
            lake.commit(
                PartitionCommit(table, day, staged, counts, none, "benchmark", datetime.now(UTC), 0)
            )


def _events(rng: np.random.Generator, users: np.ndarray, day: date, number: int) -> pl.DataFrame:
    n = len(users)
    start = datetime(day.year, day.month, day.day, tzinfo=UTC)
    # Whole seconds, so that ties happen and the event id has to break them.
    time_us = int(start.timestamp()) * 1_000_000 + rng.integers(0, 86_400, n) * 1_000_000
    words = pl.Series(["home", "search", "related", "board", "ads", "email", "push", "web"])
    frame = pl.DataFrame(
        {
            "entity": users.astype(np.int64),
            "event_id": pl.Series(np.arange(n) + number * 10_000_000).cast(pl.String),
            "event_time": pl.Series(time_us).cast(pl.Datetime("us", "UTC")),
            "arrival_time": pl.Series(time_us).cast(pl.Datetime("us", "UTC")),
            "revision": np.zeros(n, np.int64),
            "item": rng.zipf(1.3, n) % 1_000_000,
            "category": rng.integers(0, 400, n),
            "surface": words.gather(rng.integers(0, 8, n)),
            "device": words.gather(rng.integers(0, 4, n)),
            "country": words.gather(rng.integers(0, 8, n)),
            "dwell_ms": rng.integers(0, 60_000, n),
            "position": rng.integers(0, 200, n),
            "price": rng.random(n) * 100,
            "score": rng.random(n),
            "is_ad": rng.random(n) < 0.1,
            "depth": rng.random(n),
            "experiment": rng.integers(0, 64, n),
        }
    )
    return frame.cast(plan.events["engagement"].schema).sort("entity", "event_time", "event_id")


def files(folder: Path) -> str:
    return str(folder / "data" / "enriched" / "engagement" / "**" / "*.parquet")


def platform(folder: Path, out: Path) -> None:
    """What a Dagster run does: read, resolve, assemble, commit."""
    with DuckLakeLake(
        str(folder / "catalog.sqlite"), str(folder / "data"), memory_limit_mb=512
    ) as lake:
        report = build_sequence(lake, plan.sequences["engagements"], LAST, SystemClock())
    out.write_text(str(report.rows))


def polars_script(folder: Path, out: Path) -> None:
    """The best known hand-written form: sort once, drop adjacent copies, aggregate runs."""
    columns = ["entity", "event_time", "event_id", *FEATURES]
    events = pl.scan_parquet(files(folder)).select(columns).sort("entity", "event_time", "event_id")
    events = events.filter(
        ~(
            (pl.col("event_id") == pl.col("event_id").shift(1))
            & (pl.col("entity") == pl.col("entity").shift(1))
        ).fill_null(False)
    )
    events.group_by("entity", maintain_order=True).agg(
        pl.all().tail(LENGTH)
    ).collect().write_parquet(out)


def duckdb_script(folder: Path, out: Path) -> None:
    """Window functions for the newest 500, then one ordered list of structs per user."""
    import duckdb

    fields = ", ".join(f'"{name}" := "{name}"' for name in ["event_time", "event_id", *FEATURES])
    connection = duckdb.connect(
        config={"threads": 2, "memory_limit": "16GB", "temp_directory": str(out.parent)}
    )
    connection.execute("SET preserve_insertion_order = false")
    connection.execute(f"""
        COPY (
            SELECT entity, list(struct_pack({fields}) ORDER BY event_time, event_id) AS events
            FROM (
                SELECT * FROM read_parquet('{files(folder)}', hive_partitioning = false)
                WINDOW newest AS (
                    PARTITION BY entity ORDER BY event_time DESC, event_id DESC
                )
                QUALIFY row_number() OVER newest <= {LENGTH}
            ) GROUP BY entity
        ) TO '{out}' (FORMAT parquet)
    """)


CONTENDERS = {"platform": platform, "polars_script": polars_script, "duckdb_script": duckdb_script}


def measure(name: str, folder: Path, out: Path) -> tuple[float, float]:
    """Return wall seconds and peak MB of a contender in a process of its own."""
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, __file__, "--contender", name, "--folder", str(folder), "--out", str(out)]
    )
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        return float("nan"), usage.ru_maxrss / 1024  # it ran out of memory; its error is above
    return time.perf_counter() - start, usage.ru_maxrss / 1024


def assert_equal(folder: Path, out: Path) -> None:
    """All three hold the same lists for every user."""
    columns = ["entity", "event_time", "event_id", *FEATURES]
    with DuckLakeLake(str(folder / "catalog.sqlite"), str(folder / "data"), read_only=True) as lake:
        ours = (
            lake.read_snapshots(all_table("sequences.engagements"), columns, LAST)
            .select(columns)
            .sort("entity")
        )
    finished = [n for n in ("polars_script", "duckdb_script") if (out / f"{n}.parquet").exists()]
    for name in finished:
        theirs = pl.read_parquet(out / f"{name}.parquet").sort("entity")
        if "events" in theirs.columns:
            fields = [
                pl.col("events").list.eval(pl.element().struct.field(c)).alias(c)
                for c in columns[1:]
            ]
            theirs = theirs.select("entity", *fields)
        for column in columns:
            assert ours[column].cast(theirs[column].dtype).equals(theirs[column]), (
                f"{name} differs in {column}"
            )


def all_table(name: str) -> TableSpec:
    return next(table for table in all_tables(plan) if table.name == name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=5_000_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--contender", choices=CONTENDERS)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if options.contender:
        CONTENDERS[options.contender](options.folder, options.out)
        return
    console = Console()
    with tempfile.TemporaryDirectory() as temporary:
        folder, out = Path(temporary) / "lake", Path(temporary)
        folder.mkdir()
        console.print(f"generating {options.events:,} events of {USERS:,} users over {DAYS} days")
        generate(folder, options.events)
        runs: dict[str, list[tuple[float, float]]] = {name: [] for name in CONTENDERS}
        for _ in range(
            options.runs
        ):  # interleaved, so that a slow minute of the machine hits all alike
            for name in CONTENDERS:
                runs[name].append(measure(name, folder, out / f"{name}.parquet"))
        assert_equal(folder, out)
    medians = {name: np.median(np.array(values), axis=0) for name, values in runs.items()}
    table = Table(
        "contender", "seconds (median)", "peak MB", "time / platform", "memory / platform"
    )
    for name, (seconds, memory) in medians.items():
        ratios = (seconds / medians["platform"][0], memory / medians["platform"][1])
        table.add_row(
            name, f"{seconds:.2f}", f"{memory:.0f}", f"{ratios[0]:.2f}", f"{ratios[1]:.2f}"
        )
    console.print(table)
    console.print("results equal")


if __name__ == "__main__":
    main()
