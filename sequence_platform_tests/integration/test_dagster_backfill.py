"""Backfills through a real Dagster: launched as the UI does, read meanwhile, killed, repeated.

Dagster's daemon looks at backfills every 30 seconds and has no setting for it, so nearly all of the
time is waiting. Hence everything is launched at once, each on days (or a sequence) of its own, and
every test waits for its own.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from sequence_platform.orchestration.backfill import materialize_range
from sequence_platform.runtimes.batch import (
    build_enrichment,
    build_events,
    build_sequence,
    stale_days,
)
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

ALL = ["enrichments/pins", "enriched/click", "enriched/save", "sequences/feed"]
CLICK = dg.AssetKey(["enriched", "click"])

SHARED = range(1, 31)
"""Days, counted from one, that two backfills build at once."""
KILLED = range(41, 71)
"""Days whose run is killed; further from the others than a sequence looks back."""
LEDGER = range(81, 84)
TAPS = range(91, 97)
"""Days of a second sequence, which only the sensor builds: it waits for runs that touch its own."""

SECOND_SEQUENCE = """
from datetime import date, timedelta

import polars as pl

from sequence_platform.definition import EventType, Files, Sequence

tap = EventType(
    name="tap", owner="team:feed", description="The clicks, again.", start=date(2026, 1, 1),
    schema={"id": pl.String, "user_id": pl.Int64, "at": pl.Datetime("us", "UTC"),
            "pin_id": pl.Int64, "dwell": pl.Int32},
    event_id="id", event_time="at", entity="user_id", batch=Files("clicks/{day}.parquet"))

taps = Sequence(
    name="taps", owner="ml@example.com", description="What a user tapped.", events=[tap],
    columns=["pin_id", "dwell"], max_age=timedelta(days=3))
"""

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
        if connection is None:
            connection = connect_read_only(settings.catalog_url, settings.data_url)
            # DuckDB takes `python -c` for a person and draws a bar for what takes seconds.
            connection.execute("SET enable_progress_bar = false")
        rows = connection.execute(QUERY).fetchall()
    except Exception as error:
        if looks or not isinstance(error, StoreError) and "does not exist" not in str(error):
            raise
        time.sleep(0.2)  # the lake is not made yet
        continue
    looks += 1
    torn += [row for row in rows if row[2] != row[3] or row[4] != 1]
    time.sleep(0.1)  # the writers need the processor too
print(looks, torn)
"""

START_SENSOR = """mutation ($selector: SensorSelector!) { startSensor(sensorSelector: $selector) {
  __typename ... on PythonError { message } } }"""
SENSOR = {
    "repositoryLocationName": MODULE,
    "repositoryName": "__repository__",
    "sensorName": "stale_sequences",
}


def day(number: int) -> date:
    """Return a day, counted from one."""
    return START + (number - 1) * DAY


def names(numbers: range) -> list[str]:
    return [day(number).isoformat() for number in numbers]


def rewrite(project: Project, numbers: range, dwell: int) -> None:
    """Give days other clicks, so that building them again has something to change."""
    for number in numbers:
        project.write_day(day(number), dwell=dwell)


