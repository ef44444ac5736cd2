"""Types and expressions of single rows, in the forms that tables hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from sequence_platform.plan.report import Report
from sequence_platform.plan.storage import storage_fault, stored

INTEGER_OR_TEXT = "an integer or a string"
Types = dict[str, pl.DataType]


def raw_schema(given: Mapping[str, object], report: Report) -> pl.Schema | None:
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


def as_stored(
    field: str, expr: pl.Expr, dtype: pl.DataType, report: Report
) -> tuple[pl.Expr, pl.DataType]:
    """Return an expression and its type as tables hold them, noting a type that they cannot."""
    if fault := storage_fault(dtype):
        report.add(field, f"type {dtype}", "a type that tables hold", fault)
    kept = stored(dtype)
    return (expr if kept == dtype else expr.cast(kept)), kept


def key_type(dtype: pl.DataType) -> pl.DataType:
    """Return the type in which keys are compared: integers as one, categories as text."""
    if dtype.is_integer() and not isinstance(dtype, pl.UInt64):
        return pl.Int64()
    return stored(dtype)


def in_utc(expr: pl.Expr, dtype: pl.Datetime) -> pl.Expr:
    """Return a time in UTC and microseconds; one without a zone is taken to be in UTC."""
    zoned = (
        expr.dt.replace_time_zone("UTC")
        if dtype.time_zone is None
        else expr.dt.convert_time_zone("UTC")
    )
    return zoned.dt.cast_time_unit("us")


def as_expr(value: str | pl.Expr) -> pl.Expr:
    """Return a column's name as the expression that reads it."""
    return pl.col(value) if isinstance(value, str) else value


def _whole(dtype: Any) -> Any:  # noqa: ANN401 - checked by whom it is for
    """Return ``pl.Datetime`` as ``pl.Datetime()``: Polars itself takes only some types by name."""
    return dtype() if isinstance(dtype, type) and issubclass(dtype, pl.DataType) else dtype
