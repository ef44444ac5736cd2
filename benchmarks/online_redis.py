"""Reading online from Redis: columns in chunks and a tail, against a list of JSON events.

    python benchmarks/online_redis.py [--users 300] [--events 500] [--tail 20] [--reads 2000]

Both are in one Redis, which is started for it on loopback. The list holds of each event only the
four columns that are read, one JSON object an event, so that it has nothing else to carry; the
platform holds fifteen and a vector, and merges settled rows with those that streamed in since.
Reads take turns; answers are asserted equal.
"""

from __future__ import annotations

import argparse
import json
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import redis
from online import DAYS, FIRST, FOUR, NOW, definitions, rows

from sequence_platform.clock import FixedClock
from sequence_platform.engine.enrich import Enriched
from sequence_platform.plan.compile import compile_plan
from sequence_platform.plan.plan import KEY_ORDER, EventPlan
from sequence_platform.ports import LogPartition, OffsetMove
from sequence_platform.ports.online import DayRows, DayVersion, Reflected, TailAppend
from sequence_platform.runtimes.serving import Query, SequenceReader
from sequence_platform.stores.redis_online import RedisOnlineStore
from sequence_platform.stores.redis_online.connection import Client


@contextmanager
def redis_server() -> Iterator[str]:
    """Start a Redis on a port that the system gives, and end it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    binary = shutil.which("redis-server") or shutil.which("valkey-server")
    if binary is None:
        raise SystemExit("no redis-server here (Debian: apt-get install redis-server)")
    with tempfile.TemporaryDirectory() as home:
        command = [binary, "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--dir", home]
        server = subprocess.Popen([*command, "--appendonly", "no"], stdout=subprocess.DEVNULL)
        try:
            client = redis.Redis(port=port)
            for _ in range(200):
                try:
                    client.ping()
                    break
                except redis.exceptions.ConnectionError:
                    time.sleep(0.05)
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            server.terminate()
            server.wait()


def fill(
    store: RedisOnlineStore, event: EventPlan, users: int, events: int, tail: int
) -> tuple[pl.DataFrame, float, float]:
    """Publish days and stream a tail; return all rows, and seconds of both."""
    start = datetime(FIRST.year, FIRST.month, FIRST.day, tzinfo=UTC)
    settled = rows(event, users, events - tail, start, timedelta(days=DAYS))
    fresh = rows(event, users, tail, NOW - timedelta(hours=1), timedelta(hours=1))
    none = Enriched.empty(event).rejected
    began = time.perf_counter()
    for day, part in sorted(settled.group_by(pl.col("event_time").dt.date().alias("day"))):
        version = DayVersion(str(day[0]), Reflected())
        at = NOW + timedelta(days=day[0].day)  # what was merged away is not young any more
        store.publish(event, [DayRows(day[0], part.sort(KEY_ORDER), none, version)], at)
        store.compact(event, at)
    published = time.perf_counter() - began
    began = time.perf_counter()
    place, next_ = LogPartition("engagement", 0), None
    for part in fresh.sample(fraction=1, shuffle=True, seed=1).iter_slices(100):
        move = OffsetMove(place, "id", next_, (next_ or 0) + part.height)
        store.append(TailAppend(event, part, none, [move], NOW))
        next_ = move.next
    appended = time.perf_counter() - began
    return pl.concat([settled, fresh]).sort("entity", "event_time"), published, appended


def fill_lists(client: Client, all_: pl.DataFrame) -> None:
    """Write each user's events as a list of JSON objects."""
    for (user,), part in all_.select("entity", *FOUR).group_by("entity"):
        named = part.sort("event_time").with_columns(pl.col("event_time").to_physical())
        client.rpush(f"json:{user}", *map(json.dumps, named.drop("entity").iter_rows(named=True)))


def read_list(client: Client, user: int) -> dict[str, list[Any]]:
    events = [json.loads(text) for text in client.lrange(f"json:{user}", 0, -1)]
    return {name: [event[name] for event in events] for name in FOUR}


def memory(client: Client) -> int:
    return int(client.info("memory")["used_memory"])


def main() -> None:
    parser = argparse.ArgumentParser()
    for name, value in (("users", 300), ("events", 500), ("tail", 20), ("reads", 2000)):
        parser.add_argument(f"--{name}", type=int, default=value)
    asked = parser.parse_args()
    plan = compile_plan(definitions(asked.events))
    [event] = plan.events.values()
    with redis_server() as url:
        client, store = redis.Redis.from_url(url), RedisOnlineStore(url)
        empty = memory(client)
        all_, published, appended = fill(store, event, asked.users, asked.events, asked.tail)
        store.collect(event, keep=timedelta(0), at=NOW + timedelta(days=99))
        ours = memory(client) - empty
        fill_lists(client, all_)
        lists = memory(client) - empty - ours
        reader = SequenceReader(plan, store, FixedClock(NOW))
        query = Query(columns=FOUR)
        times = np.empty((asked.reads, 2))
        for at, user in enumerate(np.random.default_rng(5).integers(0, asked.users, asked.reads)):
            began = time.perf_counter()
            answer = reader.read("engagements", int(user), query)
            between = time.perf_counter()
            expected = read_list(client, int(user))
            times[at] = between - began, time.perf_counter() - between
            if at % 50 == 0:
                assert answer.length == asked.events
                for name in FOUR:
                    found = answer.columns[name].to_series(name).to_physical().to_list()
                    assert found == expected[name], name
        store.close()
    p50, p99 = np.percentile(times[100:], [50, 99], axis=0) * 1e6
    count = asked.users * asked.events
    print(f"{asked.events} events ({asked.tail} in the tail) x {len(FOUR)} columns, microseconds")
    for at, name in enumerate(("platform on Redis", "LRANGE of JSON")):
        print(f"  {name:<20} p50 {p50[at]:8.0f}   p99 {p99[at]:8.0f}")
    print(f"  ratio of medians     {p50[1] / p50[0]:.1f}")
    print(f"publishing and merging {count / published:,.0f} events/s")
    print(f"flushes of 100 events  {asked.users * asked.tail / appended:,.0f} events/s")
    print(
        f"memory of a user: platform, 15 columns and a vector {ours / asked.users / 1024:,.0f} KB, "
    )
    print(f"                  JSON of four columns {lists / asked.users / 1024:,.0f} KB")


if __name__ == "__main__":
    main()
