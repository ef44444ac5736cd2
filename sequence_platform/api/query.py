"""Requests to queries: texts of an address and JSON of a body, every problem found before refusing.

What a value means depends on the definition; whether it can be asked is for the serving runtime.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qsl

import orjson
import polars as pl

from sequence_platform.api.values import (
    MAX_NAMES,
    MAX_SHOWN,
    MAX_VALUES,
    Parse,
    parse_duration,
    parse_integer,
    parse_moment,
    parse_names,
    parser_of,
    shown,
)
from sequence_platform.clock import Clock
from sequence_platform.errors import RequestError, nearest
from sequence_platform.plan.plan import SequencePlan
from sequence_platform.runtimes.serving import (
    MAX_ENTITIES,
    Query,
    ensure_answerable,
    entity_of,
    query_problems,
)

MAX_PARAMETERS = 200
FIELDS: Mapping[str, tuple[str, Parse]] = {
    "columns": (f"up to {MAX_NAMES} names of columns", parse_names),
    "limit": ("an integer", parse_integer),
    "max_age": ("a duration such as 7d, 12h, 90m, 45s, or seconds", parse_duration),
    "types": (f"up to {MAX_NAMES} names of event types", parse_names),
    "as_of": ("a time such as 2026-08-01T12:00:00Z, or microseconds", parse_moment),
    "known_at": ("a time such as 2026-08-01T12:00:00Z, or microseconds", parse_moment),
}
"""What each means that does not depend on the sequence, and what reads it."""
SHARED = (*FIELDS, "where", "context")


@dataclass(frozen=True, slots=True)
class Asked:
    """What a body asks: entities, each with its query; queries that are equal are one object."""

    each: tuple[tuple[object, Query], ...]
    shared: Query


@dataclass(slots=True)
class _Reading:
    """A query as far as it has been read, and what was wrong with the rest."""

    sequence: SequencePlan
    problems: list[tuple[str, str]] = field(default_factory=list)

    def read(self, label: str, given: object, expected: str, parse: Parse) -> object:
        """Return a parsed value, or None and a problem more."""
        try:
            return parse(given)
        except (ValueError, OverflowError, TypeError):
            self.problems.append((f"{label} {shown(given)}", expected))
            return None

    def query(self, given: Mapping[str, Any]) -> Query:
        """Return the query of fields by name; a null is as good as none."""
        read = {name: value for name, value in given.items() if value is not None}
        fields: dict[str, Any] = {}
        for name, (expected, parse) in FIELDS.items():
            if name in read:
                fields[name] = self.read(name, read[name], expected, parse)
        return Query(
            **fields,
            where=self.where(read.get("where", {})),
            context=self.context(read.get("context", {})),
        )

    def where(self, given: object) -> dict[str, tuple[object, ...]]:
        """Return filters; one on a column that there is not is left to the runtime."""
        found: dict[str, tuple[object, ...]] = {}
        for name, values in self.mapping("where", given).items():
            dtype = self.sequence.columns.get(name)
            listed = values if isinstance(values, list) else [values]
            if dtype is None:
                found[name] = ()
            elif dtype.is_nested() or dtype == pl.Binary():
                self.problems.append((f"a filter on '{name}'", f"a column of values, not {dtype}"))
            elif len(listed) > MAX_VALUES:
                self.problems.append((f"{len(listed)} values of '{name}'", f"up to {MAX_VALUES}"))
            else:
                expected = f"values of {dtype}"
                parsed = (self.read(f"where {name}", v, expected, parser_of(dtype)) for v in listed)
                found[name] = tuple(value for value in parsed if value is not None)
        return found

    def context(self, given: object) -> dict[str, object]:
        """Return what request columns are computed with."""
        declared = dict(pl.Schema(self.sequence.definition.context or {}))
        found: dict[str, object] = {}
        for name, value in self.mapping("context", given).items():
            if name not in declared or value is None:
                found[name] = None
                continue
            dtype = declared[name]
            expected = f"a value of {dtype}"
            found[name] = self.read(f"context {name}", value, expected, parser_of(dtype))
        return found

    def mapping(self, label: str, given: object) -> dict[str, Any]:
        """Return an object of JSON, or an empty one and a problem more."""
        if isinstance(given, dict) and len(given) <= MAX_NAMES:
            return given
        self.problems.append((f"{label} {shown(given)}", f"an object of up to {MAX_NAMES} names"))
        return {}


class QueryParser:
    """Reads requests of one project; equal ones are read once.

    Args:
        clock: For now, which times of a request may not be far beyond.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._by_text = lru_cache(maxsize=4096)(self._of_text)

    def of_text(self, sequence: SequencePlan, text: bytes) -> Query:
        """Return the query of an address's part after the question mark.

        Raises:
            RequestError: with every problem.
        """
        return self._by_text(sequence, text) if text else ALL

    def of_body(self, sequence: SequencePlan, body: bytes) -> Asked:
        """Return what a body asks.

        Raises:
            RequestError: with every problem.
        """
        try:
            given = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise RequestError(
                "the body is not JSON", found=str(error)[:MAX_SHOWN], expected=BODY
            ) from error
        if not isinstance(given, dict):
            raise RequestError("the body is no query", found=shown(given), expected=BODY)
        return self._of_json(sequence, given)

    def _of_text(self, sequence: SequencePlan, text: bytes) -> Query:
        reading = _Reading(sequence)
        return self._checked(reading, reading.query(_parameters(reading, text)))

    def _of_json(self, sequence: SequencePlan, given: dict[str, Any]) -> Asked:
        reading = _Reading(sequence)
        names = (*SHARED, "entities")
        wrong = [name for name in given if name not in names]
        reading.problems += [(f"field '{shown(n)}'", nearest(n, names)) for n in wrong[:MAX_NAMES]]
        shared = reading.query({name: given.get(name) for name in SHARED})
        entities = given.get("entities")
        if not isinstance(entities, list) or not 0 < len(entities) <= MAX_ENTITIES:
            reading.problems.append(
                (f"entities {shown(entities)}", f"a list of 1 to {MAX_ENTITIES} entities")
            )
            entities = []
        each = [_entity(reading, at, item, shared) for at, item in enumerate(entities)]
        self._checked(reading, shared)
        for query in {id(query): query for _, query in each if query is not shared}.values():
            reading.problems += query_problems(sequence, query, self._clock.now())
        ensure_answerable(sequence, reading.problems)
        return Asked(tuple(each), shared)

    def _checked(self, reading: _Reading, query: Query) -> Query:
        """Return a query; with problems of reading, those of asking are found too."""
        if reading.problems:
            asking = query_problems(reading.sequence, query, self._clock.now())
            ensure_answerable(reading.sequence, [*reading.problems, *asking])
        return query


