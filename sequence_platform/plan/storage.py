"""Which Polars types tables can hold, told at compile time rather than by a failed backfill."""

from __future__ import annotations

import polars as pl
from polars.datatypes import DataTypeClass

_INTEGERS = (pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.UInt8, pl.UInt16, pl.UInt32, pl.UInt64)
_PLAIN = (
    *_INTEGERS,
    pl.Float32,
    pl.Float64,
    pl.Boolean,
    pl.String,
    pl.Binary,
    pl.Date,
    pl.Datetime,
    pl.Decimal,
)


def storage_fault(dtype: pl.DataType) -> str:  # noqa: PLR0911 - one case a kind
    """Return what to do about a type that no table holds, or '' if one does."""
    match dtype:
        case pl.Duration():
            return "say it as a number: .dt.total_microseconds() or .dt.total_seconds()"
        case pl.Time():
            return "say it as a number of microseconds: pl.col(...).cast(pl.Int64) // 1000"
        case pl.List() | pl.Array():
            return storage_fault(instance(dtype.inner))
        case pl.Struct():
            return next(
                (text for field in dtype.fields if (text := storage_fault(instance(field.dtype)))),
                "",
            )
        case pl.Categorical() | pl.Enum():
            return ""
        case _ if isinstance(dtype, _PLAIN):
            return ""
        case _:
            return "cast it: whole numbers to pl.Int64, others to pl.String"


def stored(dtype: pl.DataType) -> pl.DataType:
    """Return the type a column is kept in: categories as text, times in microseconds and UTC."""
    match dtype:
        case pl.Categorical() | pl.Enum():
            return pl.String()
        case pl.Datetime():
            return pl.Datetime("us", None if dtype.time_zone is None else "UTC")
        case _:
            return dtype


def instance(dtype: pl.DataType | DataTypeClass) -> pl.DataType:
    """Return a type that may be said by its class alone, as pl.Int64 within a List."""
    return dtype() if isinstance(dtype, type) else dtype