def build(settings: Settings, numbers: range, *tables: str) -> None:
    """Build days in this process."""
    summary = materialize_range(settings, tables, day(numbers.start), day(numbers.stop))
    assert summary.failures == []


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Sources whose clicks differ from what the lake holds of them, where it holds any."""
    project = make_project(tmp_path_factory.mktemp("backfill") / "project", days=TAPS.stop)
    (project.settings.definitions / "taps.py").write_text(SECOND_SEQUENCE)
    build(project.settings, KILLED, "enriched/click")
    build(project.settings, LEDGER, "enriched/click")
    build(project.settings, TAPS, "sequences/taps")
    for numbers, dwell in ((SHARED, 30), (KILLED, 40), (LEDGER, 50)):
        rewrite(project, numbers, dwell)
    project.write_day(day(TAPS.start + 2), dwell=61)
    build(project.settings, range(TAPS.start + 2, TAPS.start + 3), "enriched/tap")
    return project


@pytest.fixture(scope="module")
def server(project: Project) -> Iterator[DagsterServer]:
    with running_dagster(project.settings) as running:
        yield running


@dataclass(frozen=True, slots=True)
class Launched:
    """The backfills that run at once, by their ids, and what reads while they do."""

    first: str
    second: str
    ledger: str
    killed: str
    reader: subprocess.Popen[str]
    stop: Path

    def read(self) -> tuple[int, str]:
        """End the reader; return how often it looked, and which partitions it saw half done."""
        self.stop.touch()
        seen, errors = self.reader.communicate(timeout=60)
        assert self.reader.returncode == 0, errors
        looks, torn = seen.split(" ", 1)
        return int(looks), torn.strip()


@pytest.fixture(scope="module")
def launched(
    project: Project, server: DagsterServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Launched]:
    started = server.query(START_SENSOR, selector=SENSOR)["startSensor"]
    assert started["__typename"] == "Sensor", started
    stop = tmp_path_factory.mktemp("reader") / "stop"
    reader = subprocess.Popen(
        [sys.executable, "-c", READER, str(stop)],
        env=environment(project.settings, server.home),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield Launched(
            killed=server.launch_backfill(["enriched/click"], names(KILLED)),
            first=server.launch_backfill(ALL, names(range(1, 21))),
            second=server.launch_backfill(ALL, names(range(11, SHARED.stop))),
            ledger=server.launch_backfill(["enriched/click"], names(LEDGER)),
            reader=reader,
            stop=stop,
        )
    finally:
        stop.touch()
        reader.kill()
        reader.wait()


@pytest.fixture(scope="module")
def repeated(server: DagsterServer, launched: Launched) -> str:
    """Kill the run of one backfill with -9 in its midst; return a second backfill of its days."""
    with server.instance() as instance:
        wait_until(lambda: built(instance, launched.killed) >= 5, 180, "five days of the backfill")
        run, process = worker_of(instance, launched.killed)
        os.kill(process, signal.SIGKILL)
        wait_until(lambda: has_failed(instance, run), 120, "the killed run known as failed")
        assert 5 <= built(instance, launched.killed) < len(KILLED)
    return server.launch_backfill(ALL, names(KILLED))


def runs_of(instance: dg.DagsterInstance, backfill: str) -> list[dg.DagsterRun]:
    return list(instance.get_runs(dg.RunsFilter(tags={"dagster/backfill": backfill})))


def built(instance: dg.DagsterInstance, backfill: str) -> int:
    """Return how many days of clicks a backfill has committed so far."""
    runs = {run.run_id for run in runs_of(instance, backfill)}
    records = instance.fetch_materializations(CLICK, limit=500).records
    return len({record.partition_key for record in records if record.run_id in runs})


def worker_of(instance: dg.DagsterInstance, backfill: str) -> tuple[str, int]:
    """Return the run of a backfill and the process that executes it."""
    (run,) = [r for r in runs_of(instance, backfill) if r.status is dg.DagsterRunStatus.STARTED]
    pids = [
        value.value
        for entry in instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ENGINE_EVENT)
        if entry.dagster_event is not None
        for name, value in entry.dagster_event.engine_event_data.metadata.items()
        if name == "pid"
    ]
    return run.run_id, int(str(pids[-1]))


def has_failed(instance: dg.DagsterInstance, run: str) -> bool:
    found = instance.get_run_by_id(run)
    return found is not None and found.status is dg.DagsterRunStatus.FAILURE


def contents(settings: Settings, numbers: range) -> pl.DataFrame:
    """Return a hash of the rows of every partition of some days, as the lake holds them."""
    within = f"BETWEEN '{day(numbers.start)}' AND '{day(numbers.stop - 1)}'"
    queries = [
        f"SELECT '{table}' AS name, day, count(*) AS n, bit_xor(hash(t)) AS digest FROM {table} t"
        f" WHERE day {within} GROUP BY ALL"
        for table in ("enriched.click", "enriched.save", "sequences.feed")
    ]
    with connect_read_only(settings.catalog_url, settings.data_url) as connection:
        return connection.execute(" UNION ALL ".join(queries) + " ORDER BY ALL").pl()


@pytest.fixture(scope="module")
def fresh(
    project: Project, repeated: str, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[range], pl.DataFrame]:
    """Return the contents of a lake that was built anew, without Dagster, by nobody else.

    It is built once the backfills run, while they wait.
    """
    home = tmp_path_factory.mktemp("fresh")
    settings = project.settings.model_copy(update={"home": home})
    with open_platform(settings) as platform:
        plan, lake, clock = platform.plan, platform.lake, platform.clock
        build_enrichment(lake, platform.source_of("pins"), plan.enrichments["pins"], clock)
        for number in (*SHARED, *KILLED):
            for name in ("click", "save"):
                source = platform.source_of(name)
                build_events(lake, source, plan.events[name], day(number), clock)
            build_sequence(lake, plan.sequences["feed"], day(number), clock)
    return partial(contents, settings)


def test_two_backfills_and_a_reader_at_once(
    project: Project,
    server: DagsterServer,
    launched: Launched,
    fresh: Callable[[range], pl.DataFrame],
) -> None:
    assert server.wait_for_backfill(launched.first) == "COMPLETED_SUCCESS"
    assert server.wait_for_backfill(launched.second) == "COMPLETED_SUCCESS"
    looks, torn = launched.read()
    assert looks > 10
    assert torn == "[]"
    found = contents(project.settings, SHARED)
    counts = found.group_by("name").agg(pl.len(), pl.col("n").unique())
    assert sorted(counts.iter_rows()) == [
        ("enriched.click", len(SHARED), [2 * USERS]),
        ("enriched.save", len(SHARED), [USERS]),
        ("sequences.feed", len(SHARED), [USERS]),
    ]
    assert found.equals(fresh(SHARED))


def test_a_killed_run_leaves_whole_partitions_and_a_second_backfill_completes(
    project: Project,
    server: DagsterServer,
    launched: Launched,
    repeated: str,
    fresh: Callable[[range], pl.DataFrame],
) -> None:
    assert server.wait_for_backfill(launched.killed) in {"COMPLETED_FAILED", "FAILED"}
    with server.instance() as instance:
        assert 5 <= built(instance, launched.killed) < len(KILLED)
    assert server.wait_for_backfill(repeated) == "COMPLETED_SUCCESS"
    assert contents(project.settings, KILLED).equals(fresh(KILLED))


def test_the_ledger_and_dagster_agree_on_what_was_built(
    server: DagsterServer, launched: Launched, repeated: str
) -> None:
    assert server.wait_for_backfill(launched.ledger) == "COMPLETED_SUCCESS"
    with server.instance() as instance:
        records = instance.fetch_materializations(
            dg.AssetRecordsFilter(asset_key=CLICK, asset_partitions=names(LEDGER)), limit=3
        ).records
    assert {r.partition_key for r in records} == set(names(LEDGER))
    for record in records:
        assert record.asset_materialization is not None
        metadata = record.asset_materialization.metadata
        assert metadata["dagster/partition_row_count"].value == 2 * USERS
        assert metadata["changed"].value is True


def test_the_running_sensor_rebuilds_the_sequence_days_of_a_changed_event_day(
    project: Project, server: DagsterServer, launched: Launched, repeated: str
) -> None:
    asked = dg.RunsFilter(
        tags={
            "dagster/sensor_name": "stale_sequences",
            "dagster/asset_partition_range_start": day(TAPS.start + 2).isoformat(),
            "dagster/asset_partition_range_end": day(TAPS.start + 4).isoformat(),
        },
        statuses=[dg.DagsterRunStatus.SUCCESS],
    )
    with server.instance() as instance:
        wait_until(lambda: bool(instance.get_runs(asked)), 400, "a run that the sensor asked for")
    with open_platform(project.settings) as platform:
        assert stale_days(platform.lake, platform.plan.sequences["taps"], platform.clock) == []
