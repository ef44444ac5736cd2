"""From a real Kafka into the lake, against the reading of Kafka alone; decoding against Polars.

    python benchmarks/streaming.py [--messages 300000] [--latency-seconds 30]

With --latency-seconds 600 the last part is a soak, and tells the memory from beginning to end.
Every contender reads the same messages of one partition set in a process of its own; wall and CPU
times are the operating system's. What the lake holds is compared with what was produced.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import psutil
from rich.console import Console
from rich.table import Table

from sequence_platform import EventType, Log
from sequence_platform.clock import SystemClock
from sequence_platform.dev.kafka_broker import KafkaBroker
from sequence_platform.dev.kafka_jars import ensure_jars
from sequence_platform.engine.decode import decode
from sequence_platform.engine.enrich import enrich
from sequence_platform.plan.compile import Located, compile_plan
from sequence_platform.plan.tables import all_tables
from sequence_platform.ports import LogPartition
from sequence_platform.runtimes.streaming import LakeStream, Pace, StreamReport, StreamWorker
from sequence_platform.settings import Settings
from sequence_platform.sources.kafka_log import KafkaLog, KafkaLogWriter
from sequence_platform.stores.ducklake import DuckLakeLake, connect_read_only

PARTITIONS = 4
TOPIC = "engagement"
TODAY = datetime.now(UTC).date()

event = EventType(
    name=TOPIC,
    owner="team:benchmarks",
    schema={
        "id": pl.String,
        "user_id": pl.Int64,
        "at": pl.Int64,
        "item": pl.Int64,
        "surface": pl.String,
        "device": pl.String,
        "dwell_ms": pl.Int32,
        "score": pl.Float64,
        "is_ad": pl.Boolean,
        "context": pl.Struct({"page": pl.String, "position": pl.Int64}),
    },
    event_id="id",
    event_time=pl.from_epoch("at", time_unit="ms"),
    entity="user_id",
    log=Log(TOPIC),
    start=TODAY - timedelta(days=3),
    where=pl.col("dwell_ms") >= 0,
    columns={"is_long": pl.col("dwell_ms") > 10_000},
)
plan = compile_plan([Located("benchmark", event)])
engagement = plan.events[TOPIC]


def messages(count: int, first: int = 0) -> list[bytes]:
    """Return messages of about 290 bytes, of users whose activity is Zipf's."""
    rng = np.random.default_rng(first + 7)
    users, items = rng.zipf(1.3, count) % 100_000, rng.zipf(1.3, count) % 1_000_000
    numbers = rng.integers(0, 60_000, (count, 2))
    now_ms = int(time.time() * 1000)
    return [
        json.dumps(
            {
                "id": f"{first + n:032d}",
                "user_id": int(users[n]),
                "at": now_ms,
                "item": int(items[n]),
                "surface": "home" if n % 3 else "search",
                "device": "ios" if n % 2 else "android",
                "dwell_ms": int(numbers[n, 0]),
                "score": n / count,
                "is_ad": n % 10 == 0,
                "context": {"page": f"/some/page/of/the/shop/{numbers[n, 1]}", "position": n % 20},
            }
        ).encode()
        for n in range(count)
    ]


def poll_only(servers: str, folder: Path, count: int) -> None:
    """Read all messages through the log's port, and do nothing with them."""
    del folder
    log = KafkaLog(servers)
    log.assign({LogPartition(TOPIC, p): 0 for p in range(PARTITIONS)})
    read = 0
    while read < count:
        batches = log.poll(max_messages=20_000, timeout_seconds=0.2)
        read += sum(len(batch.values) for batch in batches)
    log.close()


def worker(servers: str, folder: Path, count: int) -> None:
    """Read all messages into the lake as `sequence-platform stream` does."""
    del count
    with lake_in(folder) as lake:
        lake.ensure_tables(all_tables(plan))
        log = KafkaLog(servers)
        StreamWorker(log, LakeStream(lake, SystemClock()), [engagement], SystemClock()).run(
            threading.Event(), until_caught_up=True
        )
        log.close()


