"""Polars types and the lake's: how each is stored, and back.

Refuses types the lake would hold as something else.

Vectors are FLOAT[] in the lake (DuckLake 1.0 refuses FLOAT[n]) and Arrays in frames; enums and
categoricals are text.
"""

from __future__ import annotations

import polars as pl
from polars.datatypes import DataTypeClass

from sequence_platform.errors import FrameSchemaError, listed

SCALARS: dict[type[pl.DataType], str] = {
    pl.Boolean: "BOOLEAN",
    pl.Int8: "TINYINT",
    pl.Int16: "SMALLINT",
    pl.Int32: "INTEGER",
    pl.Int64: "BIGINT",
    pl.UInt8: "UTINYINT",
    pl.UInt16: "USMALLINT",
    pl.UInt32: "UINTEGER",
    pl.UInt64: "UBIGINT",
    pl.Float32: "FLOAT",
    pl.Float64: "DOUBLE",
    pl.String: "VARCHAR",
    pl.Categorical: "VARCHAR",
    pl.Enum: "VARCHAR",
    pl.Binary: "BLOB",
    pl.Date: "DATE",
    pl.Time: "TIME",
}
"""Types without parameters that survive Parquet and the lake unchanged."""


def lake_type(dtype: pl.DataType, where: str) -> str:
    """Return the lake's type for a Polars type.

    Raises:
        FrameSchemaError: the lake cannot hold it (durations, nulls, objects, half floats, 128-bit
            integers).
    """
    match dtype:
        case pl.Array() | pl.List():
            return lake_type(_inner(dtype), where) + "[]"
        case pl.Struct(fields=fields):
            inner = ", ".join(f'"{f.name}" {lake_type(_instance(f.dtype), where)}' for f in fields)
            return f"STRUCT({inner})"
        case pl.Datetime(time_unit="us", time_zone=None):
            return "TIMESTAMP"
        case pl.Datetime(time_unit="us", time_zone="UTC"):
            return "TIMESTAMP WITH TIME ZONE"
        case pl.Decimal(precision=precision, scale=scale):
            return f"DECIMAL({precision}, {scale})"
        case _ if type(dtype) in SCALARS:
            return SCALARS[type(dtype)]
        case _:
            pass
    raise FrameSchemaError(
        "a column's type cannot be stored in the lake",
        where=where,
        found=str(dtype),
        expected="numbers up to 64 bits, text, Boolean, Date, Time, Datetime('us') without zone "
        "or UTC, Decimal, Binary, and "
        "lists, arrays and structs of these",
        next_step="cast the column in the definition, as .dt.total_microseconds() for a duration",
    )


def stored_dtype(dtype: pl.DataType) -> pl.DataType:
    """Return the Polars type in which values of ``dtype`` are written."""
    match dtype:
        case pl.Array() | pl.List():
            inner = stored_dtype(_inner(dtype))
            return pl.Array(inner, dtype.size) if isinstance(dtype, pl.Array) else pl.List(inner)
        case pl.Struct(fields=fields):
            return pl.Struct({f.name: stored_dtype(_instance(f.dtype)) for f in fields})
        case pl.Categorical() | pl.Enum():
            return pl.String()
        case _:
            return dtype


def read_dtype(dtype: pl.DataType) -> pl.DataType:
    """Return the Polars type in which the lake hands back values of ``dtype``."""
    match dtype:
        case pl.Array() | pl.List():
            return pl.List(read_dtype(_inner(dtype)))
        case pl.Struct(fields=fields):
            return pl.Struct({f.name: read_dtype(_instance(f.dtype)) for f in fields})
        case _:
            return stored_dtype(dtype)


def vector_type(dtype: pl.DataType) -> str | None:
    """Return ``FLOAT[n]`` (or a list of it) for a vector column, else None."""
    match dtype:
        case pl.List():
            inner = vector_type(_inner(dtype))
            return f"{inner}[]" if inner else None
        case pl.Array() if dtype.inner in {pl.Float32, pl.Float64}:
            return f"{lake_type(_inner(dtype), '')}[{dtype.size}]"
        case _:
            return None


def to_stored(frame: pl.DataFrame, schema: pl.Schema, where: str) -> pl.DataFrame:
    """Return a frame as it is written: columns in the order of the schema, in stored types.

    Raises:
        FrameSchemaError: a column is absent, is not of the schema, or has another type.
    """
    wrong = [
        f"{name}: {frame.schema[name]}"
        for name in frame.columns
        if schema.get(name) != frame.schema[name]
    ]
    absent = [name for name in schema if name not in frame.schema]
    if wrong or absent:
        raise FrameSchemaError(
            "a frame does not fit its table",
            where=where,
            found=f"absent: {listed(absent)}; of another type or unknown: {listed(wrong)}",
            expected=listed(f"{name}: {dtype}" for name, dtype in schema.items()),
            next_step="pass exactly the columns of the table's specification",
        )
    return frame.select(pl.col(name).cast(stored_dtype(dtype)) for name, dtype in schema.items())


def from_stored(frame: pl.DataFrame, schema: pl.Schema) -> pl.DataFrame:
    """Return a frame read from the lake in the types of the schema.

    Vectors as Arrays, enums as Enums.
    """
    return frame.select(pl.col(name).cast(dtype) for name, dtype in schema.items())


def _inner(dtype: pl.Array | pl.List) -> pl.DataType:
    return _instance(dtype.inner)


def _instance(dtype: pl.DataType | DataTypeClass) -> pl.DataType:
    return dtype() if isinstance(dtype, type) else dtype
