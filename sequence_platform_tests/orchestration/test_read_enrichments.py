"""An enrichment that is looked up when a sequence is read: built, published, read, over Dagster."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta

import dagster as dg
import polars as pl
import pytest
from click.testing import CliRunner

from sequence_platform.catalog import load_plan
from sequence_platform.cli import main
from sequence_platform.clock import FixedClock
from sequence_platform.notebook import read_sequences
from sequence_platform.orchestration.backfill import materialize_range
from sequence_platform.orchestration.definitions import build_definitions
from sequence_platform.orchestration.keys import enrichment_key, online_key, range_tags
from sequence_platform.runtimes.serving import Lookups, Query, SequenceReader
from sequence_platform.settings import Settings
from sequence_platform.wiring import open_online, open_values
from sequence_platform_tests.orchestration.project import DAY, DEFINITIONS, START, Project

DAYS = 4
COSTS = """
costs = Enrichment(
    name="costs", owner="team:pins", description="What a pin costs.", key="pin_id",
    schema={"pin_id": pl.Int64, "since": pl.Datetime("us", "UTC"), "cost": pl.Int32},
    source=Files("costs.parquet"), available_time="since", columns=["cost"],
    resolve="read", deadline=timedelta(seconds=10))

click = """
READ = (
    DEFINITIONS.replace("\nclick = ", COSTS, 1)
    .replace("enrich=[pins])", "enrich=[pins, costs])")
    .replace('"is_long"]', '"is_long", "cost"]')
)
"""Saves have pins too, and no costs."""
END = datetime(2026, 1, 1, tzinfo=UTC) + DAYS * timedelta(days=1)
COLUMNS = ("event_type", "event_time", "event_id", "pin_id", "cost")


def write_costs(project: Project, *rows: tuple[int, float, int]) -> None:
    """Write costs of pins, each from some days after the start on."""
    start = datetime(START.year, START.month, START.day, tzinfo=UTC)
    timed = [(pin, start + timedelta(days=days), cost) for pin, days, cost in rows]
    frame = pl.DataFrame(timed, schema=["pin_id", "since", "cost"], orient="row")
    frame.cast({"cost": pl.Int32}).write_parquet(project.root / "costs.parquet")


@pytest.fixture
def read(project: Project) -> Project:
    (project.root / "definitions" / "feed.py").write_text(READ)
    write_costs(project, (1, 0, 10), (1, 2.5, 20), (1, 3.5, 30))
    return project


def run(settings: Settings, instance: dg.DagsterInstance, keys: list[dg.AssetKey] | None) -> None:
    definitions = build_definitions(settings)
    job = definitions.resolve_job_def("build_feed" if keys is None else "__ASSET_JOB")
    tags = range_tags(START, START + DAYS * DAY)
    assert job.execute_in_process(instance=instance, asset_selection=keys, tags=tags).success


@pytest.fixture
def built(read: Project, instance: dg.DagsterInstance) -> Project:
    """Return a project of which everything is built and published."""
    run(read.settings, instance, None)
    run(read.settings, instance, [online_key("click"), online_key("save")])
    return read


class Both:
    """Reads a sequence offline and online, which must agree."""

    def __init__(self, project: Project, reader: SequenceReader) -> None:
        self._project = project
        self._reader = reader

    def costs(self, as_of: datetime) -> list[int | None]:
        """Return the costs of all events of user 0."""
        settings = self._project.settings
        offline = read_sequences("feed", as_of, columns=COLUMNS, settings=settings)
        assert offline.columns == ["entity", *COLUMNS]
        for row in offline.iter_rows(named=True):
            answer = self._reader.read("feed", row["entity"], Query(as_of=as_of, columns=COLUMNS))
            found = {n: c.to_series(n).to_list() for n, c in answer.columns.items()}
            assert found == {name: row[name] for name in COLUMNS}
            assert [each.outcome for each in answer.lookups.values()] == ["answered"]
        costs: list[int | None] = offline.filter(entity=0)["cost"].explode().to_list()
        return costs


@pytest.fixture
def both(built: Project) -> Iterator[Both]:
    plan = load_plan(built.settings.definitions)
    with (
        open_online(built.settings) as store,
        open_values(built.settings) as values,
        closing(Lookups(values)) as lookups,
    ):
        yield Both(built, SequenceReader(plan, store, FixedClock(END), lookups))


def day(cost: int) -> list[int | None]:
    """Return the costs of a day: of clicks on pin 1 and on pin 2, which has none, and of a save."""
    return [cost, None, None]


def test_online_and_offline_have_what_was_available_at_that_time(both: Both) -> None:
    assert both.costs(END) == day(30) * 3  # sequences reach back three days
    at = datetime(2026, 1, 3, 12, tzinfo=UTC)  # the very time from which it costs 20
    assert set(both.costs(at)) == {20, None}
    assert set(both.costs(at - timedelta(microseconds=1))) == {10, None}


def test_building_it_publishes_it(both: Both, built: Project, instance: dg.DagsterInstance) -> None:
    write_costs(built, (1, 0, 11), (2, 0, 12))
    run(built.settings, instance, [enrichment_key("costs")])
    assert both.costs(END) == [11, 12, None] * 3


def test_no_table_is_made_from_it(read: Project) -> None:
    graph = build_definitions(read.settings).resolve_asset_graph()
    costs = enrichment_key("costs")
    assert graph.get(costs).child_keys == set()
    job = build_definitions(read.settings).resolve_job_def("build_feed")
    assert costs in job.asset_layer.executable_asset_keys


def test_a_backfill_of_a_sequence_builds_it_too(read: Project) -> None:
    summary = materialize_range(read.settings, ["sequences/feed"], START, START + DAY)
    assert summary.failures == []
    assert "enrichments.costs" in {report.table for report in summary.reports}


def test_the_command_line_publishes_and_shows_it(
    built: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("home", "definitions", "source_root"):
        value = str(getattr(built.settings, name))
        monkeypatch.setenv(f"SEQUENCE_PLATFORM_{name.upper()}", value)
    shown = CliRunner().invoke(main, ["online", "publish", "costs"], catch_exceptions=False)
    assert shown.output == "unchanged: costs, 3 rows\n"
    status = CliRunner().invoke(main, ["online", "status"], catch_exceptions=False).output
    (line,) = [line for line in status.splitlines() if "costs" in line]
    assert line.split("│")[1].split() == ["costs"]
    everything = CliRunner().invoke(main, ["online", "publish"], catch_exceptions=False).output
    assert "published 0 days" in everything
    assert "unchanged: costs" in everything


def test_unbuilt_it_is_not_published(read: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("home", "definitions", "source_root"):
        value = str(getattr(read.settings, name))
        monkeypatch.setenv(f"SEQUENCE_PLATFORM_{name.upper()}", value)
    shown = CliRunner().invoke(main, ["online", "publish", "costs"], catch_exceptions=False)
    assert shown.output == "costs is not built yet: nothing to publish\n"