CONTENDERS = {"poll only": poll_only, "stream worker": worker}


@contextmanager
def lake_in(folder: Path) -> Iterator[DuckLakeLake]:
    lake = DuckLakeLake(str(folder / "catalog.sqlite"), str(folder / "data"))
    try:
        yield lake
    finally:
        lake.close()


def measured(name: str, servers: str, folder: Path, count: int) -> tuple[float, float, float]:
    """Return wall seconds, CPU seconds and peak MB of a contender in a process of its own."""
    start = time.perf_counter()
    options = ["--contender", name, "--servers", servers, "--folder", str(folder)]
    process = subprocess.Popen(
        [sys.executable, __file__, *options, "--messages", str(count)], cwd=folder
    )
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0, f"{name} failed"
    cpu = usage.ru_utime + usage.ru_stime
    return time.perf_counter() - start, cpu, usage.ru_maxrss / 1024


def stored(folder: Path) -> tuple[int, int]:
    """Return how many rows and ids the lake holds."""
    with connect_read_only(str(folder / "catalog.sqlite"), str(folder / "data")) as connection:
        found = connection.execute(
            "SELECT (SELECT count(*) FROM raw.engagement), "
            "(SELECT count(DISTINCT event_id) FROM enriched.engagement)"
        ).fetchone()
    assert found
    return found[0], found[1]


def throughput(console: Console, servers: str, count: int, runs: int) -> None:
    """Compare reading into the lake with reading alone, on the same messages."""
    values: dict[str, list[tuple[float, float, float]]] = {name: [] for name in CONTENDERS}
    for _ in range(runs):
        for name in CONTENDERS:
            with tempfile.TemporaryDirectory() as folder:
                values[name].append(measured(name, servers, Path(folder), count))
                if name == "stream worker":
                    assert stored(Path(folder)) == (count, count)
    table = Table("contender", "messages/s", "CPU s per million", "peak MB", "rate / poll only")
    rates = {
        name: count / np.median([wall for wall, _, _ in runs_]) for name, runs_ in values.items()
    }
    for name, runs_ in values.items():
        cpu = np.median([cpu for _, cpu, _ in runs_]) / count * 1e6
        peak = max(peak for _, _, peak in runs_)
        ratio = rates[name] / rates["poll only"]
        table.add_row(name, f"{rates[name]:,.0f}", f"{cpu:.1f}", f"{peak:.0f}", f"{ratio:.2f}")
    console.print(table)
    console.print(
        f"the lake holds all {count:,} messages, each once (process start included in all)"
    )


def decoding(console: Console, values: list[bytes]) -> None:
    """Compare decode and enrich, on one core, with Polars' reading of the same lines."""
    chunks = [values[at : at + 50_000] for at in range(0, len(values), 50_000)]
    joined = [b"\n".join(chunk) for chunk in chunks]
    times: dict[str, list[float]] = {"pl.read_ndjson": [], "decode": [], "decode and enrich": []}
    for _ in range(5):
        start = time.process_time()
        rows = sum(pl.read_ndjson(text, schema=engagement.raw_schema).height for text in joined)
        times["pl.read_ndjson"].append(time.process_time() - start)
        start = time.process_time()
        ours = sum(decode(chunk, engagement.raw_schema).frame.height for chunk in chunks)
        times["decode"].append(time.process_time() - start)
        start = time.process_time()
        both = sum(
            enrich(engagement, decode(chunk, engagement.raw_schema).frame, {}).rows.height
            for chunk in chunks
        )
        times["decode and enrich"].append(time.process_time() - start)
        assert rows == ours == both == len(values)
    table = Table("what", "messages per CPU second", "rate / pl.read_ndjson")
    floor = np.median(times["pl.read_ndjson"])
    for name, seconds in times.items():
        rate = len(values) / np.median(seconds)
        table.add_row(name, f"{rate:,.0f}", f"{floor / np.median(seconds):.2f}")
    console.print(table)


