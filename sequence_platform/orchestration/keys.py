"""Names of things in Dagster, and the days they are partitioned by; all derived from the plan."""

from __future__ import annotations

from datetime import date, timedelta

import dagster as dg

from sequence_platform.plan.plan import SequencePlan

DAY = timedelta(days=1)


def raw_key(event_type: str) -> dg.AssetKey:
    """Return the asset of an event type's source."""
    return dg.AssetKey(["raw", event_type])


def enrichment_key(table: str) -> dg.AssetKey:
    """Return the asset of an enrichment table."""
    return dg.AssetKey(["enrichments", table])


def read_keys(sequence: SequencePlan) -> list[dg.AssetKey]:
    """Return the enrichments that are looked up when a sequence is read.

    None of its tables is made from them, so that Dagster does not call it stale whenever a price
    changes; whoever builds all that a sequence needs builds them beside it.
    """
    return [enrichment_key(lookup.enrichment.table) for lookup in sequence.read_lookups]


def enriched_key(table: str) -> dg.AssetKey:
    """Return the asset of an enriched table."""
    return dg.AssetKey(["enriched", table])


def sequence_key(table: str) -> dg.AssetKey:
    """Return the asset of a sequence table."""
    return dg.AssetKey(["sequences", table])


def online_key(table: str) -> dg.AssetKey:
    """Return the asset of an event type's segments in the online store."""
    return dg.AssetKey(["online", table])


def training_key(table: str) -> dg.AssetKey:
    """Return the asset of a training set's data sets."""
    return dg.AssetKey(["training", table])


def step_name(key: dg.AssetKey) -> str:
    """Return the name of the step that builds an asset."""
    return "__".join(key.path)


def job_name(table: str) -> str:
    """Return the job that builds a sequence and all it is made from."""
    return f"build_{table}"


def training_job_name(table: str) -> str:
    """Return the job that makes a data set of what the lake holds."""
    return f"train_{table}"


def daily_partitions(start: date) -> dg.DailyPartitionsDefinition:
    """Return the days of all tables, today among them (without end_offset it would not count)."""
    return dg.DailyPartitionsDefinition(start_date=start.isoformat(), timezone="UTC", end_offset=1)


def days_before(lookback: timedelta) -> int:
    """Return how many days before its own a day reads: all that [end - lookback, end) touches.

    >>> [days_before(timedelta(days=days)) for days in (0.2, 1, 1.5, 90)]
    [0, 0, 1, 89]
    """
    return -(-lookback // DAY) - 1


def range_tags(start: date, end: date) -> dict[str, str]:
    """Return the tags that make a run build the days ``[start, end)``."""
    return {
        "dagster/asset_partition_range_start": start.isoformat(),
        "dagster/asset_partition_range_end": (end - DAY).isoformat(),
    }
