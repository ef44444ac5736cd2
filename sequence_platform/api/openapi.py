"""The server's addresses as OpenAPI 3.1, made from the definitions: names and examples are real."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import polars as pl

from sequence_platform.api.answers import ARROW
from sequence_platform.api.described import unit_of
from sequence_platform.api.negotiation import MAX_TIMEOUT_MS, TIMEOUT
from sequence_platform.api.problems import JSON
from sequence_platform.plan.plan import Plan, SequencePlan
from sequence_platform.runtimes.serving import MAX_ENTITIES, available_columns, default_columns

Json = dict[str, Any]

STATUSES = {
    "400": "The query is wrong; all that is wrong with it is said.",
    "401": "No key, or one that is not known.",
    "403": "The key does not open this sequence.",
    "404": "No such sequence; the nearest name is said.",
    "406": "No answer in that form.",
    "410": "known_at is before what the store still knows.",
    "429": "The tenant asks too often; Retry-After says for how long.",
    "503": "The worker, its store, or an enrichment that must be looked up cannot answer now.",
}
FOR_BODIES = {
    "408": "The body did not arrive.",
    "413": "The body is too long.",
    "415": "The body is of a kind that is not read.",
    "504": "The time that the request gave is over.",
}
TIME = {
    "anyOf": [{"type": "string", "format": "date-time"}, {"type": "integer"}],
    "description": "ISO 8601, UTC unless it says otherwise, or microseconds since 1970.",
}
DURATION = {
    "anyOf": [{"type": "string", "pattern": r"^[0-9.]+(d|h|m|s)?$"}, {"type": "number"}],
    "description": "7d, 12h, 90m, 45s, or seconds.",
    "examples": ["7d"],
}


def build_openapi(plan: Plan) -> Json:
    """Return the document."""
    paths: Json = {
        "/healthz": {"get": _plain("The process answers", "health", keyed=False)},
        "/readyz": {"get": _ready()},
        "/metrics": {"get": _plain("Counters, for Prometheus", "metrics", kind="text/plain")},
        "/v1/definitions": {"get": _plain("The sequences", "definitions")},
        "/v1/definitions/{name}": {"get": _definition(plan)},
    }
    for sequence in plan.sequences.values():
        name = sequence.name
        paths[f"/v1/sequences/{name}/{{entity}}"] = {"get": _get(sequence)}
        paths[f"/v1/sequences/{name}:batchGet"] = {"post": _batch_get(sequence)}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Sequence platform",
            "version": plan.fingerprint,
            "description": "Sequences of what users did, as they are at this moment.",
        },
        "paths": paths,
        "components": {
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
            "schemas": {"Error": _error(), "Freshness": _freshness()}
            | {_title(s): _answer(s) for s in plan.sequences.values()},
        },
        "security": [{"key": []}],
    }


def _title(sequence: SequencePlan) -> str:
    return "".join(part.title() for part in sequence.name.split("_"))


def _plain(summary: str, name: str, *, kind: str = "application/json", keyed: bool = True) -> Json:
    operation: Json = {
        "summary": summary,
        "operationId": name,
        "responses": {"200": {"description": summary, "content": {kind: {}}}},
    }
    return operation if keyed else operation | {"security": []}


def _ready() -> Json:
    operation = _plain("Whether to send requests here", "readiness", keyed=False)
    operation["responses"]["503"] = {"description": "Not ready; reasons says why."}
    return operation


def _definition(plan: Plan) -> Json:
    operation = _plain("A sequence with its columns", "definition")
    operation["parameters"] = [
        _parameter("name", {"type": "string", "enum": sorted(plan.sequences)}, where="path")
    ]
    operation["responses"]["404"] = _refusal(STATUSES["404"])
    return operation


def _get(sequence: SequencePlan) -> Json:
    return {
        "summary": f"The {sequence.name} of one entity",
        "description": sequence.definition.description,
        "operationId": f"get_{sequence.name}",
        "parameters": list(_parameters(sequence)),
        "responses": {"200": _answered(sequence)}
        | {status: _refusal(text) for status, text in STATUSES.items()},
    }


def _batch_get(sequence: SequencePlan) -> Json:
    entity = _type(sequence.entity_type)
    own = {"context": _context(sequence), "where": _where(sequence)}
    item = {
        "type": "object",
        "required": ["entity"],
        "additionalProperties": False,
        "properties": {"entity": entity, **own},
    }
    fields = {
        "entities": {
            "type": "array",
            "minItems": 1,
            "maxItems": MAX_ENTITIES,
            "items": {"anyOf": [entity, item]},
        },
        "columns": _names(available_columns(sequence)),
        "types": _names([event.name for event in sequence.events]),
        "limit": _limit(sequence),
        "max_age": DURATION,
        "as_of": TIME,
        "known_at": TIME,
        **own,
    }
    schema = {
        "type": "object",
        "required": ["entities"],
        "additionalProperties": False,
        "properties": fields,
        "examples": [
            {"entities": [_entity(sequence)], "limit": min(20, sequence.definition.max_length)}
        ],
    }
    timeout = {"type": "integer", "minimum": 1, "maximum": MAX_TIMEOUT_MS}
    return {
        "summary": f"The {sequence.name} of many entities, from one moment of the store",
        "operationId": f"batch_get_{sequence.name}",
        "parameters": [_parameter(TIMEOUT.decode(), timeout, where="header")],
        "requestBody": {"required": True, "content": {JSON.decode(): {"schema": schema}}},
        "responses": {
            "200": {
                "description": "The answers, in the order of the entities.",
                "content": {JSON.decode(): {}, ARROW.decode(): {}},
            }
        }
        | {status: _refusal(text) for status, text in (STATUSES | FOR_BODIES).items()},
    }


def _parameters(sequence: SequencePlan) -> Iterator[Json]:
    yield _parameter("entity", _type(sequence.entity_type), where="path") | {
        "example": _entity(sequence)
    }
    columns = _parameter("columns", _names(available_columns(sequence)))
    types = _parameter("types", _names([event.name for event in sequence.events]))
    for lists in (columns, types):
        yield lists | {"style": "form", "explode": False}
    yield _parameter("limit", _limit(sequence))
    yield _parameter("max_age", DURATION)
    yield _parameter("as_of", TIME)
    yield _parameter("known_at", TIME)
    for name, dtype in dict(pl.Schema(sequence.definition.context or {})).items():
        yield _parameter(f"context.{name}", _type(dtype))
    for name, dtype in sequence.columns.items():
        if not dtype.is_nested():
            values = {"type": "array", "items": _type(dtype)}
            yield _parameter(f"where.{name}", values) | {"style": "form", "explode": False}


def _parameter(name: str, schema: Json, *, where: str = "query") -> Json:
    return {"name": name, "in": where, "required": where == "path", "schema": schema}


def _names(names: list[str] | tuple[str, ...]) -> Json:
    return {"type": "array", "minItems": 1, "items": {"type": "string", "enum": list(names)}}


def _limit(sequence: SequencePlan) -> Json:
    return {"type": "integer", "minimum": 1, "maximum": sequence.definition.max_length}


def _context(sequence: SequencePlan) -> Json:
    types = dict(pl.Schema(sequence.definition.context or {}))
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": {name: _type(dtype) for name, dtype in types.items()},
    }


def _where(sequence: SequencePlan) -> Json:
    values = {
        name: {"type": "array", "items": _type(dtype)}
        for name, dtype in sequence.columns.items()
        if not dtype.is_nested()
    }
    return {"type": "object", "additionalProperties": False, "properties": values}


def _answered(sequence: SequencePlan) -> Json:
    reference = {"$ref": f"#/components/schemas/{_title(sequence)}"}
    text = "The sequence, oldest event first; empty for an entity that nothing is known of."
    content = {JSON.decode(): {"schema": reference}, ARROW.decode(): {}}
    return {"description": text, "content": content}


def _refusal(text: str) -> Json:
    reference = {"$ref": "#/components/schemas/Error"}
    return {"description": text, "content": {JSON.decode(): {"schema": reference}}}


def _answer(sequence: SequencePlan) -> Json:
    types = sequence.columns | sequence.derived | sequence.read | sequence.request
    always = {name: {"type": "string"} for name in ("event_type", "event_id")}
    values: Json = always | {"event_time": _time("When it happened.")}
    values |= {name: _nullable(dtype) for name, dtype in types.items()}
    columns = {name: {"type": "array", "items": value} for name, value in values.items()}
    counts = {"type": "object", "additionalProperties": {"type": "integer"}}
    about: Json = {
        "sequence": {"const": sequence.name},
        "version": {"type": "integer"},
        "fingerprint": {"type": "string"},
        "entity": _type(sequence.entity_type),
        "as_of": _time("Events are strictly before it."),
        "length": {"type": "integer"},
        "trimmed": counts | {"description": "How many events each rule cut."},
        "freshness": {
            "type": "object",
            "additionalProperties": {"$ref": "#/components/schemas/Freshness"},
        },
        "behind": {
            "type": "array",
            "items": {"type": "string"},
            "description": "Event types whose stream is behind. None: no event means none was.",
        },
        "served_at": _time("When it was answered."),
        **({"lookups": _lookups(sequence)} if sequence.read_lookups else {}),
        "columns": {"type": "object", "properties": columns},
    }
    example = {
        "sequence": sequence.name,
        "version": sequence.definition.version,
        "entity": _entity(sequence),
        "length": 0,
        "columns": {name: [] for name in default_columns(sequence)},
    }
    return {"type": "object", "properties": about, "examples": [example]}


def _lookups(sequence: SequencePlan) -> Json:
    """Return what an answer says of what was looked up by key."""
    names = [lookup.enrichment.name for lookup in sequence.read_lookups]
    found = {
        "type": "object",
        "properties": {
            "outcome": {
                "enum": ["answered", "timed_out", "failed"],
                "description": "Unless it was answered, its columns are null.",
            },
            "published_at": {
                "type": ["integer", "null"],
                "description": "When the values that answered were published, us.",
            },
        },
    }
    return {
        "type": "object",
        "properties": dict.fromkeys(names, found),
        "description": "What was looked up for the columns asked for, by enrichment.",
    }


def _freshness() -> Json:
    moment = {"type": ["integer", "null"]}
    return {
        "type": "object",
        "properties": {
            "manifest": {"type": "integer", "description": "Which segments are live."},
            "settled_until": moment | {"description": "End of the newest settled day, us."},
            "streamed_until": moment | {"description": "All messages before it can be read, us."},
            "lag_seconds": {"type": ["number", "null"]},
        },
    }


def _error() -> Json:
    facts = {name: {"type": "string"} for name in ("what", "where", "found", "expected", "next")}
    error = {"type": "object", "required": ["what"], "properties": facts}
    return {"type": "object", "required": ["error"], "properties": {"error": error}}


def _time(text: str) -> Json:
    return {"type": "integer", "description": f"{text} Microseconds since 1970-01-01, UTC."}


def _nullable(dtype: pl.DataType) -> Json:
    found = _type(dtype)
    return found | {"type": [found["type"], "null"]} if "type" in found else found


def _type(dtype: pl.DataType) -> Json:
    """Return a column's type as JSON Schema."""
    unit = unit_of(dtype)
    about = {"description": unit} if unit else {}
    match dtype:
        case pl.Boolean():
            kind = "boolean"
        case pl.String() | pl.Binary() | pl.Decimal() | pl.Enum() | pl.Categorical():
            kind = "string"
        case pl.List():
            return {"type": "array", "items": _type(pl.Series(dtype=dtype).explode().dtype)}
        case pl.Array():
            return {"type": "array", "items": {"type": "number"}, "minItems": dtype.size}
        case pl.Struct():
            return {"type": "object"}
        case _ if dtype.is_integer() or dtype.is_temporal():
            kind = "integer"
        case _:
            kind = "number"
    return {"type": kind} | about


def _entity(sequence: SequencePlan) -> object:
    return 42 if sequence.entity_type.is_integer() else "user-42"
