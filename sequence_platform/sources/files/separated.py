"""Text with separators, CSV and TSV: fast where all rows have the fields of the header.

A row with more or fewer fields is handed on apart, with its text and place. A quote that does not
end is an error of the file all the same: nobody knows then where the next row begins.
"""

from __future__ import annotations

import csv
import fcntl
import glob
import io
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import IO
from uuid import uuid4

import duckdb
import polars as pl
import pyarrow as pa

from sequence_platform.sources.files.formats import (
    BATCH_ROWS,
    BLOCK_BYTES,
    as_frame,
    codec_of,
    decompressed,
)
from sequence_platform.sources.files.locate import SourceFile

NO_DOWNLOADS = {"autoinstall_known_extensions": "false", "autoload_known_extensions": "false"}
"""DuckDB must not reach for the network by itself: without one, it hangs."""
LINE_BYTES = 2_000_000
"""Of the longest row: DuckDB's own limit."""
REFUSED = (duckdb.Error, pa.ArrowException, OSError)
"""What tells that a row does not fit: from within a stream of Arrow it comes as an OSError."""


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a file, as it stands there.

    Attributes:
        line: Where it begins in the file, from 1.
        fields: How many it has.
        expected: How many the header has.
        text: With its line break; bytes that are no UTF-8 are surrogates.
    """

    line: int
    fields: int
    expected: int
    text: str

    @property
    def is_ragged(self) -> bool:
        """Whether it has more or fewer fields than the header."""
        return self.fields != self.expected

    @property
    def shown(self) -> str:
        """The text without its line break, fit for people."""
        return self.text.rstrip("\r\n").encode(errors="surrogateescape").decode(errors="replace")


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """Some consecutive rows of a file.

    Attributes:
        frame: Those with the fields of the header, all of them text.
        ragged: The others, by their places among all rows of the part.
    """

    frame: pl.DataFrame
    ragged: dict[int, Row] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Layout:
    """How the rows of a file are to be read.

    Attributes:
        separator: Between fields.
        header: Names of the columns.
        names: Those that are wanted.
    """

    separator: str
    header: Sequence[str]
    names: Sequence[str]

    def read(self, path: Path) -> Iterator[pl.DataFrame]:
        """Yield the rows of a plain file; raise one of REFUSED where one does not fit.

        DuckDB refuses ragged rows and quotes that do not end, and says the line. Polars fills short
        rows with nulls and takes a blank line for a row; Arrow lets an open quote swallow what
        follows.
        """
        chosen = {f"c{at}": name for at, name in enumerate(self.header) if name in self.names}
        columns = ", ".join(f"c{at}: 'VARCHAR'" for at in range(len(self.header)))
        with duckdb.connect(config=dict(NO_DOWNLOADS)) as connection:
            rows = connection.execute(
                f"SELECT {', '.join(chosen)} FROM read_csv($path, delim = $separator, "
                "header = true, auto_detect = false, strict_mode = true, quote = '\"', "
                f"escape = '\"', nullstr = '', columns = {{{columns}}})",
                {"path": str(path), "separator": self.separator},
            )
            for batch in rows.to_arrow_reader(BATCH_ROWS):
                yield as_frame(batch).rename(chosen)


def read_separated(
    file: SourceFile, names: list[str], separator: str, scratch: Path
) -> Iterator[Part]:
    """Yield no rows with all columns of a file, then its rows with some.

    Where DuckDB meets a row that does not fit, the rows from there on are sifted first. It does not
    notice that a .gz or .zst is truncated, so it is given plain files.
    """
    with _plain(file, scratch) as path:
        layout = Layout(separator, _header(path, separator), names)
        yield Part(pl.DataFrame(schema=dict.fromkeys(layout.header, pl.String)))
        twice = [name for name in names if layout.header.count(name) > 1]
        if twice:
            raise csv.Error(f"column '{twice[0]}' stands twice in the header")
        done = 0
        try:
            for frame in layout.read(path):
                yield Part(frame)
                done += frame.height
        except REFUSED as refused:
            yield from _sifted(path, layout, done, scratch, refused)


def _sifted(
    path: Path, layout: Layout, done: int, scratch: Path, refused: Exception
) -> Iterator[Part]:
    """Yield the rows that follow the first ``done``; raise ``refused`` if none of them is ragged.

    Rows are told apart by Python's reader, which is slow and goes on where it may. DuckDB reads
    those with the right number of fields, so that their values are the same, and what else is wrong
    with a file is an error as ever.
    """
    none = pl.DataFrame(schema={n: pl.String for n in layout.header if n in layout.names})
    rows = _rows(path, layout)
    header = next(rows)  # goes before each part: by it DuckDB tells what ends a line
    if any(row.is_ragged for row in islice(rows, done)):
        raise refused  # it is not what the two readers disagree about
    is_any_ragged = False
    while part := list(islice(rows, BATCH_ROWS)):
        ragged = {at: row for at, row in enumerate(part) if row.is_ragged}
        is_any_ragged = is_any_ragged or bool(ragged)
        for row in ragged.values():
            _ensure_ends(row, layout)
        fitting = (row.text for at, row in enumerate(part) if at not in ragged)
        with _scratch_file(scratch) as (copy, target):
            target.write("".join([header.text, *fitting]).encode(errors="surrogateescape"))
            target.flush()
            try:
                frames = [none, *layout.read(copy)]
            except REFUSED as error:
                if not is_any_ragged:
                    raise refused from None
                raise csv.Error(f"among the rows from line {part[0].line} on: {error}") from error
        yield Part(pl.concat(frames), ragged)
    if not is_any_ragged:
        raise refused


def _rows(path: Path, layout: Layout) -> Iterator[Row]:
    """Yield the header and the rows of a plain file, whatever they are; blank lines are none."""
    taken: list[str] = []

    def lines() -> Iterator[str]:
        for line in stream:
            taken.append(line)
            yield line

    csv.field_size_limit(LINE_BYTES)  # of the process: Python's own is shorter than rows may be
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as stream:
        # Like DuckDB, it takes blanks before a quote for nothing.
        reader = csv.reader(lines(), delimiter=layout.separator, skipinitialspace=True)
        for fields in reader:
            if fields or len(layout.header) == 1:  # a blank line is a row where rows are one field
                line = reader.line_num - len(taken) + 1
                expected = len(layout.header)
                # Like DuckDB, it takes separators at the end of a row for no more fields.
                count = len(fields) if any(fields[expected:]) else min(len(fields), expected)
                yield Row(line, count or 1, expected, "".join(taken))
            taken.clear()


def _ensure_ends(row: Row, layout: Layout) -> None:
    """Raise csv.Error for a ragged row that an open quote has made, of lines that are rows."""
    lines = list(io.StringIO(row.text, newline=""))
    if not _fields(lines, layout):
        raise csv.Error(f"line {row.line}: a quote that ends within a field, or nowhere")
    if any(_fields([line], layout) == row.expected for line in lines[1:-1]):
        raise csv.Error(f"line {row.line}: a quote that does not end before lines that are rows")


def _fields(lines: list[str], layout: Layout) -> int:
    """Return how many fields a row has; none if its quotes are not as they should be."""
    with suppress(csv.Error):
        reader = csv.reader(lines, delimiter=layout.separator, strict=True, skipinitialspace=True)
        return sum(len(fields) for fields in reader)
    return 0


def _header(path: Path, separator: str) -> list[str]:
    # The stream decodes far beyond the header; what is not UTF-8 there DuckDB tells, with its line.
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as stream:
        header = next(csv.reader(stream, delimiter=separator, strict=True), [])
    if not header:
        raise csv.Error("no header in the first line")
    return header


@contextmanager
def _plain(file: SourceFile, scratch: Path) -> Iterator[Path]:
    """Give a plain local file with the content of another: itself if it is one, else a copy."""
    if file.is_local and codec_of(file) is None and not glob.has_magic(file.path):
        yield Path(file.path)
        return
    with _scratch_file(scratch) as (copy, target):
        with decompressed(file) as stream:
            shutil.copyfileobj(stream, target, BLOCK_BYTES)
        target.flush()
        yield copy


@contextmanager
def _scratch_file(scratch: Path) -> Iterator[tuple[Path, IO[bytes]]]:
    """Give a file that is there until the end of the block."""
    scratch.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(scratch)
    path = scratch / f"{uuid4().hex}.csv"
    unlocked = path.with_suffix(".new")
    with unlocked.open("wb") as target:
        fcntl.flock(target, fcntl.LOCK_EX)
        unlocked.rename(path)
        try:
            yield path, target
        finally:
            path.unlink()


def _remove_abandoned(scratch: Path) -> None:
    """Remove the files of processes that were killed: nobody holds their locks any more."""
    for path in scratch.glob("*.csv"):
        with suppress(FileNotFoundError, BlockingIOError), path.open("rb") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
