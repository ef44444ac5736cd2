"""Training data: pointers into the training store against fat rows.

Every event has 4 features (and, with --vectors, 64 floats); 100k users by Zipf; labels fall on
users as events do. All contenders read the same Parquet files; results are asserted equal.

    python benchmarks/training.py export  [--events 20000000] [--labels 100000,1000000,10000000]
    python benchmarks/training.py against [--events 5000000] [--labels 50000]
    python benchmarks/training.py reader  [--events 5000000] [--labels 50000] [--vectors]
    python benchmarks/training.py bytes   [--events 5000000] [--labels 50000]
    python benchmarks/training.py memory  [--events 5000000,50000000]
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from statistics import median

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from sequence_platform import EventType, Files, Sequence, TrainingSet, Vector
from sequence_platform.clock import SystemClock
from sequence_platform.engine.dead_letters import DEAD_LETTERS
from sequence_platform.plan.compile import Located, compile_plan
from sequence_platform.plan.plan import Plan
from sequence_platform.plan.tables import all_tables, enriched_table
from sequence_platform.ports import Counts, PartitionCommit, RawBatch
from sequence_platform.ports.training import Rules
from sequence_platform.runtimes.training import export
from sequence_platform.runtimes.training.building import refresh
from sequence_platform.runtimes.training.pointing import point
from sequence_platform.stores.ducklake import DuckLakeLake
from sequence_platform.stores.local_training import (
    LocalDatasets,
    LocalTrainingStore,
    column_file,
)
from sequence_platform.training import Dataset, TrainingReader

DAYS, USERS, LENGTH = 90, 100_000, 500
FIRST = date(2026, 1, 1)
START = datetime(2026, 1, 1, tzinfo=UTC)
DELAY = timedelta(seconds=60)
FEATURES = ["item", "surface", "dwell_ms", "is_ad"]
SIZE = 64
BATCH = 1024
DUCKDB_PARTS = 8
STORED_BYTES = {"item": 4, "surface": 1, "dwell_ms": 2, "is_ad": 1}
"""Of a value: whole numbers are stored in the narrowest type that holds all of a part."""
console = Console(width=140)


def plan_of(*, vectors: bool) -> Plan:
    """Return the definitions: an event type, a sequence of its newest 500, a training set."""
    vector = {"vector": Vector(SIZE)} if vectors else {}
    event = EventType(
        name="engagement",
        owner="team:benchmarks",
        schema={
            "id": pl.String,
            "user_id": pl.Int64,
            "time": pl.Datetime("us", "UTC"),
            "item": pl.Int64,
            "surface": pl.String,
            "dwell_ms": pl.Int32,
            "is_ad": pl.Boolean,
            **vector,
        },
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
        columns=[*FEATURES, *vector],
        max_length=LENGTH,
        max_age=timedelta(days=DAYS),
    )
    training = TrainingSet(
        name="next_item",
        owner="team:benchmarks",
        sequence=sequence,
        labels=Files("unused.parquet"),
        schema={"label_id": pl.Int64, "user_id": pl.Int64, "asked_at": pl.Datetime("us", "UTC")},
        request_time="asked_at",
        delay=DELAY,
    )
    return compile_plan([Located("benchmark", training)])


@dataclass(frozen=True, slots=True)
class World:
    """A lake, and where training stores and data sets go."""

    folder: Path
    plan: Plan

    @property
    def events(self) -> str:
        """The files of all events."""
        return str(self.folder / "data" / "enriched" / "engagement" / "**" / "*.parquet")

    @property
    def store(self) -> LocalTrainingStore:
        """The training store."""
        return LocalTrainingStore(self.folder / "training" / "stores")

    @property
    def datasets(self) -> LocalDatasets:
        """Where data sets go."""
        return LocalDatasets(self.folder / "training" / "datasets")

    def lake(self, *, read_only: bool = True) -> DuckLakeLake:
        """Open the lake."""
        return DuckLakeLake(
            str(self.folder / "catalog.sqlite"), str(self.folder / "data"), read_only=read_only
        )

    def export(self, labels: pl.DataFrame, *, lists: bool = False) -> Dataset:
        """Make the data set of labels."""
        training = self.plan.training["next_item"]
        chosen = replace(training, definition=replace(training.definition, lists=lists))
        none = pl.DataFrame(schema=DEAD_LETTERS)
        with self.lake() as lake:
            made = export(
                lake,
                self.store,
                self.datasets,
                chosen,
                [RawBatch(labels, none)],
                SystemClock(),
                plan_fingerprint="benchmark",
            )
        return Dataset.find(self.datasets.folder_of(made.dataset))


def weights() -> np.ndarray:
    found = 1 / np.arange(1, USERS + 1) ** 0.8
    shares: np.ndarray = found / found.sum()
    return shares


@contextmanager
def world(events: int, *, vectors: bool = False) -> Iterator[World]:
    """Generate a lake, and remove it at the end."""
    with tempfile.TemporaryDirectory() as temporary:
        made = World(Path(temporary), plan_of(vectors=vectors))
        console.print(f"generating {events:,} events of {USERS:,} users over {DAYS} days")
        generate(made, events, vectors=vectors)
        yield made


def generate(made: World, events: int, *, vectors: bool) -> None:
    rng = np.random.default_rng(7)
    spread, per_day = weights(), events // DAYS
    event = made.plan.events["engagement"]
    words = pl.Series(["home", "search", "related", "board", "ads", "email", "push", "web"])
    none = pl.DataFrame(schema=DEAD_LETTERS)
    with made.lake(read_only=False) as lake:
        lake.ensure_tables(all_tables(made.plan))
        for number in range(DAYS):
            day = FIRST + timedelta(days=number)
            midnight = int((START + timedelta(days=number)).timestamp())
            time_us = (midnight + rng.integers(0, 86_400, per_day)) * 1_000_000
            when = pl.Series(time_us).cast(pl.Datetime("us", "UTC"))
            frame = pl.DataFrame(
                {
                    "entity": rng.choice(USERS, per_day, p=spread),
                    "event_id": pl.Series(np.arange(per_day) + number * per_day).cast(pl.String),
                    "event_time": when,
                    "arrival_time": when,
                    "revision": np.zeros(per_day, np.int64),
                    "item": rng.zipf(1.3, per_day) % 1_000_000,
                    "surface": words.gather(rng.integers(0, 8, per_day)),
                    "dwell_ms": rng.integers(0, 60_000, per_day),
                    "is_ad": rng.random(per_day) < 0.1,
                }
            )
            if vectors:
                values = rng.random((per_day, SIZE), dtype=np.float32)
                frame = frame.with_columns(vector=pl.Series(values))
            frame = frame.with_columns(id="event_id", user_id="entity", time="event_time").select(
                pl.col(n).cast(d) for n, d in event.schema.items()
            )
            staged = lake.stage(
                enriched_table(event), day, [frame.sort("entity", "event_time", "event_id")]
            )
            counts = Counts(frame.height, frame.height)
            lake.commit(
                PartitionCommit(
                    enriched_table(event), day, staged, counts, none, "b", datetime.now(UTC), 0
                )
            )


def labels_of(count: int) -> pl.DataFrame:
    """Return labels in no order: users as events have them, times of the last two months."""
    rng = np.random.default_rng(13)
    seconds = rng.integers(30 * 86_400, DAYS * 86_400, count)
    time_us = (int(START.timestamp()) + seconds) * 1_000_000
    return pl.DataFrame(
        {
            "label_id": np.arange(count),
            "user_id": rng.choice(USERS, count, p=weights()),
            "asked_at": pl.Series(time_us).cast(pl.Datetime("us", "UTC")),
        }
    )


@contextmanager
def timed(costs: dict[str, tuple[float, float]], name: str) -> Iterator[None]:
    wall, cpu = time.perf_counter(), time.process_time()
    yield
    costs[name] = (time.perf_counter() - wall, time.process_time() - cpu)


def run_export(events: int, labels: list[int]) -> None:
    """The curve: the store costs what events cost; labels and N hardly count."""
    with world(events) as made:
        costs: dict[str, tuple[float, float]] = {}
        training = made.plan.training["next_item"]
        with timed(costs, "store"), made.lake() as lake:
            info = refresh(lake, made.store, training.sequence, training.columns, SystemClock())
        version = LocalTrainingStore(made.folder / "training" / "stores", is_verified=False).open(
            "engagements", info.id
        )
        console.print(
            f"store of {events:,} events: {costs['store'][0]:.1f} s wall, "
            f"{costs['store'][1]:.1f} s CPU, {info.bytes / 1e6:,.0f} MB"
        )
        table = Table("labels", "N", "s wall (pointing)", "with the store", "labels/s")
        rules = Rules.of(training.sequence)
        for count in labels:
            asked = labels_of(count)
            for length in (100, 500, 4096):
                policy = replace(rules.policy, max_length=length)
                began = time.perf_counter()
                for part in asked.iter_slices(500_000):
                    point(
                        version,
                        replace(rules, policy=policy),
                        part["user_id"],
                        part["asked_at"],
                        delay_us=60_000_000,
                    )
                seconds = time.perf_counter() - began
                total = seconds + costs["store"][0]
                table.add_row(
                    f"{count:,}",
                    f"{length}",
                    f"{seconds:.2f}",
                    f"{total:.2f}",
                    f"{count / seconds:,.0f}",
                )
        console.print(table)


def polars_fat(events: str, labels: pl.DataFrame, out: Path) -> None:
    """The best hand-written form: sort once, join_asof for where to stop, slices, lists."""
    columns = ["entity", "event_time", "event_id", *FEATURES]
    sorted_ = (
        pl.scan_parquet(events).select(columns).sort("entity", "event_time", "event_id").collect()
    )
    keyed = sorted_.select("entity", "event_time").with_row_index("at")
    first = keyed.group_by("entity").agg(first=pl.col("at").min())
    asked = labels.with_columns(cut=pl.col("asked_at") - DELAY - timedelta(microseconds=1)).sort(
        "user_id", "cut"
    )
    found = asked.join_asof(
        keyed.sort("entity", "event_time"),
        left_on="cut",
        right_on="event_time",
        by_left="user_id",
        by_right="entity",
        strategy="backward",
        check_sortedness=False,
    ).join(first, left_on="user_id", right_on="entity", how="left", maintain_order="left")
    writer = None
    for part in found.iter_slices(50_000):
        stop = part["at"].cast(pl.Int64).fill_null(-1).to_numpy() + 1
        start = np.maximum(part["first"].cast(pl.Int64).fill_null(0).to_numpy(), stop - LENGTH)
        lengths = np.where(stop > 0, stop - start, 0)
        offsets = np.append(0, np.cumsum(lengths))
        at = np.repeat(start - offsets[:-1], lengths) + np.arange(offsets[-1])
        flat = sorted_.select(FEATURES)[at].to_arrow(compat_level=pl.CompatLevel.oldest())
        lists = {
            name: pa.LargeListArray.from_arrays(pa.array(offsets), flat[name].combine_chunks())
            for name in FEATURES
        }
        rows = pa.table({"label_id": part["label_id"].to_arrow(), **lists})
        writer = writer or pq.ParquetWriter(out, rows.schema, compression="zstd")
        writer.write_table(rows)
    if writer is not None:
        writer.close()


def duckdb_fat(events: str, labels: pl.DataFrame, out: Path) -> None:
    """ASOF join for where to stop, then the slice of the user's ordered lists.

    For a part of the users at a time: all at once need more than 12 GB.
    """
    import duckdb

    connection = duckdb.connect(
        config={"threads": 2, "memory_limit": "10GB", "temp_directory": str(out.parent / "spill")}
    )
    connection.execute("SET preserve_insertion_order = false")
    connection.register("labels", labels.to_arrow())
    lists = ", ".join(f"list({name} ORDER BY n) AS {name}" for name in FEATURES)
    sliced = ", ".join(f"{name}[greatest(1, n - {LENGTH - 1}):n] AS {name}" for name in FEATURES)
    connection.execute(f"""
        CREATE TEMP TABLE events AS SELECT entity, event_time, {", ".join(FEATURES)},
            row_number() OVER (PARTITION BY entity ORDER BY event_time, event_id) AS n
        FROM read_parquet('{events}', hive_partitioning = false);
        CREATE TEMP TABLE found AS SELECT label_id, user_id, n FROM labels ASOF LEFT JOIN
            (SELECT entity, event_time, max(n) AS n FROM events GROUP BY ALL) AS newest
        ON user_id = entity AND asked_at - INTERVAL 60 SECOND > event_time
    """)
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    for part in range(DUCKDB_PARTS):
        connection.execute(f"""
            COPY (
                SELECT label_id, {sliced} FROM found LEFT JOIN (
                    SELECT entity, {lists} FROM events
                    WHERE hash(entity) % {DUCKDB_PARTS} = {part} GROUP BY entity
                ) ON user_id = entity WHERE hash(user_id) % {DUCKDB_PARTS} = {part}
            ) TO '{out}/{part}.parquet' (FORMAT parquet, COMPRESSION zstd)
        """)


def run_against(events: int, counts: list[int]) -> None:
    """Pointers, our lists and hand-written fat rows: time, memory is the reader's affair, bytes."""
    with world(events) as made:
        for count in counts:
            labels = labels_of(count)
            costs: dict[str, tuple[float, float]] = {}
            sizes: dict[str, int] = {}
            with timed(costs, "pointers, store built"):
                pointed = made.export(labels)
            with timed(costs, "pointers, store there"):
                made.export(labels.with_columns(label_id=pl.col("label_id") + 1))
            info = pointed.open_version(verify=False).info
            sizes["pointers, store built"] = _size(pointed.folder) + info.bytes
            sizes["pointers, store there"] = _size(pointed.folder)
            for name, contender in (("polars asof", polars_fat), ("duckdb asof", duckdb_fat)):
                out = made.folder / f"{name}.parquet"
                if name == "duckdb asof" and count > 50_000:
                    continue
                with timed(costs, name):
                    contender(made.events, labels, out)
                sizes[name] = out.stat().st_size if out.is_file() else _size(out)
                _assert_equal(pointed, out)
            if count <= 200_000:
                unsorted = made.folder / "unsorted.parquet"
                by_user = made.folder / "polars asof.parquet"
                frame = pl.scan_parquet(by_user).sort("label_id").collect()
                frame.write_parquet(unsorted, compression="zstd", row_group_size=50_000)
                costs["  (polars, in label order)"] = (0.0, 0.0)
                sizes["  (polars, in label order)"] = unsorted.stat().st_size
            table = Table("contender", "s wall", "s CPU", "MB", "time / pointers", "MB / pointers")
            base = costs["pointers, store built"], sizes["pointers, store built"]
            for name, (wall, cpu) in costs.items():
                table.add_row(
                    name,
                    f"{wall:.2f}",
                    f"{cpu:.2f}",
                    f"{sizes[name] / 1e6:,.1f}",
                    f"{wall / base[0][0]:.1f}",
                    f"{sizes[name] / base[1]:.1f}",
                )
            console.print(f"{count:,} labels, {events:,} events, N={LENGTH}; equal results")
            console.print(table)


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def _assert_equal(pointed: Dataset, fat: Path) -> None:
    reader = TrainingReader(pointed, ["item", "dwell_ms"], batch_size=20_000, verify=False)
    theirs = pl.read_parquet(fat, columns=["label_id", "item", "dwell_ms"], n_rows=None)
    theirs = theirs.sort("label_id")
    for batch in reader:
        part = theirs[int(batch.rows[0]) : int(batch.rows[-1]) + 1]
        for name in ("item", "dwell_ms"):
            flat = part[name].explode(empty_as_null=False).drop_nulls()
            assert np.array_equal(flat.to_numpy(), batch[name]), name
        if batch.rows[0] > 100_000:
            return


