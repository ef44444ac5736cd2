"""HTTP against an empty handler of the same server and Redis; and how soon an event is served.

    python benchmarks/serving.py [--users 2000] [--requests 3000] [--seconds 20] [--feast PYTHON]

Throughput: two client processes, a connection each; then eight, of one worker and of two. Payloads
are equal: 100 events x 4 columns as JSON, and 500 x 4 with a 64-float vector as Arrow. Redis
(LRANGE of JSON events, decoded by nobody) runs where redis-server is installed. Feast's feature
server, on SQLite and on Redis, holds the 100 x 4 as four lists; it runs with the interpreter given,
which has Feast: python -m venv feast && feast/bin/pip install 'feast[redis]'.

Overload: requests come at twice the rate that one worker served, whether it answers or not, from
clients that wait two seconds. Freshness: 1,000 events/s through a real Kafka; a marked event is
produced and asked for over HTTP until it is in the answer.
"""

from __future__ import annotations

import argparse
import asyncio
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
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import online as shared
import polars as pl

from sequence_platform.catalog import load_plan
from sequence_platform.dev.kafka_broker import KafkaBroker
from sequence_platform.dev.kafka_jars import ensure_jars
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
CLIENTS = 2
PATIENCE = 2.0
"""Seconds that a client of the overload waits for an answer."""
FEAST = """
from datetime import timedelta

from feast import Entity, FeatureView, Field, FileSource, ValueType
from feast.types import Array, Float32, Int32, Int64

user = Entity(name="user", join_keys=["user"], value_type=ValueType.INT64)
engagements = FeatureView(
    name="engagements", entities=[user], ttl=timedelta(days=36500),
    source=FileSource(path="users.parquet", timestamp_field="at"),
    schema=[Field(name="event_time", dtype=Array(Int64)), Field(name="item_id", dtype=Array(Int64)),
            Field(name="dwell_ms", dtype=Array(Int32)), Field(name="score", dtype=Array(Float32))])
"""
COMMAND = str(Path(sys.executable).with_name("sequence-platform"))
COLUMNS = ("event_time", "item_id", "dwell_ms", "score")
JSON_QUERY = f"limit=100&columns={','.join(COLUMNS)}"
ARROW_QUERY = f"columns={','.join(COLUMNS)},vector"
ARROW = {"Accept": "application/vnd.apache.arrow.stream"}
PROBED = "/v1/sequences/engagements/5000000?limit=1&columns=item_id"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(command: list[str], port: int, **environment: str) -> Iterator[None]:
    nowhere = subprocess.DEVNULL
    process = subprocess.Popen(
        command, env=os.environ | environment, stdout=nowhere, stderr=nowhere
    )
    try:
        for _ in range(600):
            assert process.poll() is None, f"{command[0]} ended with {process.returncode}"
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            time.sleep(0.1)
        yield
    finally:
        process.terminate()
        process.wait()


