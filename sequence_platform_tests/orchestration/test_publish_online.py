"""Days published through Dagster are what requests are answered from; the sensor asks for them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta

import dagster as dg

from sequence_platform.catalog import load_plan
from sequence_platform.clock import FixedClock
from sequence_platform.notebook import read_sequences
from sequence_platform.orchestration.definitions import build_definitions
from sequence_platform.orchestration.keys import online_key, range_tags
from sequence_platform.runtimes.serving import Query, SequenceReader, default_columns
from sequence_platform.settings import Settings
from sequence_platform.wiring import open_online, open_platform
from sequence_platform_tests.orchestration.conftest import DAYS
from sequence_platform_tests.orchestration.project import DAY, START, USERS, Project

CLICK, SAVE = online_key("click"), online_key("save")


def run(
    settings: Settings, instance: dg.DagsterInstance, keys: list[dg.AssetKey] | None
) -> dg.ExecuteInProcessResult:
    """Build all that sequences need, or only some assets, over the days."""
    definitions = build_definitions(settings)
    name = "build_feed" if keys is None else "__ASSET_JOB"
    job = definitions.resolve_job_def(name)
    tags = range_tags(START, START + DAYS * DAY)
    return job.execute_in_process(instance=instance, asset_selection=keys, tags=tags)


def requests(
    project: Project, instance: dg.DagsterInstance, cursor: str | None
) -> tuple[Sequence[dg.RunRequest], str | None]:
    definitions = build_definitions(project.settings)
    with open_platform(project.settings) as platform:
        context = dg.build_sensor_context(
            instance=instance,
            cursor=cursor,
            definitions=definitions,
            resources={"platform": platform},
        )
        evaluated = definitions.resolve_sensor_def("unpublished_days").evaluate_tick(context)
    return evaluated.run_requests or (), evaluated.cursor


def test_published_days_answer_as_the_lake_does(
    built: Project, instance: dg.DagsterInstance
) -> None:
    run(built.settings, instance, [CLICK, SAVE])
    as_of = datetime(2026, 1, 1, tzinfo=UTC) + DAYS * timedelta(days=1)
    offline = read_sequences("feed", as_of, settings=built.settings)
    assert offline.height == USERS
    plan = load_plan(built.settings.definitions)
    columns = default_columns(plan.sequences["feed"])
    with open_online(built.settings) as store:
        reader = SequenceReader(plan, store, FixedClock(as_of))
        for row in offline.iter_rows(named=True):
            answer = reader.read("feed", row["entity"], Query(as_of=as_of, columns=columns))
            found = {n: c.to_series(n).to_list() for n, c in answer.columns.items()}
            assert found == {name: row[name] for name in columns}


def test_each_day_is_a_materialization_with_its_rows(
    built: Project, instance: dg.DagsterInstance
) -> None:
    run(built.settings, instance, [CLICK, SAVE])
    days = [(START + n * DAY).isoformat() for n in range(DAYS)]
    assert sorted(instance.get_materialized_partitions(CLICK)) == days
    records = dg.AssetRecordsFilter(asset_key=CLICK, asset_partitions=[days[1]])
    newest = instance.fetch_materializations(records, limit=1).records[0].asset_materialization
    assert newest is not None
    assert newest.metadata["dagster/partition_row_count"].value == 2 * USERS
    assert newest.metadata["changed"].value is True


def test_the_sensor_asks_once_for_days_that_stood_still(
    built: Project, instance: dg.DagsterInstance
) -> None:
    first, cursor = requests(built, instance, None)
    assert first == ()
    second, cursor = requests(built, instance, cursor)
    assert {request.asset_selection[0] for request in second if request.asset_selection} == {
        CLICK,
        SAVE,
    }
    run(built.settings, instance, [CLICK, SAVE])
    third, _ = requests(built, instance, cursor)
    assert third == ()


def test_a_day_that_changed_is_published_alone(
    built: Project, instance: dg.DagsterInstance
) -> None:
    run(built.settings, instance, [CLICK, SAVE])
    built.write_day(date(2026, 1, 2), dwell=5)
    run(built.settings, instance, None)
    _, cursor = requests(built, instance, None)
    asked, _ = requests(built, instance, cursor)
    ranges = {request.tags["dagster/asset_partition_range_start"] for request in asked}
    assert ranges == {"2026-01-02"}
    with open_online(built.settings) as store:
        click = load_plan(built.settings.definitions).events["click"]
        before = {segment.name for segment in store.manifest(click).segments}
    run(built.settings, instance, [CLICK, SAVE])
    with open_online(built.settings) as store:
        after = {segment.name for segment in store.manifest(click).segments}
    assert len(before - after) == len(after - before) == 1


def test_the_upkeep_tells_what_it_did(built: Project, instance: dg.DagsterInstance) -> None:
    definitions = build_definitions(built.settings)
    result = definitions.resolve_job_def("maintain_online").execute_in_process(instance=instance)
    (output,) = [e for e in result.all_events if e.is_successful_output]
    assert set(output.step_output_data.metadata) == {"rows", "bytes_of_tail"}
