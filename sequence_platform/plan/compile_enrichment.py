"""Compiles enrichments: a key, the time from which a row is known, and the columns it brings."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from sequence_platform.definition import Enrichment
from sequence_platform.plan.describe import describe_enrichment
from sequence_platform.plan.fingerprint import fingerprint
from sequence_platform.plan.plan import RESERVED, TIME, EnrichmentPlan
from sequence_platform.plan.report import Report
from sequence_platform.plan.row_types import (
    INTEGER_OR_TEXT,
    Types,
    as_expr,
    as_stored,
    in_utc,
    key_type,
    raw_schema,
)
from sequence_platform.plan.tables import table_name


def compile_enrichment(definition: Enrichment, report: Report) -> EnrichmentPlan | None:
    """Return the compiled enrichment, or None after reporting problems."""
    raw = raw_schema(definition.schema, report)
    if raw is None:
        return None
    given = definition.columns
    attached = dict(given) if isinstance(given, Mapping) else {name: pl.col(name) for name in given}
    expressions: dict[str, pl.Expr] = {"key": pl.col(definition.key)}
    if definition.available_time is not None:
        expressions["available_time"] = as_expr(definition.available_time)
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


def _normalised(
    field: str, expr: pl.Expr, dtype: pl.DataType, report: Report
) -> tuple[pl.Expr, pl.DataType]:
    """Return expression and type as tables hold them: keys as entities are, times in UTC."""
    match field:
        case "available_time" if isinstance(dtype, pl.Datetime):
            return in_utc(expr, dtype), TIME
        case "available_time":
            report.add(field, f"type {dtype}", "a datetime")
            return expr, dtype
        case "key":
            key = key_type(dtype)
            if not (key.is_integer() or isinstance(key, pl.String)):
                report.add(field, f"type {dtype}", INTEGER_OR_TEXT)
            return expr.cast(key), key
        case _:
            return as_stored(field, expr, dtype, report)
