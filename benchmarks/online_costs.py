"""What the online store costs: bytes touched, long histories, publishing, disk.

    python benchmarks/online_costs.py [bytes] [long] [publish] [size]

All parts run unless some are named; each says what it is compared with.
"""

from __future__ import annotations

import argparse
import ctypes
import mmap
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from statistics import median

import numpy as np
import numpy.typing as npt
import online
import polars as pl
from online import FOUR, NOW, START, arrays_of, definitions, ensure_equal, rows, timed
from rich.console import Console
from rich.table import Table

from sequence_platform.clock import FixedClock, SystemClock
from sequence_platform.engine.columns import fixed_width
from sequence_platform.engine.dead_letters import DEAD_LETTERS
from sequence_platform.plan.compile import compile_plan
from sequence_platform.plan.plan import KEY_ORDER, EventPlan, Window
from sequence_platform.plan.tables import all_tables, enriched_table
from sequence_platform.ports import Counts, PartitionCommit
from sequence_platform.runtimes.segments import publish_day
from sequence_platform.runtimes.serving import Answer, Query, SequenceReader
from sequence_platform.stores.ducklake import DuckLakeLake
from sequence_platform.stores.local_online import LocalOnlineStore

console = Console()
EVENTS = 500
SCALARS = (
    "item_id",
    "dwell_ms",
    "score",
    *(f"{t}_{n}" for n in range(6) for t in ("int", "float")),
)
ASKED = [SCALARS[:1], SCALARS[:2], SCALARS[:4], SCALARS[:8], SCALARS, ("vector",)]
LIBC = ctypes.CDLL(None)
HISTORIES = (10, 100, 300)
CYCLE = 9
"""Publications that are timed; every eighth or so merges segments."""


# ---- bytes touched


