"""Compiles the envelope of an event type: what every event has, whatever its source calls it."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from sequence_platform.definition import EventType
from sequence_platform.plan.plan import TIME
from sequence_platform.plan.report import Report
from sequence_platform.plan.row_types import INTEGER_OR_TEXT, Types, as_expr, in_utc


def envelope_fields(definition: EventType) -> dict[str, str | pl.Expr | None]:
    """Return what a definition gives for each field of the envelope."""
    return {
        "entity": definition.entity,
        "event_id": definition.event_id,
        "event_time": definition.event_time,
        "arrival_time": definition.arrival_time,
        "revision": definition.revision,
        "operation": definition.operation,
    }


def compile_envelope(
    definition: EventType, raw: pl.Schema, report: Report
) -> tuple[dict[str, pl.Expr], Types]:
    """Return the envelope's expressions, and the types of the raw columns and the envelope."""
    given = envelope_fields(definition)
    _check_reserved(given, raw, report)
    envelope: dict[str, pl.Expr] = {}
    for field, value in given.items():
        if value is None:
            continue
        expr = as_expr(value)
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
        reads_itself = value is not None and name in as_expr(value).meta.root_names()
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
            return in_utc(expr, dtype)
    expected = {
        "entity": INTEGER_OR_TEXT,
        "event_id": INTEGER_OR_TEXT,
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
