"""How each format is read in batches: by what was found to be strict about it."""

from __future__ import annotations

import csv
from codecs import BOM_UTF8
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from sequence_platform.sources.files.locate import SourceFile

BATCH_ROWS = 100_000
"""Rows of a frame: enough to spread the cost of a call, few enough for rows with vectors."""
BLOCK_BYTES = 8 << 20
"""Of lines at a time."""
CODECS = {".gz": "gzip", ".zst": "zstd"}
UNREADABLE = (
    pl.exceptions.PolarsError,
    pl.exceptions.PanicException,
    pa.ArrowException,
    duckdb.Error,
    csv.Error,
    OSError,
    UnicodeDecodeError,
)
"""What the readers raise at a file that is absent, truncated or malformed."""


def read_parquet(file: SourceFile, names: list[str]) -> Iterator[pl.DataFrame]:
    """Yield no rows with all columns of a local Parquet file, then its rows with some."""
    scan = pl.scan_parquet(file.path, glob=False, hive_partitioning=False)
    types = scan.collect_schema()
    yield pl.DataFrame(schema=types)
    wanted = scan.select(name for name in names if name in types)
    yield from wanted.collect_batches(chunk_size=BATCH_ROWS, maintain_order=True)


def read_remote_parquet(file: SourceFile, names: list[str]) -> Iterator[pl.DataFrame]:
    """Yield no rows with all columns of a Parquet file elsewhere, then its rows with some.

    By the package that also lists files and reads the other formats, so that there is one set of
    credentials. Only the columns wanted cross the network.
    """
    with file.open() as stream, pq.ParquetFile(stream) as parquet:
        types = parquet.schema_arrow
        yield as_frame(types.empty_table())
        present = [name for name in names if name in types.names]
        yield from map(as_frame, parquet.iter_batches(BATCH_ROWS, columns=present))


def read_lines(file: SourceFile) -> Iterator[list[bytes]]:
    """Yield the lines of a file, many at a time."""
    rest = b""
    with decompressed(file) as stream:
        block = stream.read(BLOCK_BYTES).removeprefix(BOM_UTF8)
        while block:
            *lines, rest = (rest + block).split(b"\n")
            yield lines
            block = stream.read(BLOCK_BYTES)
    if rest:
        yield [rest]


@contextmanager
def decompressed(file: SourceFile) -> Iterator[IO[bytes]]:
    """Open a file for reading the bytes that it was before it was compressed."""
    codec = codec_of(file)
    with file.open() as stored:
        if codec is None:
            yield stored
        else:
            # Raises at a truncated end, as Python's own gzip does, but knows zstd as well.
            with pa.CompressedInputStream(pa.PythonFile(stored, "r"), codec) as stream:
                yield stream


def codec_of(file: SourceFile) -> str | None:
    """Return how a file is compressed, told from its suffix."""
    return CODECS.get(Path(file.path).suffix.lower())


def as_frame(arrow: pa.RecordBatch | pa.Table) -> pl.DataFrame:
    """Return rows of Arrow as a frame."""
    frame = pl.from_arrow(arrow)
    assert isinstance(frame, pl.DataFrame)  # noqa: S101 - of a batch it is
    return frame
