"""Assembling sequences of N=500 from 5M events of 100k users.

The platform against hand-written scripts.

Every contender reads the same Parquet files of the lake and writes its sequences as Parquet, in a
process of its own, whose wall time, CPU time and peak memory are taken from the operating system.
The platform builds a partition that is not there yet, as every day does: each of its runs gets a
lake of its own. Results are asserted equal.

    python benchmarks/assemble.py [--events 5000000] [--runs 3] [--only platform,polars_lazy]
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import NamedTuple, TypeVar

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
COLUMNS = ["entity", "event_time", "event_id", *FEATURES]
DUCKDB_PARTS = 8

Frame = TypeVar("Frame", pl.DataFrame, pl.LazyFrame)


class Cost(NamedTuple):
    """What a process took."""

    seconds: float
    cpu_seconds: float
    peak_mb: float


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


def polars_lazy(folder: Path, out: Path) -> None:
    """The best known hand-written form: sort once, drop adjacent copies, aggregate runs."""
    _newest(pl.scan_parquet(files(folder))).collect().write_parquet(out)


def polars_eager(folder: Path, out: Path) -> None:
    """The same, statement by statement: less time, more memory."""
    _newest(pl.read_parquet(files(folder), columns=COLUMNS)).write_parquet(out)


def _newest(events: Frame) -> Frame:
    events = events.select(COLUMNS).sort("entity", "event_time", "event_id")
    is_copy = (pl.col("event_id") == pl.col("event_id").shift(1)) & (
        pl.col("entity") == pl.col("entity").shift(1)
    )
    kept = events.filter(~is_copy.fill_null(value=False))
    return kept.group_by("entity", maintain_order=True).agg(pl.all().tail(LENGTH))


def duckdb_windows(folder: Path, out: Path) -> None:
    """Window functions for the newest 500, then ordered lists, for a part of the users at a time.

    All users at once need more than 16 GB, a quarter of them more than 10: DuckDB does not spill
    the states of ordered lists.
    """
    import duckdb

    lists = ", ".join(
        f'list("{name}" ORDER BY event_time, event_id) AS "{name}"' for name in COLUMNS[1:]
    )
    connection = duckdb.connect(
        config={"threads": 2, "memory_limit": "10GB", "temp_directory": str(out.parent / "spill")}
    )
    connection.execute("SET preserve_insertion_order = false")
    names = ", ".join(f'"{name}"' for name in COLUMNS)
    connection.execute(f"""
        CREATE TEMP TABLE newest AS
        SELECT {names} FROM read_parquet('{files(folder)}', hive_partitioning = false)
        QUALIFY row_number() OVER (
            PARTITION BY entity ORDER BY event_time DESC, event_id DESC
        ) <= {LENGTH}
    """)
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    for part in range(DUCKDB_PARTS):
        connection.execute(f"""
            COPY (
                SELECT entity, {lists} FROM newest
                WHERE hash(entity) % {DUCKDB_PARTS} = {part} GROUP BY entity
            ) TO '{out}/{part}.parquet' (FORMAT parquet)
        """)


CONTENDERS = {
    "platform": platform,
    "polars_lazy": polars_lazy,
    "polars_eager": polars_eager,
    "duckdb_windows": duckdb_windows,
}


def measure(name: str, folder: Path, out: Path) -> Cost:
    """Return what a contender costs in a process of its own."""
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, __file__, "--contender", name, "--folder", str(folder), "--out", str(out)]
    )
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{name} failed; its error is above")
    return Cost(
        time.perf_counter() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024
    )


def assert_equal(folder: Path, out: Path, scripts: list[str]) -> None:
    """All hold the same lists for every user."""
    with DuckLakeLake(str(folder / "catalog.sqlite"), str(folder / "data"), read_only=True) as lake:
        ours = (
            lake.read_snapshots(all_table("sequences.engagements"), COLUMNS, LAST)
            .select(COLUMNS)
            .sort("entity")
        )
    for name in scripts:
        theirs = pl.read_parquet(out / name).sort("entity")
        for column in COLUMNS:
            assert ours[column].cast(theirs[column].dtype).equals(theirs[column]), (
                f"{name} differs in {column}"
            )


def all_table(name: str) -> TableSpec:
    return next(table for table in all_tables(plan) if table.name == name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=5_000_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", default=",".join(CONTENDERS))
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
        names = options.only.split(",")
        runs: dict[str, list[Cost]] = {name: [] for name in names}
        for _ in range(options.runs):
            # Interleaved, so that a slow minute of the machine hits all alike.
            for name in names:
                lake = fresh(folder, out / "built") if name == "platform" else folder
                runs[name].append(measure(name, lake, out / name))
        assert_equal(out / "built", out, [name for name in names if name != "platform"])
    base = medians(runs["platform"])
    table = Table("contender", "seconds (median, least)", "CPU seconds", "peak MB", "/ platform")
    for name, costs in runs.items():
        middle, least = medians(costs), min(cost.seconds for cost in costs)
        ratios = [f"{mine / ours:.2f}" for mine, ours in zip(middle, base, strict=True)]
        table.add_row(
            name,
            f"{middle.seconds:.2f}, {least:.2f}",
            f"{middle.cpu_seconds:.2f}",
            f"{middle.peak_mb:.0f}",
            " ".join(ratios),
        )
    console.print(table)
    console.print(
        f"results equal; DuckDB takes the users in {DUCKDB_PARTS} parts; "
        "goals: not slower than Polars, with less memory, and 3 times faster than DuckDB"
    )


def fresh(folder: Path, copy: Path) -> Path:
    """Return a copy of the lake, in place of the last one; files, which never change, are links."""
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(folder / "data", copy / "data", copy_function=os.link)
    for file in folder.glob("catalog.sqlite*"):
        shutil.copy2(file, copy)
    return copy


def medians(costs: list[Cost]) -> Cost:
    """Return the median of each cost."""
    return Cost(*(median(values) for values in zip(*costs, strict=True)))


if __name__ == "__main__":
    main()