def run_reader(events: int, count: int, *, vectors: bool) -> None:
    """Rows a second of batches of 1024."""
    with world(events, vectors=vectors) as made:
        labels = labels_of(count)
        pointed = made.export(labels)
        columns = [*FEATURES, "vector"] if vectors else FEATURES
        fat = made.folder / "fat.parquet"
        unsorted = made.folder / "unsorted.parquet"
        if vectors:
            reader = TrainingReader(pointed, columns, batch_size=BATCH, verify=False)
            _write_fat(reader, unsorted)
        else:
            polars_fat(made.events, labels, fat)
            pl.read_parquet(fat).sort("label_id").write_parquet(
                unsorted, compression="zstd", row_group_size=BATCH * 8
            )
        table = Table("reader", "N", "columns", "cache", "rows/s", "/ pointers, jagged", "GB/s")
        for length in (100, 500):
            for names in [columns[:1], columns] if not vectors else [columns]:
                _compare(table, made, pointed, names, length, fat, unsorted)
        console.print(table)
        block = np.ones(1 << 27, np.uint8)
        began = time.perf_counter()
        for _ in range(8):
            block.copy()
        console.print(f"memcpy: {8 * block.nbytes / (time.perf_counter() - began) / 1e9:.1f} GB/s")


def _write_fat(reader: TrainingReader, out: Path) -> None:
    writer = None
    for batch in reader:
        rows = pa.Table.from_batches([batch.to_arrow()])
        writer = writer or pq.ParquetWriter(out, rows.schema, compression="zstd")
        writer.write_table(rows)
    assert writer is not None
    writer.close()


