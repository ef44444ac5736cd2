"""What a worker tells, as events of Dagster: gathered, by partition, and with a sign of life."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import dagster as dg
import pytest

from sequence_platform.definition import EventType, Log
from sequence_platform.orchestration.keys import daily_partitions
from sequence_platform.orchestration.stream_reports import StreamReporter
from sequence_platform.ports import LogPartition, OffsetMove, PartitionState
from sequence_platform.runtimes.streaming import DayFlush, Flushed, StreamReport
from sequence_platform_tests.unit.plan.examples import click, compiled, save

DAY = date(2026, 3, 2)
NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
FAR = date(2999, 1, 1)
RAW, ENRICHED = dg.AssetKey(["raw", "click"]), dg.AssetKey(["enriched", "click"])
Event = dg.AssetMaterialization | dg.AssetObservation


@dataclass
class Listener:
    """A reporter and all that it passed on."""

    events: list[Event] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        definitions: list[EventType] = [click(log=Log("clicks")), save(log=Log("saves"))]
        plans = compiled(*definitions).events
        partitions = {name: daily_partitions(date(2026, 3, 1)) for name in plans}
        self.reporter = StreamReporter(
            plans,
            partitions,
            shard="0/2",
            log=self.events.append,
            warn=self.warnings.append,
            say=self.said.append,
        )

    def tell(self, flushed: Flushed | None = None, lag: int = 0, trouble: str = "") -> None:
        self.reporter.tell(StreamReport(flushed, {"click": lag}, trouble))

    def of(self, key: dg.AssetKey) -> list[dict[str, Any]]:
        """Return the partition and metadata of what was told of an asset."""
        return [
            {"partition": event.partition} | {k: v.value for k, v in event.metadata.items()}
            for event in self.events
            if event.asset_key == key
        ]


def flush(received: int = 3, admitted: int = 2, **changes: Any) -> Flushed:
    after = PartitionState(version=4, rows=90, state="open")
    fields: dict[str, Any] = {
        "event": "click",
        "messages": received + 1,
        "days": {DAY: DayFlush(received, admitted, is_late=False, after=after)},
        "dead": 1,
        "offsets": (OffsetMove(LogPartition("clicks", 4), "x", 5, 9),),
        "corrected": (),
        "newest_event_time": NOON,
        "oldest_appended": NOON,
        "newest_appended": NOON,
        "committed_at": NOON + timedelta(seconds=2),
    }
    return Flushed(**(fields | changes))


@pytest.fixture
def listener() -> Listener:
    return Listener()


def test_a_flush_is_a_materialization_of_both_tables(listener: Listener) -> None:
    listener.tell(flush(), lag=7)
    common = {
        "partition": "2026-03-02",
        "shard": "0/2",
        "lag": 7,
        "offsets": {"clicks/4": 9},
        "newest_event_time": NOON.timestamp(),
        "freshness_seconds": 2.0,
        "dead_letters": 1,
        "messages": 3,
        "late": 0,
    }
    assert listener.of(RAW) == [common]
    assert listener.of(ENRICHED) == [
        common
        | {"dagster/partition_row_count": 90, "rows_gained": 2, "state": "open", "version": 4}
    ]
    assert listener.said == ["click: 4 messages, 1 dead, lag 7, readable after 2.0 s at most"]


def test_flushes_in_quick_succession_are_told_of_together(listener: Listener) -> None:
    listener.tell(flush(1, 1))
    slow = flush(5, 4, committed_at=NOON + timedelta(seconds=9))
    late = replace(
        flush(2, -1),
        days={DAY: DayFlush(2, -1, is_late=True, after=PartitionState(7, 93, "corrected"))},
        newest_event_time=NOON - timedelta(hours=1),
        offsets=(OffsetMove(LogPartition("clicks", 5), "x", None, 2),),
    )
    for told in (slow, late):
        listener.tell(told)
    assert len(listener.of(ENRICHED)) == 1
    listener.reporter.finish()
    _, told_of = listener.of(ENRICHED)
    assert told_of["messages"] == 7
    assert told_of["rows_gained"] == 3
    assert told_of["late"] == 2
    assert told_of["dead_letters"] == 2
    assert told_of["freshness_seconds"] == 9.0
    assert (told_of["state"], told_of["version"]) == ("corrected", 7)
    assert told_of["dagster/partition_row_count"] == 93
    assert told_of["offsets"] == {"clicks/4": 9, "clicks/5": 2}
    assert told_of["newest_event_time"] == NOON.timestamp()


def test_every_day_of_a_flush_is_a_partition_but_those_that_dagster_does_not_have(
    listener: Listener,
) -> None:
    days = dict.fromkeys([DAY, date(2026, 3, 1), FAR], flush().days[DAY])
    listener.tell(flush(days=days))
    partitions = [told["partition"] for told in listener.of(ENRICHED)]
    assert partitions == ["2026-03-01", "2026-03-02"]


def test_a_stream_that_is_idle_is_observed_with_its_lag(listener: Listener) -> None:
    listener.tell(lag=3)
    [first] = listener.of(RAW)
    assert first == {"partition": None, "shard": "0/2", "lag": 3, "offsets": {}}
    assert all(isinstance(event, dg.AssetObservation) for event in listener.events)
    listener.tell(lag=2)
    assert len(listener.of(RAW)) == 1  # a sign of life a minute


def test_a_flush_that_only_moved_offsets_is_no_materialization(listener: Listener) -> None:
    listener.tell(flush(messages=0, days={}, dead=0))
    assert not any(isinstance(event, dg.AssetMaterialization) for event in listener.events)
    [told] = listener.of(RAW)
    assert told["offsets"] == {"clicks/4": 9}


def test_dead_letters_alone_are_said(listener: Listener) -> None:
    listener.tell(flush(messages=2, days={}, dead=2))
    assert listener.said == ["click: 2 messages, 2 dead, lag 0, readable after 2.0 s at most"]
    assert listener.of(ENRICHED) == []


def test_trouble_is_a_warning(listener: Listener) -> None:
    listener.tell(trouble="the broker is away")
    assert listener.warnings == ["waiting for what may pass: the broker is away"]


def test_an_end_with_nothing_left_says_nothing_more(listener: Listener) -> None:
    listener.tell(flush())
    told = len(listener.events)
    listener.reporter.finish()
    assert len(listener.events) == told
