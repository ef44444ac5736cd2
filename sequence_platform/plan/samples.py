"""Sample rows of any schema, made without chance: for checking what types alone cannot tell."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Any

import polars as pl

SAMPLE_ROWS = 12


def sample_frame(schema: Mapping[str, pl.DataType]) -> pl.DataFrame:
    """Return a few rows: repeats, nulls, values small and large, unordered; columns differ."""
    return pl.DataFrame(
        [
            _sample_column(dtype, position * 3 % 9).alias(name)
            for position, (name, dtype) in enumerate(schema.items())
        ]
    )


@lru_cache(maxsize=512)  # every expression of a definition is tried on the same few columns
def _sample_column(dtype: pl.DataType, offset: int) -> pl.Series:
    values = [_value(dtype, (row * 7 + offset) % 9) for row in range(SAMPLE_ROWS)]
    return pl.Series(values, dtype=dtype, strict=False)


def _value(dtype: pl.DataType, n: int) -> Any:  # noqa: ANN401, C901, PLR0911, PLR0912 - one case a type
    if n == 8:  # noqa: PLR2004 - one value in nine is null
        return None
    match dtype:
        case pl.Boolean():
            return n % 2 == 0
        case pl.String():
            return ("", "a", "b", "ab", "é", "7", "2024-02-29", "z" * 40)[n]
        case pl.Binary():
            return bytes([n])
        case pl.Date():
            return date(2024, 2, 25) + timedelta(days=n)
        case pl.Datetime():
            moment = datetime(2024, 2, 28, 23, 59, tzinfo=UTC) + timedelta(seconds=n * 37)
            return moment if dtype.time_zone else moment.replace(tzinfo=None)
        case pl.Duration():
            return timedelta(seconds=n)
        case pl.Time():
            return time(n)
        case pl.Decimal():
            return Decimal(n)
        case pl.Enum():
            return dtype.categories[n % len(dtype.categories)]
        case pl.List():
            return [_value(dtype.inner, (n + i) % 8) for i in range(n % 3)]  # type: ignore[arg-type] # instances in a schema
        case pl.Array():
            return [_value(dtype.inner, (n + i) % 8) for i in range(dtype.size)]  # type: ignore[arg-type] # as above
        case pl.Struct():
            return {f.name: _value(f.dtype, n) for f in dtype.fields}  # type: ignore[arg-type] # as above
        case _ if dtype.is_float():
            return n * 1.5 - 3
        case _ if dtype.is_integer():
            return n * n
        case _:
            return None
