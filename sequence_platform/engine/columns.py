"""Columns of a few rows of one entity: numpy for values of fixed width, Arrow for others.

Frames cost a hundred microseconds each; what a request needs of five hundred events costs ten.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from sequence_platform.plan.storage import instance

Mask = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
Values = npt.NDArray[Any]

OLDEST = pl.CompatLevel.oldest()
"""Arrow as every reader knows it: no string views."""

_FIXED: dict[type[pl.DataType], str] = {
    pl.Boolean: "?",
    pl.Int8: "<i1",
    pl.Int16: "<i2",
    pl.Int32: "<i4",
    pl.Int64: "<i8",
    pl.UInt8: "<u1",
    pl.UInt16: "<u2",
    pl.UInt32: "<u4",
    pl.UInt64: "<u8",
    pl.Float32: "<f4",
    pl.Float64: "<f8",
    pl.Date: "<i4",
    pl.Datetime: "<i8",
    pl.Duration: "<i8",
    pl.Time: "<i8",
}


def fixed_width(dtype: pl.DataType) -> np.dtype[Any] | None:
    """Return how numpy holds a value of a type; None for types of varying width.

    Times are integers in their own unit. Vectors of numbers are subarrays.

    >>> fixed_width(pl.Array(pl.Float32, 3))
    dtype(('<f4', (3,)))
    """
    if isinstance(dtype, pl.Array):
        inner = _FIXED.get(type(instance(dtype.inner)))
        is_plain = inner is not None and inner != "?" and len(dtype.shape) == 1
        return np.dtype((inner, (dtype.size,))) if is_plain else None
    code = _FIXED.get(type(dtype))
    return None if code is None else np.dtype(code)


@lru_cache(maxsize=1024)
def arrow_type(dtype: pl.DataType) -> pa.DataType:
    """Return the Arrow type in which a column is stored and sent."""
    return pl.Series(dtype=dtype).to_arrow(compat_level=OLDEST).type


@dataclass(frozen=True, slots=True, eq=False)
class Column:
    """Values of one column.

    Attributes:
        dtype: Of a value.
        values: numpy for types of fixed width (vectors: a row each), Arrow for others.
        valid: Which numpy values are not null; None if all are. What stands at a null is not said.
    """

    dtype: pl.DataType
    values: Values | pa.Array
    valid: Mask | None = None

    def __len__(self) -> int:
        return len(self.values)

    @classmethod
    def of(cls, series: pl.Series) -> Column:
        """Return a series as a column; copies nothing it need not."""
        return cls.of_arrow(series.dtype, series.rechunk().to_arrow(compat_level=OLDEST))

    @classmethod
    def of_arrow(cls, dtype: pl.DataType, array: pa.Array) -> Column:
        """Return an Arrow array of ``arrow_type`` as a column."""
        width = fixed_width(dtype)
        if width is None:
            return cls(dtype, array)
        values, valid = buffers_of(array, width)
        return cls(dtype, array) if values is None else cls(dtype, values, valid)

    @classmethod
    def nulls(cls, dtype: pl.DataType, length: int) -> Column:
        """Return so many nulls."""
        width = fixed_width(dtype)
        if width is None:
            return cls(dtype, pa.nulls(length, arrow_type(dtype)))
        values = np.zeros(length, dtype=width)
        return cls(dtype, values, np.zeros(length, dtype=np.bool_))

    @classmethod
    def repeated(cls, text: str, length: int) -> Column:
        """Return a text so many times."""
        return cls(pl.String(), pa.repeat(pa.scalar(text, pa.large_string()), length))

    def slice(self, start: int, stop: int) -> Column:
        """Return the values of ``[start, stop)``."""
        if isinstance(self.values, np.ndarray):
            valid = None if self.valid is None else self.valid[start:stop]
            return Column(self.dtype, self.values[start:stop], valid)
        return Column(self.dtype, self.values.slice(start, stop - start))

    def take(self, at: Ints) -> Column:
        """Return the values at positions."""
        if isinstance(self.values, np.ndarray):
            valid = None if self.valid is None else self.valid[at]
            return Column(self.dtype, self.values[at], valid)
        return Column(self.dtype, self.values.take(pa.array(at)))

    def take_or_null(self, at: Ints) -> Column:
        """Return the values at positions; -1 is a null."""
        is_there = at >= 0
        if is_there.all():
            return self.take(at)
        if not len(self):
            return Column.nulls(self.dtype, len(at))
        if isinstance(self.values, np.ndarray):
            taken = self.take(np.where(is_there, at, 0))
            valid = is_there if taken.valid is None else is_there & taken.valid
            return Column(self.dtype, taken.values, valid)
        return Column(self.dtype, self.values.take(pa.array(at, mask=~is_there)))

    def cast(self, dtype: pl.DataType) -> Column:
        """Return the values as another type that holds them all: wider integers."""
        width = fixed_width(dtype)
        if dtype == self.dtype or width is None or not isinstance(self.values, np.ndarray):
            return self
        return Column(dtype, self.values.astype(width), self.valid)

    def to_arrow(self) -> pa.Array:
        """Return the column as Arrow, in ``arrow_type``."""
        if not isinstance(self.values, np.ndarray):
            return self.values
        wanted = arrow_type(self.dtype)
        if self.values.ndim > 1:
            width = self.values.shape[1]
            flat = pa.array(np.ascontiguousarray(self.values).reshape(-1))
            missing = None if self.valid is None else pa.array(~self.valid)
            return pa.FixedSizeListArray.from_arrays(flat, width, mask=missing).cast(wanted)
        mask = None if self.valid is None else ~self.valid
        return pa.array(self.values, mask=mask).cast(wanted)

    def to_series(self, name: str) -> pl.Series:
        """Return the column as a series."""
        return pl.Series(name, self.to_arrow(), dtype=self.dtype)

    def to_json(self) -> object:
        """Return what a JSON encoder that knows numpy writes: an array, or a list with nulls.

        Times are integers in their own unit, bytes are hexadecimal.
        """
        if not isinstance(self.values, np.ndarray):
            if isinstance(self.dtype, pl.Binary):
                return [None if value is None else value.hex() for value in self.values.to_pylist()]
            return self.values.to_pylist()
        if self.valid is None or self.valid.all():
            return np.ascontiguousarray(self.values)
        found = self.values.tolist()
        return [value if ok else None for value, ok in zip(found, self.valid.tolist(), strict=True)]

    def codes(self) -> Ints:
        """Return a number per value, equal where values are, -1 for nulls; NaN equals NaN."""
        if isinstance(self.values, np.ndarray) and self.values.ndim == 1:
            found = np.unique(self.values, return_inverse=True)[1].astype(np.int64)
            return found if self.valid is None else np.where(self.valid, found, -1)
        if isinstance(self.dtype, pl.String | pl.Binary):
            indices = self.to_arrow().dictionary_encode().indices
            codes: Ints = indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
            return codes
        ranks = self.to_series("").rank("dense").cast(pl.Int64) - 1
        return ranks.fill_null(-1).to_numpy()

    def is_in(self, allowed: pl.Series) -> Mask:
        """Return which values are among some of their type; a null is not."""
        return self.to_series("").is_in(allowed.implode()).fill_null(value=False).to_numpy()


def concat(dtype: pl.DataType, parts: Sequence[Column]) -> Column:
    """Return columns of one type, one after the other."""
    if len(parts) == 1:
        return parts[0]
    if not parts:
        return Column.nulls(dtype, 0)
    arrays = [part.values for part in parts]
    if {type(values) for values in arrays} != {np.ndarray}:
        return Column(dtype, pa.concat_arrays([part.to_arrow() for part in parts]))
    valid = None
    if any(part.valid is not None for part in parts):
        valid = np.concatenate([_mask(part) for part in parts])
    return Column(dtype, np.concatenate(cast("list[Values]", arrays)), valid)


def filled(values: pl.Series) -> Column:
    """Return a series as a column with zeros where it is null.

    A null within a vector of floats becomes NaN; a vector of integers that holds one is null.
    """
    dtype = values.dtype
    if isinstance(dtype, pl.Array) and fixed_width(dtype) is not None:
        items = values.arr.explode(keep_nulls=False, empty_as_null=False)
        if items.null_count():
            lists = values.arr.to_list()
            has_null = lists.list.eval(pl.element().is_null()).list.any().fill_null(value=False)
            if instance(dtype.inner).is_float():
                lists = lists.list.eval(pl.element().fill_null(float("nan")))
            else:
                lists = pl.select(pl.when(~has_null).then(lists)).to_series()
            values = lists.list.to_array(dtype.size)
    column = Column.of(values)
    if column.valid is None or not isinstance(column.values, np.ndarray):
        return column
    numbers = column.values.copy()
    numbers[~column.valid] = 0
    return Column(dtype, numbers, column.valid)


def buffers_of(array: pa.Array, width: np.dtype[Any]) -> tuple[Values | None, Mask | None]:
    """Return numpy views of an Arrow array, values and which are valid (None: all).

    Values are None where a vector holds nulls, which numpy cannot say.
    """
    valid = None
    if array.null_count:
        valid = _bits(array.buffers()[0], array.offset, len(array))
    if width.subdtype is not None:
        inner, (size,) = width.subdtype
        values = array.values  # of the whole buffer, whatever the slice
        if values.null_count and array.flatten().null_count:
            return None, None
        start = (values.offset + array.offset * size) * inner.itemsize
        flat = np.frombuffer(values.buffers()[1], inner, len(array) * size, start)
        return flat.reshape(len(array), size), valid
    data = array.buffers()[1]
    if width == np.bool_:
        return _bits(data, array.offset, len(array)), valid
    if data is None or not len(array):
        return np.empty(0, width), valid
    return np.frombuffer(data, width, len(array), array.offset * width.itemsize), valid


def _bits(buffer: pa.Buffer | None, offset: int, length: int) -> Mask:
    if buffer is None or not length:
        return np.zeros(0, dtype=np.bool_)
    first = offset >> 3
    packed = np.frombuffer(buffer, np.uint8, ((offset + length + 7) >> 3) - first, first)
    bits = np.unpackbits(packed, bitorder="little")
    return bits[offset & 7 : (offset & 7) + length].view(np.bool_)


def _mask(part: Column) -> Mask:
    return np.ones(len(part), dtype=np.bool_) if part.valid is None else part.valid


def key_runs(keys: pl.Series) -> pl.DataFrame:
    """Return where the rows of each key are, of rows that stand together by key.

    Frames:
        returns: key, start and stop (excluded), in the order of the rows.
    """
    runs = keys.rle().struct.unnest()
    lengths = runs["len"].cast(pl.Int64)
    stops = lengths.cum_sum()
    return pl.DataFrame({"key": runs["value"], "start": stops - lengths, "stop": stops})


def frame_of(columns: Iterable[tuple[str, Column]]) -> pl.DataFrame:
    """Return columns as a frame."""
    return pl.DataFrame([column.to_series(name) for name, column in columns])
