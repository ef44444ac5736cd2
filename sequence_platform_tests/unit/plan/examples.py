"""A small project: clicks and saves of pins, a lookup, a sequence; any field replaceable."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest

from sequence_platform.definition import Definition, Enrichment, EventType, Files, Sequence, Vector
from sequence_platform.errors import DefinitionError, Problem
from sequence_platform.plan.compile import Located, compile_plan
from sequence_platform.plan.plan import EventPlan, Plan, SequencePlan

FILE = "definitions/feed.py"
T0 = datetime(2026, 3, 1, tzinfo=UTC)


def pins(**changes: Any) -> Enrichment:
    """Return what is known of pins: a versioned enrichment with a topic and a vector."""
    fields: dict[str, Any] = {
        "name": "pins",
        "owner": "team:pins",
        "key": "pin_id",
        "schema": {
            "pin_id": pl.Int64,
            "since": pl.Datetime("us", "UTC"),
            "topic": pl.String,
            "vector": Vector(2),
        },
        "source": Files("pins.parquet"),
        "columns": ["topic", "vector"],
        "available_time": "since",
    }
    return Enrichment(**(fields | changes))


def click(**changes: Any) -> EventType:
    """Return clicks on pins."""
    fields: dict[str, Any] = {
        "name": "click",
        "owner": "team:feed",
        "schema": {
            "id": pl.String,
            "user_id": pl.Int32,
            "ts": pl.Int64,
            "pin_id": pl.Int64,
            "dwell": pl.Int32,
        },
        "event_id": "id",
        "event_time": pl.from_epoch("ts", time_unit="ms"),
        "entity": "user_id",
        "batch": Files("clicks/{day}.parquet"),
    }
    return EventType(**(fields | changes))


def save(**changes: Any) -> EventType:
    """Return saves of pins; they have no dwell."""
    fields: dict[str, Any] = {
        "name": "save",
        "owner": "ml@example.com",
        "schema": {
            "id": pl.Int64,
            "user_id": pl.Int64,
            "at": pl.Datetime("ms"),
            "pin_id": pl.Int64,
        },
        "event_id": "id",
        "event_time": "at",
        "entity": "user_id",
        "batch": Files("saves/{day}.ndjson.gz"),
    }
    return EventType(**(fields | changes))


def feed(**changes: Any) -> Sequence:
    """Return a sequence of clicks and saves."""
    fields: dict[str, Any] = {
        "name": "feed",
        "owner": "team:feed",
        "events": [click(), save()],
        "columns": ["pin_id"],
        "max_age": timedelta(days=30),
    }
    return Sequence(**(fields | changes))


def compiled(*definitions: Definition) -> Plan:
    """Return the plan of definitions found in one file."""
    return compile_plan(Located(FILE, definition) for definition in definitions)


def event_plan(definition: EventType) -> EventPlan:
    """Return one event type, compiled."""
    return compiled(definition).events[definition.name]


def sequence_plan(definition: Sequence) -> SequencePlan:
    """Return one sequence, compiled."""
    return compiled(definition).sequences[definition.name]


def problems(*definitions: Definition) -> tuple[Problem, ...]:
    """Return all that is wrong with definitions."""
    with pytest.raises(DefinitionError) as caught:
        compiled(*definitions)
    return caught.value.problems


def problem(*definitions: Definition) -> Problem:
    """Return the only thing that is wrong with definitions, found in the right file."""
    (only,) = problems(*definitions)
    assert only.file == FILE
    return only
