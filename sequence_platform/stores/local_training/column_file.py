"""A column in a file of its own: numpy's .npy format, written a chunk at a time, read by ranges.

Any tool opens it (``numpy.load(path, mmap_mode="r")``), a read touches only the ranges asked for,
and nothing but columns that are asked for takes memory or address space.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sequence_platform.engine.columns import Ints, Values
from sequence_platform.errors import StoreError

CHUNK_BYTES = 1 << 22
HEADER_BYTES = 128
MAPPED_SHARE = 8
"""Where address space is limited, a file larger than this share of it is not mapped but read."""


class ColumnWriter:
    """Writes a column; integers end in the narrowest type that holds all of them.

    Args:
        path: Of the file, which must not exist.
        dtype: Of a value; a vector is a subarray.
        narrows: Whether integers may be stored narrower.
    """

    def __init__(self, path: Path, dtype: npt.DTypeLike, *, narrows: bool = False) -> None:
        self.path = path
        self.rows = 0
        self._dtype = np.dtype(dtype)
        self._narrows = narrows and self._dtype.kind in "iu"
        self._least, self._most = 0, 0
        self._file = path.open("xb")
        self._file.write(_header(self._dtype, 0))

    def append(self, values: Values) -> None:
        """Write the next values."""
        if self._narrows and len(values):
            self._least = min(self._least, int(values.min()))
            self._most = max(self._most, int(values.max()))
        base = self._dtype.base
        self._file.write(np.ascontiguousarray(values, dtype=base).data.cast("B"))
        self.rows += len(values)

    def close(self) -> None:
        """Write what was left open, and make it durable."""
        self._file.seek(0)
        self._file.write(_header(self._dtype, self.rows))
        self._sync()
        narrow = np.result_type(np.min_scalar_type(self._least), np.min_scalar_type(self._most))
        if self._narrows and narrow.itemsize < self._dtype.itemsize:
            self._rewrite(narrow)

    def discard(self) -> None:
        """Remove the file."""
        self._file.close()
        self.path.unlink(missing_ok=True)

    def _rewrite(self, narrow: np.dtype[Any]) -> None:
        wide = np.load(self.path, mmap_mode="r")
        writer = ColumnWriter(self.path.with_suffix(".narrow"), narrow)
        step = CHUNK_BYTES // narrow.itemsize
        for start in range(0, self.rows, step):
            writer.append(wide[start : start + step])
        writer.close()
        writer.path.replace(self.path)

    def _sync(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()


class ColumnFile:
    """Reads a column by ranges of rows.

    Args:
        path: Of a file that ColumnWriter wrote.

    Raises:
        StoreError: it is gone or is not such a file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            mapped = np.load(path, mmap_mode="r") if _may_map(path) else None
            with path.open("rb") as file:
                shape, self._start, dtype = _read_header(file)
        except (OSError, ValueError, EOFError) as error:
            raise damaged(path, str(error), "a column as it was written") from error
        self.rows = shape[0]
        self.shape = shape[1:]
        self.dtype = dtype
        self.width = dtype.itemsize * int(np.prod(self.shape, dtype=np.int64))
        if path.stat().st_size < self._start + self.rows * self.width:
            raise damaged(path, f"{path.stat().st_size} bytes", f"{self.rows} rows")
        self._mapped: Values | None = mapped
        self._descriptor: int | None = None

    def view(self) -> Values:
        """Return all values, mapped; where that may not be, read."""
        if self._mapped is not None:
            return self._mapped
        return self.gather(np.zeros(1, dtype=np.int64), np.full(1, self.rows))

    def at(self, rows: Ints) -> Values:
        """Return the values of single rows."""
        if self._mapped is not None:
            found: Values = self._mapped[rows]
            return found
        return self.gather(rows, np.ones(len(rows), dtype=np.int64))

    def gather(self, starts: Ints, lengths: Ints) -> Values:
        """Return the values of ranges of rows, one range after the other, as an array of its own.

        Arrow joins the ranges without the interpreter's lock, so that threads can read at once.
        """
        if self._mapped is None:
            return self._read(starts, lengths, int(lengths.sum()))
        return join_ranges(self._mapped, starts, lengths)

    def close(self) -> None:
        """Let go of the file."""
        self._mapped = None
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _read(self, starts: Ints, lengths: Ints, total: int) -> Values:
        if self._descriptor is None:
            self._descriptor = os.open(self.path, os.O_RDONLY)
        flat = np.empty(total * self.width, np.uint8)
        into, at = flat.data, 0
        for start, length in zip(starts.tolist(), lengths.tolist(), strict=True):
            wanted = length * self.width
            if not wanted:
                continue
            place = self._start + start * self.width
            if os.preadv(self._descriptor, [into[at : at + wanted]], place) != wanted:
                raise damaged(self.path, "the end of the file", f"row {start + length}")
            at += wanted
        return flat.view(self.dtype).reshape(total, *self.shape)


def join_ranges(values: Values, starts: Ints, lengths: Ints) -> Values:
    """Return ranges of rows of an array, one range after the other, read-only.

    Arrow joins them, without the interpreter's lock: threads can read at once.
    """
    width = values.itemsize * int(np.prod(values.shape[1:], dtype=np.int64))
    data = pa.py_buffer(values.reshape(-1).view(np.uint8))
    rows = pa.Array.from_buffers(pa.binary(width), len(values), [None, data])
    views = pa.LargeListViewArray.from_arrays(
        pa.array(starts, pa.int64()), pa.array(lengths, pa.int64()), rows
    )
    joined = views.flatten()
    if not len(joined):
        return np.empty((0, *values.shape[1:]), values.dtype)
    flat = np.frombuffer(joined.buffers()[1], np.uint8, len(joined) * width, joined.offset * width)
    return flat.view(values.dtype).reshape(len(joined), *values.shape[1:])


def checksum(path: Path) -> str:
    """Return the checksum of a file."""
    digest = blake2b(digest_size=16)
    for chunk in _chunks(path):
        digest.update(chunk)
    return digest.hexdigest()


def damaged(path: Path, found: str, expected: str) -> StoreError:
    """Return the error of a file that is not as it was written."""
    return StoreError(
        "a file of a training store is damaged or gone",
        where=str(path),
        found=found,
        expected=expected,
        next_step="write the store anew: sequence-platform training build --anew",
    )


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk


def _header(dtype: np.dtype[Any], rows: int) -> bytes:
    """Return a header of .npy of 128 bytes, whatever the number of rows."""
    described = {
        "descr": np.lib.format.dtype_to_descr(dtype.base),
        "fortran_order": False,
        "shape": (rows, *dtype.shape),
    }
    body = repr(described).encode("latin1")
    magic = np.lib.format.magic(1, 0)
    room = HEADER_BYTES - len(magic) - 2
    return magic + room.to_bytes(2, "little") + body.ljust(room - 1) + b"\n"


def _read_header(file: Any) -> tuple[tuple[int, ...], int, np.dtype[Any]]:  # noqa: ANN401 - an open file
    np.lib.format.read_magic(file)
    shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    return shape, file.tell(), dtype


def _may_map(path: Path) -> bool:
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if path.stat().st_size <= HEADER_BYTES:
        return False
    return limit == resource.RLIM_INFINITY or path.stat().st_size * MAPPED_SHARE <= limit
