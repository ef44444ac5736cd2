"""The asset graph is what the definitions say: keys, dependencies, days, schemas, checks, jobs."""

from __future__ import annotations

import dagster as dg
import pytest

from sequence_platform.catalog import load_plan
from sequence_platform.errors import DefinitionError
from sequence_platform.orchestration.definitions import build_definitions
from sequence_platform_tests.orchestration.project import DEFINITIONS, Project

GRAPH = {
    "raw/click": [],
    "raw/save": [],
    "enrichments/pins": [],
    "enriched/click": ["enrichments/pins", "raw/click"],
    "enriched/save": ["raw/save"],
    "sequences/feed": ["enriched/click", "enriched/save"],
    "online/click": ["enriched/click"],
    "online/save": ["enriched/save"],
}
CHECKS = {
    "enrichments/pins": {"conservation"},
    "enriched/click": {"unique_keys", "null_entity", "in_partition", "conservation"},
    "enriched/save": {"unique_keys", "null_entity", "in_partition", "conservation"},
    "sequences/feed": {"unique_keys", "null_entity", "alignment", "order", "in_partition"},
}


@pytest.fixture
def definitions(project: Project) -> dg.Definitions:
    return build_definitions(project.settings)


def spec(definitions: dg.Definitions, key: str) -> dg.AssetSpec:
    return next(s for s in definitions.resolve_all_asset_specs() if s.key.to_user_string() == key)


def metadata(definitions: dg.Definitions, key: str, name: str) -> object:
    return spec(definitions, key).metadata[name]


def test_definitions_are_loadable(definitions: dg.Definitions) -> None:
    dg.Definitions.validate_loadable(definitions)


def test_every_table_is_an_asset_that_depends_on_what_it_is_made_from(
    definitions: dg.Definitions,
) -> None:
    graph = {
        s.key.to_user_string(): sorted(dep.asset_key.to_user_string() for dep in s.deps)
        for s in definitions.resolve_all_asset_specs()
    }
    assert graph == GRAPH


def test_tables_of_days_share_daily_partitions_that_include_today(
    definitions: dg.Definitions,
) -> None:
    daily = [
        spec(definitions, key).partitions_def
        for key in ("enriched/click", "enriched/save", "sequences/feed")
    ]
    assert (
        daily
        == [dg.DailyPartitionsDefinition(start_date="2026-01-01", timezone="UTC", end_offset=1)] * 3
    )
    assert spec(definitions, "enrichments/pins").partitions_def is None


def test_a_sequence_day_depends_on_the_events_of_its_lookback(definitions: dg.Definitions) -> None:
    mappings = [dep.partition_mapping for dep in spec(definitions, "sequences/feed").deps]
    assert [(m.start_offset, m.end_offset) for m in mappings] == [(-2, 0), (-2, 0)]  # type: ignore[union-attr] # a test


def test_owner_group_and_code_version_come_from_the_plan(
    project: Project, definitions: dg.Definitions
) -> None:
    plan = load_plan(project.settings.definitions)
    feed, click = spec(definitions, "sequences/feed"), spec(definitions, "enriched/click")
    assert (feed.owners, feed.group_name) == (["ml@example.com"], "sequences")
    assert (click.owners, click.group_name) == (["team:feed"], "enriched")
    assert feed.code_version == plan.sequences["feed"].fingerprint
    assert click.code_version == plan.events["click"].fingerprint
    assert feed.description is not None
    assert feed.description.startswith("What a user did with pins.")
    assert feed.kinds == {"polars", "duckdb", "parquet"}
    assert spec(definitions, "raw/save").kinds == {"ndjson"}


def test_columns_are_shown_with_their_types_and_where_they_come_from(
    definitions: dg.Definitions,
) -> None:
    schema = metadata(definitions, "enriched/click", "dagster/column_schema")
    assert isinstance(schema, dg.TableSchema)
    assert {c.name: c.type for c in schema.columns} == {
        "day": "Date",
        "entity": "Int64",
        "event_id": "String",
        "event_time": "Datetime(time_unit='us', time_zone='UTC')",
        "arrival_time": "Datetime(time_unit='us', time_zone='UTC')",
        "revision": "Int64",
        "pin_id": "Int64",
        "dwell": "Int32",
        "is_long": "Boolean",
        "topic": "String",
    }
    texts = {c.name: c.description for c in schema.columns}
    assert texts["topic"] == "From pins by pin_id."
    assert texts["is_long"] == "[(dwell) > (10)]"


