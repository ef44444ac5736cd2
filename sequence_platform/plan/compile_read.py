"""Compiles what a sequence looks up when it is read: which columns, from where, by which keys."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import polars as pl

from sequence_platform.definition import Sequence
from sequence_platform.errors import listed
from sequence_platform.plan.plan import EnrichmentPlan, EventPlan, ReadLookupPlan
from sequence_platform.plan.report import Report

AT_HAND = {"entity", "event_id"}
"""Keys that every sequence carries, though they are none of its columns."""


def read_columns(events: Iterable[EventPlan]) -> set[str]:
    """Return the columns that event types have only when they are read."""
    return {
        name
        for event in events
        for lookup in event.read_lookups
        for name in lookup.enrichment.columns
    }


def compile_read(
    definition: Sequence, events: tuple[EventPlan, ...], report: Report
) -> tuple[dict[str, pl.DataType], tuple[ReadLookupPlan, ...]]:
    """Return the types of a sequence's read columns, and where they come from.

    A column is read in all event types that have it, and of one enrichment: what it means must not
    depend on the event. Its keys must be among the sequence's columns: snapshots hold no others.
    """
    types: dict[str, pl.DataType] = {}
    carried: dict[str, list[str]] = {}
    sources: dict[str, EnrichmentPlan] = {}
    wanted = read_columns(events)
    for name in dict.fromkeys(definition.columns):
        if name not in wanted:
            continue
        source = _source_of(name, events, report)
        types[name] = source.schema[name]
        sources[source.name] = source
        carried.setdefault(source.name, []).append(name)
    lookups = tuple(
        ReadLookupPlan(source, _keys(source, events), tuple(carried[name]))
        for name, source in sources.items()
    )
    for lookup in lookups:
        for key in sorted(set(lookup.by.values()) - AT_HAND - set(definition.columns)):
            report.add(
                "columns",
                f"{listed(lookup.columns)} without '{key}'",
                f"the column that {lookup.enrichment.name} is looked up by",
                f"add '{key}' to columns",
            )
    return types, lookups


def _source_of(name: str, events: Iterable[EventPlan], report: Report) -> EnrichmentPlan:
    """Return the enrichment that a read column is of; note if it is something else, too."""
    sources = {
        lookup.enrichment.name: lookup.enrichment
        for event in events
        for lookup in event.read_lookups
        if name in lookup.enrichment.columns
    }
    origins = [f"read from '{source}'" for source in sorted(sources)]
    origins += [f"stored with '{event.name}'" for event in events if name in event.schema]
    if len(origins) > 1:
        report.add(
            "columns",
            f"'{name}' is {' and '.join(origins)}",
            "one origin in all event types",
            "rename one in columns={...}",
        )
    return next(iter(sources.values()))


def _keys(source: EnrichmentPlan, events: Iterable[EventPlan]) -> Mapping[str, str]:
    return {
        event.name: lookup.column
        for event in events
        for lookup in event.read_lookups
        if lookup.enrichment is source
    }


def refuse_read(
    field: str, names: Iterable[str], read: Mapping[str, pl.DataType], report: Report
) -> set[str]:
    """Note columns that are used where only stored ones are at hand, and return them."""
    refused = set(names) & read.keys()
    for name in sorted(refused):
        report.add(
            field,
            f"'{name}', which is looked up when the sequence is read",
            "stored columns; read columns are for request columns and for answers",
            "resolve='ingest' attaches it to events",
        )
    return refused
