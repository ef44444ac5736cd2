"""A whole daily partition against a hand-written script.

The script does with Polars and DuckLake what a careful person would write for this one event type,
without definitions, dead letters, counts or checks. Results are asserted equal. Runs are
interleaved in one process; the lake and the files are the same for both.

    python benchmarks/daily_partition.py [--rows 300000] [--runs 5]
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
import uuid
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import NamedTuple, Self

import duckdb
import numpy as np
import polars as pl
from rich.console import Console
from rich.table import Table

from sequence_platform import Enrichment, EventType, Files, Sequence, Vector
from sequence_platform.clock import SystemClock
from sequence_platform.plan.compile import Located, compile_plan
from sequence_platform.plan.tables import all_tables
from sequence_platform.runtimes.batch import build_enrichment, build_events
from sequence_platform.settings import Settings
from sequence_platform.stores.ducklake import connect_read_only
from sequence_platform.stores.ducklake.connection import LakeAddress, Resources, open_connection
from sequence_platform.stores.ducklake.types import lake_type
from sequence_platform.wiring import Platform, open_lake

DAY = date(2026, 3, 1)
ITEMS = 20_000

vectors = Enrichment(
    name="item_vectors",
    owner="team:benchmarks",
    key="item",
    schema={"item": pl.Int64, "since": pl.Datetime("us", "UTC"), "vector": Vector(64)},
    source=Files("items.parquet"),
    columns=["vector"],
    available_time="since",
)
event = EventType(
    name="engagement",
    owner="team:benchmarks",
    schema={
        "id": pl.String,
        "user_id": pl.Int64,
        "ts": pl.Int64,
        "item": pl.Int64,
        "surface": pl.String,
        "device": pl.String,
        "dwell_ms": pl.Int32,
        "position": pl.Int16,
        "price": pl.Float64,
        "score": pl.Float32,
    },
    event_id="id",
    event_time=pl.from_epoch("ts", time_unit="ms"),
    entity="user_id",
    batch=Files("events/day={day}/*.parquet"),
    start=DAY,
    where=pl.col("dwell_ms") >= 0,
    columns={"is_long": pl.col("dwell_ms") > 10_000},
    enrich=[vectors],
)
sequence = Sequence(
    name="engagements",
    owner="team:benchmarks",
    events=[event],
    columns=["item", "is_long"],
    max_age=timedelta(days=7),
)
plan = compile_plan([Located("benchmark", sequence)])


class Clocks(NamedTuple):
    """Seconds on the wall, and of all threads of this process."""

    wall: float
    cpu: float

    @classmethod
    def now(cls) -> Self:
        """Return what the clocks say."""
        return cls(time.perf_counter(), time.process_time())

    @classmethod
    def since(cls, began: Clocks) -> Self:
        """Return what has passed."""
        now = cls.now()
        return cls(now.wall - began.wall, now.cpu - began.cpu)


def generate(root: Path, rows: int) -> None:
    """Write a day of events, 1% of them twice, and two versions of each item's vector."""
    rng = np.random.default_rng(7)
    start_ms = int(datetime(DAY.year, DAY.month, DAY.day, tzinfo=UTC).timestamp()) * 1000
    words = pl.Series(["home", "search", "related", "board"])
    events = pl.DataFrame(
        {
            "id": pl.Series(np.arange(rows)).cast(pl.String),
            "user_id": rng.zipf(1.2, rows) % 100_000,
            "ts": start_ms + rng.integers(0, 86_400_000, rows),
            "item": rng.zipf(1.3, rows) % ITEMS,
            "surface": words.gather(rng.integers(0, 4, rows)),
            "device": words.gather(rng.integers(0, 4, rows)),
            "dwell_ms": rng.integers(-500, 60_000, rows),
            "position": rng.integers(0, 200, rows),
            "price": rng.random(rows) * 100,
            "score": rng.random(rows),
        }
    ).cast(plan.events["engagement"].raw_schema)
    folder = root / "events" / f"day={DAY}"
    folder.mkdir(parents=True)
    pl.concat([events, events.head(rows // 100)]).sample(
        fraction=1, shuffle=True, seed=7
    ).write_parquet(folder / "0.parquet")
    since = [datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 3, 1, 12, tzinfo=UTC)]
    pl.DataFrame(
        {
            "item": np.repeat(np.arange(ITEMS), 2),
            "since": since * ITEMS,
            "vector": rng.random((ITEMS * 2, 64)).astype(np.float32),
        },
        schema=dict(vectors.schema),
    ).write_parquet(root / "items.parquet")


def script(connection: duckdb.DuckDBPyConnection, root: Path, data: Path) -> None:
    """The hand-written partition: the same rows, columns, order, compression and table."""
    rows = (
        pl.scan_parquet(root / "events" / f"day={DAY}" / "*.parquet")
        .filter(pl.col("dwell_ms") >= 0)
        .with_columns(
            event_time=pl.from_epoch("ts", time_unit="ms")
            .dt.replace_time_zone("UTC")
            .dt.cast_time_unit("us")
        )
        .unique(["user_id", "id"])
        .sort("event_time")
        .join_asof(
            pl.scan_parquet(root / "items.parquet").sort("since"),
            left_on="event_time",
            right_on="since",
            by="item",
            check_sortedness=False,
        )
        .sort("user_id", "event_time", "id")
        .select(
            entity="user_id",
            event_id="id",
            event_time="event_time",
            arrival_time="event_time",
            revision=pl.lit(0, pl.Int64),
            **{
                name: pl.col(name)
                for name in (
                    "ts",
                    "item",
                    "surface",
                    "device",
                    "dwell_ms",
                    "position",
                    "price",
                    "score",
                )
            },
            is_long=pl.col("dwell_ms") > 10_000,
            vector="vector",
        )
        .collect()
    )
    folder = data / "main" / "script" / f"day={DAY}"
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{uuid.uuid4()}.parquet"
    rows.write_parquet(file, compression="zstd", row_group_size=20_000)
    connection.execute("BEGIN")
    connection.execute(f"DELETE FROM lake.script WHERE day = DATE '{DAY}'")
    connection.execute(f"CALL ducklake_add_data_files('lake', 'script', '{file}')")
    connection.execute("COMMIT")


def run_platform(root: Path, home: Path) -> Clocks:
    """Build the enrichment, then time the day as a Dagster run builds it."""
    settings = Settings(home=home, source_root=root)
    with open_lake(settings) as lake:
        platform = Platform(plan, lake, SystemClock(), settings)
        lake.ensure_tables(all_tables(plan))
        build_enrichment(
            lake,
            platform.source_of("item_vectors"),
            plan.enrichments["item_vectors"],
            platform.clock,
        )
        began = Clocks.now()
        report = build_events(
            lake, platform.source_of("engagement"), plan.events["engagement"], DAY, platform.clock
        )
        took = Clocks.since(began)
    assert report.counts.is_conserved
    assert not any(report.violations.values())
    return took


def run_script(root: Path, home: Path) -> Clocks:
    """Make the table, then time the script."""
    home.mkdir()
    address = LakeAddress.of(str(home / "catalog.sqlite"), str(home / "data"))
    with open_connection(address, Resources(), read_only=False) as connection:
        columns = ", ".join(
            f"{name} {lake_type(dtype, name)}"
            for name, dtype in plan.events["engagement"].schema.items()
        )
        connection.execute(f"CREATE TABLE lake.script (day DATE, {columns})")
        connection.execute("ALTER TABLE lake.script SET PARTITIONED BY (day)")
        began = Clocks.now()
        script(connection, root, home / "data")
        return Clocks.since(began)


def assert_equal(platform: Path, script: Path) -> None:
    """Both tables hold the same rows."""
    with connect_read_only(str(platform / "catalog.sqlite"), str(platform / "data")) as lake:
        ours = lake.sql("FROM enriched.engagement ORDER BY entity, event_time, event_id").pl()
    with connect_read_only(str(script / "catalog.sqlite"), str(script / "data")) as lake:
        theirs = lake.sql("FROM script ORDER BY entity, event_time, event_id").pl()
    assert ours.equals(theirs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=300_000)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    console = Console()
    times: dict[str, list[Clocks]] = {"platform": [], "script": []}
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        generate(root, options.rows)
        for run in range(options.runs):
            times["platform"].append(run_platform(root, root / f"platform{run}"))
            times["script"].append(run_script(root, root / f"script{run}"))
            assert_equal(root / f"platform{run}", root / f"script{run}")
            for name in ("platform", "script"):
                shutil.rmtree(root / f"{name}{run}")
    table = Table("contender", "seconds (median)", "all runs", "CPU seconds (median)", "to script")
    wall, cpu = (median(clock) for clock in zip(*times["script"], strict=True))
    for name, values in times.items():
        walls, cpus = zip(*values, strict=True)
        table.add_row(
            name,
            f"{median(walls):.2f}",
            " ".join(f"{seconds:.2f}" for seconds in walls),
            f"{median(cpus):.2f}",
            f"{median(walls) / wall:.2f}, CPU {median(cpus) / cpu:.2f}",
        )
    console.print(table)
    console.print(
        f"results equal; {options.rows:,} rows with a vector of 64 floats, goal: at most 1.5"
    )


if __name__ == "__main__":
    main()
