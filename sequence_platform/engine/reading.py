"""How a value of one type reads as another with the same meaning; null where it does not.

Nothing is rounded, cut, wrapped around or guessed: 1.5 is no integer, 5 is no time, 300 is no Int8.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import polars as pl

if TYPE_CHECKING:
    from polars._typing import PolarsDataType

EXACT_FLOAT = 2**53
"""From it on, text such as ``9007199254740993.0`` would lose digits on its way through a float."""
EXTRA_DIGITS = 6
"""Digits beyond those of a Decimal that are looked at, to refuse what has more than it can hold."""
MAX_DIGITS = 38
"""Digits that a Decimal can have."""
BOOLEANS = {"true": True, "1": True, "false": False, "0": False}

_DAY = "%Y-%m-%d"
_CLOCKS = ("%H:%M:%S%.f", "%H:%M")
# Polars parses formats of fixed width itself, five times as fast as chrono parses those below.
_QUICK_INSTANTS = tuple(f"{_DAY}T%H:%M:%S{fraction}Z" for fraction in ("", ".%3f", ".%6f"))
_INSTANTS = tuple(
    f"{_DAY}{separator}{clock}{zone}"
    for separator in "T "
    for clock in _CLOCKS
    for zone in ("%#z", "")
)

Readings = list[pl.Expr]
"""Ways to read a value, in order; the first that gives one counts."""


def readings(value: pl.Expr, found: pl.DataType, wanted: pl.DataType) -> Readings:
    """Return the ways to read a value of one type as another; none if it never is one.

    Text reads as a number, a Boolean (true, false, 1, 0) or an ISO 8601 time: converted to UTC if
    it has an offset, else in UTC already.
    """
    if found == wanted:
        return [value]
    if found == pl.Null:
        return [value.cast(wanted)]
    if isinstance(found, pl.Categorical | pl.Enum):
        value, found = value.cast(pl.String), pl.String()
    return next((read(value, found, wanted) for fits, read in _KINDS if fits(wanted)), [])


def read_value(value: pl.Expr, found: pl.DataType, wanted: pl.DataType) -> pl.Expr:
    """Return a value read in the first way that gives one, null if none does."""
    ways = readings(value, found, wanted)
    return pl.coalesce(ways) if ways else _nothing(value, wanted)


def is_unfit(value: pl.Expr, found: pl.DataType, wanted: pl.DataType) -> pl.Expr | None:
    """Return whether a value, or one in it, does not read; None if all values of its type do."""
    match found, wanted:
        case _ if found == wanted:
            return None
        case ((pl.List() | pl.Array()), (pl.List() | pl.Array())):
            lists, inner = _as_list(value, found), concrete(found.inner)
            unfit = is_unfit(pl.element(), inner, concrete(wanted.inner))
            wrong = [] if unfit is None else [lists.list.eval(unfit).list.any()]
            if isinstance(wanted, pl.Array):
                wrong.append(lists.list.len() != wanted.size)
        case pl.Struct(), pl.Struct():
            types = _field_types(found)
            fields = [
                is_unfit(value.struct.field(field.name), types[field.name], concrete(field.dtype))
                for field in wanted.fields
                if field.name in types
            ]
            wrong = [unfit for unfit in fields if unfit is not None]
        case _:
            wrong = [value.is_not_null() & read_value(value, found, wanted).is_null()]
    return pl.any_horizontal(wrong).fill_null(value=False) if wrong else None


def concrete(dtype: PolarsDataType) -> pl.DataType:
    """Return a type as a value: Polars' annotations also allow its class."""
    return dtype if isinstance(dtype, pl.DataType) else dtype()


def _nothing(value: pl.Expr, wanted: pl.DataType) -> pl.Expr:
    return pl.when(value.is_null()).then(pl.lit(None, dtype=wanted))


def _integers(value: pl.Expr, found: pl.DataType, wanted: pl.DataType) -> Readings:
    if found.is_integer():
        return [value.cast(wanted, strict=False)]
    if found.is_float() or found.is_decimal():
        return [pl.when(value.floor() == value).then(value).cast(wanted, strict=False)]
    if found == pl.String:
        number = value.cast(pl.Float64, strict=False)
        is_exact = (number.floor() == number) & (number.abs() < EXACT_FLOAT)
        # Many tools write an integer column that has a null as 12.0.
        whole = pl.when(is_exact).then(number).cast(wanted, strict=False)
        return [value.cast(wanted, strict=False), whole]
    return []


def _floats(value: pl.Expr, found: pl.DataType, wanted: pl.DataType) -> Readings:
    if found.is_integer():
        return [value.cast(wanted, strict=False)]
    if found.is_float() or found.is_decimal():
        wide = value.cast(pl.Float64)
        return [pl.when(wide.cast(wanted).is_finite() | ~wide.is_finite()).then(wide.cast(wanted))]
    if found == pl.String:
        number = value.cast(pl.Float64, strict=False)
        # Infinite because it says so, not because it is too large, as 1e999 is.
        says_so = number.is_finite() | value.str.contains("(?i)inf|nan")
        return _floats(pl.when(says_so).then(number), pl.Float64(), wanted)
    return []


def _decimals(value: pl.Expr, found: pl.DataType, wanted: pl.DataType) -> Readings:
    if found.is_float():
        return [value.cast(wanted, strict=False)]
    if isinstance(wanted, pl.Decimal) and (found.is_numeric() or found == pl.String):
        digits_left = MAX_DIGITS - (wanted.precision - wanted.scale)
        wide = pl.Decimal(MAX_DIGITS, min(wanted.scale + EXTRA_DIGITS, digits_left))
        number = value.cast(wanted, strict=False)
        return [pl.when(number == value.cast(wide, strict=False)).then(number)]
    return []