ALL = Query()
BODY = 'an object such as {"entities": [1, 2], "columns": ["event_time"]}'


def _parameters(reading: _Reading, text: bytes) -> dict[str, Any]:
    """Return the parameters of an address as the fields of a body have them."""
    try:
        pairs = parse_qsl(
            text.decode("ascii"),
            keep_blank_values=True,
            max_num_fields=MAX_PARAMETERS,
            errors="strict",
        )
    except ValueError as error:
        reading.problems.append((f"an address with {error}", "UTF-8, percent-encoded"))
        return {}
    given: dict[str, Any] = {}
    where: dict[str, list[str]] = {}
    context: dict[str, str] = {}
    for name, value in pairs:
        kind, dot, inner = name.partition(".")
        if dot and kind == "where":
            where.setdefault(inner, []).extend(value.split(","))
        elif name not in FIELDS and not (dot and kind == "context"):
            expected = nearest(name, (*FIELDS, "where.COLUMN", "context.NAME"))
            reading.problems.append((f"parameter '{shown(name)}'", expected))
        elif name in given or (dot and inner in context):
            reading.problems.append((f"'{shown(name)}' twice", "each once"))
        elif dot:
            context[inner] = value
        else:
            given[name] = value
    return given | {"where": where, "context": context}


def _entity(reading: _Reading, at: int, item: object, shared: Query) -> tuple[object, Query]:
    """Return an entity of a body and its query."""
    query = shared
    if isinstance(item, dict):
        wrong = item.keys() - {"entity", "where", "context"}
        if wrong or "entity" not in item:
            reading.problems.append((f"entities[{at}] {shown(item)}", "entity, where, context"))
        own = _Reading(reading.sequence)
        where, context = own.where(item.get("where") or {}), own.context(item.get("context") or {})
        reading.problems += [(f"entities[{at}]: {what}", right) for what, right in own.problems]
        if where or context:
            query = replace(
                shared, where={**shared.where, **where}, context={**shared.context, **context}
            )
        item = item.get("entity")
    return reading.read(f"entities[{at}]", item, _entities(reading), _entity_of(reading)), query


def _entities(reading: _Reading) -> str:
    return "an integer of 64 bits" if reading.sequence.entity_type.is_integer() else "a text"


def _entity_of(reading: _Reading) -> Callable[[object], object]:
    def parse(given: object) -> object:
        if isinstance(given, bool) or not isinstance(given, int | str):
            raise TypeError
        if isinstance(given, int) and not reading.sequence.entity_type.is_integer():
            raise TypeError
        try:
            return entity_of(reading.sequence, str(given))
        except RequestError as error:
            raise ValueError from error

    return parse
