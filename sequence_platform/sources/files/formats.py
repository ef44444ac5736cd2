"""How each format is read in batches: by what was found to be strict about it."""

from __future__ import annotations

import csv
import fcntl
import glob
import shutil
from codecs import BOM_UTF8
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO
from uuid import uuid4

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
NO_DOWNLOADS = {"autoinstall_known_extensions": "false", "autoload_known_extensions": "false"}
"""DuckDB must not reach for the network by itself: without one, it hangs."""
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
        yield _frame(types.empty_table())
        present = [name for name in names if name in types.names]
        yield from map(_frame, parquet.iter_batches(BATCH_ROWS, columns=present))


def read_separated(
    file: SourceFile, names: list[str], separator: str, scratch: Path
) -> Iterator[pl.DataFrame]:
    """Yield no rows with all columns of a CSV file, then its rows with some, all of them text.

    DuckDB refuses short rows and quotes that do not end, and says the line. Polars fills short rows
    with nulls and takes a blank line for a row; Arrow lets an open quote swallow what follows. But
    DuckDB does not notice that a .gz or .zst is truncated, so it is given plain files.
    """
    with _plain(file, scratch) as path, duckdb.connect(config=dict(NO_DOWNLOADS)) as connection:
        header = _header(path, separator)
        yield pl.DataFrame(schema=dict.fromkeys(header, pl.String))
        twice = [name for name in names if header.count(name) > 1]
        if twice:
            raise csv.Error(f"column '{twice[0]}' stands twice in the header")
        chosen = {f"c{at}": name for at, name in enumerate(header) if name in names}
        columns = ", ".join(f"c{at}: 'VARCHAR'" for at in range(len(header)))
        rows = connection.execute(
            f"SELECT {', '.join(chosen)} FROM read_csv($path, delim = $separator, header = true, "
            "auto_detect = false, strict_mode = true, quote = '\"', escape = '\"', nullstr = '', "
            f"columns = {{{columns}}})",
            {"path": str(path), "separator": separator},
        )
        for batch in rows.to_arrow_reader(BATCH_ROWS):
            yield _frame(batch).rename(chosen)


def _header(path: Path, separator: str) -> list[str]:
    # The stream decodes far beyond the header; what is not UTF-8 there DuckDB tells, with its line.
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as stream:
        header = next(csv.reader(stream, delimiter=separator, strict=True), [])
    if not header:
        raise csv.Error("no header in the first line")
    return header


def read_lines(file: SourceFile) -> Iterator[list[bytes]]:
    """Yield the lines of a file, many at a time."""
    rest = b""
    with _decompressed(file) as stream:
        block = stream.read(BLOCK_BYTES).removeprefix(BOM_UTF8)
        while block:
            *lines, rest = (rest + block).split(b"\n")
            yield lines
            block = stream.read(BLOCK_BYTES)
    if rest:
        yield [rest]


@contextmanager
def _plain(file: SourceFile, scratch: Path) -> Iterator[Path]:
    """Give a plain local file with the content of another: itself if it is one, else a copy."""
    if file.is_local and codec_of(file) is None and not glob.has_magic(file.path):
        yield Path(file.path)
        return
    scratch.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(scratch)
    copy = scratch / f"{uuid4().hex}.csv"
    unlocked = copy.with_suffix(".new")
    with unlocked.open("wb") as target:
        fcntl.flock(target, fcntl.LOCK_EX)
        unlocked.rename(copy)
        try:
            with _decompressed(file) as stream:
                shutil.copyfileobj(stream, target, BLOCK_BYTES)
            target.flush()
            yield copy
        finally:
            copy.unlink()


def _remove_abandoned(scratch: Path) -> None:
    """Remove the copies of processes that were killed: nobody holds their locks any more."""
    for copy in scratch.glob("*.csv"):
        with suppress(FileNotFoundError, BlockingIOError), copy.open("rb") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            copy.unlink()


@contextmanager
def _decompressed(file: SourceFile) -> Iterator[IO[bytes]]:
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


def _frame(arrow: pa.RecordBatch | pa.Table) -> pl.DataFrame:
    frame = pl.from_arrow(arrow)
    assert isinstance(frame, pl.DataFrame)  # noqa: S101 - of a batch it is
    return frame
