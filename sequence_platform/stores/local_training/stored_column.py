"""How a column of a type is stored: as numbers with a mask, as codes of texts, or as Arrow."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import polars as pl
import pyarrow as pa

from sequence_platform.engine.columns import OLDEST, arrow_type, filled, fixed_width
from sequence_platform.ports.training import Gathered
from sequence_platform.stores.local_training.column_file import (
    ColumnFile,
    ColumnWriter,
    Ranges,
    damaged,
)
from sequence_platform.stores.local_training.vocabulary import Vocabulary, is_text


class StoredWriter(Protocol):
    """Writes a column, chunk by chunk."""

    def append(self, values: pl.Series) -> None:
        """Write the next values."""
        ...

    def close(self) -> dict[str, str]:
        """Make the files durable; return their names, by what they hold."""
        ...


def writer_for(
    folder: Path, stem: str, dtype: pl.DataType, vocabulary: Vocabulary | None
) -> StoredWriter:
    """Return what writes a column of a type; text needs its vocabulary."""
    if is_text(dtype):
        return _TextWriter(folder / f"{stem}.npy", vocabulary or Vocabulary())
    width = fixed_width(dtype)
    if width is None:
        return _ArrowWriter(folder / f"{stem}.arrow", dtype)
    return _FixedWriter(folder, stem, dtype, width)


def reader_for(folder: Path, files: Mapping[str, str], dtype: pl.DataType) -> StoredReader:
    """Return what reads a column, given what ``close`` returned."""
    if "arrow" in files:
        return _ArrowReader(folder / files["arrow"])
    valid = ColumnFile(folder / files["valid"]) if "valid" in files else None
    width = np.dtype("<u4") if is_text(dtype) else fixed_width(dtype)
    assert width is not None  # noqa: S101 - or it would be Arrow
    return _FixedReader(ColumnFile(folder / files["values"]), valid, width.base)


class StoredReader(Protocol):
    """Reads ranges of rows of a column."""

    def gather(self, ranges: Ranges) -> Gathered:
        """Return the values of ranges, one range after the other."""
        ...


class _FixedWriter:
    def __init__(self, folder: Path, stem: str, dtype: pl.DataType, width: np.dtype[Any]) -> None:
        self._dtype = dtype
        self._values = ColumnWriter(folder / f"{stem}.npy", width, narrows=not width.shape)
        self._valid = ColumnWriter(folder / f"{stem}_valid.npy", "?")
        self._has_nulls = False

    def append(self, values: pl.Series) -> None:
        column = filled(values)
        assert isinstance(column.values, np.ndarray)  # noqa: S101 - of fixed width
        self._values.append(column.values)
        valid = np.ones(len(values), np.bool_) if column.valid is None else column.valid
        self._valid.append(valid)
        self._has_nulls |= column.valid is not None

    def close(self) -> dict[str, str]:
        self._values.close()
        if not self._has_nulls:
            self._valid.discard()
            return {"values": self._values.path.name}
        self._valid.close()
        return {"values": self._values.path.name, "valid": self._valid.path.name}


class _TextWriter:
    def __init__(self, path: Path, vocabulary: Vocabulary) -> None:
        self._codes = ColumnWriter(path, "<u4", narrows=True)
        self._used = ColumnWriter(path.with_stem(f"{path.stem}_used"), "<u4")
        self._vocabulary, self._seen = vocabulary, np.empty(0, dtype=np.uint32)

    def append(self, values: pl.Series) -> None:
        codes = self._vocabulary.codes(values)
        self._codes.append(codes)
        self._seen = np.union1d(self._seen, codes)

    def close(self) -> dict[str, str]:
        self._codes.close()
        self._used.append(self._seen)
        self._used.close()
        return {"values": self._codes.path.name, "used": self._used.path.name}


class _ArrowWriter:
    def __init__(self, path: Path, dtype: pl.DataType) -> None:
        self._path = path
        self._sink = pa.OSFile(str(path), "wb")
        self._schema = pa.schema([pa.field("values", arrow_type(dtype))])
        self._writer = pa.ipc.new_file(self._sink, self._schema)

    def append(self, values: pl.Series) -> None:
        array = values.rechunk().to_arrow(compat_level=OLDEST)
        self._writer.write_batch(pa.record_batch([array], schema=self._schema))

    def close(self) -> dict[str, str]:
        self._writer.close()
        self._sink.close()
        return {"arrow": self._path.name}


class _FixedReader:
    def __init__(
        self, values: ColumnFile, valid: ColumnFile | None, declared: np.dtype[Any]
    ) -> None:
        self._values, self._valid, self._declared = values, valid, declared

    def gather(self, ranges: Ranges) -> Gathered:
        values = self._values.gather(ranges)
        valid = None if self._valid is None else self._valid.gather(ranges)
        return Gathered(values.astype(self._declared, copy=False), valid)


class _ArrowReader:
    def __init__(self, path: Path) -> None:
        try:
            self._values = pa.ipc.open_file(pa.memory_map(str(path))).read_all().column(0)
        except (OSError, pa.ArrowInvalid) as error:
            raise damaged(path, str(error), "a column as it was written") from error

    def gather(self, ranges: Ranges) -> Gathered:
        taken = self._values.take(pa.array(ranges.rows))
        return Gathered(
            pa.concat_arrays(taken.chunks) if taken.num_chunks else pa.nulls(0, taken.type)
        )
