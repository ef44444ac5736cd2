"""Compiles sequences: the columns they carry, their trim policy, and what is computed over them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

import polars as pl

from sequence_platform.definition import Sequence
from sequence_platform.errors import nearest
from sequence_platform.plan.compile_read import compile_read, read_columns, refuse_read
from sequence_platform.plan.describe import describe_sequence
from sequence_platform.plan.expressions import canonical_tree
from sequence_platform.plan.fingerprint import fingerprint
from sequence_platform.plan.plan import RESERVED, TIME, EventPlan, SequencePlan
from sequence_platform.plan.report import Report
from sequence_platform.plan.samples import sample_frame
from sequence_platform.plan.storage import storage_fault
from sequence_platform.plan.tables import table_name

ALWAYS: dict[str, pl.DataType] = {
    "event_type": pl.String(),
    "event_time": TIME,
    "event_id": pl.String(),
}
"""What every sequence carries of an event."""


def compile_sequence(
    definition: Sequence, plans: Mapping[int, EventPlan], report: Report
) -> SequencePlan | None:
    """Return the compiled sequence, or None if it or an event type of it has problems."""
    events = tuple(plans[id(event)] for event in definition.events if id(event) in plans)
    if len(events) < len(definition.events) or not events:
        return None
    names = [event.name for event in events]
    for name in sorted({name for name in names if names.count(name) > 1}):
        report.add("events", f"'{name}' twice", "each event type once")
    entity_type = _entity_type(events, report)
    read, read_lookups = compile_read(definition, events, report)
    columns = _columns(definition, events, read, report)
    late = _late(definition, columns, read, report)
    _check_dedupe(definition, columns, late, read, report)
    flat = ALWAYS | {name: dtype for name, dtype in columns.items() if name not in late}
    derived = _derived(definition, flat, read, report)
    request = _request(definition, flat | columns | read | derived, report)
    lookback = _lookback(definition, events, report)
    if not report.is_clean:
        return None
    schemas = (pl.Schema(columns), pl.Schema(derived), pl.Schema(request))
    described = describe_sequence(definition, events, *schemas, read_lookups, late, lookback)
    return SequencePlan(
        name=definition.name,
        table=table_name(definition.name, definition.version),
        definition=definition,
        events=events,
        entity_type=entity_type,
        columns=schemas[0],
        read=pl.Schema(read),
        read_lookups=read_lookups,
        derived=schemas[1],
        request=schemas[2],
        late=late,
        lookback=lookback,
        fingerprint=fingerprint(described["decides"]),
        request_fingerprint=fingerprint(described["serves"]),
    )


def _entity_type(events: tuple[EventPlan, ...], report: Report) -> pl.DataType:
    first = events[0]
    for event in events[1:]:
        if event.schema["entity"] != first.schema["entity"]:
            found = (
                f"entity of '{event.name}' is {event.schema['entity']}, "
                f"of '{first.name}' {first.schema['entity']}"
            )
            report.add(
                "events", found, "one type of entity", "cast one: entity=pl.col('...').cast(...)"
            )
    return first.schema["entity"]


def _columns(
    definition: Sequence,
    events: tuple[EventPlan, ...],
    read: Mapping[str, pl.DataType],
    report: Report,
) -> dict[str, pl.DataType]:
    """Return the types of the columns that are stored."""
    columns: dict[str, pl.DataType] = {}
    present = {name for event in events for name in event.schema} | read_columns(events)
    for name in definition.columns:
        if name in read:
            continue
        if name in ALWAYS or name == "entity":
            report.add(
                "columns",
                f"'{name}'",
                "columns beside those every sequence carries",
                "leave it out",
            )
            continue
        found = {event.name: event.schema[name] for event in events if name in event.schema}
        if not found:
            report.add(
                "columns",
                f"'{name}'",
                f"a column of one of its event types; {nearest(name, present)}",
            )
            continue
        if len(set(found.values())) > 1:
            text = ", ".join(f"{event}: {dtype}" for event, dtype in found.items())
            report.add(
                "columns",
                f"'{name}' is {text}",
                "one type in all event types",
                "cast it in columns={...}",
            )
        columns[name] = next(iter(found.values()))
    if len(set(definition.columns)) < len(definition.columns):
        report.add("columns", "a name twice", "each column once")
    return columns


def _late(
    definition: Sequence,
    columns: Mapping[str, pl.DataType],
    read: Mapping[str, pl.DataType],
    report: Report,
) -> tuple[str, ...]:
    if definition.late is None:
        return tuple(name for name, dtype in columns.items() if isinstance(dtype, pl.Array))
    refused = refuse_read("late", definition.late, read, report)
    for name in set(definition.late) - columns.keys() - refused:
        report.add("late", f"'{name}'", f"one of its columns: {', '.join(columns)}")
    return tuple(name for name in columns if name in definition.late)


def _check_dedupe(
    definition: Sequence,
    columns: Mapping[str, pl.DataType],
    late: tuple[str, ...],
    read: Mapping[str, pl.DataType],
    report: Report,
) -> None:
    if definition.dedupe is None:
        return
    by = [definition.dedupe.by] if isinstance(definition.dedupe.by, str) else definition.dedupe.by
    refused = refuse_read("dedupe.by", by, read, report)
    for name in by:
        if name in refused:
            continue
        if name in late:
            report.add("dedupe.by", f"'{name}', a late column", "a column that snapshots hold")
        elif name not in columns and name != "event_type":
            report.add(
                "dedupe.by", f"'{name}'", f"event_type or one of its columns: {', '.join(columns)}"
            )


def _derived(
    definition: Sequence,
    flat: Mapping[str, pl.DataType],
    read: Mapping[str, pl.DataType],
    report: Report,
) -> dict[str, pl.DataType]:
    sound = {}
    for name, expr in (definition.derived or {}).items():
        field = f"derived.{name}"
        if name in read:
            report.add(field, f"'{name}'", "a name that no other column of the sequence has")
        if not refuse_read(field, expr.meta.root_names(), read, report):
            sound[name] = expr
    return _computed("derived", sound, flat, report)


def _computed(
    field: str, expressions: Mapping[str, pl.Expr], flat: Mapping[str, pl.DataType], report: Report
) -> dict[str, pl.DataType]:
    """Return the types of columns computed over the events of a sequence: one value an event."""
    types: dict[str, pl.DataType] = {}
    for name, expr in expressions.items():
        where = f"{field}.{name}"
        if name in flat or name in RESERVED:
            report.add(where, f"'{name}'", "a name that no other column of the sequence has")
        dtype = report.type_of(where, expr, flat)
        if dtype is None:
            continue
        try:
            canonical_tree(expr)
        except ValueError as error:
            report.add(where, str(error), "Polars expressions")
            continue
        if fault := storage_fault(dtype):
            report.add(where, f"type {dtype}", "a type that tables hold", fault)
        if not _fits_each_entity(expr, flat):
            report.add(
                where, "another number of values than events", "one value an event, or one for all"
            )
        types[name] = dtype
    return types


def _fits_each_entity(expr: pl.Expr, flat: Mapping[str, pl.DataType]) -> bool:
    """Ask data, as the engine evaluates it: over one entity with repeats, and over several."""
    sample = sample_frame(flat)
    several = [0, 1, 1, 2, 2, 2, *[3] * (sample.height - 6)]
    try:
        for entities in ([0] * sample.height, several):
            entity = pl.Series("__entity", entities)
            sample.hstack([entity]).with_columns(__x=expr.over("__entity"))
    except pl.exceptions.PolarsError:
        return False
    return True


def _request(
    definition: Sequence, flat: Mapping[str, pl.DataType], report: Report
) -> dict[str, pl.DataType]:
    try:
        context = dict(pl.Schema(definition.context or {}))
    except TypeError as error:
        report.add("context", str(error), "names and Polars types")
        return {}
    for name in context.keys() & flat.keys():
        report.add("context", f"'{name}'", "a name that no column of the sequence has")
    return _computed(
        "request", definition.request or {}, {"request_time": TIME, **context, **flat}, report
    )


def _lookback(definition: Sequence, events: tuple[EventPlan, ...], report: Report) -> timedelta:
    if definition.max_age is None:
        return min(event.definition.retention for event in events)
    for event in events:
        needed = definition.max_age + event.definition.allowed_lateness
        if event.definition.retention < needed:
            found = f"'{event.name}' is kept {event.definition.retention}"
            report.add(
                "max_age",
                found,
                f"at least max_age + allowed_lateness = {needed}",
                "raise its retention",
            )
    return definition.max_age
