"""Backfills through a real Dagster: launched as the UI does, read meanwhile, killed, repeated."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from sequence_platform.orchestration.backfill import materialize_range
from sequence_platform.runtimes.batch import stale_days
from sequence_platform.settings import Settings
from sequence_platform.stores.ducklake import connect_read_only
from sequence_platform.wiring import open_platform
from sequence_platform_tests.orchestration.project import DAY, START, USERS, Project, make_project
from sequence_platform_tests.orchestration.server import (
    MODULE,
    DagsterServer,
    environment,
    running_dagster,
    wait_until,
)

pytestmark = pytest.mark.integration

DAYS = 40
ALL = ["enrichments/pins", "enriched/click", "enriched/save", "sequences/feed"]
CLICK = dg.AssetKey(["enriched", "click"])

READER = """
import sys, time
from pathlib import Path
from sequence_platform.errors import StoreError
from sequence_platform.settings import Settings
from sequence_platform.stores.ducklake import connect_read_only

settings, stop, looks, torn = Settings(), Path(sys.argv[1]), 0, []
QUERY = '''
    SELECT l.table_name, l.day, l.rows, coalesce(t.n, 0), coalesce(t.versions, 1)
    FROM platform.partitions l LEFT JOIN (
        SELECT 'enriched.click' AS table_name, day, count(*) AS n, count(DISTINCT dwell) AS versions
        FROM enriched.click GROUP BY day
        UNION ALL SELECT 'sequences.feed', day, count(*), 1 FROM sequences.feed GROUP BY day
    ) t USING (table_name, day)
    WHERE l.table_name IN ('enriched.click', 'sequences.feed')
'''
connection = None
while not stop.exists():
    try:
        connection = connection or connect_read_only(settings.catalog_url, settings.data_url)
        rows = connection.execute(QUERY).fetchall()
    except Exception as error:
        if looks or not isinstance(error, StoreError) and "does not exist" not in str(error):
            raise
        time.sleep(0.2)  # the lake is not made yet
        continue
    looks += 1
    torn += [row for row in rows if row[2] != row[3] or row[4] != 1]
print(looks, torn)
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return make_project(tmp_path_factory.mktemp("backfill") / "project", days=DAYS)


@pytest.fixture(scope="module")
def server(project: Project) -> Iterator[DagsterServer]:
    with running_dagster(project.settings) as running:
        yield running


def days(first: int, last: int) -> list[str]:
    """Return the names of some days, counted from one."""
    return [(START + (n - 1) * DAY).isoformat() for n in range(first, last + 1)]


def rewrite(project: Project, dwell: int) -> None:
    """Give every day other clicks, so that a backfill has something to change."""
    for n in range(DAYS):
        project.write_day(START + n * DAY, dwell=dwell)


def contents(settings: Settings) -> pl.DataFrame:
    """Return a hash of the rows of every partition, as the lake holds them."""
    queries = [
        f"SELECT '{table}' AS name, day, count(*) AS n, bit_xor(hash(t)) AS digest FROM {table} t"
        " GROUP BY ALL"
        for table in ("enriched.click", "enriched.save", "sequences.feed")
    ]
    with connect_read_only(settings.catalog_url, settings.data_url) as connection:
        return connection.execute(" UNION ALL ".join(queries) + " ORDER BY ALL").pl()


def fresh_build(project: Project, home: Path) -> pl.DataFrame:
    """Return the same for a lake that was built anew, at once, by nobody else."""
    settings = project.settings.model_copy(update={"home": home})
    summary = materialize_range(settings, [], START, START + DAYS * DAY)
    assert summary.failures == []
    return contents(settings)