def _booleans(value: pl.Expr, found: pl.DataType, wanted: pl.DataType) -> Readings:
    if found.is_integer():
        return [pl.when(value.is_in([0, 1])).then(value == 1)]
    if found == pl.String:
        lower = value.str.to_lowercase()
        return [lower.replace_strict(BOOLEANS, default=None, return_dtype=wanted)]
    return []


def _texts(value: pl.Expr, found: pl.DataType, wanted: pl.DataType) -> Readings:
    if found.is_nested() or found in (pl.Duration, pl.Binary):
        return []
    return [value.cast(pl.String).cast(wanted, strict=False)]


def _instants(value: pl.Expr, found: pl.DataType, wanted: pl.DataType) -> Readings:
    """Read a Datetime or Date, by way of the time in UTC without a zone."""
    match found:
        case pl.String():
            days = [_parsed(value, pl.Date(), _DAY).cast(pl.Datetime("us"))]
            quick = [_parsed(value, pl.Datetime("us"), form) for form in _QUICK_INSTANTS]
            times = [*quick, *(_parsed_instant(value, form) for form in _INSTANTS)]
            utc = [*days, *times] if wanted == pl.Date else [*times, *days]
        case pl.Datetime(time_zone=str()):
            utc = [value.dt.convert_time_zone("UTC").dt.replace_time_zone(None)]
        case pl.Datetime() | pl.Date():
            utc = [value]
        case _:
            utc = []
    return [_of_utc(instant, wanted) for instant in utc]


def _of_utc(instant: pl.Expr, wanted: pl.DataType) -> pl.Expr:
    if not isinstance(wanted, pl.Datetime):
        return instant.cast(pl.Date, strict=False)
    time = instant.cast(pl.Datetime(wanted.time_unit), strict=False)
    if wanted.time_zone is None:
        return time
    return time.dt.replace_time_zone("UTC").dt.convert_time_zone(wanted.time_zone)


def _parsed_instant(value: pl.Expr, form: str) -> pl.Expr:
    if not form.endswith("z"):
        return _parsed(value, pl.Datetime("us"), form)
    return _parsed(value, pl.Datetime("us", "UTC"), form).dt.replace_time_zone(None)


def _parsed(value: pl.Expr, dtype: pl.Datetime | pl.Date | pl.Time, form: str) -> pl.Expr:
    return value.str.strptime(dtype, form, strict=False, cache=False)


def _clocks(value: pl.Expr, found: pl.DataType, wanted: pl.DataType) -> Readings:  # noqa: ARG001 - one signature
    return [_parsed(value, pl.Time(), form) for form in _CLOCKS] if found == pl.String else []


def _same_kind(value: pl.Expr, found: pl.DataType, wanted: pl.DataType) -> Readings:
    return [value.cast(wanted, strict=False)] if type(found) is type(wanted) else []


def _bytes(value: pl.Expr, found: pl.DataType, wanted: pl.DataType) -> Readings:
    return [value.cast(wanted)] if found == pl.String else []


def _lists(value: pl.Expr, found: pl.DataType, wanted: pl.DataType) -> Readings:
    if not isinstance(found, pl.List | pl.Array) or not isinstance(wanted, pl.List | pl.Array):
        return []
    lists, inner, wanted_inner = _as_list(value, found), found.inner, concrete(wanted.inner)
    if inner != wanted_inner:
        lists = lists.list.eval(read_value(pl.element(), concrete(inner), wanted_inner))
    if isinstance(wanted, pl.Array):
        fitting = pl.when(lists.list.len() == wanted.size).then(lists)
        return [fitting.list.to_array(wanted.size)]
    return [lists]


def _as_list(value: pl.Expr, found: pl.List | pl.Array) -> pl.Expr:
    return value.arr.to_list() if isinstance(found, pl.Array) else value


def _structs(value: pl.Expr, found: pl.DataType, wanted: pl.DataType) -> Readings:
    if not isinstance(found, pl.Struct) or not isinstance(wanted, pl.Struct):
        return []
    types = _field_types(found)
    fields = [
        read_value(value.struct.field(f.name), types[f.name], concrete(f.dtype)).alias(f.name)
        if f.name in types
        else pl.lit(None, dtype=f.dtype).alias(f.name)
        for f in wanted.fields
    ]
    return [pl.when(value.is_not_null()).then(pl.struct(fields))]


def _field_types(struct: pl.Struct) -> dict[str, pl.DataType]:
    return {field.name: concrete(field.dtype) for field in struct.fields}


_KINDS: tuple[
    tuple[
        Callable[[pl.DataType], bool],
        Callable[[pl.Expr, pl.DataType, pl.DataType], Readings],
    ],
    ...,
] = (
    (lambda wanted: wanted.is_integer(), _integers),
    (lambda wanted: wanted.is_float(), _floats),
    (lambda wanted: wanted.is_decimal(), _decimals),
    (lambda wanted: wanted == pl.Boolean, _booleans),
    (lambda wanted: wanted in (pl.String, pl.Categorical, pl.Enum), _texts),
    (lambda wanted: wanted in (pl.Datetime, pl.Date), _instants),
    (lambda wanted: wanted == pl.Time, _clocks),
    (lambda wanted: wanted == pl.Duration, _same_kind),
    (lambda wanted: wanted == pl.Binary, _bytes),
    (lambda wanted: wanted in (pl.List, pl.Array), _lists),
    (lambda wanted: wanted == pl.Struct, _structs),
)
