"""Compiles event types: envelope, rules, executor, columns and lookups, and the table's schema."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import polars as pl

from sequence_platform.definition import EventType, Executor, Lookup
from sequence_platform.errors import nearest
from sequence_platform.plan.compile_log import check_raw_columns
from sequence_platform.plan.describe import day_decides, describe_event
from sequence_platform.plan.envelope import compile_envelope, envelope_fields
from sequence_platform.plan.fingerprint import code_fingerprint, fingerprint
from sequence_platform.plan.plan import ENVELOPE, RESERVED, EnrichmentPlan, EventPlan, LookupPlan
from sequence_platform.plan.report import Report
from sequence_platform.plan.row_types import Types, as_stored, key_type, raw_schema
from sequence_platform.plan.samples import sample_frame
from sequence_platform.plan.storage import storage_fault, stored
from sequence_platform.plan.tables import table_name


def compile_event(
    definition: EventType, enrichments: Mapping[int, EnrichmentPlan], report: Report
) -> EventPlan | None:
    """Return the compiled event type, or None after reporting problems."""
    raw = raw_schema(definition.schema, report)
    if raw is None:
        return None
    envelope, types = compile_envelope(definition, raw, report)
    rules = _rules(definition, types, report)
    if definition.executor is not None and report.is_clean:
        types = _executor_types(definition, types, report)
    columns = dict(definition.columns or {})
    derived: Types = {}
    for name, expr in columns.items():
        dtype = report.row_type_of(f"columns.{name}", expr, types)
        if dtype is not None:
            columns[name], derived[name] = as_stored(f"columns.{name}", expr, dtype, report)
    for name in set(RESERVED) & derived.keys():
        report.add(
            "columns", f"'{name}'", "a name that the platform does not use itself", "rename it"
        )
    at_ingest, when_read = _by_moment(definition, enrichments)
    lookups = _lookups(at_ingest, types | derived, report)
    payload = _payload(definition, types, derived, lookups, report)
    # By what is stored, looked-up columns too: nothing else is at hand when a sequence is read.
    stored_types = {name: types[name] for name in ENVELOPE if name in types} | payload
    read_lookups = _lookups(when_read, stored_types, report)
    _check_read_columns(read_lookups, stored_types, report)
    if definition.log is not None:
        check_raw_columns(raw, report)
    if not report.is_clean or len(lookups) + len(read_lookups) < len(definition.enrich):
        return None
    schema = pl.Schema(stored_types)
    described = describe_event(
        definition, raw, envelope, rules, columns, lookups, read_lookups, schema
    )
    return EventPlan(
        name=definition.name,
        table=table_name(definition.name, definition.version),
        definition=definition,
        raw_schema=raw,
        schema=schema,
        envelope=envelope,
        rules=rules,
        columns=columns,
        lookups=tuple(lookups),
        read_lookups=tuple(read_lookups),
        corrects=definition.revision is not None or definition.operation is not None,
        fingerprint=fingerprint(described["decides"]),
        time_fingerprint=fingerprint(day_decides(described["decides"])),
    )


def _rules(definition: EventType, types: Types, report: Report) -> dict[str, pl.Expr]:
    where = definition.where
    rules = {} if where is None else dict(where) if isinstance(where, Mapping) else {"where": where}
    for name, rule in rules.items():
        dtype = report.row_type_of(f"where.{name}", rule, types)
        if dtype is not None and not isinstance(dtype, pl.Boolean):
            report.add(f"where.{name}", f"type {dtype}", "a condition (Boolean)")
        if name in {"delete", "executor"} or name.startswith("missing:"):
            report.add(
                "where",
                f"a rule named '{name}'",
                "a name that the platform does not use itself",
                "rename it",
            )
    return rules


def _executor_types(definition: EventType, types: Types, report: Report) -> Types:
    """Return the types after the executor, and prove on samples that it works row by row."""
    executor = definition.executor
    assert executor is not None  # noqa: S101 - the caller asked
    sample = sample_frame(types).with_columns(event_id=pl.int_range(pl.len()).cast(pl.String))
    half = sample.height // 2
    head, tail = sample.head(half), sample.tail(sample.height - half)
    expected = "the same rows whether the batch is whole or split, in any order"
    try:
        code_fingerprint(executor)
    except ValueError as error:
        report.add("executor", str(error), "functions, expressions and plain constants")
        return types
    try:
        out = executor(pl.LazyFrame(schema=types)).collect_schema()
        whole, turned = _run(executor, sample), _run(executor, pl.concat([tail, head]))
        same = whole.equals(_run(executor, head, tail)) and turned.equals(
            _run(executor, tail, head)
        )
        ids = whole["event_id"] if "event_id" in out else pl.Series([], dtype=pl.String)
    except Exception as error:  # noqa: BLE001 - the author's code may raise anything
        report.add(
            "executor",
            f"{type(error).__name__}: {str(error).splitlines()[0]}",
            "a LazyFrame for a LazyFrame",
        )
        return types
    lost = [name for name in (*ENVELOPE, "operation") if out.get(name) != types.get(name)]
    if lost:
        report.add(
            "executor", f"columns {', '.join(lost)} gone or retyped", "the envelope as it was"
        )
    elif ids.n_unique() != ids.len():
        report.add("executor", "one event became several", "at most one row per row")
    elif not same:
        report.add(
            "executor",
            "another result when the batch is split",
            expected,
            "no windows, sorts or aggregates",
        )
    return dict(out)


def _run(executor: Executor, *parts: pl.DataFrame) -> pl.DataFrame:
    return pl.concat([executor(part.lazy()).collect() for part in parts])


def _by_moment(
    definition: EventType, enrichments: Mapping[int, EnrichmentPlan]
) -> tuple[list[LookupPlan], list[LookupPlan]]:
    """Return what is looked up at ingest, and what when a sequence is read.

    An enrichment with problems is left out: they are reported where it is defined.
    """
    items = [
        item if isinstance(item, Lookup) else Lookup(item, item.key) for item in definition.enrich
    ]
    plans = [
        LookupPlan(plan, item.column)
        for item in items
        if (plan := enrichments.get(id(item.enrichment))) is not None
    ]
    return (
        [plan for plan in plans if not plan.enrichment.is_read],
        [plan for plan in plans if plan.enrichment.is_read],
    )


def _lookups(lookups: Iterable[LookupPlan], types: Types, report: Report) -> list[LookupPlan]:
    """Return those lookups whose column is there and of the key's type; note what others lack."""
    fitting = []
    for lookup in lookups:
        plan = lookup.enrichment
        field = f"enrich.{plan.name}"
        if lookup.column not in types:
            step = f"{plan.name}.by('<column of the event>')"
            kind = "a column that is stored" if plan.is_read else "a column that is there"
            report.add(
                field,
                f"column '{lookup.column}'",
                f"{kind}; {nearest(lookup.column, types)}",
                step,
            )
        elif (mine := key_type(types[lookup.column])) != plan.schema["key"]:
            report.add(
                field, f"'{lookup.column}' of type {mine}", f"the key's type, {plan.schema['key']}"
            )
        else:
            fitting.append(lookup)
    return fitting


