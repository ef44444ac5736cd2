"""Column schemas and column lineage for Dagster's asset pages, told from the plan alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import dagster as dg
import polars as pl

from sequence_platform.orchestration.keys import enriched_key, enrichment_key, raw_key
from sequence_platform.plan.expressions import readable
from sequence_platform.plan.plan import EnrichmentPlan, EventPlan, SequencePlan

MAX_EXPRESSION = 200
"""Characters of an expression shown as a column's description."""

ENVELOPE_TEXT = {
    "day": "Partition: the UTC day of event_time.",
    "entity": "Whose event it is.",
    "event_id": "Names the event within its entity.",
    "event_time": "When it happened, UTC.",
    "arrival_time": "When it was accepted, UTC; event_time where the source does not record it.",
    "revision": "The highest revision of an event wins.",
}
SNAPSHOT_TEXT = {
    "day": "Partition: the day that ends at as_of.",
    "entity": "Whose sequence it is.",
    "as_of": "End of the day; every event is before it.",
    "length": "Events in the sequence; all lists are this long.",
    "event_type": "Event type of each event.",
    "event_time": "When each event happened, rising.",
    "event_id": "Id of each event.",
    "trimmed": "Events cut by each trim rule.",
}


def raw_columns(schema: Mapping[str, pl.DataType]) -> dg.TableSchema:
    """Return the columns of a source."""
    return _schema(schema, {})


def enrichment_columns(enrichment: EnrichmentPlan) -> dg.TableSchema:
    """Return the columns of an enrichment table, each with what it is computed from."""
    return _schema(enrichment.schema, _texts(enrichment.expressions))


def enriched_columns(event: EventPlan) -> dg.TableSchema:
    """Return the columns of an enriched table: envelope, raw, derived and looked-up ones."""
    looked_up = {
        name: f"From {lookup.enrichment.name} by {lookup.column}."
        for lookup in event.lookups
        for name in lookup.enrichment.columns
    }
    texts = ENVELOPE_TEXT | _texts(event.columns) | looked_up
    return _schema({"day": pl.Date(), **event.schema}, texts)


def sequence_columns(sequence: SequencePlan) -> dg.TableSchema:
    """Return the columns of a sequence table: one list per column, oldest event first."""
    carried = {
        name: f"Of {', '.join(event.name for event in sequence.events if name in event.schema)}."
        for name in sequence.carried
    }
    texts = SNAPSHOT_TEXT | carried | _texts(sequence.definition.derived or {})
    return _schema({"day": pl.Date(), **sequence.schema}, texts)


def enriched_lineage(event: EventPlan) -> dg.TableColumnLineage:
    """Return which raw and enrichment columns each column of an enriched table comes from."""
    raw, looked_up = raw_key(event.name), {}
    for lookup in event.lookups:
        key = enrichment_key(lookup.enrichment.table)
        for name in lookup.enrichment.columns:
            looked_up[name] = [dg.TableColumnDep(key, name), dg.TableColumnDep(key, "key")]
    computed = {
        name: [dg.TableColumnDep(raw, root) for root in expr.meta.root_names()]
        for name, expr in (dict(event.envelope) | dict(event.columns)).items()
    }
    copied = {name: [dg.TableColumnDep(raw, name)] for name in event.raw_schema}
    return _lineage(event.schema, copied | computed | looked_up)


def sequence_lineage(sequence: SequencePlan) -> dg.TableColumnLineage:
    """Return which enriched columns each column of a sequence table comes from."""

    def sources(*names: str) -> list[dg.TableColumnDep]:
        return [
            dg.TableColumnDep(enriched_key(event.table), name)
            for event in sequence.events
            for name in dict.fromkeys(names)
            if name in event.schema
        ]

    copied = {name: sources(name) for name in sequence.schema}
    derived = {
        name: sources(*expr.meta.root_names())
        for name, expr in (sequence.definition.derived or {}).items()
    }
    return _lineage(sequence.schema, copied | derived)


def _lineage(
    schema: Iterable[str], sources: Mapping[str, list[dg.TableColumnDep]]
) -> dg.TableColumnLineage:
    return dg.TableColumnLineage({name: sources[name] for name in schema if sources.get(name)})


def _schema(types: Mapping[str, pl.DataType], texts: Mapping[str, str]) -> dg.TableSchema:
    return dg.TableSchema(
        [
            dg.TableColumn(name, type=str(dtype), description=texts.get(name))
            for name, dtype in types.items()
        ]
    )


def _texts(expressions: Mapping[str, pl.Expr]) -> dict[str, str]:
    texts = {name: readable(expr) for name, expr in expressions.items()}
    return {
        name: text if len(text) <= MAX_EXPRESSION else f"{text[:MAX_EXPRESSION]}..."
        for name, text in texts.items()
    }
