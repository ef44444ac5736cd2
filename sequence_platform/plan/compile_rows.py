"""Compiles what works on single rows: event types and enrichments."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import polars as pl

from sequence_platform.definition import Enrichment, EventType, Executor, Lookup
from sequence_platform.errors import nearest
from sequence_platform.plan.compile_log import check_raw_columns
from sequence_platform.plan.describe import day_decides, describe_enrichment, describe_event
from sequence_platform.plan.fingerprint import code_fingerprint, fingerprint
from sequence_platform.plan.plan import (
    ENVELOPE,
    RESERVED,
    TIME,
    EnrichmentPlan,
    EventPlan,
    LookupPlan,
)
from sequence_platform.plan.report import Report
from sequence_platform.plan.samples import sample_frame
from sequence_platform.plan.storage import storage_fault, stored

INTEGERS = "an integer or a string"
Types = dict[str, pl.DataType]


def table_name(name: str, version: int) -> str:
    """Return the table of a definition: its name, with the version from the second on."""
    return name if version == 1 else f"{name}_v{version}"


def compile_enrichment(definition: Enrichment, report: Report) -> EnrichmentPlan | None:
    """Return the compiled enrichment, or None after reporting problems."""
    raw = _raw_schema(definition.schema, report)
    if raw is None:
        return None
    given = definition.columns
    attached = dict(given) if isinstance(given, Mapping) else {name: pl.col(name) for name in given}
    expressions: dict[str, pl.Expr] = {"key": pl.col(definition.key)}
    if definition.available_time is not None:
        expressions["available_time"] = _expr(definition.available_time)
    if not attached:
        report.add("columns", "none", "at least one column to attach")
    for name in {"key", "available_time", *RESERVED} & attached.keys():
        report.add(
            "columns",
            f"'{name}'",
            "a name that the platform does not use itself",
            f"rename it: {{'my_{name}': ...}}",
        )
    types: Types = {}
    for name, expr in (expressions | attached).items():
        field = {"key": "key", "available_time": "available_time"}.get(name, f"columns.{name}")
        dtype = report.row_type_of(field, expr, raw)
        if dtype is None:
            continue
        expressions[name], types[name] = _normalised(field, expr, dtype, report)
    if not report.is_clean:
        return None
    schema = pl.Schema(types)
    described = describe_enrichment(definition, raw, expressions, schema)
    return EnrichmentPlan(
        definition.name,
        table_name(definition.name, definition.version),
        definition,
        raw,
        expressions,
        schema,
        fingerprint(described["decides"]),
    )


def compile_event(
    definition: EventType, enrichments: Mapping[int, EnrichmentPlan], report: Report
) -> EventPlan | None:
    """Return the compiled event type, or None after reporting problems."""
    raw = _raw_schema(definition.schema, report)
    if raw is None:
        return None
    envelope, types = _envelope(definition, raw, report)
    rules = _rules(definition, types, report)
    if definition.executor is not None and report.is_clean:
        types = _executor_types(definition, types, report)
    columns = dict(definition.columns or {})
    derived: Types = {}
    for name, expr in columns.items():
        dtype = report.row_type_of(f"columns.{name}", expr, types)
        if dtype is not None:
            columns[name], derived[name] = _normalised(f"columns.{name}", expr, dtype, report)
    for name in set(RESERVED) & derived.keys():
        report.add(
            "columns", f"'{name}'", "a name that the platform does not use itself", "rename it"
        )
    lookups = _lookups(definition, enrichments, types | derived, report)
    payload = _payload(definition, types, derived, lookups, report)
    if definition.log is not None:
        check_raw_columns(raw, report)
    if not report.is_clean or len(lookups) < len(definition.enrich):
        return None
    schema = pl.Schema({name: types[name] for name in ENVELOPE} | payload)
    described = describe_event(definition, raw, envelope, rules, columns, lookups, schema)
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
        corrects=definition.revision is not None or definition.operation is not None,
        fingerprint=fingerprint(described["decides"]),
        time_fingerprint=fingerprint(day_decides(described["decides"])),
    )


def _raw_schema(given: Mapping[str, object], report: Report) -> pl.Schema | None:
    """Return the schema with instances of types, or None if some entry is not a storable type."""
    try:
        schema = pl.Schema({name: _whole(dtype) for name, dtype in given.items()})
        # Types within types become instances too.
        schema = pl.LazyFrame(schema=schema).collect_schema()
    except Exception as error:  # noqa: BLE001 - whatever a wrong type raises is the author's to read
        report.add("schema", str(error).split("\n")[0], "column names and Polars types")
        return None
    typeless = [name for name, dtype in schema.items() if dtype.base_type() in {pl.Object, pl.Null}]
    for name in typeless:
        report.add("schema", f"'{name}': {schema[name]!r}", "a Polars type such as pl.Int64")
    return None if typeless else schema


def _whole(dtype: Any) -> Any:  # noqa: ANN401 - checked by whom it is for
    """Return ``pl.Datetime`` as ``pl.Datetime()``: Polars itself takes only some types by name."""
    return dtype() if isinstance(dtype, type) and issubclass(dtype, pl.DataType) else dtype


def _envelope(
    definition: EventType, raw: pl.Schema, report: Report
) -> tuple[dict[str, pl.Expr], Types]:
    given = {
        "entity": definition.entity,
        "event_id": definition.event_id,
        "event_time": definition.event_time,
        "arrival_time": definition.arrival_time,
        "revision": definition.revision,
        "operation": definition.operation,
    }
    _check_reserved(given, raw, report)
    envelope: dict[str, pl.Expr] = {}
    for field, value in given.items():
        if value is None:
            continue
        expr = _expr(value)
        dtype = report.row_type_of(field, expr, raw)
        if dtype is None:
            continue
        envelope[field] = _envelope_expr(field, expr, dtype, report)
    # A source that does not record arrival is assumed on time: never the clock, or history would
    # look late.
    time = envelope.get("event_time", pl.lit(None, TIME))
    envelope["arrival_time"] = (
        envelope["arrival_time"].fill_null(time) if "arrival_time" in envelope else time
    )
    envelope["revision"] = envelope.get("revision", pl.lit(0, pl.Int64)).fill_null(0)
    envelope["operation"] = envelope.get("operation", pl.lit("upsert")).fill_null("upsert")
    entity = envelope.get("entity")
    types: Types = dict(raw) | {"event_id": pl.String(), "event_time": TIME, "arrival_time": TIME}
    types |= {"revision": pl.Int64(), "operation": pl.String()}
    if entity is not None and report.is_clean:
        types["entity"] = pl.LazyFrame(schema=raw).select(x=entity).collect_schema()["x"]
    return envelope, types


def _check_reserved(
    given: Mapping[str, str | pl.Expr | None], raw: pl.Schema, report: Report
) -> None:
    """Refuse raw columns that the envelope would hide, unless a field takes them in."""
    for name in (name for name in given if name in raw):
        value = given[name]
        reads_itself = value is not None and name in _expr(value).meta.root_names()
        if not reads_itself and name not in [
            bound for bound in given.values() if isinstance(bound, str)
        ]:
            step = f"say {name}='{name}', leave it out of the schema, or rename it at the source"
            report.add(
                "schema",
                f"raw column '{name}'",
                "a name that the platform does not use itself",
                step,
            )


def _envelope_expr(field: str, expr: pl.Expr, dtype: pl.DataType, report: Report) -> pl.Expr:
    """Return the expression cast to the envelope's type, noting a type that cannot be."""
    text = isinstance(dtype, pl.String | pl.Categorical | pl.Enum)
    match field:
        case "entity" if dtype.is_integer():
            return expr if isinstance(dtype, pl.UInt64) else expr.cast(pl.Int64)
        case "entity" | "event_id" if text or (field == "event_id" and dtype.is_integer()):
            return expr.cast(pl.String)
        case "operation" if text:
            return expr.cast(pl.String)
        case "revision" if dtype.is_integer():
            return expr.cast(pl.Int64, strict=False)
        case "event_time" | "arrival_time" if isinstance(dtype, pl.Datetime):
            return _in_utc(expr, dtype)
    expected = {
        "entity": INTEGERS,
        "event_id": INTEGERS,
        "operation": "a string, 'upsert' or 'delete'",
        "revision": "an integer",
    }.get(field, "a datetime")
    step = (
        "pl.from_epoch('ts', time_unit='ms') or pl.col('ts').str.to_datetime(time_zone='UTC')"
        if "time" in field
        else ""
    )
    report.add(field, f"type {dtype}", expected, step)
    return expr