def _check_read_columns(lookups: Iterable[LookupPlan], stored_types: Types, report: Report) -> None:
    """Note read columns that are named as other columns of the event are."""
    seen = set(stored_types)
    for lookup in lookups:
        for name in lookup.enrichment.columns:
            if name in seen:
                _report_taken(lookup, name, report)
            seen.add(name)


def _payload(
    definition: EventType,
    types: Types,
    derived: Types,
    lookups: Iterable[LookupPlan],
    report: Report,
) -> Types:
    """Return the columns beside the envelope: raw ones not bound by name, derived, looked up."""
    bound = [value for value in envelope_fields(definition).values() if isinstance(value, str)]
    payload = {
        name: stored(dtype)
        for name, dtype in types.items()
        if name not in bound and name not in RESERVED
    }
    for name in payload:
        if fault := storage_fault(types[name]):
            report.add(f"schema.{name}", f"type {types[name]}", "a type that tables hold", fault)
    for name, dtype in derived.items():
        if name in payload and name in types:
            report.add(
                "columns", f"'{name}'", "a new name: the raw schema has this one", "rename it"
            )
        payload[name] = dtype
    for lookup in lookups:
        for name in lookup.enrichment.columns:
            if name in payload:
                _report_taken(lookup, name, report)
            payload[name] = lookup.enrichment.schema[name]
    return payload


def _report_taken(lookup: LookupPlan, name: str, report: Report) -> None:
    report.add(
        "enrich",
        f"'{name}' of enrichment '{lookup.enrichment.name}'",
        "a name of its own: the event has this column",
        "rename it in columns={...}",
    )
