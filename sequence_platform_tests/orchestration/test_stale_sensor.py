"""The sensor asks for sequence days whose events changed: once, and when the change stood still."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import dagster as dg

from sequence_platform.orchestration.definitions import build_definitions
from sequence_platform.orchestration.keys import range_tags
from sequence_platform.wiring import open_platform
from sequence_platform_tests.orchestration.project import Project

FEED = dg.AssetKey(["sequences", "feed"])
CLICK = dg.AssetKey(["enriched", "click"])


class Ticker:
    """Ticks the sensor as the daemon does: with the cursor of the tick before."""

    def __init__(self, project: Project, instance: dg.DagsterInstance) -> None:
        self.settings = project.settings
        self.definitions = build_definitions(project.settings)
        self.instance = instance
        self.cursor: str | None = None

    def tick(self) -> Sequence[dg.RunRequest]:
        sensor = self.definitions.resolve_sensor_def("stale_sequences")
        with open_platform(self.settings) as platform:
            context = dg.build_sensor_context(
                instance=self.instance,
                cursor=self.cursor,
                definitions=self.definitions,
                resources={"platform": platform},
            )
            evaluated = sensor.evaluate_tick(context)
        self.cursor = evaluated.cursor
        return evaluated.run_requests or ()

    def build(self, key: dg.AssetKey, start: date, end: date) -> None:
        job = self.definitions.resolve_job_def("build_feed")
        tags = range_tags(start, end)
        result = job.execute_in_process(instance=self.instance, asset_selection=[key], tags=tags)
        assert result.success


def days_of(request: dg.RunRequest) -> tuple[str, str]:
    return (
        request.tags["dagster/asset_partition_range_start"],
        request.tags["dagster/asset_partition_range_end"],
    )


def with_a_correction(project: Project, instance: dg.DagsterInstance) -> Ticker:
    """Of days that are built, one of clicks is built again with other rows."""
    ticker = Ticker(project, instance)
    project.write_day(date(2026, 1, 2), dwell=5)
    ticker.build(CLICK, date(2026, 1, 2), date(2026, 1, 3))
    return ticker


def test_nothing_is_asked_for_when_nothing_changed(
    built: Project, instance: dg.DagsterInstance
) -> None:
    ticker = Ticker(built, instance)
    assert [ticker.tick(), ticker.tick(), ticker.tick()] == [(), (), ()]


def test_a_changed_day_asks_for_all_days_that_look_back_on_it(
    built: Project, instance: dg.DagsterInstance
) -> None:
    ticker = with_a_correction(built, instance)
    ticker.tick()
    (request,) = ticker.tick()
    assert days_of(request) == ("2026-01-02", "2026-01-04")  # max_age is three days
    assert request.asset_selection == [FEED]


def test_a_day_is_asked_for_only_when_its_change_stood_still(
    built: Project, instance: dg.DagsterInstance
) -> None:
    ticker = with_a_correction(built, instance)
    assert not ticker.tick()
    built.write_day(date(2026, 1, 3), dwell=6)
    ticker.build(CLICK, date(2026, 1, 3), date(2026, 1, 4))
    (request,) = ticker.tick()
    assert days_of(request) == ("2026-01-02", "2026-01-02")  # the others changed once more
    (request,) = ticker.tick()
    assert days_of(request) == ("2026-01-02", "2026-01-05")


def test_the_same_change_keeps_its_run_key_and_another_gets_another(
    built: Project, instance: dg.DagsterInstance
) -> None:
    ticker = with_a_correction(built, instance)
    ticker.tick()
    (first,), (again,) = ticker.tick(), ticker.tick()
    assert first.run_key == again.run_key
    built.write_day(date(2026, 1, 2), dwell=7)
    ticker.build(CLICK, date(2026, 1, 2), date(2026, 1, 3))
    ticker.tick()
    (other,) = ticker.tick()
    assert days_of(other) == days_of(first)
    assert other.run_key != first.run_key


def test_nothing_is_asked_for_while_a_run_builds_the_sequence_or_its_events(
    built: Project, instance: dg.DagsterInstance
) -> None:
    ticker = with_a_correction(built, instance)
    ticker.tick()
    job = ticker.definitions.resolve_job_def("build_feed")
    run = instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED)
    assert not ticker.tick()
    instance.report_run_canceled(run)
    ticker.tick()
    assert len(ticker.tick()) == 1


def test_what_was_asked_for_makes_the_sequence_current(
    built: Project, instance: dg.DagsterInstance
) -> None:
    ticker = with_a_correction(built, instance)
    ticker.tick()
    (request,) = ticker.tick()
    job = ticker.definitions.resolve_implicit_global_asset_job_def()
    result = job.execute_in_process(
        instance=instance, asset_selection=[FEED], tags=dict(request.tags)
    )
    assert result.success
    assert [ticker.tick(), ticker.tick()] == [(), ()]
