"""What Dagster knows of each table, from the plan: dependencies, owner, schema, freshness."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import dagster as dg

from sequence_platform.definition import (
    Enrichment,
    EventType,
    Files,
    Log,
    Sequence,
    Source,
    Table,
)
from sequence_platform.orchestration import columns
from sequence_platform.orchestration.keys import (
    DAY,
    days_before,
    enriched_key,
    enrichment_key,
    online_key,
    raw_key,
    sequence_key,
)
from sequence_platform.plan.plan import EnrichmentPlan, EventPlan, SequencePlan
from sequence_platform.plan.tables import raw_table

RUN_TIME = timedelta(hours=6)
"""How long after it could be built a day may take to be there before it counts as late."""


def raw_spec(event: EventPlan, partitions: dg.PartitionsDefinition[str]) -> dg.AssetSpec:
    """Return an event type's source, which Dagster shows and does not build.

    What its log brings is a table, by day of event_time, that streaming runs report on.
    """
    log, batch = event.definition.log, event.definition.batch
    sources = [source for source in (batch, log) if source is not None]
    table = {"dagster/table_name": raw_table(event).name} if log else {}
    return dg.AssetSpec(
        raw_key(event.name),
        description=f"Source of {event.name}: {', and '.join(map(_source_text, sources))}",
        group_name="raw",
        kinds={_source_kind(source) for source in sources},
        owners=[event.definition.owner],
        partitions_def=partitions if log else None,
        metadata={"dagster/column_schema": columns.raw_columns(event.raw_schema)} | table,
    )


def enrichment_spec(enrichment: EnrichmentPlan) -> dg.AssetSpec:
    """Return an enrichment table, replaced whole when built."""
    definition = enrichment.definition
    grain = "One row per key" + (" and available_time." if enrichment.is_versioned else ".")
    if enrichment.is_read:
        grain += " Looked up when sequences are read: building it publishes it to requests."
    return dg.AssetSpec(
        enrichment_key(enrichment.table),
        description=_description(definition, grain),
        group_name="enrichments",
        code_version=enrichment.fingerprint,
        metadata={
            "dagster/table_name": f"enrichments.{enrichment.table}",
            "dagster/column_schema": columns.enrichment_columns(enrichment),
            "source": _source_text(definition.source),
        },
        **_common(definition),
    )


def enriched_spec(event: EventPlan, partitions: dg.PartitionsDefinition[str]) -> dg.AssetSpec:
    """Return an enriched table, a day of event_time per partition."""
    definition = event.definition
    tables = dict.fromkeys(lookup.enrichment.table for lookup in event.lookups)
    return dg.AssetSpec(
        enriched_key(event.table),
        description=_description(definition, "One row per entity and event_id."),
        group_name="enriched",
        code_version=event.fingerprint,
        deps=[raw_key(event.name), *(enrichment_key(table) for table in tables)],
        partitions_def=partitions,
        freshness_policy=_freshness(settle_time(event)),
        metadata={
            "dagster/table_name": f"enriched.{event.table}",
            "dagster/column_schema": columns.enriched_columns(event),
            "dagster/column_lineage": columns.enriched_lineage(event),
        },
        **_common(definition),
    )


def sequence_spec(sequence: SequencePlan, partitions: dg.PartitionsDefinition[str]) -> dg.AssetSpec:
    """Return a sequence table: a day depends on the events of its lookback, not on yesterday."""
    definition = sequence.definition
    grain = "One row per entity with an event on the day: its whole sequence as of the day's end."
    mapping = _window(days_before(sequence.lookback))
    tables = dict.fromkeys(event.table for event in sequence.events)
    return dg.AssetSpec(
        sequence_key(sequence.table),
        description=_description(definition, grain),
        group_name="sequences",
        code_version=sequence.fingerprint,
        deps=[dg.AssetDep(enriched_key(table), partition_mapping=mapping) for table in tables],
        partitions_def=partitions,
        freshness_policy=_freshness(max(settle_time(event) for event in sequence.events)),
        metadata={
            "dagster/table_name": f"sequences.{sequence.table}",
            "dagster/column_schema": columns.sequence_columns(sequence),
            "dagster/column_lineage": columns.sequence_lineage(sequence),
        },
        **_common(definition),
    )


def online_spec(event: EventPlan, partitions: dg.PartitionsDefinition[str]) -> dg.AssetSpec:
    """Return the segments of an event type: a day of its enriched table, ready to be served."""
    return dg.AssetSpec(
        online_key(event.table),
        description=f"Days of {event.name} in the online store, where requests read them.\n\n"
        "A day that has not changed is not written again. The sensor unpublished_days asks for "
        "days that have.",
        group_name="online",
        code_version=event.fingerprint,
        deps=[enriched_key(event.table)],
        partitions_def=partitions,
        metadata={"dagster/column_schema": columns.enriched_columns(event)},
        kinds={"arrow"},
        owners=[event.definition.owner],
        tags={"definition": event.name, "version": str(event.definition.version)},
    )


def settle_time(event: EventPlan) -> timedelta:
    """Return how long after its end a day's events may arrive, at the source or in later files."""
    batch = event.definition.batch
    in_later_files = batch.late if isinstance(batch, Files) else timedelta(0)
    return max(event.definition.allowed_lateness, in_later_files)


def _common(definition: Enrichment | EventType | Sequence) -> dict[str, Any]:
    return {
        "kinds": {"polars", "duckdb", "parquet"},
        "owners": [definition.owner],
        "tags": {"definition": definition.name, "version": str(definition.version)},
    }


def _description(definition: Enrichment | EventType | Sequence, grain: str) -> str:
    return f"{definition.description}\n\n{grain}".strip()


def _freshness(settles: timedelta) -> dg.FreshnessPolicy:
    """A day is due once it settled: the newest build is at most a day older than that."""
    warn = DAY + settles + RUN_TIME
    return dg.FreshnessPolicy.time_window(warn_window=warn, fail_window=warn + DAY)


def _window(days: int) -> dg.PartitionMapping:
    # The first days look back past the first partition.
    return dg.TimeWindowPartitionMapping(
        start_offset=-days, end_offset=0, allow_nonexistent_upstream_partitions=True
    )


def _source_kind(source: Source | Log | None) -> str:
    match source:
        case Files():
            return source.file_format or "file"
        case Table():
            return "sql"
        case _:
            return "log"


def _source_text(source: Source | Log | None) -> str:
    match source:
        case Files():
            return f"files {source.pattern}"
        case Table():
            return f"table {source.name} of {source.database}"
        case Log():
            return f"topic {source.topic} of the event log"
        case None:
            return "none"
