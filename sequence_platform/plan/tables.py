"""The lake's tables as the plan needs them: names, columns, order.

One place, so that writers and readers agree.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

import polars as pl

from sequence_platform.plan.plan import (
    ENVELOPE,
    KEY_ORDER,
    TIME,
    EnrichmentPlan,
    EventPlan,
    Plan,
    SequencePlan,
)
from sequence_platform.plan.storage import instance


@dataclass(frozen=True, slots=True)
class TableSpec:
    """A table of the lake.

    Attributes:
        name: ``schema.table``, as ``enriched.pin_click``.
        columns: Names and types, without the partition column ``day``.
        is_daily: Whether it has a leading ``day`` column and is partitioned by it.
        sort_by: How rows within a partition are sorted.
        corrects: Whether a commit's corrections remove rows of other partitions.
        is_snapshot: Whether rows are an entity's lists; such a table gets a ``_latest`` view and
            an ``_as_of`` macro.
        max_age: Of a snapshot table: what the macro cuts from the lists of entities quiet since.
        comment: For people; stored with the table.
    """

    name: str
    columns: pl.Schema
    is_daily: bool = True
    sort_by: tuple[str, ...] = ()
    corrects: bool = False
    is_snapshot: bool = False
    max_age: timedelta | None = None
    comment: str = ""


def table_name(name: str, version: int) -> str:
    """Return the table of a definition: its name, with the version from the second on."""
    return name if version == 1 else f"{name}_v{version}"


def enrichment_table(enrichment: EnrichmentPlan) -> TableSpec:
    """Return the table of an enrichment: its versions, by key."""
    identity = ("key", "available_time") if enrichment.is_versioned else ("key",)
    return TableSpec(
        f"enrichments.{enrichment.table}",
        enrichment.schema,
        is_daily=False,
        sort_by=identity,
        comment=enrichment.definition.description,
    )


def enriched_table(event: EventPlan) -> TableSpec:
    """Return the table of an event type's enriched rows."""
    return TableSpec(
        f"enriched.{event.table}",
        event.schema,
        sort_by=KEY_ORDER,
        corrects=event.corrects,
        comment=event.definition.description,
    )


RAW_ENVELOPE = (
    "_entity",
    "_event_id",
    "_event_time",
    "_topic",
    "_partition",
    "_offset",
    "_appended_at",
)
"""The columns that every row of a raw table starts with: its key, and the message it came in."""


def raw_table(event: EventPlan) -> TableSpec:
    """Return the table of what the log brought, by day of event_time: raw rows, none changed."""
    key = {
        "_entity": event.schema["entity"],
        "_event_id": event.schema["event_id"],
        "_event_time": TIME,
    }
    message = {
        "_topic": pl.String(),
        "_partition": pl.Int32(),
        "_offset": pl.Int64(),
        "_appended_at": TIME,
    }
    return TableSpec(
        f"raw.{event.table}",
        pl.Schema(key | message | {n: raw_stored(dtype) for n, dtype in event.raw_schema.items()}),
        sort_by=("_entity", "_event_time", "_event_id", "_topic", "_partition", "_offset"),
        comment=f"What the log brought of {event.name}, a message a row",
    )


def raw_stored(dtype: pl.DataType) -> pl.DataType:
    """Return the type in which a raw column is kept: times in microseconds and UTC."""
    match dtype:
        case pl.Datetime():
            return pl.Datetime("us", None if dtype.time_zone is None else "UTC")
        case pl.List():
            return pl.List(raw_stored(instance(dtype.inner)))
        case pl.Array():
            return pl.Array(raw_stored(instance(dtype.inner)), dtype.size)
        case pl.Struct():
            return pl.Struct({f.name: raw_stored(instance(f.dtype)) for f in dtype.fields})
        case _:
            return dtype


def sequence_table(sequence: SequencePlan) -> TableSpec:
    """Return the table of a sequence's snapshots."""
    return TableSpec(
        f"sequences.{sequence.table}",
        sequence.schema,
        sort_by=("entity",),
        is_snapshot=True,
        max_age=sequence.definition.max_age,
        comment=sequence.definition.description,
    )


def all_tables(plan: Plan) -> Iterator[TableSpec]:
    """Yield every table of a plan."""
    yield from map(enrichment_table, plan.enrichments.values())
    yield from map(enriched_table, plan.events.values())
    yield from (raw_table(event) for event in plan.events.values() if event.definition.log)
    yield from map(sequence_table, plan.sequences.values())


def columns_to_assemble(sequence: SequencePlan, event: EventPlan) -> list[str]:
    """Return what to read of an event type to assemble a sequence."""
    return [
        *ENVELOPE,
        *(name for name in sequence.carried if name in event.schema and name not in ENVELOPE),
    ]


def columns_of_unique(sequence: SequencePlan, event: EventPlan) -> list[str]:
    """Return those of them that are needed where every key has one row."""
    needed = {*KEY_ORDER, *sequence.carried}
    return [name for name in columns_to_assemble(sequence, event) if name in needed]
