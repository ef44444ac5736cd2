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
    EnrichmentPlan,
    EventPlan,
    Plan,
    SequencePlan,
)


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
    yield from map(sequence_table, plan.sequences.values())


def columns_to_assemble(sequence: SequencePlan, event: EventPlan) -> list[str]:
    """Return what to read of an event type to assemble a sequence."""
    return [
        *ENVELOPE,
        *(name for name in sequence.carried if name in event.schema and name not in ENVELOPE),
    ]
