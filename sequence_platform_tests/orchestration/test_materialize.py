"""Days built through Dagster: one commit and one materialization each, with its own numbers."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import Any

import dagster as dg
import pytest
from dagster_duckdb import DuckDBResource

from sequence_platform.catalog import load_plan
from sequence_platform.errors import StoreError
from sequence_platform.orchestration.definitions import build_definitions
from sequence_platform.orchestration.keys import range_tags
from sequence_platform.plan.tables import sequence_table
from sequence_platform.ports import Committed, PartitionCommit
from sequence_platform.settings import Settings
from sequence_platform.wiring import open_platform
from sequence_platform_tests.orchestration.project import DAY, START, USERS, Project

CLICK, SAVE, FEED = (
    dg.AssetKey(["enriched", "click"]),
    dg.AssetKey(["enriched", "save"]),
    dg.AssetKey(["sequences", "feed"]),
)


def run(
    settings: Settings, instance: dg.DagsterInstance, days: int, start: date = START
) -> dg.ExecuteInProcessResult:
    """Run the job of the sequence over some days, as a ranged run of a backfill does."""
    job = build_definitions(settings).resolve_job_def("build_feed")
    tags = range_tags(start, start + days * DAY)
    return job.execute_in_process(instance=instance, tags=tags, raise_on_error=False)


def latest(instance: dg.DagsterInstance, key: dg.AssetKey, day: date) -> dict[str, object]:
    """Return the metadata that the asset page shows for a day."""
    records = dg.AssetRecordsFilter(asset_key=key, asset_partitions=[day.isoformat()])
    newest = instance.fetch_materializations(records, limit=1).records[0].asset_materialization
    assert newest is not None
    return {name: value.value for name, value in newest.metadata.items()}


def built_days(instance: dg.DagsterInstance, key: dg.AssetKey) -> list[str]:
    return sorted(instance.get_materialized_partitions(key))


def ledger_rows(settings: Settings, table: str) -> list[int]:
    with open_platform(settings) as platform:
        return platform.lake.ledger(table).sort("day")["rows"].to_list()


def test_a_ranged_run_builds_every_day_of_every_table(
    project: Project, instance: dg.DagsterInstance
) -> None:
    assert run(project.settings, instance, days=4).success
    assert ledger_rows(project.settings, "enriched.click") == [2 * USERS] * 4
    assert ledger_rows(project.settings, "enriched.save") == [USERS] * 4
    assert ledger_rows(project.settings, "sequences.feed") == [USERS] * 4
    assert ledger_rows(project.settings, "enrichments.pins") == [2]


def test_a_single_partition_run_builds_that_day(
    project: Project, instance: dg.DagsterInstance
) -> None:
    job = build_definitions(project.settings).resolve_job_def("build_feed")
    assert job.execute_in_process(instance=instance, partition_key="2026-01-03").success
    assert built_days(instance, FEED) == ["2026-01-03"]


def test_sequences_hold_the_events_of_the_lookback_in_order(
    project: Project, instance: dg.DagsterInstance
) -> None:
    run(project.settings, instance, days=4)
    with open_platform(project.settings) as platform:
        table = sequence_table(platform.plan.sequences["feed"])
        columns = ["entity", "length", "event_type", "topic"]
        rows = platform.lake.read_snapshots(table, columns, date(2026, 1, 4)).sort("entity")
    assert rows["entity"].to_list() == [0, 1, 2]
    assert rows["length"].to_list() == [9, 9, 9]
    assert rows["event_type"][0].to_list() == ["click", "click", "save"] * 3
    assert rows["topic"][0].to_list() == ["cats", "boats", None] * 3


def test_each_day_shows_its_own_numbers_as_the_latest(
    project: Project, instance: dg.DagsterInstance
) -> None:
    project.write_day(date(2026, 1, 2), dwell=-1)
    run(project.settings, instance, days=3)
    ordinary, filtered = (latest(instance, CLICK, date(2026, 1, d)) for d in (1, 2))
    assert ordinary["dagster/partition_row_count"] == 6
    assert (ordinary["received"], ordinary["admitted"], ordinary["filtered"]) == (6, 6, 0)
    assert filtered["dagster/partition_row_count"] == 0
    assert (filtered["received"], filtered["admitted"], filtered["filtered"]) == (6, 0, 6)
    assert filtered["filtered_by_rule"] == {"dwelt": 6}
    assert isinstance(ordinary["bytes"], int)
    assert ordinary["bytes"] > 0
    assert ordinary["newest_event_time"] == 1767261600.0  # 2026-01-01 10:00 UTC
    assert ordinary["changed"] is True
    plan = load_plan(project.settings.definitions)
    assert ordinary["fingerprint"] == plan.events["click"].fingerprint


def test_a_failed_day_does_not_lose_its_neighbours(
    project: Project, instance: dg.DagsterInstance
) -> None:
    project.break_day(date(2026, 1, 3))
    result = run(project.settings, instance, days=4)
    assert not result.success
    assert built_days(instance, CLICK) == [
        "2026-01-01", "2026-01-02", "2026-01-04",
    ]  # fmt: skip
    assert built_days(instance, SAVE) == [f"2026-01-0{d}" for d in range(1, 5)]
    assert ledger_rows(project.settings, "enriched.click") == [6] * 3


def test_the_error_of_a_run_names_the_failed_days_their_reasons_and_the_next_step(
    project: Project, instance: dg.DagsterInstance
) -> None:
    project.break_day(date(2026, 1, 3))
    project.break_day(date(2026, 1, 2))
    result = run(project.settings, instance, days=4)
    (failure,) = [event for event in result.all_events if event.is_step_failure]
    error = failure.step_failure_data.error
    assert error is not None
    assert error.cause is not None
    text = error.cause.message
    assert "PartitionsFailedError: 2 of 4 days failed" in text
    assert "2026-01-02, 2026-01-03" in text
    assert "clicks/2026-01-03.parquet" in text
    assert "Failed and missing" in text


def test_checks_of_the_days_that_were_built_are_reported_though_another_failed(
    project: Project, instance: dg.DagsterInstance
) -> None:
    project.break_day(date(2026, 1, 3))
    result = run(project.settings, instance, days=4)
    clicks = [e for e in result.get_asset_check_evaluations() if e.asset_key == CLICK]
    assert {e.check_name: e.passed for e in clicks} == dict.fromkeys(
        ("unique_keys", "null_entity", "in_partition", "conservation"), True
    )
    assert clicks[0].metadata["partitions"].value == 3


class BusyLake:
    """A real lake, except that the first commits find it busy."""

    def __init__(self, lake: Any, times: int) -> None:
        self._lake = lake
        self._times = times

    def __getattr__(self, name: str) -> Any:
        return getattr(self._lake, name)

    def commit(self, commit: PartitionCommit) -> Committed:
        is_busy = (commit.table.name, commit.day) == ("enriched.save", date(2026, 1, 2))
        if is_busy and self._times:
            self._times -= 1
            raise StoreError("the catalog is locked", found="another writer", retryable=True)
        committed: Committed = self._lake.commit(commit)
        return committed


@pytest.mark.parametrize(("times", "succeeds"), [(2, True), (3, False)])
def test_a_day_that_found_the_lake_busy_is_tried_again_after_the_others(
    project: Project, instance: dg.DagsterInstance, *, times: int, succeeds: bool
) -> None:
    job = build_definitions(project.settings).resolve_job_def("build_feed")
    with open_platform(project.settings) as platform:
        lake: Any = BusyLake(platform.lake, times)
        result = job.execute_in_process(
            instance=instance,
            resources={"platform": replace(platform, lake=lake), "io_manager": dg.mem_io_manager},
            tags=range_tags(START, START + 3 * DAY),
            raise_on_error=False,
        )
    assert result.success is succeeds
    assert len(ledger_rows(project.settings, "enriched.save")) == (3 if succeeds else 2)


def test_the_repaired_day_completes_the_range(
    project: Project, instance: dg.DagsterInstance
) -> None:
    project.break_day(date(2026, 1, 3))
    run(project.settings, instance, days=4)
    project.write_day(date(2026, 1, 3))
    assert run(project.settings, instance, days=4).success
    assert ledger_rows(project.settings, "enriched.click") == [6] * 4
    assert ledger_rows(project.settings, "sequences.feed") == [3] * 4


def test_running_again_changes_nothing(project: Project, instance: dg.DagsterInstance) -> None:
    run(project.settings, instance, days=3)
    before = snapshots(project.settings)
    assert run(project.settings, instance, days=3).success
    assert snapshots(project.settings) == before
    for key in (CLICK, SAVE, FEED):
        assert latest(instance, key, date(2026, 1, 2))["changed"] is False


def snapshots(settings: Settings) -> list[int]:
    with open_platform(settings) as platform:
        return platform.lake.ledger().sort("table_name", "day")["version"].to_list()


def test_the_log_of_a_run_tells_how_far_it_is(
    project: Project, instance: dg.DagsterInstance
) -> None:
    result = run(project.settings, instance, days=3)
    lines = [entry.message for entry in instance.all_logs(result.run_id)]
    assert any("day 2/3 2026-01-02: 6 rows in" in line for line in lines)


def test_an_asset_of_ones_own_reads_the_lake_with_sql(
    project: Project, instance: dg.DagsterInstance
) -> None:
    definitions = build_definitions(project.settings)
    run(project.settings, instance, days=2)

    @dg.asset(deps=[FEED])
    def report(duckdb: DuckDBResource) -> dg.MaterializeResult[None]:
        with duckdb.get_connection() as connection:
            row = connection.execute("SELECT count(*), max(length) FROM sequences.feed").fetchone()
        assert row is not None
        return dg.MaterializeResult(metadata={"rows": row[0], "longest": row[1]})

    merged = dg.Definitions.merge(definitions, dg.Definitions(assets=[report]))
    job = merged.resolve_implicit_global_asset_job_def()
    result = job.execute_in_process(instance=instance, asset_selection=[report.key])
    (event,) = result.get_asset_materialization_events()
    found = event.materialization.metadata
    assert (found["rows"].value, found["longest"].value) == (2 * USERS, 6)