def _in_utc(expr: pl.Expr, dtype: pl.Datetime) -> pl.Expr:
    zoned = (
        expr.dt.replace_time_zone("UTC")
        if dtype.time_zone is None
        else expr.dt.convert_time_zone("UTC")
    )
    return zoned.dt.cast_time_unit("us")


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


def _lookups(
    definition: EventType, enrichments: Mapping[int, EnrichmentPlan], types: Types, report: Report
) -> list[LookupPlan]:
    plans = []
    for item in definition.enrich:
        lookup = item if isinstance(item, Lookup) else Lookup(item, item.key)
        plan = enrichments.get(id(lookup.enrichment))
        if plan is None:
            continue  # its own problems are reported where it is defined
        field = f"enrich.{plan.name}"
        if lookup.column not in types:
            step = f"{plan.name}.by('<column of the event>')"
            report.add(
                field,
                f"column '{lookup.column}'",
                f"a column that is there; {nearest(lookup.column, types)}",
                step,
            )
        elif (mine := _key_type(types[lookup.column])) != plan.schema["key"]:
            report.add(
                field, f"'{lookup.column}' of type {mine}", f"the key's type, {plan.schema['key']}"
            )
        else:
            plans.append(LookupPlan(plan, lookup.column))
    return plans


def _payload(
    definition: EventType,
    types: Types,
    derived: Types,
    lookups: Iterable[LookupPlan],
    report: Report,
) -> Types:
    """Return the columns beside the envelope: raw ones not bound by name, derived, looked up."""
    bound = {
        value
        for value in (
            definition.entity,
            definition.event_id,
            definition.event_time,
            definition.arrival_time,
            definition.revision,
            definition.operation,
        )
        if isinstance(value, str)
    }
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
                found = f"'{name}' of enrichment '{lookup.enrichment.name}'"
                report.add(
                    "enrich",
                    found,
                    "a name of its own: the event has this column",
                    "rename it in columns={...}",
                )
            payload[name] = lookup.enrichment.schema[name]
    return payload


def _normalised(
    field: str, expr: pl.Expr, dtype: pl.DataType, report: Report
) -> tuple[pl.Expr, pl.DataType]:
    """Return expression and type as tables hold them.

    Keys as in the envelope, times in UTC, categories as strings.
    """
    if field == "available_time":
        if not isinstance(dtype, pl.Datetime):
            report.add(field, f"type {dtype}", "a datetime")
            return expr, dtype
        return _in_utc(expr, dtype), TIME
    if field == "key":
        key = _key_type(dtype)
        if not (key.is_integer() or isinstance(key, pl.String)):
            report.add(field, f"type {dtype}", INTEGERS)
        return expr.cast(key), key
    if fault := storage_fault(dtype):
        report.add(field, f"type {dtype}", "a type that tables hold", fault)
    kept = stored(dtype)
    return (expr if kept == dtype else expr.cast(kept)), kept


def _key_type(dtype: pl.DataType) -> pl.DataType:
    if dtype.is_integer() and not isinstance(dtype, pl.UInt64):
        return pl.Int64()
    return stored(dtype)


def _expr(value: str | pl.Expr) -> pl.Expr:
    return pl.col(value) if isinstance(value, str) else value
