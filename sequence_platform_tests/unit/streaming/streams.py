"""What the tests of streaming share: clicks in a log in memory, and a lake of few tables."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from threading import Event
from typing import Any

import polars as pl

from sequence_platform.clock import FixedClock
from sequence_platform.definition import EventType, Log
from sequence_platform.plan.compile import Located, compile_plan
from sequence_platform.plan.plan import EventPlan, Window
from sequence_platform.plan.tables import all_tables, enriched_table, raw_table
from sequence_platform.ports import LogPartition
from sequence_platform.runtimes.streaming import (
    Flushed,
    LakeStream,
    Pace,
    Shard,
    StreamReport,
    StreamWorker,
)
from sequence_platform.sources.memory_log import (
    Failures,
    MemoryLog,
    MemoryLogWriter,
    MemoryTopics,
)
from sequence_platform.stores.ducklake import DuckLakeLake

START = date(2026, 3, 1)
NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
DAY = NOON.date()
CLOCK = FixedClock(datetime(2026, 3, 10, tzinfo=UTC))
EVER = Window(datetime(1900, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC))
AT_ONCE = Pace(flush_seconds=0.05, poll_seconds=0.02, look_seconds=0.1)
IN_ONE = Pace(flush_seconds=60, poll_seconds=0.02, look_seconds=60)
"""Nothing is flushed before the end."""
PATIENCE_SECONDS = 60.0


def click(name: str, topic: str, **changes: Any) -> EventType:
    fields: dict[str, Any] = {
        "name": name,
        "owner": "team:feed",
        "schema": {
            "id": pl.String,
            "user": pl.Int64,
            "at": pl.Datetime("us", "UTC"),
            "pin": pl.Int64,
        },
        "event_id": "id",
        "event_time": "at",
        "entity": "user",
        "log": Log(topic),
        "start": START,
    }
    return EventType(**(fields | changes))


def message(event_id: str, at: datetime | str = NOON, **values: Any) -> bytes:
    told = at if isinstance(at, str) else at.isoformat()
    return json.dumps({"id": event_id, "user": 1, "at": told, "pin": 7} | values).encode()


def messages(*event_ids: str) -> list[bytes]:
    return [message(event_id) for event_id in event_ids]


@dataclass(slots=True)
class Heard:
    """What a worker told, and a stop that is set when enough was heard."""

    flushes: list[Flushed] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)
    lags: list[Mapping[str, int]] = field(default_factory=list)

    def tell(self, report: StreamReport) -> None:
        self.lags.append(dict(report.lag))
        if report.trouble:
            self.troubles.append(report.trouble)
        if report.flushed is not None:
            self.flushes.append(report.flushed)

    @property
    def sizes(self) -> list[int]:
        """Messages of each flush; those that only moved offsets are left out."""
        return [flush.messages for flush in self.flushes if flush.messages]


@dataclass(slots=True)
class Streams:
    """Event types of one project, the log they come from and the lake they go to."""

    lake: DuckLakeLake
    prefix: str
    topics: MemoryTopics = field(default_factory=lambda: MemoryTopics(CLOCK))
    events: dict[str, EventPlan] = field(default_factory=dict)

    def define(self, name: str = "click", topic: str = "clicks", **changes: Any) -> EventPlan:
        """Add an event type, or define it anew; its tables are those of this test alone."""
        definition = click(f"{self.prefix}_{name}", topic, **changes)
        plan = compile_plan([Located("tests.py", definition)])
        self.lake.ensure_tables(all_tables(plan))
        [self.events[name]] = plan.events.values()
        return self.events[name]

    def send(self, *values: bytes | None, topic: str = "clicks", partitions: int = 1) -> None:
        """Append messages in turn to the partitions of a topic."""
        self.topics.create(topic, partitions)
        MemoryLogWriter(self.topics).append(topic, values)

    def send_to(self, partition: int, *values: bytes, topic: str = "clicks") -> None:
        """Append messages to one partition: of a topic of several, by key."""
        keys = [key_of(partition, len(self.topics.bounds(topic)))] * len(values)
        MemoryLogWriter(self.topics).append(topic, values, keys)

    def worker(
        self,
        heard: Heard | None = None,
        *,
        failures: Failures | None = None,
        shard: Shard | None = None,
        pace: Pace = IN_ONE,
        names: Iterable[str] | None = None,
    ) -> StreamWorker:
        events = [self.events[name] for name in names or self.events]
        tell = None if heard is None else heard.tell
        log = MemoryLog(self.topics, failures)
        return StreamWorker(
            log, LakeStream(self.lake, CLOCK), events, CLOCK, shard=shard, pace=pace, tell=tell
        )

    def catch_up(self, **values: Any) -> Heard:
        """Let a new worker read all that the log holds."""
        heard = Heard()
        self.worker(heard, **values).run(Event(), until_caught_up=True)
        return heard

    def ids(self, name: str = "click") -> list[str]:
        """Return the ids of all rows, sorted: one that is there twice is named twice."""
        spec = enriched_table(self.events[name])
        return sorted(self.lake.read_events(spec, ["event_id"], EVER)["event_id"])

    def raw_ids(self, name: str = "click", days: Sequence[date] = (DAY,)) -> list[str]:
        spec = raw_table(self.events[name])
        return sorted(x for day in days for x in self.lake.read_raw(spec, day)["id"])

    def letters(self, name: str = "click") -> pl.DataFrame:
        return self.lake.dead_letters(raw_table(self.events[name]))

    def offsets(self, name: str = "click") -> dict[LogPartition, int]:
        found = self.lake.offsets(raw_table(self.events[name]))
        columns = found.select("topic", "log_partition", "next_offset").iter_rows()
        return {LogPartition(topic, partition): offset for topic, partition, offset in columns}


def key_of(partition: int, partitions: int) -> bytes:
    """Return a key whose messages go to a partition."""
    for number in range(1000):
        topics = MemoryTopics(CLOCK)
        topics.create("t", partitions)
        key = str(number).encode()
        MemoryLogWriter(topics).append("t", [b"x"], [key])
        if topics.bounds("t")[partition].end:
            return key
    raise AssertionError(f"no key leads to partition {partition}")


def minutes(count: int) -> timedelta:
    return timedelta(minutes=count)
