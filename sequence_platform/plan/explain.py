"""A compiled definition as text that a person understands."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta

import polars as pl

from sequence_platform.definition import Files, Source
from sequence_platform.errors import FrameSchemaError, nearest
from sequence_platform.plan.expressions import readable
from sequence_platform.plan.plan import (
    ENVELOPE,
    EnrichmentPlan,
    EventPlan,
    Plan,
    SequencePlan,
    TrainingPlan,
)


def explain(plan: Plan, name: str) -> str:
    """Return what a definition compiles to, in words.

    Raises:
        FrameSchemaError: no definition has this name; the closest is named.
    """
    found = [
        plans[name]
        for plans in (plan.sequences, plan.events, plan.enrichments, plan.training)
        if name in plans
    ]
    if not found:
        names = [*plan.sequences, *plan.events, *plan.enrichments, *plan.training]
        msg = f"no definition is called '{name}'"
        raise FrameSchemaError(msg, expected=nearest(name, names))
    return "\n\n".join("\n".join(_lines(item)) for item in found)


def _lines(item: SequencePlan | EventPlan | EnrichmentPlan | TrainingPlan) -> Iterator[str]:
    match item:
        case SequencePlan():
            yield from _sequence(item)
        case EventPlan():
            yield from _event(item)
        case EnrichmentPlan():
            yield from _enrichment(item)
        case TrainingPlan():
            yield from _training(item)


def _head(kind: str, schema: str, item: SequencePlan | EventPlan | EnrichmentPlan) -> Iterator[str]:
    definition = item.definition
    yield f"{kind} {item.name} (version {definition.version}, {definition.owner})"
    if definition.description:
        yield f"  {definition.description}"
    yield f"  table {schema}.{item.table}, fingerprint {item.fingerprint}"


def _sequence(item: SequencePlan) -> Iterator[str]:
    policy = item.definition
    yield from _head("sequence", "sequences", item)
    yield (
        f"  one row per {item.entity_type} entity and day on which it had an event: "
        "its sequence as of the day's end"
    )
    yield ""
    yield "events, by priority at the same time:"
    for number, event in enumerate(item.events, 1):
        yield f"  {number}. {event.name}{_rules_in_words(event)}"
    yield ""
    yield "what stays, in this order:"
    yield f"  max_age     events of the last {_duration(item.lookback)}" + (
        "" if policy.max_age else " (retention; no max_age)"
    )
    if policy.sessions is not None:
        gap = _duration(policy.sessions.gap)
        keep = policy.sessions.keep
        yield f"  sessions    the newest {keep}; a pause of more than {gap} ends one"
    if policy.dedupe is not None:
        by = policy.dedupe.by if isinstance(policy.dedupe.by, str) else ", ".join(policy.dedupe.by)
        within = policy.dedupe.within
        near = "in a row" if isinstance(within, str) else f"at most {_duration(within)} apart"
        which = "newest" if policy.dedupe.keep == "last" else "oldest"
        yield f"  dedupe      the {which} of events {near} with equal {by}"
    for name, quota in (policy.quotas or {}).items():
        yield f"  quotas      the newest {quota} of {name}"
    yield f"  max_length  the newest {policy.max_length}"
    yield ""
    yield from _table(
        "columns, one list each:",
        [
            ("event_type", "String", "always"),
            ("event_time", "Datetime, UTC", "always"),
            ("event_id", "String", "always"),
        ]
        + [(name, _type(dtype), _origin(item, name)) for name, dtype in item.columns.items()]
        + [
            (name, _type(dtype), "derived: " + readable((policy.derived or {})[name]))
            for name, dtype in item.derived.items()
        ]
        + [(name, _type(dtype), _read_origin(item, name)) for name, dtype in item.read.items()]
        + [
            (name, _type(dtype), "per request: " + readable((policy.request or {})[name]))
            for name, dtype in item.request.items()
        ],
    )


def _origin(item: SequencePlan, name: str) -> str:
    holders = [event.name for event in item.events if name in event.schema]
    where = (
        "of all" if len(holders) == len(item.events) else "of " + ", ".join(holders) + "; else null"
    )
    return where + ("; late: read when asked for" if name in item.late else "")


def _read_origin(item: SequencePlan, name: str) -> str:
    lookup = next(each for each in item.read_lookups if name in each.columns)
    by_key: dict[str, list[str]] = {}
    for event, key in lookup.by.items():
        by_key.setdefault(key, []).append(event)
    keys = " and ".join(
        key if len(events) == len(item.events) else f"{key} of {', '.join(events)}"
        for key, events in by_key.items()
    )
    return f"when read: newest '{lookup.enrichment.name}' at as_of, by {keys}"


def _rules_in_words(event: EventPlan) -> str:
    return "".join(
        f"{', ' if number else ' where '}{readable(rule)}"
        for number, rule in enumerate(event.rules.values())
    )


def _event(item: EventPlan) -> Iterator[str]:
    definition = item.definition
    yield from _head("event type", "enriched", item)
    if definition.batch is not None:
        yield f"  history from {_source(definition.batch)}, from {definition.start}"
    if definition.log is not None:
        yield f"  live from log '{definition.log.topic}'"
    arrival = "recorded" if definition.arrival_time is not None else "assumed on time"
    sealed = f"sealed {_duration(definition.allowed_lateness)} after the day"
    yield f"  arrival {arrival}; {sealed}; kept {_duration(definition.retention)}"
    if item.corrects:
        yield "  corrected: the highest revision of an event wins, a deletion removes it"
    yield ""
    rules = [(name, readable(rule), "") for name, rule in item.rules.items()]
    yield from _table("kept where:", rules or [("(everything)", "", "")])
    if definition.executor is not None:
        executor = definition.executor
        name = getattr(executor, "__qualname__", type(executor).__qualname__)
        yield f"then its own executor, {executor.__module__}.{name}"
    yield ""
    computed = {name: readable(expr) for name, expr in item.columns.items()}
    looked_up = {
        column: f"newest '{lookup.enrichment.name}' by {lookup.column} available at event_time"
        for lookup in item.lookups
        for column in lookup.enrichment.columns
    }
    origin = {name: _envelope(item, name) for name in ENVELOPE} | computed | looked_up
    yield from _table(
        "columns:",
        [
            (name, _type(dtype), origin.get(name, "as received"))
            for name, dtype in item.schema.items()
        ]
        + [
            (
                name,
                _type(lookup.enrichment.schema[name]),
                f"when read, not stored: newest '{lookup.enrichment.name}' by {lookup.column}",
            )
            for lookup in item.read_lookups
            for name in lookup.enrichment.columns
        ],
    )


def _envelope(item: EventPlan, name: str) -> str:
    match getattr(item.definition, name):
        case None:
            return {"arrival_time": "event_time", "revision": "0"}[name]
        case str(column):
            return column
        case expr:
            return readable(expr)


def _enrichment(item: EnrichmentPlan) -> Iterator[str]:
    yield from _head("enrichment", "enrichments", item)
    yield f"  rows from {_source(item.definition.source)}"
    version = (
        f"the newest available at {'as_of' if item.is_read else 'event_time'}"
        if item.is_versioned
        else "one row a key, known at all times"
    )
    missing = (
        "null"
        if item.definition.on_missing == "null"
        else f"the event is rejected (missing:{item.name})"
    )
    yield f"  looked up by {item.definition.key}: {version}; no row: {missing}"
    if item.is_read:
        late = "the request fails" if item.fails_on_timeout else "null, and the answer says so"
        yield (
            "  when a sequence is read, and stored with no event; "
            f"no answer within {item.deadline.total_seconds() * 1000:g} ms: {late}"
        )
    yield ""
    yield from _table(
        "columns:",
        [
            (name, _type(dtype), readable(item.expressions[name]))
            for name, dtype in item.schema.items()
        ],
    )


def _training(item: TrainingPlan) -> Iterator[str]:
    definition, types = item.definition, {**item.sequence.columns, "event_id": pl.String()}
    yield f"training set {item.name} (version {definition.version}, {definition.owner})"
    if definition.description:
        yield f"  {definition.description}"
    yield f"  labels from {_source(definition.labels)}, fingerprint {item.fingerprint}"
    entity, time = (_given(each) for each in (definition.entity, definition.request_time))
    yield f"  of entity {entity}, as of {time}"
    before = f" less {_duration(definition.delay)}" if definition.delay else ""
    yield f"  each with the events of {item.sequence.name} that happened before that{before}"
    yield (
        "  and had arrived by then"
        if definition.known == "at_request"
        else "  late arrivals too, which no model could have seen"
    )
    yield f"  as pointers{', and as lists' if definition.lists else ''}"
    yield ""
    yield from _table(
        "columns of labels:", [(name, _type(dtype), "") for name, dtype in item.raw_schema.items()]
    )
    yield ""
    yield from _table(
        "columns of the training store:",
        [(name, _type(types[name]), "") for name in item.columns],
    )


def _given(value: str | pl.Expr) -> str:
    return value if isinstance(value, str) else readable(value)


def _source(source: Source) -> str:
    return (
        f"files {source.pattern}"
        if isinstance(source, Files)
        else f"table {source.name} of {source.database}"
    )


def _table(title: str, rows: Iterable[tuple[str, str, str]]) -> Iterator[str]:
    rows = list(rows)
    widths = [max((len(row[column]) for row in rows), default=0) for column in range(2)]
    yield title
    for name, kind, note in rows:
        yield f"  {name:<{widths[0]}}  {kind:<{widths[1]}}  {note}".rstrip()


def _type(dtype: pl.DataType) -> str:
    match dtype:
        case pl.Datetime():
            return "Datetime" + (f", {dtype.time_zone}" if dtype.time_zone else "")
        case pl.Array():
            return f"Vector({dtype.size})"
        case _:
            return str(dtype)


def _duration(value: timedelta) -> str:
    units: Mapping[str, timedelta] = {
        "day": timedelta(days=1),
        "hour": timedelta(hours=1),
        "minute": timedelta(minutes=1),
    }
    for unit, length in units.items():
        if value >= length and not value % length:
            count = value // length
            return f"{count} {unit}{'s' if count != 1 else ''}"
    return f"{value.total_seconds():g} seconds"
