"""Definitions as JSON: ``decides`` holds what results depend on.

The rest is for people and runtimes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from datetime import timedelta
from typing import Any

import polars as pl

from sequence_platform.definition import Enrichment, EventType, Log, Sequence, Source, TrainingSet
from sequence_platform.definition.enrichment import DEFAULT_DEADLINE
from sequence_platform.plan.expressions import canonical_tree, readable
from sequence_platform.plan.fingerprint import code_fingerprint
from sequence_platform.plan.plan import (
    EnrichmentPlan,
    EventPlan,
    LookupPlan,
    ReadLookupPlan,
    SequencePlan,
)

Json = dict[str, Any]


def describe_enrichment(
    definition: Enrichment, raw: pl.Schema, expressions: Mapping[str, pl.Expr], schema: pl.Schema
) -> Json:
    """Return an enrichment as JSON."""
    return {
        **_about(definition),
        "decides": {
            "version": definition.version,
            "raw_schema": _types(raw),
            "source": _source(definition.source),
            "columns": _trees(expressions),
            "schema": _types(schema),
        },
        "text": {"columns": _texts(expressions)},
        "available": "always" if definition.available_time is None else "from available_time",
        "on_missing": definition.on_missing,
        **_when_read(definition),
    }


def _when_read(definition: Enrichment) -> Json:
    """Return how an enrichment is read, which its table does not depend on.

    Nothing of one that is attached to events: what was published before there was a choice stays
    as it is.
    """
    if definition.resolve == "ingest":
        return {}
    deadline = definition.deadline or DEFAULT_DEADLINE
    return {
        "resolve": "read",
        "deadline_s": deadline.total_seconds(),
        "on_timeout": definition.on_timeout or "null",
    }


def describe_event(  # noqa: PLR0913, PLR0917 - the parts of an event type
    definition: EventType,
    raw: pl.Schema,
    envelope: Mapping[str, pl.Expr],
    rules: Mapping[str, pl.Expr],
    columns: Mapping[str, pl.Expr],
    lookups: Iterable[LookupPlan],
    read_lookups: Iterable[LookupPlan],
    schema: pl.Schema,
) -> Json:
    """Return an event type as JSON.

    What is looked up when it is read decides nothing: no table holds it.

    The order of rules counts (the first that rejects names the row), that of columns does not.
    """
    lookups = list(lookups)
    read = {item.enrichment.name: item.column for item in read_lookups}
    return {
        **_about(definition),
        "decides": {
            "version": definition.version,
            "raw_schema": _types(raw),
            "source": None if definition.batch is None else _source(definition.batch),
            "envelope": _trees(envelope),
            "where": [[name, canonical_tree(rule)] for name, rule in rules.items()],
            "executor": None
            if definition.executor is None
            else code_fingerprint(definition.executor),
            "columns": _trees(columns),
            "enrich": [
                [item.enrichment.fingerprint, item.column, item.enrichment.definition.on_missing]
                for item in lookups
            ],
            "possible": [definition.earliest.isoformat(), definition.latest.isoformat()],
            "schema": _types(schema),
        },
        "text": {"envelope": _texts(envelope), "where": _texts(rules), "columns": _texts(columns)},
        "enrich": {item.enrichment.name: item.column for item in lookups},
        **({"enrich_when_read": read} if read else {}),
        "log": None if definition.log is None else _log(definition.log),
        "arrival": "assumed on time" if definition.arrival_time is None else "recorded",
        "start": definition.start.isoformat(),
        "retention_s": definition.retention.total_seconds(),
        "allowed_lateness_s": definition.allowed_lateness.total_seconds(),
    }


def day_decides(decides: Json) -> Json:
    """Return what of an event type decides which day a raw row belongs to."""
    parts = {name: decides[name] for name in ("raw_schema", "source", "possible")}
    return parts | {"event_time": decides["envelope"]["event_time"]}


def describe_sequence(  # noqa: PLR0913, PLR0917 - the parts of a sequence
    definition: Sequence,
    events: Iterable[EventPlan],
    columns: pl.Schema,
    derived: pl.Schema,
    request: pl.Schema,
    read_lookups: Iterable[ReadLookupPlan],
    late: Iterable[str],
    lookback: timedelta,
) -> Json:
    """Return a sequence as JSON; ``serves`` holds what only reading depends on."""
    read = {item.enrichment.name: _read_lookup(item) for item in read_lookups}
    return {
        **_about(definition),
        "decides": {
            "version": definition.version,
            "events": [[event.name, event.fingerprint] for event in events],
            "columns": _types(columns),
            "late": sorted(late),
            "trim": describe_trim(definition, lookback),
            "derived": _trees(definition.derived or {}),
            "derived_schema": _types(derived),
        },
        "serves": {
            "request": _trees(definition.request or {}),
            "request_schema": _types(request),
            "context": _types(pl.Schema(definition.context or {})),
            **({"read": read} if read else {}),
        },
        "text": {
            "derived": _texts(definition.derived or {}),
            "request": _texts(definition.request or {}),
        },
    }


def describe_training(  # noqa: PLR0913, PLR0917 - the parts of a training set
    definition: TrainingSet,
    sequence: SequencePlan,
    raw: pl.Schema,
    entity: pl.Expr,
    request_time: pl.Expr,
    columns: Iterable[str],
) -> Json:
    """Return a training set as JSON."""
    return {
        **_about(definition),
        "decides": {
            "version": definition.version,
            "sequence": sequence.fingerprint,
            "raw_schema": _types(raw),
            "labels": _source(definition.labels),
            "expressions": _trees({"entity": entity, "request_time": request_time}),
            "delay": str(definition.delay),
            "known": definition.known,
            "columns": list(columns),
        },
    }


def describe_trim(definition: Sequence, lookback: timedelta) -> Json:
    """Return the trim policy as JSON, durations in seconds."""
    dedupe, sessions = definition.dedupe, definition.sessions
    return {
        "max_age": lookback.total_seconds(),
        "sessions": None if sessions is None else [sessions.gap.total_seconds(), sessions.keep],
        "dedupe": None
        if dedupe is None
        else {
            "by": [dedupe.by] if isinstance(dedupe.by, str) else list(dedupe.by),
            "keep": dedupe.keep,
            "within": dedupe.within.total_seconds()
            if isinstance(dedupe.within, timedelta)
            else dedupe.within,
        },
        "quotas": dict(definition.quotas or {}),
        "max_length": definition.max_length,
    }


def describe_plan(plan: EventPlan | EnrichmentPlan | SequencePlan) -> Json:
    """Return a compiled definition as JSON."""
    match plan:
        case EnrichmentPlan():
            described = describe_enrichment(
                plan.definition, plan.raw_schema, plan.expressions, plan.schema
            )
        case EventPlan():
            parts = (
                plan.raw_schema,
                plan.envelope,
                plan.rules,
                plan.columns,
                plan.lookups,
                plan.read_lookups,
                plan.schema,
            )
            described = describe_event(plan.definition, *parts)
        case SequencePlan():
            schemas = (plan.columns, plan.derived, plan.request)
            described = describe_sequence(
                plan.definition,
                plan.events,
                *schemas,
                plan.read_lookups,
                plan.late,
                plan.lookback,
            )
            described["schema"] = _types(plan.schema)
    return described | {"table": plan.table, "fingerprint": plan.fingerprint}


def _read_lookup(lookup: ReadLookupPlan) -> Json:
    enrichment = lookup.enrichment
    columns = pl.Schema({name: enrichment.schema[name] for name in lookup.columns})
    return {
        "columns": _types(columns),
        "by": dict(lookup.by),
        "enrichment": enrichment.fingerprint,
        **_when_read(enrichment.definition),
    }


def _about(definition: EventType | Enrichment | Sequence | TrainingSet) -> Json:
    return {
        "name": definition.name,
        "owner": definition.owner,
        "description": definition.description,
    }


def _log(log: Log) -> str:
    return log.topic if log.format == "json" else f"{log.topic} ({log.format})"


def _source(source: Source) -> Json:
    return {"kind": type(source).__name__} | {
        name: value.total_seconds() if isinstance(value, timedelta) else value
        for name, value in asdict(source).items()
    }


def _types(schema: Mapping[str, pl.DataType]) -> list[list[str]]:
    """Return names and types in table order, which readers of positional formats rely on."""
    return [[name, str(dtype)] for name, dtype in schema.items()]


def _trees(expressions: Mapping[str, pl.Expr]) -> Json:
    return {name: canonical_tree(expr) for name, expr in expressions.items()}


def _texts(expressions: Mapping[str, pl.Expr]) -> Json:
    return {name: readable(expr) for name, expr in expressions.items()}