def _compare(  # noqa: C901, PLR0913, PLR0917 - the contenders of one comparison
    table: Table,
    made: World,
    pointed: Dataset,
    names: list[str],
    length: int,
    fat: Path,
    unsorted: Path,
) -> None:
    def ours(layout: str, *, shuffle: bool, prefetch: int) -> tuple[int, int]:
        reader = TrainingReader(
            pointed,
            names,
            max_length=length,
            batch_size=BATCH,
            layout=layout,  # type: ignore[arg-type]
            shuffle=shuffle,
            prefetch=prefetch,
            labels=["label_id"],
            verify=False,
        )
        began = time.perf_counter()
        rows = size = 0
        for batch in reader:
            rows += len(batch)
            size += sum(values.nbytes for values in batch.columns.values())
        seconds_of.append(time.perf_counter() - began)
        return rows, size

    def arrow(path: Path) -> tuple[int, int]:
        began = time.perf_counter()
        rows = size = 0
        for batch in pq.ParquetFile(path).iter_batches(BATCH, columns=["label_id", *names]):
            rows += batch.num_rows
            for name in names:
                lists = batch.column(name)
                starts = np.maximum(np.diff(lists.offsets.to_numpy()) - length, 0)
                size += lists.nbytes
                assert len(starts) == batch.num_rows
        seconds_of.append(time.perf_counter() - began)
        return rows, size

    def polars(path: Path) -> tuple[int, int]:
        began = time.perf_counter()
        frame = pl.scan_parquet(path).select(
            "label_id", *(pl.col(n).list.tail(length) for n in names)
        )
        rows = sum(batch.height for batch in frame.collect_batches(chunk_size=BATCH))
        seconds_of.append(time.perf_counter() - began)
        return rows, 0

    contenders: dict[str, Callable[[], tuple[int, int]]] = {
        "pointers, jagged": lambda: ours("jagged", shuffle=True, prefetch=0),
        "pointers, jagged, 2 ahead": lambda: ours("jagged", shuffle=True, prefetch=2),
        "pointers, padded": lambda: ours("padded", shuffle=True, prefetch=0),
        "fat, pyarrow, by label": lambda: arrow(unsorted),
        "fat, polars, by label": lambda: polars(unsorted),
    }
    if fat.exists():
        contenders["fat, pyarrow, by user"] = lambda: arrow(fat)
        contenders["fat, polars, by user"] = lambda: polars(fat)
    base: dict[str, float] = {}
    for cache in ("warm", "cold"):
        for name, contender in contenders.items():
            seconds_of: list[float] = []
            for _ in range(3 if cache == "warm" else 1):
                if cache == "cold":
                    _forget(made.folder)
                rows, size = contender()
            speed = rows / median(seconds_of)
            base.setdefault(cache, speed)
            table.add_row(
                name,
                str(length),
                f"{len(names)}",
                cache,
                f"{speed:,.0f}",
                f"{base[cache] / speed:.1f}",
                f"{size / median(seconds_of) / 1e9:.2f}" if size else "",
            )


