"""Schedules ask for a day when its events had their time to arrive."""

from __future__ import annotations

from datetime import UTC, datetime

import dagster as dg
import pytest

from sequence_platform.orchestration.definitions import build_definitions
from sequence_platform.settings import Settings
from sequence_platform_tests.orchestration.project import DEFINITIONS, Project


def tick(settings: Settings, at: datetime) -> dg.RunRequest:
    definitions = build_definitions(settings)
    schedule = definitions.resolve_schedule_def("build_feed_daily")
    context = dg.build_schedule_context(
        scheduled_execution_time=at, repository_def=definitions.get_repository_def()
    )
    (request,) = schedule.evaluate_tick(context).run_requests or ()
    return request


def test_a_tick_asks_for_yesterday_once(project: Project) -> None:
    request = tick(project.settings, datetime(2026, 1, 6, 6, 0, tzinfo=UTC))
    assert request.partition_key == "2026-01-05"
    assert request.run_key == "2026-01-05"


@pytest.mark.parametrize(
    ("lateness", "cron", "at", "day"),
    [
        ("minutes=90", "0 6 * * *", datetime(2026, 1, 6, 6, 0, tzinfo=UTC), "2026-01-05"),
        (
            "hours=7, minutes=15",
            "15 7 * * *",
            datetime(2026, 1, 6, 7, 15, tzinfo=UTC),
            "2026-01-05",
        ),
        ("hours=30", "0 6 * * *", datetime(2026, 1, 7, 6, 0, tzinfo=UTC), "2026-01-05"),
        ("days=2", "0 0 * * *", datetime(2026, 1, 8, 0, 0, tzinfo=UTC), "2026-01-05"),
    ],
)
def test_a_day_waits_for_the_longest_allowed_lateness(
    project: Project, lateness: str, cron: str, at: datetime, day: str
) -> None:
    text = DEFINITIONS.replace("hours=2, minutes=30", lateness)  # of save; click has 6 hours
    (project.settings.definitions / "feed.py").write_text(text)
    schedule = build_definitions(project.settings).resolve_schedule_def("build_feed_daily")
    assert schedule.cron_schedule == cron
    assert tick(project.settings, at).partition_key == day


def test_a_day_waits_for_later_files_that_may_hold_its_events(project: Project) -> None:
    text = DEFINITIONS.replace(
        '"clicks/{day}.parquet"', '"clicks/{day}.parquet", late=timedelta(days=1)'
    )
    (project.settings.definitions / "feed.py").write_text(text)
    request = tick(project.settings, datetime(2026, 1, 7, 0, 0, tzinfo=UTC))
    assert request.partition_key == "2026-01-05"


def test_the_upkeep_runs_and_tells_what_it_did(project: Project) -> None:
    definitions = build_definitions(project.settings)
    with dg.DagsterInstance.ephemeral() as instance:
        definitions.resolve_job_def("build_feed").execute_in_process(
            instance=instance, partition_key="2026-01-01"
        )
        result = definitions.resolve_job_def("maintain_lake").execute_in_process(instance=instance)
    (output,) = [e for e in result.all_events if e.is_successful_output]
    told = {"files", "bytes", "snapshots_expired", "beyond_retention"}
    assert set(output.step_output_data.metadata) == told