def test_column_lineage_leads_from_a_sequence_to_its_sources(definitions: dg.Definitions) -> None:
    feed = metadata(definitions, "sequences/feed", "dagster/column_lineage")
    click = metadata(definitions, "enriched/click", "dagster/column_lineage")
    assert isinstance(feed, dg.TableColumnLineage)
    assert isinstance(click, dg.TableColumnLineage)

    def sources(lineage: dg.TableColumnLineage, column: str) -> set[str]:
        deps = lineage.deps_by_column[column]
        return {f"{dep.asset_key.to_user_string()}.{dep.column_name}" for dep in deps}

    assert sources(feed, "pin_id") == {"enriched/click.pin_id", "enriched/save.pin_id"}
    assert sources(feed, "topic") == {"enriched/click.topic"}
    assert sources(feed, "gap") == {"enriched/click.event_time", "enriched/save.event_time"}
    assert sources(click, "topic") == {"enrichments/pins.topic", "enrichments/pins.key"}
    assert sources(click, "is_long") == {"raw/click.dwell"}
    assert sources(click, "entity") == {"raw/click.user_id"}
    assert sources(click, "event_time") == {"raw/click.at"}


def test_every_table_has_its_blocking_checks(definitions: dg.Definitions) -> None:
    found: dict[str, set[str]] = {}
    for check in definitions.resolve_asset_graph().asset_check_keys:
        found.setdefault(check.asset_key.to_user_string(), set()).add(check.name)
        assert definitions.resolve_asset_graph().get_check_spec(check).blocking
    assert found == CHECKS


def test_one_job_and_one_stopped_schedule_per_sequence_and_the_upkeep(
    definitions: dg.Definitions,
) -> None:
    jobs = {"build_feed", "maintain_lake", "maintain_online"}
    assert {j.name for j in definitions.jobs or ()} == jobs
    schedules = {
        s.name: s for s in definitions.schedules or () if isinstance(s, dg.ScheduleDefinition)
    }
    assert {name: s.cron_schedule for name, s in schedules.items()} == {
        "build_feed_daily": "0 6 * * *",
        "maintain_lake_weekly": "0 3 * * 0",
        "maintain_online_often": "*/15 * * * *",
    }
    assert all(s.default_status is dg.DefaultScheduleStatus.STOPPED for s in schedules.values())


def test_the_job_of_a_sequence_builds_its_whole_upstream_graph(definitions: dg.Definitions) -> None:
    layer = definitions.resolve_job_def("build_feed").asset_layer
    assert {key.to_user_string() for key in layer.selected_asset_keys} == {
        "enrichments/pins",
        "enriched/click",
        "enriched/save",
        "sequences/feed",
    }


def test_an_event_type_with_only_a_log_is_built_from_what_the_log_brought(project: Project) -> None:
    text = DEFINITIONS.replace('batch=Files("saves/{day}.ndjson")', 'log=Log("saves")')
    text = text.replace("Files, Sequence", "Files, Log, Sequence")
    (project.settings.definitions / "feed.py").write_text(text)
    definitions = build_definitions(project.settings)
    assert definitions.resolve_asset_graph().external_asset_keys == {
        dg.AssetKey(["raw", "click"]),
        dg.AssetKey(["raw", "save"]),
    }
    raw = definitions.resolve_asset_graph().get(dg.AssetKey(["raw", "save"]))
    assert isinstance(raw.partitions_def, dg.DailyPartitionsDefinition)
    assert {job.name for job in definitions.jobs or ()} >= {"stream_events"}
    assert {sensor.name for sensor in definitions.sensors or ()} == {
        "stale_sequences",
        "stream_supervisor",
        "unpublished_days",
        "unsealed_days",
    }


def test_broken_definitions_fail_the_code_location_with_every_problem(project: Project) -> None:
    (project.settings.definitions / "other.py").write_text("import nothing_of_this_name\n")
    text = DEFINITIONS.replace('columns=["pin_id", "topic", "is_long"]', 'columns=["pin_idd"]')
    (project.settings.definitions / "feed.py").write_text(text)
    with pytest.raises(DefinitionError) as caught:
        build_definitions(project.settings)
    assert "definitions/other.py" in str(caught.value)
    assert "nothing_of_this_name" in str(caught.value)
    assert "definitions/feed.py: sequence 'feed'" in str(caught.value)
    assert "pin_idd" in str(caught.value)