def _forget(folder: Path) -> None:
    """Ask the system to drop the cached pages of all files."""
    for path in folder.rglob("*"):
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)


def run_bytes(events: int, count: int) -> None:
    """Bytes that a reader asks the system for, where files are read and not mapped."""
    column_file._may_map = lambda path: False  # noqa: ARG005, SLF001 - or nothing is counted
    table = Table("columns", "N", "MB read", "MB of their values in the store", "ratio")
    with world(events) as made:
        pointed = made.export(labels_of(count))
        for length in (50, 100, 500):
            for names in (FEATURES[:1], FEATURES[:2], FEATURES):
                reader = TrainingReader(
                    pointed, names, max_length=length, prefetch=0, labels=[], verify=False
                )
                before, elements = _bytes_read(), 0
                for batch in reader:
                    elements += int(batch.offsets[-1])
                read = _bytes_read() - before
                held = elements * sum(STORED_BYTES[name] for name in names)
                table.add_row(
                    ", ".join(names),
                    str(length),
                    f"{read / 1e6:,.1f}",
                    f"{held / 1e6:,.1f}",
                    f"{read / held:.2f}",
                )
    console.print(table)


def _bytes_read() -> int:
    fields = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(fields["rchar"])


def run_memory(events: list[int]) -> None:
    """Peak memory of making a data set of 100k labels, and of reading it, by events."""
    table = Table("events", "making: s", "peak MB", "reading: s", "peak MB")
    for count in events:
        with world(count) as made:
            cells = [f"{count:,}"]
            for step in ("make", "read"):
                began = time.perf_counter()
                command = [sys.executable, __file__, "step", "--folder", str(made.folder)]
                process = subprocess.Popen([*command, "--step", step])
                _, status, usage = os.wait4(process.pid, 0)
                assert not status
                cells += [f"{time.perf_counter() - began:.1f}", f"{usage.ru_maxrss / 1024:,.0f}"]
            table.add_row(*cells)
    console.print(table)


