"""Fits frames to a schema: each value is read as its type, or its row is told; no silent nulls."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import polars as pl

from sequence_platform.engine.reading import concrete, is_unfit, readings

MISFITS = pl.Schema({"row": pl.UInt32, "rule": pl.String, "detail": pl.String})
"""Rows that cannot be used: which, why, and what was found and expected; one each, in order."""
CALENDAR_DAYS = 95_000_000
"""Before and after 1970: 260,000 years."""
UNITS_OF_A_DAY = {"d": 1, "ms": 86_400_000, "us": 86_400_000_000, "ns": 86_400_000_000_000}
MAX_INTEGER = 2**63 - 1
MAX_SHOWN = 120
"""Characters of a value shown in a detail; the whole row is kept beside it."""


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """A frame in the types asked for.

    Attributes:
        frame: All rows, in order; a value that does not fit is null.
        misfits: MISFITS: rows with a value that does not fit, and the first such column.
    """

    frame: pl.DataFrame
    misfits: pl.DataFrame

    @property
    def good(self) -> pl.DataFrame:
        """The rows that fit."""
        return without(self.frame, self.misfits["row"])


def fit(frame: pl.DataFrame, schema: pl.Schema, *, declared: pl.Schema | None = None) -> Fitted:
    """Return the columns of ``schema``, each in its type; costs nothing where it is already.

    Args:
        frame: Has at least the columns of ``schema``.
        schema: The types wanted.
        declared: The types to name in details, if they are others.
    """
    changed = {name: dtype for name, dtype in schema.items() if frame.schema[name] != dtype}
    read = {name: _read_all(frame[name], dtype) for name, dtype in changed.items()}
    fitted = frame.select(schema.names()).with_columns(series for series, _ in read.values())
    lost = {name: rows for name, (_, rows) in read.items()}
    impossible = {name: is_beyond_calendar(fitted[name]).arg_true() for name in _times(schema)}
    unfit = [*lost.items(), *impossible.items()]
    return Fitted(fitted, _misfits(frame, unfit, declared or schema))


def is_beyond_calendar(times: pl.Series) -> pl.Series:
    """Return which Datetimes or Dates are further than Polars can tell as text; it panics at them.

    Databases say infinity so, and broken files hold anything.
    """
    unit = times.dtype.time_unit if isinstance(times.dtype, pl.Datetime) else "d"
    limit = CALENDAR_DAYS * UNITS_OF_A_DAY[unit]
    number = times.to_physical()
    if limit >= MAX_INTEGER or (number.is_between(-limit, limit).all()):
        return pl.repeat(False, len(times), dtype=pl.Boolean, eager=True)
    return (~number.is_between(-limit, limit)).fill_null(value=False)


def without(frame: pl.DataFrame, rows: pl.Series) -> pl.DataFrame:
    """Return a frame without some of its rows."""
    if rows.is_empty():
        return frame
    kept = pl.repeat(True, frame.height, dtype=pl.Boolean, eager=True)
    return frame.filter(kept.scatter(rows, False))


def _times(schema: pl.Schema) -> list[str]:
    return [name for name, dtype in schema.items() if dtype in (pl.Datetime, pl.Date)]


def _read_all(series: pl.Series, wanted: pl.DataType) -> tuple[pl.Series, pl.Series]:
    """Return a column in another type, and the rows of which a value was lost."""
    if _extremes_fit(series, wanted):
        return series.cast(wanted), pl.Series(dtype=pl.UInt32)
    read = _read(series, wanted)
    return read, _lost(series, read)


def _read(series: pl.Series, wanted: pl.DataType) -> pl.Series:
    """Return a column read as another type, null where that cannot be.

    Most columns are read in one way; the others are tried only on what it did not read.
    """
    text = _decoded(series) if series.dtype == pl.Binary else series
    ways = readings(pl.col(series.name), text.dtype, wanted)
    if not ways:
        return pl.repeat(None, len(series), dtype=wanted, eager=True).alias(series.name)
    read = _apply(ways[0], text)
    for way in ways[1:]:
        if read.null_count() == text.null_count():
            break
        rest = (read.is_null() & text.is_not_null()).arg_true()
        read = read.scatter(rest, _apply(way, text.gather(rest)))
    return read


def _apply(way: pl.Expr, series: pl.Series) -> pl.Series:
    return series.to_frame().select(way.alias(series.name)).to_series()


def _decoded(series: pl.Series) -> pl.Series:
    """Return bytes as text, null where they are not UTF-8; Polars' own cast fails as a whole."""

    def text(value: bytes | None) -> str | None:
        try:
            return None if value is None else value.decode()
        except UnicodeDecodeError:
            return None

    return pl.Series(series.name, [text(value) for value in series], dtype=pl.String)


