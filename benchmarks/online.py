"""Reading online: a sequence from segments and tail, against a bare slice of the same bytes.

    python benchmarks/online.py [--users 5000] [--events 500] [--tail 30] [--reads 5000]

The slice copies the same number of rows of the same columns out of one numpy array a column: what
no store can beat. Answers are asserted equal to it. Days are made, published and merged one after
the other, and the arrays hold the users that are read, at most 2,000 of them; so 50,000 users take
10 GB of disk, and little memory.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from sequence_platform.clock import FixedClock
from sequence_platform.definition import EventType, Files, Log, Vector
from sequence_platform.definition import Sequence as SequenceOf
from sequence_platform.engine.enrich import Enriched
from sequence_platform.plan.compile import Located, compile_plan
from sequence_platform.plan.plan import EventPlan
from sequence_platform.ports import LogPartition, OffsetMove
from sequence_platform.ports.online import DayRows, DayVersion, Reflected, TailAppend
from sequence_platform.runtimes.serving import Answer, Query, SequenceReader
from sequence_platform.stores.local_online import LocalOnlineStore

DAYS = 30
FIRST = date(2026, 1, 1)
START = datetime(FIRST.year, FIRST.month, FIRST.day, tzinfo=UTC)
NOW = datetime(2026, 2, 1, tzinfo=UTC)
LATER = datetime(2100, 1, 1, tzinfo=UTC)
"""When segments are published: those merged away are then old, and their files go."""
SAMPLE = 2_000
"""Users that are read."""
DIMENSIONS = 64
FOUR = ("event_time", "item_id", "dwell_ms", "score")


def definitions(limit: int, *, vectors: bool = True) -> list[Located]:
    scalars: dict[str, type[pl.DataType]] = {
        "item_id": pl.Int64,
        "dwell_ms": pl.Int32,
        "score": pl.Float32,
        **{f"int_{n}": pl.Int32 for n in range(6)},
        **{f"float_{n}": pl.Float32 for n in range(6)},
    }
    engagement = EventType(
        name="engagement",
        owner="team:benchmarks",
        schema={
            "id": pl.String,
            "user_id": pl.Int64,
            "at": pl.Datetime("us", "UTC"),
            **scalars,
            **({"vector": Vector(DIMENSIONS)} if vectors else {}),
        },
        event_id="id",
        event_time="at",
        entity="user_id",
        batch=Files("none/*.parquet"),
        log=Log("engagement"),
    )
    sequence = SequenceOf(
        name="engagements",
        owner="team:benchmarks",
        events=[engagement],
        columns=[*scalars, "vector"] if vectors else [*scalars],
        max_length=limit,
        max_age=timedelta(days=90),
    )
    return [Located("benchmarks", engagement), Located("benchmarks", sequence)]


def rows(  # noqa: PLR0913, PLR0917 - of whom, how many, when
    event: EventPlan, users: int, each: int, start: datetime, span: timedelta, seed: int = 0
) -> pl.DataFrame:
    """Return so many events of every user, at random times of a span."""
    random = np.random.default_rng((each, seed))
    count = users * each
    at = (random.random(count) * (span / timedelta(microseconds=1))).astype(np.int64)
    time_us = at + int(start.timestamp() * 1e6)
    frame = pl.DataFrame({"entity": np.repeat(np.arange(users), each), "__at": time_us})
    vectors = random.random((count, DIMENSIONS), dtype=np.float32)
    made = {
        "event_id": pl.Series(np.arange(count) + time_us).cast(pl.String) + f"-{each}",
        "event_time": frame["__at"].cast(pl.Datetime("us")).dt.replace_time_zone("UTC"),
        "revision": pl.Series(np.zeros(count, dtype=np.int64)),
        "item_id": pl.Series(random.integers(0, 1 << 40, count)),
        "vector": pl.Series(vectors, dtype=pl.Array(pl.Float32, DIMENSIONS)),
    }
    whole = frame.drop("__at").with_columns(**made)
    for name, dtype in event.schema.items():
        if name in whole.columns:
            continue
        if name in {"arrival_time", "at"}:
            whole = whole.with_columns(pl.col("event_time").alias(name))
        elif name in {"id", "user_id"}:
            source = "event_id" if name == "id" else "entity"
            whole = whole.with_columns(pl.col(source).alias(name))
        else:
            whole = whole.with_columns(pl.Series(name, random.integers(0, 1000, count)).cast(dtype))
    return whole.select(pl.col(name).cast(dtype) for name, dtype in event.schema.items()).sort(
        "entity", "event_time", "event_id"
    )


def days_of(event: EventPlan, users: int, events: int) -> Iterator[tuple[date, pl.DataFrame]]:
    """Yield days, with so many events of every user over all of them."""
    for number in range(DAYS):
        each = events * (number + 1) // DAYS - events * number // DAYS
        start = START + timedelta(days=number)
        yield start.date(), rows(event, users, each, start, timedelta(days=1), number)


def settle(
    store: LocalOnlineStore, event: EventPlan, days: Iterable[tuple[date, pl.DataFrame]]
) -> float:
    """Publish days one after the other, merge, and drop what was merged; return the seconds."""
    none, seconds = Enriched.empty(event).rejected, 0.0
    for number, (day, part) in enumerate(days):
        at = LATER + timedelta(days=number)
        began = time.perf_counter()
        store.publish(event, [DayRows(day, part, none, DayVersion(str(day), Reflected()))], at)
        store.compact(event, at)
        seconds += time.perf_counter() - began
        store.collect(event, keep=timedelta(0), at=at + timedelta(hours=1))
    return seconds


def stream(store: LocalOnlineStore, event: EventPlan, fresh: pl.DataFrame) -> float:
    """Append rows to the tail, 2,000 a flush; return the seconds."""
    none, at = Enriched.empty(event).rejected, LogPartition("engagement", 0)
    began, offset = time.perf_counter(), 0
    for part in fresh.iter_slices(2_000):
        move = OffsetMove(at, "benchmark", offset or None, offset + part.height)
        store.append(TailAppend(event, part, none, [move], NOW))
        offset += part.height
    return time.perf_counter() - began


def ensure_equal(answer: Answer, expected: Mapping[str, npt.NDArray[Any]]) -> None:
    """Assert that an answer holds these values."""
    assert answer.columns.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_array_equal(np.asarray(answer.columns[name].values), values)


def arrays_of(rows: pl.DataFrame, columns: Iterable[str]) -> dict[str, npt.NDArray[Any]]:
    """Return each column as one array; times as integers."""
    return {name: np.ascontiguousarray(rows[name].to_physical().to_numpy()) for name in columns}


def timed(work: Callable[[int], object], which: Sequence[int]) -> tuple[float, float]:
    """Return microseconds per call, p50 and p99."""
    taken = np.empty(len(which))
    for at, user in enumerate(which):
        began = time.perf_counter_ns()
        work(user)
        taken[at] = time.perf_counter_ns() - began
    p50, p99 = np.percentile(taken / 1e3, [50, 99])
    return float(p50), float(p99)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--users", type=int, default=5_000)
    parser.add_argument("--events", type=int, default=500, help="of a user, in segments and tail")
    parser.add_argument("--tail", type=int, default=30, help="of them in the tail")
    parser.add_argument("--reads", type=int, default=5_000)
    given = parser.parse_args()
    plan = compile_plan(definitions(given.events))
    event = plan.events["engagement"]
    random = np.random.default_rng(1)
    sample = np.sort(random.permutation(given.users)[:SAMPLE])
    read_ones = pl.col("entity").is_in(sample.tolist())
    columns = ("entity", "event_id", *FOUR, "vector")
    kept: list[pl.DataFrame] = []

    def days() -> Iterator[tuple[date, pl.DataFrame]]:
        for day, part in days_of(event, given.users, given.events - given.tail):
            kept.append(part.filter(read_ones).select(columns))
            yield day, part

    with tempfile.TemporaryDirectory() as folder:
        store = LocalOnlineStore(Path(folder))
        seconds = settle(store, event, days())
        count = given.users * (given.events - given.tail)
        segments = store.manifest(event).segments
        print(
            f"published {count:,} events in {seconds:.1f} s ({count / seconds:,.0f}/s), "
            f"{len(segments)} live segments, {sum(s.bytes for s in segments) / 1e6:,.0f} MB"
        )
        if given.tail:
            half_day = timedelta(hours=12)
            fresh = rows(event, given.users, given.tail, NOW - 2 * half_day, half_day)
            kept.append(fresh.filter(read_ones).select(columns))
            seconds = stream(store, event, fresh)
            print(f"appended {fresh.height:,} rows to the tail ({fresh.height / seconds:,.0f}/s)")
        reader = SequenceReader(plan, store, FixedClock(NOW))
        arrays = arrays_of(pl.concat(kept).sort("entity", "event_time", "event_id"), columns[2:])
        which = random.integers(0, len(sample), given.reads).tolist()
        entities = sample.tolist()
        print(f"{given.events} events a user, {given.tail} of them in the tail; microseconds")
        print(
            f"{'columns':<22}{'slice p50':>10}{'p99':>8}{'read p50':>10}{'p99':>8}{'ratio p50':>11}"
        )
        for label, asked in (("4 scalars", FOUR), ("4 scalars + vector", (*FOUR, "vector"))):

            def bare(at: int, asked: Sequence[str] = asked) -> dict[str, npt.NDArray[Any]]:
                each = given.events
                return {name: arrays[name][at * each : (at + 1) * each].copy() for name in asked}

            query = Query(columns=asked)

            def read(at: int, query: Query = query) -> Answer:
                return reader.read("engagements", entities[at], query)

            for at in which[:50]:
                ensure_equal(read(at), bare(at))
            timed(read, which), timed(bare, which)  # warm both
            slices, reads = timed(bare, which), timed(read, which)
            print(
                f"{label:<22}{slices[0]:>10.1f}{slices[1]:>8.1f}{reads[0]:>10.1f}{reads[1]:>8.1f}"
                f"{reads[0] / slices[0]:>10.1f}x"
            )
        store.close()


if __name__ == "__main__":
    main()