def ask(
    port: int, paths: list[str], headers: dict[str, str], bodies: list[bytes] | None = None
) -> list[float]:
    """Return the seconds that each request took; with bodies they are posted."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    taken = []
    method = "GET" if bodies is None else "POST"
    for path, body in zip(paths, bodies or [b""] * len(paths), strict=True):
        began = time.perf_counter()
        connection.request(method, path, body or None, headers)
        answer = connection.getresponse()
        text = answer.read()
        taken.append(time.perf_counter() - began)
        assert answer.status == 200, text[:300]
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


def load(
    label: str, work: Callable[..., list[float]], *arguments: object, clients: int = CLIENTS
) -> float:
    """Run clients side by side; print and return how many requests a second were answered."""
    with ProcessPoolExecutor(clients) as pool:
        began = time.perf_counter()
        running_ = [pool.submit(work, *arguments) for _ in range(clients)]
        taken = np.concatenate([each.result() for each in running_])
        seconds = time.perf_counter() - began
    p50, p99 = np.percentile(taken * 1e3, [50, 99])
    print(f"{label:<44}{len(taken) / seconds:>9,.0f}/s{p50:>9.2f} ms{p99:>9.2f} ms")
    return len(taken) / seconds


def offer(port: int, paths: list[str], rate: float) -> list[tuple[int, float]]:
    """Send requests at a rate; return status (0: gave up) and seconds since each was due."""
    return asyncio.run(_offer(port, paths, rate))


async def _offer(port: int, paths: list[str], rate: float) -> list[tuple[int, float]]:
    free: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def one(path: str, due: float) -> tuple[int, float]:
        reader, writer = free.pop() if free else await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
            async with asyncio.timeout_at(due + PATIENCE):
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                length = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
                await reader.readexactly(length)
        except (TimeoutError, OSError):
            writer.close()
            return 0, PATIENCE
        free.append((reader, writer))
        return int(head.split()[1]), loop.time() - due

    loop = asyncio.get_running_loop()
    began = loop.time()
    asked = []
    for number, path in enumerate(paths):
        due = began + number / rate
        await asyncio.sleep(max(0.0, due - loop.time()))
        asked.append(asyncio.create_task(one(path, due)))
    found = await asyncio.gather(*asked)
    for _, writer in free:
        writer.close()
    return found


def overload(port: int, paths: list[str], rate: float) -> None:
    """Offer so many requests a second for ten seconds, from two processes."""
    some = np.random.default_rng(4).choice(paths, int(rate * 10 / CLIENTS)).tolist()
    with ProcessPoolExecutor(CLIENTS) as pool:
        began = time.perf_counter()
        running_ = [pool.submit(offer, port, some, rate / CLIENTS) for _ in range(CLIENTS)]
        found = [each for done in running_ for each in done.result()]
        seconds = time.perf_counter() - began
    taken = np.array([each for status, each in found if status == 200])
    refused = sum(status in {429, 503} for status, _ in found)
    others = len(found) - len(taken) - refused
    label = f"twice that: {len(found) / seconds:,.0f}/s offered, answered"
    p50, p99 = np.percentile(taken * 1e3, [50, 99])
    print(f"{label:<44}{len(taken) / seconds:>9,.0f}/s{p50:>9.2f} ms{p99:>9.2f} ms")
    print(f"  refused {refused / len(found):.1%}, without an answer {others / len(found):.1%}")


def throughput(
    home: Path, environment: dict[str, str], users: int, requests: int, feast: Path | None
) -> None:
    event = load_plan(home / "definitions").events["engagement"]
    store = LocalOnlineStore(home / "home" / "online")
    start = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(
        days=30
    )
    rows = shared.rows(event, users, 500, start, timedelta(days=29))
    day_of = rows["event_time"].dt.date()
    days = ((day, rows.filter(day_of == day)) for day in day_of.unique().sort())
    shared.settle(store, event, days)
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
    for workers in ("1", "2"):
        port = free_port()
        serve = [COMMAND, "serve", "--port", str(port), "--workers", workers]
        with running(serve, port, **environment):
            ask(port, paths[:200], {})
            if workers == "1":
                rate = load("sequences, JSON, 100 x 4", ask, port, paths, {})
                load("sequences, Arrow, 500 x 4 + vector", ask, port, vectors, ARROW)
                overload(port, paths, 2 * rate)
            # A connection stays with a worker: two may share one.
            label = f"the same JSON, 8 clients, workers: {workers}"
            load(label, ask, port, paths[: len(paths) // 2], {}, clients=8)
    run_feast(home / "feast", feast, rows, who)
    binary = shutil.which("redis-server")
    if binary is None:
        return
    port = free_port()
    with running([binary, "--port", str(port), "--bind", "127.0.0.1", "--save", ""], port):
        from redis import Redis

        pipe = Redis(port=port).pipeline(transaction=False)
        plain = rows.with_columns(pl.col("event_time").dt.epoch("us"))
        for at, row in enumerate(plain.select("entity", *COLUMNS, "vector").iter_rows(named=True)):
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


def run_feast(home: Path, python: Path | None, rows: pl.DataFrame, who: list[int]) -> None:
    """Ask Feast's feature server for the newest 100 events of each user, held as lists."""
    command = None if python is None else python.with_name("feast")
    if command is None or not command.exists():
        print(f"Feast left out: {f'no {command}' if command else 'no --feast PYTHON'}")
        return
    home.mkdir()
    (home / "definitions.py").write_text(FEAST)
    newest = rows.with_columns(pl.col("event_time").dt.epoch("us")).sort("entity", "event_time")
    lists = newest.group_by(pl.col("entity").alias("user")).agg(pl.col(COLUMNS).tail(100))
    at = pl.lit(datetime(2026, 1, 1, tzinfo=UTC)).alias("at")
    lists.with_columns(at).write_parquet(home / "users.parquet")
    expected = lists.row(by_predicate=pl.col("user") == who[0], named=True)
    stores = {"SQLite": "{type: sqlite, path: online.db}"}
    with ExitStack() as stack:
        if binary := shutil.which("redis-server"):
            port = free_port()
            redis = [binary, "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
            stack.enter_context(running(redis, port))
            stores["Redis"] = f'{{type: redis, connection_string: "127.0.0.1:{port}"}}'
        for label, store in stores.items():
            (home / "feature_store.yaml").write_text(
                f"project: bench\nregistry: {label}.db\nprovider: local\n"
                f"online_store: {store}\nentity_key_serialization_version: 3\n"
            )
            for words in (["apply"], ["materialize", "2025-01-01", "2027-01-01"]):
                subprocess.run([command, *words], cwd=home, check=True, capture_output=True)
            load_feast(str(command), home, label, expected, who)


def load_feast(
    command: str, home: Path, label: str, expected: Mapping[str, list[float]], who: list[int]
) -> None:
    """Start the feature server, see that it answers the same, and load it."""
    port = free_port()
    serve = [command, "--chdir", str(home), "serve", "--port", str(port), "--no-access-log"]
    features = [f"engagements:{name}" for name in COLUMNS]
    bodies = [
        json.dumps({"features": features, "entities": {"user": [user]}}).encode() for user in who
    ]
    paths, headers = ["/get-online-features"] * len(who), {"Content-Type": "application/json"}
    # Its workers end after 1,000 requests unless told otherwise; it keeps a socket in HOME.
    with running([*serve, "--max-requests", "10000000"], port, HOME=str(home), FEAST_USAGE="0"):
        connection = http.client.HTTPConnection("127.0.0.1", port)
        connection.request("POST", paths[0], bodies[0], headers)
        answer = json.loads(connection.getresponse().read())
        for name, found in zip(answer["metadata"]["feature_names"], answer["results"], strict=True):
            values = found["values"][0]
            np.testing.assert_allclose(values, expected[name], rtol=1e-6)
        ask(port, paths[:200], headers, bodies[:200])
        load(f"Feast on {label}, JSON, 100 x 4", ask, port, paths, headers, bodies)


def freshness(home: Path, environment: dict[str, str], seconds: float) -> None:
    broker = KafkaBroker(ensure_jars(Settings().cache), home / "kafka")
    broker.start()
    try:
        environment = environment | {"KAFKA_BOOTSTRAP_SERVERS": broker.address}
        writer = KafkaLogWriter(broker.address)
        writer.create_topic("engagement", 2)
        port = free_port()
        stream = subprocess.Popen(
            [COMMAND, "stream", "--to", "online"], env=os.environ | environment,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            with running([COMMAND, "serve", "--port", str(port)], port, **environment):
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
    parser.add_argument("--feast", type=Path, help="an interpreter that has Feast")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        (home / "definitions").mkdir()
        (home / "definitions" / "all.py").write_text(DEFINITIONS)
        environment = {
            "SEQUENCE_PLATFORM_HOME": str(home / "home"),
            "SEQUENCE_PLATFORM_DEFINITIONS": str(home / "definitions"),
        }
        throughput(home, environment, given.users, given.requests, given.feast)
        if given.seconds:
            freshness(home, environment, given.seconds)


if __name__ == "__main__":
    main()
