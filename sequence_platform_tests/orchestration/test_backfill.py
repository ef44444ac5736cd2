"""Ranges built in this process: progress, runs, failures, and what the UI shows afterwards."""

from __future__ import annotations

from datetime import date

import dagster as dg
import pytest

from sequence_platform.errors import SequencePlatformError, StoreError
from sequence_platform.orchestration.backfill import Progress, materialize_range
from sequence_platform.orchestration.home import ensure_dagster_home
from sequence_platform_tests.orchestration.project import DAY, START, Project

END = START + 4 * DAY


def test_progress_is_told_of_every_partition_as_it_is_committed(project: Project) -> None:
    told: list[Progress] = []
    summary = materialize_range(
        project.settings, ["sequences/feed"], START, END, progress=told.append
    )
    assert summary.failures == []
    assert [p.done for p in told] == list(range(1, 14))
    assert {p.total for p in told} == {13}  # four days of three tables, and one enrichment
    assert [p.report.table for p in told[:2]] == ["enrichments.pins", "enriched.click"]
    assert told[-1].report.day == date(2026, 1, 4)


def test_long_ranges_are_cut_into_runs(project: Project) -> None:
    settings = project.settings.model_copy(update={"partitions_per_run": 3})
    summary = materialize_range(settings, [], START, END)
    assert len(summary.run_ids) == 5  # enrichments; three days, one day of events; of sequences
    assert len(summary.reports) == 13


def test_only_what_a_target_is_made_from_is_built(project: Project) -> None:
    summary = materialize_range(project.settings, ["enriched/save"], START, END)
    assert {report.table for report in summary.reports} == {"enriched.save"}


def test_days_before_the_first_are_not_asked_for(project: Project) -> None:
    summary = materialize_range(project.settings, ["enriched/save"], START - 10 * DAY, START + DAY)
    assert [report.day for report in summary.reports] == [START]


def test_runs_and_materializations_are_there_for_the_ui(project: Project) -> None:
    summary = materialize_range(project.settings, [], START, END)
    with dg.DagsterInstance.from_config(str(ensure_dagster_home(project.settings))) as instance:
        runs = instance.get_runs()
        assert {run.run_id for run in runs} == set(summary.run_ids)
        assert {run.status for run in runs} == {dg.DagsterRunStatus.SUCCESS}
        key = dg.AssetKey(["sequences", "feed"])
        assert len(instance.get_materialized_partitions(key)) == 4


def test_a_failed_day_is_in_the_summary_and_the_other_runs_go_on(project: Project) -> None:
    project.break_day(date(2026, 1, 2))
    settings = project.settings.model_copy(update={"partitions_per_run": 2})
    summary = materialize_range(settings, [], START, END)
    assert len(summary.failures) == 1
    assert "2026-01-02" in summary.failures[0]
    built = [report.day for report in summary.reports if report.table == "enriched.click"]
    assert built == [date(2026, 1, d) for d in (1, 3, 4)]
    feed = [report.day for report in summary.reports if report.table == "sequences.feed"]
    assert feed == [date(2026, 1, 1)]  # those after would lack the events of the failed day
    assert summary.withheld == {"sequences.feed": [date(2026, 1, d) for d in (2, 3, 4)]}


def test_a_target_that_does_not_exist_is_refused_with_what_does(project: Project) -> None:
    with pytest.raises(SequencePlatformError, match="sequences/feed") as caught:
        materialize_range(project.settings, ["sequences/fed"], START, END)
    assert "'sequences/fed'" in str(caught.value)


def test_damaged_records_of_dagster_are_told_apart_from_the_lake(project: Project) -> None:
    home = ensure_dagster_home(project.settings)
    (home / "history").mkdir()
    (home / "history" / "runs.db").write_bytes(b"this is no database" * 100)
    with pytest.raises(StoreError) as caught:
        materialize_range(project.settings, ["enriched/save"], START, START + DAY)
    assert caught.value.what == "Dagster's own records of runs cannot be kept"
    assert caught.value.where == str(home)
    assert "not a database" in caught.value.found


def test_the_terminal_stays_with_the_caller(
    project: Project, capfd: pytest.CaptureFixture[str]
) -> None:
    materialize_range(
        project.settings,
        ["enriched/save"],
        START,
        START + DAY,
        progress=lambda p: print(p.done),  # noqa: T201 - the terminal is what is tested
    )
    assert capfd.readouterr().out == "1\n"


def test_an_operators_own_instance_settings_stay(project: Project) -> None:
    home = ensure_dagster_home(project.settings)
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    assert ensure_dagster_home(project.settings) == home
    assert (home / "dagster.yaml").read_text() == "telemetry: {enabled: false}\n"
