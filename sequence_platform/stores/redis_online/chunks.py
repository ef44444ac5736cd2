"""Columns of an entity's rows as bytes. The last byte says how the others are to be read."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import polars as pl
import pyarrow as pa

from sequence_platform.engine.columns import OLDEST, Column, Ints, arrow_type, fixed_width
from sequence_platform.engine.point import Hashes

PLAIN, MASKED, TEXT, MASKED_TEXT, ARROW = (bytes([code]) for code in range(5))
"""Little-endian values; a byte a row behind them that says which are valid; ends and bytes of text,
with or without such bytes; an Arrow stream of one column.
"""
Slice = Callable[[int, int], bytes]
OFFSET = np.dtype("<u4")


def slicer(column: Column) -> Slice:
    """Return what makes a chunk of the rows ``[start, stop)``."""
    values, valid = column.values, column.valid
    if isinstance(values, np.ndarray):
        if valid is None:
            return lambda start, stop: values[start:stop].tobytes() + PLAIN
        return lambda start, stop: (
            values[start:stop].tobytes() + valid[start:stop].tobytes() + MASKED
        )
    if pa.types.is_large_string(values.type) or pa.types.is_large_binary(values.type):
        return _text_slicer(values)
    return lambda start, stop: _stream(column.slice(start, stop)) + ARROW


def column_of(chunk: bytes, dtype: pl.DataType, count: int) -> Column:
    """Return the column of a chunk that was written in a type."""
    code = chunk[-1:]
    if code == ARROW:
        return Column.of(pl.read_ipc_stream(io.BytesIO(chunk[:-1])).to_series().cast(dtype))
    if code in {TEXT, MASKED_TEXT}:
        return Column(dtype, _text(chunk, dtype, count, is_masked=code == MASKED_TEXT))
    width = fixed_width(dtype)
    if width is None:
        raise ValueError(f"a chunk of fixed width for {dtype}")
    if width.subdtype is None:
        values = np.frombuffer(chunk, width, count)
    else:
        inner, (size,) = width.subdtype
        values = np.frombuffer(chunk, inner, count * size).reshape(count, size)
    if code == PLAIN:
        return Column(dtype, values)
    return Column(dtype, values, np.frombuffer(chunk, np.bool_, count, count * width.itemsize))


def packed_keys(time_us: Ints, id_hash: Hashes) -> bytes:
    """Return the chunk that says when rows happened, and hashes of their ids."""
    return time_us.tobytes() + id_hash.tobytes()


def keys_of_chunk(chunk: bytes) -> tuple[Ints, Hashes]:
    """Return times and hashes of ids."""
    count = len(chunk) // 16
    return np.frombuffer(chunk, "<i8", count), np.frombuffer(chunk, "<u8", count, count * 8)


def packed_frame(frame: pl.DataFrame) -> bytes:
    """Return a frame as an Arrow stream."""
    sink = io.BytesIO()
    frame.write_ipc_stream(sink, compat_level=OLDEST)
    return sink.getvalue()


def frame_of_chunk(chunk: bytes) -> pl.DataFrame:
    """Return the frame of an Arrow stream."""
    return pl.read_ipc_stream(io.BytesIO(chunk))


def _stream(column: Column) -> bytes:
    return packed_frame(pl.DataFrame([column.to_series("")]))


def _text_slicer(array: pa.Array) -> Slice:
    if not len(array):
        return lambda *_: bytes(OFFSET.itemsize) + TEXT
    _, ends, data = array.buffers()
    offsets = np.frombuffer(ends, "<i8", len(array) + 1, array.offset * 8)
    text = memoryview(b"" if data is None else data)
    valid = None
    if array.null_count:
        valid = array.is_valid().to_numpy(zero_copy_only=False)

    def cut(start: int, stop: int) -> bytes:
        here = offsets[start : stop + 1]
        first = int(here[0])
        head = (here - first).astype(OFFSET).tobytes()
        body = head + bytes(text[first : int(here[-1])])
        return body + TEXT if valid is None else body + valid[start:stop].tobytes() + MASKED_TEXT

    return cut


def _text(chunk: bytes, dtype: pl.DataType, count: int, *, is_masked: bool) -> pa.Array:
    ends = np.frombuffer(chunk, OFFSET, count + 1).astype("<i8")
    start = (count + 1) * OFFSET.itemsize
    stop = start + int(ends[-1])
    data = pa.py_buffer(chunk).slice(start, stop - start)
    bits = None
    if is_masked:
        valid = np.frombuffer(chunk, np.bool_, count, stop)
        bits = pa.py_buffer(np.packbits(valid, bitorder="little").tobytes())
    return pa.Array.from_buffers(arrow_type(dtype), count, [bits, pa.py_buffer(ends), data])
