"""HTTP against an empty handler of the same server and Redis; and how soon an event is served.

    python benchmarks/serving.py [--users 2000] [--requests 3000] [--seconds 20]

Throughput: two client processes, a connection each, one worker. Payloads are equal: 100 events x 4
columns as JSON, and 500 x 4 with a 64-float vector as Arrow. Redis (LRANGE of JSON events, decoded
by nobody) runs where redis-server is installed. Freshness: 1,000 events/s through a real Kafka; a
marked event is produced and asked for over HTTP until it is in the answer.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import online as shared
import polars as pl

from sequence_platform.catalog import load_plan
from sequence_platform.dev.kafka_broker import KafkaBroker
from sequence_platform.dev.kafka_jars import ensure_jars
from sequence_platform.ports.online import DayRows, DayVersion, Reflected
from sequence_platform.settings import Settings
from sequence_platform.sources.kafka_log import KafkaLogWriter
from sequence_platform.stores.local_online import LocalOnlineStore

DEFINITIONS = """
from datetime import timedelta

import polars as pl

from sequence_platform import EventType, Files, Log, Sequence, Vector

scalars = {"item_id": pl.Int64, "dwell_ms": pl.Int32, "score": pl.Float32}
scalars |= {f"int_{n}": pl.Int32 for n in range(6)} | {f"float_{n}": pl.Float32 for n in range(6)}
engagement = EventType(
    name="engagement", owner="team:benchmarks", event_id="id", event_time="at", entity="user_id",
    schema={"id": pl.String, "user_id": pl.Int64, "at": pl.Datetime("us", "UTC"), **scalars,
            "vector": Vector(64)},
    batch=Files("none/*.parquet"), log=Log("engagement"))
engagements = Sequence(
    name="engagements", owner="team:benchmarks", events=[engagement],
    columns=[*scalars, "vector"], max_length=500, max_age=timedelta(days=90))
"""
EMPTY = """
async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"ok"})
"""
JSON_QUERY = "limit=100&columns=event_time,item_id,dwell_ms,score"
ARROW_QUERY = "columns=event_time,item_id,dwell_ms,score,vector"
ARROW = {"Accept": "application/vnd.apache.arrow.stream"}
CLIENTS = 2
PROBED = "/v1/sequences/engagements/5000000?limit=1&columns=item_id"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(command: list[str], port: int, **environment: str) -> Iterator[None]:
    process = subprocess.Popen(command, env=os.environ | environment, stdout=subprocess.DEVNULL)
    try:
        for _ in range(600):
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            time.sleep(0.1)
        yield
    finally:
        process.terminate()
        process.wait()


def ask(port: int, paths: list[str], headers: dict[str, str]) -> list[float]:
    """Return the seconds that each request took."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    taken = []
    for path in paths:
        began = time.perf_counter()
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        body = answer.read()
        taken.append(time.perf_counter() - began)
        assert answer.status == 200, body[:300]
    return taken


def redis_range(port: int, keys: list[str], count: int) -> list[float]:
    from redis import Redis

    client = Redis(port=port)
    taken = []
    for key in keys:
        began = time.perf_counter()
        found = client.lrange(key, -count, -1)
        taken.append(time.perf_counter() - began)
        assert len(found) == count
    return taken


def load(label: str, work: Callable[..., list[float]], *arguments: object) -> None:
    with ProcessPoolExecutor(CLIENTS) as pool:
        began = time.perf_counter()
        running_ = [pool.submit(work, *arguments) for _ in range(CLIENTS)]
        taken = np.concatenate([each.result() for each in running_])
        seconds = time.perf_counter() - began
    p50, p99 = np.percentile(taken * 1e3, [50, 99])
    print(f"{label:<44}{len(taken) / seconds:>9,.0f}/s{p50:>9.2f} ms{p99:>9.2f} ms")


