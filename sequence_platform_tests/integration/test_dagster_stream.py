"""Streaming under a real Dagster: supervised runs, leases, kills, late days sealed again."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import dagster as dg
import psutil
import pytest

from sequence_platform.settings import Settings
from sequence_platform.stores.ducklake import connect_read_only
from sequence_platform.wiring import open_log_writer
from sequence_platform_tests.orchestration.server import (
    DagsterServer,
    running_dagster,
    wait_until,
)

pytestmark = pytest.mark.integration

TODAY = datetime.now(UTC).date()  # the supervisor and the workers live by the machine's clock
DAY = timedelta(days=1)
LONG_AGO = TODAY - 5 * DAY

DEFINITIONS = """
from datetime import date, timedelta

import polars as pl

from sequence_platform import EventType, Log, Sequence

click = EventType(
    name="click", owner="team:feed", description="A click.", start=date.today() - timedelta(days=9),
    schema={"id": pl.String, "user_id": pl.Int64, "at": pl.Datetime("us", "UTC"), "pin": pl.Int64},
    event_id="id", event_time="at", entity="user_id", log=Log("clicks"),
    where={"has_pin": pl.col("pin") >= 0}, allowed_lateness=timedelta(hours=1))

feed = Sequence(
    name="feed", owner="team:feed", events=[click], columns=["pin"], max_age=timedelta(days=3))
"""


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    root = tmp_path_factory.mktemp("stream")
    (root / "definitions").mkdir()
    (root / "definitions" / "feed.py").write_text(DEFINITIONS)
    made = Settings(
        home=root / "home",
        definitions=root / "definitions",
        source_root=root,
        stream_flush_seconds=0.5,
        stream_lease_minutes=0.75,
        stream_shards=2,
        settle_seconds=5,
    )
    with open_log_writer(made) as writer:
        writer.create_topic("clicks", 4)
    return made


@pytest.fixture(scope="module")
def server(settings: Settings) -> Iterator[DagsterServer]:
    with running_dagster(settings) as running:
        running.start_sensor("stream_supervisor")
        running.start_sensor("unsealed_days")
        yield running


class Producer:
    """Appends clicks to the log and knows what was sent."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.sent = 0

    def send(self, count: int, day: date = TODAY) -> None:
        at = datetime(day.year, day.month, day.day, tzinfo=UTC)
        rows = [
            {"id": str(n), "user_id": n % 7, "at": (at + timedelta(seconds=n % 80_000)).isoformat(),
             "pin": n}
            for n in range(self.sent, self.sent + count)
        ]  # fmt: skip
        with open_log_writer(self.settings) as writer:
            writer.append("clicks", [json.dumps(row).encode() for row in rows])
        self.sent += count


@pytest.fixture(scope="module")
def producer(settings: Settings) -> Producer:
    return Producer(settings)


TABLES = """
SELECT count(*) = 2 FROM duckdb_tables()
WHERE (schema_name, table_name) IN (('enriched', 'click'), ('raw', 'click'))
"""
"""Whether the first run has made them; a lake begins with neither."""


def stored(settings: Settings) -> tuple[int, int, int]:
    """Return how many rows the lake holds, enriched and raw, and how many ids."""
    if not Path(settings.catalog_url).exists():
        return 0, 0, 0
    with connect_read_only(settings.catalog_url, settings.data_url) as connection:
        if connection.execute(TABLES).fetchall() != [(True,)]:
            return 0, 0, 0
        found = connection.execute(
            "SELECT (SELECT count(*) FROM enriched.click), (SELECT count(*) FROM raw.click), "
            "(SELECT count(DISTINCT event_id) FROM enriched.click)"
        ).fetchone()
    assert found is not None
    return found[0], found[1], found[2]


def wait_for_all(settings: Settings, producer: Producer, seconds: float = 240) -> None:
    sent = producer.sent
    wait_until(lambda: stored(settings) == (sent, sent, sent), seconds, f"{sent} rows in the lake")


def live_runs(server: DagsterServer) -> list[dg.DagsterRun]:
    with server.instance() as instance:
        filters = dg.RunsFilter(job_name="stream_events", statuses=[dg.DagsterRunStatus.STARTED])
        return list(instance.get_runs(filters))


def process_of(run: dg.DagsterRun) -> int | None:
    """Return the process that a run works in; None if its lease ended just now."""
    for process in psutil.process_iter(["cmdline"]):
        line = process.info["cmdline"] or []
        if any(run.run_id in part for part in line):
            return int(process.pid)
    return None


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_supervised_stream_keeps_all_and_nothing_twice_through_kills_and_leases(
    server: DagsterServer, settings: Settings, producer: Producer
) -> None:
    wait_until(lambda: len(live_runs(server)) == 2, 180, "a run for each shard")
    producer.send(2_000)
    wait_for_all(settings, producer)
    kills = 0
    for _ in range(2):
        producer.send(1_000)
        for run in live_runs(server):
            if (process := process_of(run)) is not None:
                os.kill(process, signal.SIGKILL)
                kills += 1
        producer.send(1_000)
        wait_until(lambda: len(live_runs(server)) == 2, 240, "successors of the killed")
        wait_for_all(settings, producer)
    assert kills > 0
    # Leases end and their successors go on, while events keep coming.
    first = {run.run_id for run in live_runs(server)}

    def all_succeeded() -> bool:
        producer.send(50)
        with server.instance() as instance:
            runs = [instance.get_run_by_id(run_id) for run_id in first]
        return all(run is not None and run.status == dg.DagsterRunStatus.SUCCESS for run in runs)

    wait_until(all_succeeded, 300, "the leases end")
    producer.send(500)
    wait_for_all(settings, producer)
    with server.instance() as instance:
        key = dg.AssetKey(["enriched", "click"])
        assert TODAY.isoformat() in instance.get_materialized_partitions(key)
        event = instance.get_latest_materialization_event(key)
        assert event is not None
        assert event.asset_materialization is not None
        metadata = event.asset_materialization.metadata
    assert {"offsets", "lag", "freshness_seconds", "late", "dead_letters"} <= set(metadata)
    assert metadata["state"].value == "open"


def test_late_events_of_a_settled_day_are_sealed_again(
    server: DagsterServer, settings: Settings, producer: Producer
) -> None:
    producer.send(20, LONG_AGO)
    wait_for_all(settings, producer)

    def state() -> str:
        with connect_read_only(settings.catalog_url, settings.data_url) as connection:
            found = connection.execute(
                "SELECT state FROM platform.partitions WHERE table_name = 'enriched.click' "
                "AND day = ?",
                [LONG_AGO],
            ).fetchone()
        return "" if found is None else str(found[0])

    wait_until(lambda: state() == "sealed", 120, "the late day is sealed")
    producer.send(3, LONG_AGO)
    wait_for_all(settings, producer)
    wait_until(lambda: state() == "corrected", 30, "the sealed day was changed")
    wait_until(lambda: state() == "sealed", 120, "the late day is sealed again")


def test_a_terminated_run_ends_and_its_successor_goes_on(
    server: DagsterServer, settings: Settings, producer: Producer
) -> None:
    wait_until(lambda: len(live_runs(server)) == 2, 120, "a run for each shard")
    runs = live_runs(server)
    producer.send(100)
    for run in runs:
        server.terminate(run.run_id)

    def ended() -> bool:
        with server.instance() as instance:
            found = [instance.get_run_by_id(run.run_id) for run in runs]
        return all(run is not None and run.status == dg.DagsterRunStatus.CANCELED for run in found)

    wait_until(ended, 60, "the runs end")
    producer.send(100)
    wait_for_all(settings, producer)