def _lost(series: pl.Series, read: pl.Series) -> pl.Series:
    """Return the rows of which a value was lost when ``series`` was read."""
    if series.dtype.is_nested() and read.dtype.is_nested():
        unfit = is_unfit(pl.col(series.name), series.dtype, read.dtype)
        if unfit is not None:
            return _apply(unfit, series).arg_true()
    elif read.null_count() > series.null_count():
        return (read.is_null() & series.is_not_null()).arg_true()
    return pl.Series(dtype=pl.UInt32)


def _extremes_fit(series: pl.Series, wanted: pl.DataType) -> bool:
    """Whether lists of numbers all fit, told by lengths, least and largest: quick, for vectors."""
    if not isinstance(series.dtype, pl.List) or not isinstance(wanted, pl.List | pl.Array):
        return False
    found, inner = concrete(series.dtype.inner), concrete(wanted.inner)
    is_monotone = (found.is_integer() and inner.is_integer()) or (
        (found.is_integer() or found.is_float()) and inner.is_float()
    )
    if not is_monotone or _has_wrong_length(series, wanted).any():
        return False
    extremes = pl.Series("x", [series.list.min().min(), series.list.max().max()], dtype=found)
    return _lost(extremes, _read(extremes, inner)).is_empty()


def _has_wrong_length(series: pl.Series, wanted: pl.DataType) -> pl.Series:
    if isinstance(wanted, pl.Array) and series.dtype in (pl.List, pl.Array):
        return (_lengths(series) != wanted.size).fill_null(value=False)
    return pl.repeat(False, len(series), dtype=pl.Boolean, eager=True)


def _lengths(series: pl.Series) -> pl.Series:
    lists = series.arr.to_list() if isinstance(series.dtype, pl.Array) else series
    return lists.list.len()


def _misfits(
    frame: pl.DataFrame, unfit: Iterable[tuple[str, pl.Series]], declared: pl.Schema
) -> pl.DataFrame:
    parts = [
        _column_misfits(rows, frame[name].gather(rows), declared[name])
        for name, rows in unfit
        if len(rows)
    ]
    told = pl.concat([pl.DataFrame(schema=MISFITS), *parts])
    return told.unique("row", keep="first", maintain_order=True).sort("row")


def _column_misfits(rows: pl.Series, found: pl.Series, wanted: pl.DataType) -> pl.DataFrame:
    rule = pl.repeat(f"wrong_type:{found.name}", len(rows), eager=True)
    detail = "found " + _shown(found) + f", expected {wanted}"
    is_length = _has_wrong_length(found, wanted)
    if is_length.any() and isinstance(wanted, pl.Array):
        lengths = _lengths(found).cast(pl.String)
        by_length = "found " + lengths + f" values, expected {wanted.size}"
        rule = rule.zip_with(~is_length, rule.str.replace("wrong_type", "wrong_length"))
        detail = detail.zip_with(~is_length, by_length)
    return pl.DataFrame({"row": rows, "rule": rule, "detail": detail}, schema=MISFITS)


def _shown(found: pl.Series) -> pl.Series:
    """Return values and their type as bounded text."""
    if found.dtype.is_nested():
        text = found.to_frame("x").select(pl.struct("x").struct.json_encode()).to_series()
        text = text.str.slice(len('{"x":')).str.head(-1)
    elif found.dtype == pl.String:
        text = "'" + found + "'"
    elif found.dtype == pl.Binary:
        text = found.bin.encode("hex")
    elif found.dtype == pl.Duration:
        text = found.dt.total_microseconds().cast(pl.String) + " us"
    elif found.dtype in (pl.Datetime, pl.Date) and is_beyond_calendar(found).any():
        text = found.to_physical().cast(pl.String)
    else:
        text = found.cast(pl.String)
    is_long = text.str.len_chars() > MAX_SHOWN
    return text.zip_with(~is_long, text.str.head(MAX_SHOWN) + "...") + f" ({found.dtype})"