def throughput(home: Path, environment: dict[str, str], users: int, requests: int) -> None:
    event = load_plan(home / "definitions").events["engagement"]
    store = LocalOnlineStore(home / "home" / "online")
    start = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(
        days=30
    )
    rows = shared.rows(event, users, 500, start, timedelta(days=29))
    day_of = rows["event_time"].dt.date()
    removals = pl.DataFrame(
        schema={**{n: event.schema[n] for n in list(event.schema)[:5]}, "rule": pl.String}
    )
    for day in day_of.unique().sort():
        version = DayVersion(str(day), Reflected())
        store.publish(event, [DayRows(day, rows.filter(day_of == day), removals, version)], start)
        store.compact(event, start)
    store.close()
    random = np.random.default_rng(2)
    who = random.integers(0, users, requests).tolist()
    paths = [f"/v1/sequences/engagements/{user}?{JSON_QUERY}" for user in who]
    vectors = [f"/v1/sequences/engagements/{user}?{ARROW_QUERY}" for user in who]
    print(f"{'':<44}{'requests':>11}{'p50':>12}{'p99':>12}")
    (home / "empty.py").write_text(EMPTY)
    port = free_port()
    granian = [
        sys.executable,
        "-m",
        "granian",
        "--interface",
        "asgi",
        "--port",
        str(port),
        "empty:app",
    ]
    with running(granian, port, PYTHONPATH=str(home)):
        load("empty handler of the same server", ask, port, ["/"] * requests, {})
    port = free_port()
    serve = [str(Path(sys.executable).with_name("sequence-platform")), "serve", "--port", str(port)]
    with running(serve, port, **environment):
        ask(port, paths[:200], {})
        load("sequences, JSON, 100 x 4", ask, port, paths, {})
        load("sequences, Arrow, 500 x 4 + vector", ask, port, vectors, ARROW)
    binary = shutil.which("redis-server")
    if binary is None:
        return
    port = free_port()
    with running([binary, "--port", str(port), "--bind", "127.0.0.1", "--save", ""], port):
        from redis import Redis

        pipe = Redis(port=port).pipeline(transaction=False)
        scalars = ["event_time", "item_id", "dwell_ms", "score"]
        plain = rows.with_columns(pl.col("event_time").dt.epoch("us"))
        for at, row in enumerate(plain.select("entity", *scalars, "vector").iter_rows(named=True)):
            user = row.pop("entity")
            pipe.rpush(f"v:{user}", json.dumps(row))
            row.pop("vector")
            pipe.rpush(f"s:{user}", json.dumps(row))
            if at % 20_000 == 0:
                pipe.execute()
        pipe.execute()
        load(
            "Redis LRANGE of JSON events, 100 x 4", redis_range, port, [f"s:{u}" for u in who], 100
        )
        few = [f"v:{u}" for u in who[: max(1, requests // 5)]]
        load("Redis LRANGE of JSON, 500 x 4 + vector", redis_range, port, few, 500)


def freshness(home: Path, environment: dict[str, str], seconds: float) -> None:
    broker = KafkaBroker(ensure_jars(Settings().cache), home / "kafka")
    broker.start()
    try:
        environment = environment | {"KAFKA_BOOTSTRAP_SERVERS": broker.address}
        writer = KafkaLogWriter(broker.address)
        writer.create_topic("engagement", 2)
        command = str(Path(sys.executable).with_name("sequence-platform"))
        port = free_port()
        stream = subprocess.Popen(
            [command, "stream", "--to", "online"], env=os.environ | environment,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            with running([command, "serve", "--port", str(port)], port, **environment):
                taken = _probe(port, broker.address, seconds)
        finally:
            stream.terminate()
            stream.wait()
        p50, p99 = np.percentile(np.array(taken[len(taken) // 5 :]) * 1e3, [50, 99])
        print(
            f"Kafka at 1,000 events/s: produced to served over HTTP, p50 {p50:.0f} ms, "
            f"p99 {p99:.0f} ms ({len(taken)} events asked for)"
        )
    finally:
        broker.stop()


def _message(number: int, user: int) -> bytes:
    at = datetime.now(UTC).isoformat()
    row = {"id": f"{number}", "user_id": user, "at": at, "item_id": number,
           "dwell_ms": 1, "score": 0.5, "vector": [0.25] * 64}  # fmt: skip
    return json.dumps(row).encode()


def _probe(port: int, servers: str, seconds: float) -> list[float]:
    stop = threading.Event()

    def produce() -> None:
        writer, began, sent = KafkaLogWriter(servers), time.monotonic(), 0
        while not stop.is_set():
            due = int((time.monotonic() - began) * 1000) - sent
            if due > 0:
                new = range(sent, sent + due)
                writer.append("engagement", [_message(n, n % 1000) for n in new])
                sent += due
            time.sleep(0.02)
        writer.close()

    producer = threading.Thread(target=produce)
    producer.start()
    writer, taken = KafkaLogWriter(servers), []
    connection = http.client.HTTPConnection("127.0.0.1", port)
    try:
        began, number = time.monotonic(), 10_000_000
        while time.monotonic() - began < seconds:
            number += 1
            writer.append("engagement", [_message(number, 5_000_000)])
            sent = time.monotonic()
            while time.monotonic() - sent < 30:
                connection.request("GET", PROBED)
                if json.loads(connection.getresponse().read())["columns"]["item_id"] == [number]:
                    taken.append(time.monotonic() - sent)
                    break
                time.sleep(0.002)
            time.sleep(0.05)
    finally:
        stop.set()
        producer.join()
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=textwrap.dedent(__doc__ or ""))
    parser.add_argument("--users", type=int, default=2_000)
    parser.add_argument("--requests", type=int, default=3_000, help="of each client")
    parser.add_argument("--seconds", type=float, default=20, help="of the freshness part; 0: none")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        (home / "definitions").mkdir()
        (home / "definitions" / "all.py").write_text(DEFINITIONS)
        environment = {
            "SEQUENCE_PLATFORM_HOME": str(home / "home"),
            "SEQUENCE_PLATFORM_DEFINITIONS": str(home / "definitions"),
        }
        throughput(home, environment, given.users, given.requests)
        if given.seconds:
            freshness(home, environment, given.seconds)


if __name__ == "__main__":
    main()