def run_bytes(users: int) -> None:
    """Compare the pages that reads touch with the bytes of the columns that they ask for."""
    plan = compile_plan(definitions(EVENTS))
    event = plan.events["engagement"]
    table = Table(
        "users", "columns", "KB a user: asked", "and keys", "touched", "/ with keys", "/ asked",
        title=f"pages that reads of {EVENTS} events touch ({users:,} users, no tail)",
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        store = LocalOnlineStore(Path(folder))
        online.settle(store, event, online.days_of(event, users, EVENTS))
        store.close()
        for every in (1, 20):
            for columns in ASKED:
                command = [sys.executable, __file__, "touch", "--folder", folder]
                command += ["--columns", ",".join(columns), "--every", str(every)]
                command += ["--users", str(users)]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                read = len(range(0, users, every))
                touched = int(done.stdout) / read
                asked = EVENTS * sum(_width(event, name) for name in columns)
                # Every read looks at the time and the hash of the id of each event.
                with_keys = asked + EVENTS * 16
                label = f"{len(columns)} scalars" if columns != ("vector",) else "vector"
                sizes = [f"{size / 1e3:,.1f}" for size in (asked, with_keys, touched)]
                ratios = [f"{touched / size:.2f}" for size in (with_keys, asked)]
                table.add_row("all" if every == 1 else f"1 in {every}", label, *sizes, *ratios)
    console.print(table)


def _width(event: EventPlan, name: str) -> int:
    width = fixed_width(event.schema[name])
    assert width is not None
    return width.itemsize


def touch(folder: Path, users: int, every: int, columns: tuple[str, ...]) -> None:
    """Print how many bytes of segments reads touch, by pages, in a process that did nothing else.

    Nothing of the files is in memory when reads begin, and the system is told not to read ahead:
    what is in memory afterwards are the pages that were touched.
    """
    plan = compile_plan(definitions(EVENTS))
    store = LocalOnlineStore(folder, verify=False)
    reader = SequenceReader(plan, store, FixedClock(NOW))
    query = Query(columns=columns)
    reader.read("engagements", users, query)  # nobody's: opens and maps the segments
    mapped = list(_mapped(folder))
    for start, size in mapped:
        for advice in (mmap.MADV_RANDOM, mmap.MADV_DONTNEED):
            assert LIBC.madvise(ctypes.c_void_p(start), ctypes.c_size_t(size), advice) == 0
    _forget(folder)
    before = _resident(mapped)
    assert before < mmap.PAGESIZE, f"{before} bytes stay in memory: is {folder} on a disk?"
    for user in range(0, users, every):
        assert reader.read("engagements", user, query).length == EVENTS
    print(_resident(mapped))
    store.close()


def _mapped(folder: Path) -> Iterator[tuple[int, int]]:
    for line in Path("/proc/self/maps").read_text().splitlines():
        if f"{folder}/segments/" in line:
            start, stop = (int(text, 16) for text in line.split()[0].split("-"))
            yield start, stop - start


def _forget(folder: Path) -> None:
    """Ask the system to drop the cached pages of all segments."""
    for path in (folder / "segments").rglob("*.arrow"):
        descriptor = os.open(path, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def _resident(mapped: Iterable[tuple[int, int]]) -> int:
    pages = 0
    for start, size in mapped:
        found = np.empty(-(-size // mmap.PAGESIZE), dtype=np.uint8)
        to = found.ctypes.data_as(ctypes.c_void_p)
        assert LIBC.mincore(ctypes.c_void_p(start), ctypes.c_size_t(size), to) == 0
        pages += int((found & 1).sum())
    return pages * mmap.PAGESIZE


# ---- long histories


def run_long(events: int, tail: int, reads: int) -> None:
    """Read a user of very many events, against a slice of the same bytes."""
    users, limits = 20, (500, events)
    plan = compile_plan(definitions(events))
    event = plan.events["engagement"]
    table = Table(
        "limit", "slice p50", "p99", "read p50", "p99", "ratio p50", "ratio p99",
        title=f"users of {events:,} events, {tail} of them in the tail, 4 columns; microseconds",
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        store = LocalOnlineStore(Path(folder))
        days = list(online.days_of(event, users, events - tail))
        online.settle(store, event, days)
        fresh = rows(event, users, tail, NOW - timedelta(days=1), timedelta(hours=12))
        online.stream(store, event, fresh)
        whole = pl.concat([*(part for _, part in days), fresh])
        arrays = arrays_of(whole.sort("entity", "event_time", "event_id"), FOUR)
        reader = SequenceReader(plan, store, FixedClock(NOW))
        which = np.random.default_rng(3).integers(0, users, reads).tolist()
        for limit in limits:
            query = Query(columns=FOUR, limit=limit)

            def read(user: int, query: Query = query) -> Answer:
                return reader.read("engagements", user, query)

            def bare(user: int, limit: int = limit) -> dict[str, npt.NDArray[np.generic]]:
                stop = (user + 1) * events
                return {name: array[stop - limit : stop].copy() for name, array in arrays.items()}

            for user in range(users):
                ensure_equal(read(user), bare(user))
            slices, taken = timed(bare, which), timed(read, which)
            ratios = [f"{mine / its:.1f}" for mine, its in zip(taken, slices, strict=True)]
            table.add_row(f"{limit:,}", *(f"{us:,.1f}" for us in (*slices, *taken)), *ratios)
        store.close()
    console.print(table)


# ---- publishing


def run_publish(per_day: int, large: int) -> None:
    """Publish days from a lake with little and with much history, and a large one."""
    plan = compile_plan(definitions(EVENTS))
    event = plan.events["engagement"]
    table = Table(
        "days published", "s, median", "s, most (merges)", "/ first",
        title=f"publishing a day of {per_day:,} events from the lake; {CYCLE} publications each",
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        lake = DuckLakeLake(f"{folder}/lake.sqlite", f"{folder}/lake")
        lake.ensure_tables(all_tables(plan))
        store = LocalOnlineStore(Path(folder) / "online")
        taken: list[float] = []
        for number in range(max(HISTORIES) + CYCLE):
            day = (START + timedelta(days=number)).date()
            _commit(lake, event, day, per_day)
            clock = FixedClock(online.LATER + timedelta(days=number))
            began = time.perf_counter()
            published = publish_day(lake, store, event, day, clock)
            taken.append(time.perf_counter() - began)
            assert published.changed
            assert published.rows == per_day
            store.collect(event, keep=timedelta(0), at=clock.now() + timedelta(hours=1))
        first = median(taken[HISTORIES[0] : HISTORIES[0] + CYCLE])
        for history in HISTORIES:
            some = taken[history : history + CYCLE]
            middle = median(some)
            table.add_row(
                str(history), f"{middle:.3f}", f"{max(some):.3f}", f"{middle / first:.2f}"
            )
        console.print(table)
        day = date(2030, 1, 1)
        _commit(lake, event, day, large)
        seconds = publish_day(lake, store, event, day, SystemClock()).seconds
        began = time.perf_counter()
        spec = enriched_table(event)
        written = lake.read_events(spec, spec.columns.names(), Window.of_day(day)).sort(KEY_ORDER)
        path = Path(folder) / "day.parquet"
        written.write_parquet(path)
        _sync(path)
        parquet = time.perf_counter() - began
        assert written.height == large
        console.print(
            f"a day of {large:,} events from the lake: published {large / seconds:,.0f} events/s; "
            f"as one Parquet file {large / parquet:,.0f} events/s; ratio {seconds / parquet:.1f}"
        )
        store.close()
        lake.close()


def _commit(lake: DuckLakeLake, event: EventPlan, day: date, count: int) -> None:
    """Put a day of events into the lake, five of every user."""
    start = datetime(day.year, day.month, day.day, tzinfo=UTC)
    made = rows(event, count // 5, 5, start, timedelta(days=1), day.toordinal())
    table, none = enriched_table(event), pl.DataFrame(schema=DEAD_LETTERS)
    staged = lake.stage(table, day, [made])
    counts = Counts(made.height, made.height)
    now = datetime.now(UTC)
    lake.commit(PartitionCommit(table, day, staged, counts, none, "benchmark", now, 0))


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


# ---- size


def run_size(users: int) -> None:
    """Compare segments with Parquet of the same rows."""
    table = Table("rows of", "segments MB", "Parquet (zstd) MB", "ratio", title="size on disk")
    for label, vectors in (("15 scalars", False), ("15 scalars and a vector", True)):
        event = compile_plan(definitions(EVENTS, vectors=vectors)).events["engagement"]
        days = list(online.days_of(event, users, EVENTS))
        with tempfile.TemporaryDirectory() as folder:
            store = LocalOnlineStore(Path(folder) / "online")
            online.settle(store, event, days)
            held = sum(each.bytes for each in store.manifest(event).segments)
            store.close()
            for day, part in days:
                part.write_parquet(Path(folder) / f"{day}.parquet")
            raw = sum(path.stat().st_size for path in Path(folder).glob("*.parquet"))
        table.add_row(label, f"{held / 1e6:,.1f}", f"{raw / 1e6:,.1f}", f"{held / raw:.2f}")
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", help="bytes, long, publish, size")
    parser.add_argument("--users", type=int, default=1_000, help="of bytes and size")
    parser.add_argument("--long", type=int, default=16_384, help="events of a user of long")
    parser.add_argument("--reads", type=int, default=2_000, help="of long")
    parser.add_argument("--day", type=int, default=5_000, help="events of a day of publish")
    parser.add_argument("--large", type=int, default=200_000, help="events of its large day")
    parser.add_argument("--folder", type=Path, help="of the process that reads, for bytes")
    parser.add_argument("--columns", help="likewise")
    parser.add_argument("--every", type=int, help="likewise")
    given = parser.parse_args()
    if given.parts == ["touch"]:
        touch(given.folder, given.users, given.every, tuple(given.columns.split(",")))
        return
    for part in given.parts or ["bytes", "long", "publish", "size"]:
        console.print(f"load average {os.getloadavg()[0]:.1f}")
        match part:
            case "bytes":
                run_bytes(given.users)
            case "long":
                run_long(given.long, 30, given.reads)
            case "publish":
                run_publish(given.day, given.large)
            case "size":
                run_size(given.users)
            case _:
                parser.error(f"there is no part '{part}'")


if __name__ == "__main__":
    main()