def run_step(folder: Path, step: str) -> None:
    made = World(folder, plan_of(vectors=False))
    if step == "make":
        made.export(labels_of(100_000))
        return
    [info] = made.datasets.all("next_item")
    reader = TrainingReader(made.datasets.folder_of(info), FEATURES, batch_size=BATCH, shuffle=True)
    assert sum(len(batch) for batch in reader) == 100_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=["export", "against", "reader", "bytes", "memory", "step"])
    parser.add_argument("--events", default="")
    parser.add_argument("--labels", default="")
    parser.add_argument("--vectors", action="store_true")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--step", default="")
    options = parser.parse_args()

    def numbers(text: str, default: str) -> list[int]:
        return [int(part) for part in (text or default).split(",")]

    match options.part:
        case "export":
            [events] = numbers(options.events, "20000000")
            run_export(events, numbers(options.labels, "100000,1000000,10000000"))
        case "against":
            [events] = numbers(options.events, "5000000")
            run_against(events, numbers(options.labels, "50000"))
        case "reader":
            [events] = numbers(options.events, "5000000")
            [labels] = numbers(options.labels, "50000")
            run_reader(events, labels, vectors=options.vectors)
        case "bytes":
            [events] = numbers(options.events, "5000000")
            [labels] = numbers(options.labels, "50000")
            run_bytes(events, labels)
        case "memory":
            run_memory(numbers(options.events, "5000000,50000000"))
        case _:
            run_step(options.folder, options.step)


if __name__ == "__main__":
    main()