def test_two_backfills_and_a_reader_at_once(
    project: Project, server: DagsterServer, tmp_path: Path
) -> None:
    rewrite(project, dwell=30)
    stop = tmp_path / "stop"
    reader = subprocess.Popen(
        [sys.executable, "-c", READER, str(stop)],
        env=environment(project.settings, server.home),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        first = server.launch_backfill(ALL, days(1, 25))
        second = server.launch_backfill(ALL, days(16, DAYS))
        assert server.wait_for_backfill(first) == "COMPLETED_SUCCESS"
        assert server.wait_for_backfill(second) == "COMPLETED_SUCCESS"
    finally:
        stop.touch()
        seen, errors = reader.communicate(timeout=60)
    assert reader.returncode == 0, errors
    looks, torn = seen.split(" ", 1)
    assert int(looks) > 10
    assert torn.strip() == "[]"
    counts = contents(project.settings).group_by("name").agg(pl.len(), pl.col("n").unique())
    assert sorted(counts.iter_rows()) == [
        ("enriched.click", DAYS, [2 * USERS]),
        ("enriched.save", DAYS, [USERS]),
        ("sequences.feed", DAYS, [USERS]),
    ]
    assert contents(project.settings).equals(fresh_build(project, tmp_path / "fresh"))


def test_a_killed_run_leaves_whole_partitions_and_a_second_backfill_completes(
    project: Project, server: DagsterServer, tmp_path: Path
) -> None:
    rewrite(project, dwell=40)
    first = server.launch_backfill(["enriched/click"], days(1, DAYS))
    with server.instance() as instance:
        wait_until(lambda: built(instance, first) >= 5, 180, "five days of the backfill")
        os.kill(worker_of(instance, first), signal.SIGKILL)
    assert server.wait_for_backfill(first) in {"COMPLETED_FAILED", "FAILED"}
    with server.instance() as instance:
        assert 5 <= built(instance, first) < DAYS

    second = server.launch_backfill(ALL, days(1, DAYS))
    assert server.wait_for_backfill(second) == "COMPLETED_SUCCESS"
    assert contents(project.settings).equals(fresh_build(project, tmp_path / "fresh"))


def runs_of(instance: dg.DagsterInstance, backfill: str) -> list[dg.DagsterRun]:
    return list(instance.get_runs(dg.RunsFilter(tags={"dagster/backfill": backfill})))


def built(instance: dg.DagsterInstance, backfill: str) -> int:
    """Return how many days of clicks a backfill has committed so far."""
    runs = {run.run_id for run in runs_of(instance, backfill)}
    records = instance.fetch_materializations(CLICK, limit=500).records
    return len({record.partition_key for record in records if record.run_id in runs})


def worker_of(instance: dg.DagsterInstance, backfill: str) -> int:
    """Return the process that executes the run of a backfill."""
    (run,) = [r for r in runs_of(instance, backfill) if r.status is dg.DagsterRunStatus.STARTED]
    pids = [
        value.value
        for entry in instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ENGINE_EVENT)
        if entry.dagster_event is not None
        for name, value in entry.dagster_event.engine_event_data.metadata.items()
        if name == "pid"
    ]
    return int(str(pids[-1]))


def test_the_ledger_and_dagster_agree_on_what_was_built(
    project: Project, server: DagsterServer
) -> None:
    rewrite(project, dwell=50)
    backfill = server.launch_backfill(["enriched/click"], days(1, 3))
    assert server.wait_for_backfill(backfill) == "COMPLETED_SUCCESS"
    with server.instance() as instance:
        records = instance.fetch_materializations(
            dg.AssetRecordsFilter(asset_key=CLICK, asset_partitions=days(1, 3)), limit=3
        ).records
    assert {r.partition_key for r in records} == set(days(1, 3))
    for record in records:
        assert record.asset_materialization is not None
        metadata = record.asset_materialization.metadata
        assert metadata["dagster/partition_row_count"].value == 2 * USERS
        assert metadata["changed"].value is True


START_SENSOR = """mutation ($selector: SensorSelector!) { startSensor(sensorSelector: $selector) {
  __typename ... on PythonError { message } } }"""


def test_the_running_sensor_rebuilds_the_sequence_days_of_a_changed_event_day(
    project: Project, server: DagsterServer
) -> None:
    rewrite(project, dwell=60)
    summary = materialize_range(project.settings, ["sequences/feed"], START, START + 6 * DAY)
    assert summary.failures == []
    project.write_day(START + 2 * DAY, dwell=61)
    materialize_range(project.settings, ["enriched/click"], START + 2 * DAY, START + 3 * DAY)
    selector = {
        "repositoryLocationName": MODULE,
        "repositoryName": "__repository__",
        "sensorName": "stale_sequences",
    }
    started = server.query(START_SENSOR, selector=selector)["startSensor"]
    assert started["__typename"] == "Sensor", started

    with server.instance() as instance:
        asked = dg.RunsFilter(
            tags={
                "dagster/sensor_name": "stale_sequences",
                "dagster/asset_partition_range_start": (START + 2 * DAY).isoformat(),
                "dagster/asset_partition_range_end": (START + 4 * DAY).isoformat(),
            },
            statuses=[dg.DagsterRunStatus.SUCCESS],
        )
        wait_until(lambda: bool(instance.get_runs(asked)), 400, "a run that the sensor asked for")
    with open_platform(project.settings) as platform:
        stale = stale_days(platform.lake, platform.plan.sequences["feed"])
    assert not [day for day in stale if day < START + 6 * DAY]