def latency(console: Console, servers: str, seconds: float, flush_seconds: float) -> None:
    """Measure from produced to readable, at 1,000 messages a second."""
    topic = f"latency-{time.time_ns()}"
    live = compile_plan([Located("benchmark", EventType(**live_fields(topic)))])  # type: ignore[arg-type] # fields of an event type
    stop = threading.Event()
    ages: list[float] = []

    def tell(report: StreamReport) -> None:
        flushed = report.flushed
        if flushed is None or flushed.oldest_appended is None or flushed.newest_appended is None:
            return
        # Messages come evenly between the oldest and the newest of a flush.
        oldest = (flushed.committed_at - flushed.oldest_appended).total_seconds()
        newest = (flushed.committed_at - flushed.newest_appended).total_seconds()
        ages.extend(np.linspace(newest, oldest, max(1, flushed.messages)))

    writer = KafkaLogWriter(servers)
    writer.create_topic(topic, PARTITIONS)
    with tempfile.TemporaryDirectory() as folder, lake_in(Path(folder)) as lake:
        lake.ensure_tables(all_tables(live))
        log = KafkaLog(servers)
        pace = Pace(flush_seconds=flush_seconds, poll_seconds=0.05)
        streaming = StreamWorker(
            log,
            LakeStream(lake, SystemClock()),
            live.events.values(),
            SystemClock(),
            pace=pace,
            tell=tell,
        )
        thread = threading.Thread(target=streaming.run, args=(stop,))
        thread.start()
        began = time.monotonic()
        sent, process, memory = 0, psutil.Process(), []
        while (now := time.monotonic()) - began < seconds:
            due = int((now - began) * 1000) - sent
            if due > 0:
                writer.append(topic, messages(due, sent))
                sent += due
            memory.append(process.memory_info().rss / 1e6)
            time.sleep(0.02)
        stop.set()
        thread.join()
        log.close()
    writer.close()
    p50, p99 = np.percentile(ages, [50, 99])
    console.print(
        f"produced to readable at 1,000 messages/s, flush interval {flush_seconds} s: "
        f"p50 {p50:.2f} s, p99 {p99:.2f} s ({len(ages):,} messages)"
    )
    quarters = np.array_split(memory, 4)
    peaks = ", ".join(f"{part.max():.0f}" for part in quarters)
    console.print(f"peak memory of producer and worker, by quarter of the time: {peaks} MB")


def live_fields(topic: str) -> dict[str, object]:
    return {name: getattr(event, name) for name in event.__dataclass_fields__ if name != "log"} | {
        "log": Log(topic),
        "start": date(2026, 1, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=300_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--latency-seconds", type=float, default=30)
    parser.add_argument("--flush-seconds", type=float, default=1.0)
    parser.add_argument("--only-latency", action="store_true")
    parser.add_argument("--contender", choices=CONTENDERS)
    parser.add_argument("--servers")
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    if options.contender:
        CONTENDERS[options.contender](options.servers, options.folder, options.messages)
        return
    console = Console()
    with tempfile.TemporaryDirectory() as data:
        broker = KafkaBroker(ensure_jars(Settings().cache), Path(data) / "kafka")
        broker.start()
        try:
            if options.only_latency:
                latency(console, broker.address, options.latency_seconds, options.flush_seconds)
                return
            values = messages(options.messages)
            console.print(f"{options.messages:,} messages of {len(values[0])} bytes")
            decoding(console, values[:200_000])
            writer = KafkaLogWriter(broker.address)
            writer.create_topic(TOPIC, PARTITIONS)
            writer.append(TOPIC, values)
            writer.close()
            throughput(console, broker.address, options.messages, options.runs)
            latency(console, broker.address, options.latency_seconds, options.flush_seconds)
        finally:
            broker.stop()


if __name__ == "__main__":
    main()
