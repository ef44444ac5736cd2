"""Definitions as people and programs read them through the server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import polars as pl

from sequence_platform.plan.describe import describe_trim
from sequence_platform.plan.expressions import readable
from sequence_platform.plan.plan import TIME, EventPlan, ReadLookupPlan, SequencePlan
from sequence_platform.runtimes.serving import MAX_ENTITIES, default_columns

Json = dict[str, Any]
UNITS = {"us": "microseconds", "ms": "milliseconds", "ns": "nanoseconds"}
ALWAYS = {"event_type": pl.String(), "event_time": TIME, "event_id": pl.String()}


_FIXED: dict[type[pl.DataType], str] = {
    pl.Date: "days since 1970-01-01",
    pl.Time: "nanoseconds since midnight",
    pl.Binary: "hexadecimal",
    pl.Decimal: "decimal text",
}


def unit_of(dtype: pl.DataType) -> str:
    """Return in what unit a column is in JSON; "" where a value is what it is."""
    if isinstance(dtype, pl.Datetime):
        return f"{UNITS[dtype.time_unit]} since 1970-01-01, UTC"
    if isinstance(dtype, pl.Duration):
        return UNITS[dtype.time_unit]
    return _FIXED.get(type(dtype), "")


def describe_briefly(sequence: SequencePlan) -> Json:
    """Return what a list of sequences says of one."""
    definition = sequence.definition
    return {
        "name": sequence.name,
        "version": definition.version,
        "fingerprint": sequence.fingerprint,
        "owner": definition.owner,
        "description": definition.description,
        "entity_type": str(sequence.entity_type),
        "event_types": [event.name for event in sequence.events],
    }


def describe_fully(sequence: SequencePlan) -> Json:
    """Return all that who asks for a sequence needs to know."""
    context = dict(pl.Schema(sequence.definition.context or {}))
    return describe_briefly(sequence) | {
        "columns": list(_columns(sequence)),
        "trim": describe_trim(sequence.definition, sequence.lookback),
        "event_types": [_event(event) for event in sequence.events],
        "request_context": {name: str(dtype) for name, dtype in context.items()},
        "request_fingerprint": sequence.request_fingerprint,
        "limits": {"limit": sequence.definition.max_length, "entities": MAX_ENTITIES},
    }


def _columns(sequence: SequencePlan) -> Iterator[Json]:
    default = default_columns(sequence)
    definition = sequence.definition
    computed = {**(definition.derived or {}), **(definition.request or {})}
    texts = {name: readable(expression) for name, expression in computed.items()}
    lookups = {name: lookup for lookup in sequence.read_lookups for name in lookup.columns}
    groups = (
        ("platform", ALWAYS),
        ("event", sequence.columns),
        ("derived", sequence.derived),
        ("read", sequence.read),
        ("request", sequence.request),
    )
    for kind, types in groups:
        for name, dtype in types.items():
            holders = [event.name for event in sequence.events if name in event.schema]
            yield {
                "name": name,
                "kind": kind,
                "type": str(dtype),
                "unit": unit_of(dtype),
                "by_default": name in default,
                **({"of": holders} if kind == "event" else {}),
                **({"expression": texts[name]} if name in texts else {}),
                **(_lookup(lookups[name]) if kind == "read" else {}),
            }


def _lookup(lookup: ReadLookupPlan) -> Json:
    enrichment = lookup.enrichment
    return {
        "of": list(lookup.by),
        "enrichment": enrichment.name,
        "key": dict(lookup.by),
        "deadline_ms": enrichment.deadline.total_seconds() * 1000,
        "on_timeout": "fail" if enrichment.fails_on_timeout else "null",
    }


def _event(event: EventPlan) -> Json:
    definition = event.definition
    return {
        "name": event.name,
        "owner": definition.owner,
        "description": definition.description,
        "fingerprint": event.fingerprint,
        "log": None if definition.log is None else definition.log.topic,
        "rules": list(event.rules),
    }
