"""Reading online: a sequence from segments and tail, against a bare slice of the same bytes.

    python benchmarks/online.py [--users 5000] [--events 500] [--tail 30] [--reads 5000]

The slice copies the same number of rows of the same columns out of one numpy array a column: what
no store can beat. Answers are asserted equal to it.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from sequence_platform.clock import FixedClock
from sequence_platform.definition import EventType, Files, Log, Vector
from sequence_platform.definition import Sequence as SequenceOf
from sequence_platform.plan.compile import Located, compile_plan
from sequence_platform.plan.plan import EventPlan
from sequence_platform.ports import LogPartition, OffsetMove
from sequence_platform.ports.online import DayRows, DayVersion, Reflected, TailAppend
from sequence_platform.runtimes.serving import Query, SequenceReader
from sequence_platform.stores.local_online import LocalOnlineStore

DAYS = 30
FIRST = date(2026, 1, 1)
NOW = datetime(2026, 2, 1, tzinfo=UTC)
DIMENSIONS = 64
FOUR = ("event_time", "item_id", "dwell_ms", "score")


def definitions(limit: int) -> list[Located]:
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
            "vector": Vector(DIMENSIONS),
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
        columns=[*scalars, "vector"],
        max_length=limit,
        max_age=timedelta(days=90),
    )
    return [Located("benchmarks", engagement), Located("benchmarks", sequence)]


def rows(event: EventPlan, users: int, each: int, start: datetime, span: timedelta) -> pl.DataFrame:
    """Return so many events of every user, at random times of a span."""
    random = np.random.default_rng(each)
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


def timed(work: Callable[[int], object], which: Sequence[int]) -> tuple[float, float]:
    """Return microseconds per call, p50 and p99."""
    taken = np.empty(len(which))
    for at, user in enumerate(which):
        began = time.perf_counter_ns()
        work(user)
        taken[at] = time.perf_counter_ns() - began
    p50, p99 = np.percentile(taken / 1e3, [50, 99])
    return float(p50), float(p99)


def main() -> None:  # noqa: PLR0915 - a script
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
    with tempfile.TemporaryDirectory() as folder:
        store = LocalOnlineStore(Path(folder))
        held = given.events - given.tail
        start = datetime(FIRST.year, FIRST.month, FIRST.day, tzinfo=UTC)
        settled = rows(event, given.users, held, start, timedelta(days=DAYS))
        began = time.perf_counter()
        day_of = settled["event_time"].dt.date()
        removals = pl.DataFrame(
            schema={**{n: event.schema[n] for n in list(event.schema)[:5]}, "rule": pl.String}
        )
        for number in range(DAYS):
            day = FIRST + timedelta(days=number)
            version = DayVersion(str(number), Reflected())
            store.publish(
                event, [DayRows(day, settled.filter(day_of == day), removals, version)], NOW
            )
            store.compact(event, NOW)
        seconds = time.perf_counter() - began
        live = store.manifest(event)
        print(
            f"published {settled.height:,} events in {seconds:.1f} s "
            f"({settled.height / seconds:,.0f}/s), {len(live.segments)} live segments, "
            f"{sum(s.bytes for s in live.segments) / 1e6:,.0f} MB"
        )
        fresh = rows(
            event, given.users, given.tail, start + timedelta(days=DAYS), timedelta(hours=12)
        )
        at = LogPartition("engagement", 0)
        chunk = 2_000
        began, offset = time.perf_counter(), 0
        for first in range(0, fresh.height, chunk):
            part = fresh[first : first + chunk]
            move = OffsetMove(at, "benchmark", offset or None, offset + part.height)
            store.append(TailAppend(event, part, removals, [move], NOW))
            offset += part.height
        seconds = time.perf_counter() - began
        if fresh.height:
            print(f"appended {fresh.height:,} rows to the tail ({fresh.height / seconds:,.0f}/s)")
        reader = SequenceReader(plan, store, FixedClock(NOW))
        whole = pl.concat([settled, fresh]).sort("entity", "event_time", "event_id")
        random = np.random.default_rng(1)
        which = random.integers(0, given.users, given.reads).tolist()
        print(f"{given.events} events a user, {given.tail} of them in the tail; microseconds")
        print(
            f"{'columns':<22}{'slice p50':>10}{'p99':>8}{'read p50':>10}{'p99':>8}{'ratio p50':>11}"
        )
        for label, columns in (("4 scalars", FOUR), ("4 scalars + vector", (*FOUR, "vector"))):
            arrays = [
                whole[name].to_physical().to_numpy() if name != "vector" else
                np.asarray(whole[name].to_numpy()) for name in columns
            ]  # fmt: skip
            each = given.events

            def bare(user: int, arrays: list[Any] = arrays, each: int = each) -> list[Any]:
                return [array[user * each : (user + 1) * each].copy() for array in arrays]

            query = Query(columns=columns)

            def read(user: int, query: Query = query) -> object:
                return reader.read("engagements", user, query)

            for user in which[:50]:
                answer = reader.read("engagements", user, query)
                for name, expected in zip(columns, bare(user), strict=True):
                    np.testing.assert_array_equal(np.asarray(answer.columns[name].values), expected)
            timed(read, which), timed(bare, which)  # warm both
            slices, reads = timed(bare, which), timed(read, which)
            print(
                f"{label:<22}{slices[0]:>10.1f}{slices[1]:>8.1f}{reads[0]:>10.1f}{reads[1]:>8.1f}"
                f"{reads[0] / slices[0]:>10.1f}x"
            )
        store.close()


if __name__ == "__main__":
    main()
