"""The sensor asks for days of streams whose lateness is over: once, when they stand still."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from threading import Event

import dagster as dg
import pytest

from sequence_platform.clock import FixedClock
from sequence_platform.orchestration.definitions import build_definitions
from sequence_platform.runtimes.batch import build_events
from sequence_platform.runtimes.streaming import LakeStream, StreamWorker
from sequence_platform.sources.memory_log import MemoryLog, MemoryLogWriter, MemoryTopics
from sequence_platform.wiring import Platform, open_platform
from sequence_platform_tests.orchestration.project import Project

NOW = datetime(2026, 1, 4, 7, tzinfo=UTC)
"""An hour after the lateness of clicks (6 hours) of the third of January is over."""
CLICK = dg.AssetKey(["enriched", "click"])


class Ticker:
    """Streams clicks, and ticks the sensor as the daemon does: with the cursor before."""

    def __init__(self, project: Project, instance: dg.DagsterInstance) -> None:
        file = project.root / "definitions" / "feed.py"
        text = file.read_text().replace("Enrichment, EventType,", "Enrichment, EventType, Log,")
        file.write_text(text.replace('batch=Files("clicks/{day}.parquet")', 'log=Log("clicks")'))
        self.settings = project.settings
        self.definitions = build_definitions(project.settings)
        self.instance = instance
        self.cursor: str | None = None
        self.topics = MemoryTopics(FixedClock(NOW))
        self.topics.create("clicks", 1)
        self.sent = 0

    @contextmanager
    def platform(self, now: datetime) -> Iterator[Platform]:
        with open_platform(self.settings, clock=FixedClock(now)) as opened:
            yield opened

    def stream(self, *days: date) -> None:
        """Let a click come for each of some days."""
        for day in days:
            at = datetime(day.year, day.month, day.day, 9, tzinfo=UTC)
            row = {
                "id": f"{self.sent}",
                "user_id": 1,
                "at": at.isoformat(),
                "pin_id": 1,
                "dwell": 1,
            }
            MemoryLogWriter(self.topics).append("clicks", [json.dumps(row).encode()])
            self.sent += 1
        with self.platform(NOW) as platform:
            event = platform.plan.events["click"]
            worker = StreamWorker(
                MemoryLog(self.topics),
                LakeStream(platform.lake, platform.clock),
                [event],
                platform.clock,
            )
            worker.run(Event(), until_caught_up=True)

    def seal(self, day: date) -> None:
        with self.platform(NOW) as platform:
            event = platform.plan.events["click"]
            build_events(platform.lake, None, event, day, platform.clock)

    def tick(self, now: datetime = NOW) -> Sequence[dg.RunRequest]:
        sensor = self.definitions.resolve_sensor_def("unsealed_days")
        with self.platform(now) as platform:
            context = dg.build_sensor_context(
                instance=self.instance,
                cursor=self.cursor,
                definitions=self.definitions,
                resources={"platform": platform},
            )
            evaluated = sensor.evaluate_tick(context)
        self.cursor = evaluated.cursor
        return evaluated.run_requests or ()


def january(day: int) -> date:
    return date(2026, 1, day)


def days_of(request: dg.RunRequest) -> tuple[str, str]:
    return (
        request.tags["dagster/asset_partition_range_start"],
        request.tags["dagster/asset_partition_range_end"],
    )


@pytest.fixture
def ticker(project: Project, instance: dg.DagsterInstance) -> Ticker:
    return Ticker(project, instance)


def test_without_a_log_there_is_no_such_sensor(project: Project) -> None:
    definitions = build_definitions(project.settings)
    assert not [s for s in definitions.sensors or [] if s.name == "unsealed_days"]


def test_nothing_is_asked_for_where_nothing_was_streamed(ticker: Ticker) -> None:
    assert [ticker.tick(), ticker.tick()] == [(), ()]


def test_days_whose_lateness_is_over_are_asked_for_once_they_stood_still(ticker: Ticker) -> None:
    ticker.stream(january(1), january(2), january(3), january(4))
    assert not ticker.tick()
    [request] = ticker.tick()
    assert days_of(request) == ("2026-01-01", "2026-01-03")  # the fourth is not over
    assert request.asset_selection == [CLICK]
    [again] = ticker.tick()
    assert again.run_key == request.run_key


def test_a_day_is_not_asked_for_before_its_lateness_is_over(ticker: Ticker) -> None:
    ticker.stream(january(3))
    early = NOW - timedelta(hours=1, seconds=1)
    assert [ticker.tick(early), ticker.tick(early)] == [(), ()]
    ticker.tick()
    assert len(ticker.tick()) == 1


def test_a_day_that_streams_still_fill_does_not_keep_others_waiting(ticker: Ticker) -> None:
    ticker.stream(january(1), january(3))
    ticker.tick()
    ticker.stream(january(3))
    [request] = ticker.tick()
    assert days_of(request) == ("2026-01-01", "2026-01-01")
    assert len(ticker.tick()) == 2


def test_a_sealed_day_is_asked_for_again_when_late_events_came(ticker: Ticker) -> None:
    ticker.stream(january(2))
    ticker.tick()
    [first] = ticker.tick()
    ticker.seal(january(2))
    assert [ticker.tick(), ticker.tick()] == [(), ()]
    ticker.stream(january(2))
    ticker.tick()
    [again] = ticker.tick()
    assert days_of(again) == days_of(first)
    assert again.run_key != first.run_key


def test_nothing_is_asked_for_while_a_run_builds_the_event_type(ticker: Ticker) -> None:
    ticker.stream(january(2))
    ticker.tick()
    job = ticker.definitions.resolve_job_def("build_feed")
    run = ticker.instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED)
    assert not ticker.tick()
    ticker.instance.report_run_canceled(run)
    ticker.tick()
    assert len(ticker.tick()) == 1
