"""Reads one file into the raw schema, in pieces; never a row too few. Errors say which file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import polars as pl

from sequence_platform.definition.source import FileFormat
from sequence_platform.engine.conform import MissingColumns, conform
from sequence_platform.engine.dead_letters import DEAD_LETTERS
from sequence_platform.engine.decode import Decoded, decode
from sequence_platform.engine.fit import without
from sequence_platform.errors import FrameSchemaError, StoreError
from sequence_platform.sources.files.formats import (
    UNREADABLE,
    codec_of,
    read_lines,
    read_parquet,
    read_remote_parquet,
)
from sequence_platform.sources.files.locate import SourceFile, asking
from sequence_platform.sources.files.separated import Part, read_separated

SEPARATORS = {"csv": ",", "tsv": "\t"}
RAGGED = "ragged_row"
"""The rule of rows that have more or fewer fields than the header."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """Some consecutive rows of a file.

    Attributes:
        decoded: What became of them.
        first: Position of the first in the file.
        rows: How many there are, dead ones and blank lines included.
        unused: Positions of those that did not become rows.
    """

    decoded: Decoded
    first: int
    rows: int
    unused: pl.Series

    @property
    def positions(self) -> pl.Series:
        """Where in the file each row of the frame stands."""
        all_positions = pl.int_range(self.first, self.first + self.rows, eager=True)
        return without(all_positions.to_frame("position"), self.unused - self.first)["position"]


@dataclass(frozen=True, slots=True)
class Reader:
    """How the files of a source are read.

    Attributes:
        schema: Columns and types of the rows.
        missing_columns: Whether a column that a file does not have is an error or null.
        scratch: Folder for the plain copies that a CSV reader needs of other files.
    """

    format: FileFormat
    schema: pl.Schema
    missing_columns: MissingColumns
    scratch: Path

    def read(self, file: SourceFile) -> Iterator[Piece]:
        """Yield a file in pieces, in order.

        Raises:
            StoreError: it is absent, unreadable, truncated, or lacks a column.
        """
        if file.size == 0 and (codec_of(file) is not None or self.format != "ndjson"):
            raise _unreadable(file, "no bytes", self.format)
        if self.format == "ndjson":
            yield from self._decoded(file)
        else:
            yield from self._conformed(file)

    def _decoded(self, file: SourceFile) -> Iterator[Piece]:
        first = 0
        for lines in _guarded(file, self.format, lambda: read_lines(file)):
            decoded = decode(lines, self.schema, source=file.name, first_position=first)
            # A blank line is no row; it only counts as a line.
            dead = decoded.dead.filter(pl.col("rule") != "empty_message")
            unused = decoded.dead["position"]
            yield Piece(Decoded(decoded.frame, dead), first, len(lines), unused)
            first += len(lines)

    def _conformed(self, file: SourceFile) -> Iterator[Piece]:
        first = 0
        for part in _guarded(file, self.format, lambda: self._parts(file)):
            is_other = not set(part.frame.columns) & set(self.schema)
            try:
                decoded = conform(
                    part.frame,
                    self.schema,
                    source=file.name,
                    missing_columns="error" if is_other else self.missing_columns,
                )
            except FrameSchemaError as error:
                raise StoreError(
                    "a file does not have the columns of its source",
                    where=file.name,
                    found=error.found,
                    expected=error.expected,
                    next_step=error.next_step,
                ) from error
            dead = _all_dead(decoded, part, file.name, first)
            rows = part.frame.height + len(part.ragged)
            yield Piece(Decoded(decoded.frame, dead), first, rows, dead["position"])
            first += rows

    def _parts(self, file: SourceFile) -> Iterator[Part]:
        """Yield no rows with all columns of the file, then its rows with the columns wanted."""
        names = self.schema.names()
        if self.format == "parquet":
            read = read_parquet if file.is_local else read_remote_parquet
            return map(Part, read(file, names))
        return read_separated(file, names, SEPARATORS[self.format], self.scratch)


def _all_dead(decoded: Decoded, part: Part, source: str, first: int) -> pl.DataFrame:
    """Return the dead letters of a part, placed in its file: of its frame, and ragged rows."""
    places = pl.int_range(first, first + part.frame.height + len(part.ragged), eager=True)
    placed = without(places.to_frame("position"), pl.Series(list(part.ragged), dtype=pl.UInt32))
    at = placed["position"].gather(decoded.dead["position"])
    letters = decoded.dead.with_columns(at.alias("position"))
    if not part.ragged:
        return letters
    ragged = pl.DataFrame(
        {
            "source": source,
            "position": [first + at for at in part.ragged],
            "rule": RAGGED,
            "detail": [
                f"line {row.line}: found {row.fields} fields, expected the {row.expected} of the "
                "header"
                for row in part.ragged.values()
            ],
            "row": [row.shown for row in part.ragged.values()],
        },
        schema=DEAD_LETTERS,
    )
    return pl.concat([letters, ragged]).sort("position")


def _guarded(file: SourceFile, form: FileFormat, start: Callable[[], Iterator[T]]) -> Iterator[T]:
    """Yield what a reader yields; raise StoreError for what it raises."""
    parts = start()
    while True:
        with nullcontext() if file.is_local else asking(file.path):
            try:
                part = next(parts, None)
            except UNREADABLE as error:
                raise _unreadable(file, error, form) from error
        if part is None:
            return
        yield part


def _unreadable(file: SourceFile, error: object, form: FileFormat) -> StoreError:
    # DuckDB appends advice that is about its own options.
    found = str(error).split("Possible fixes", 1)[0].split("Possible Solution", 1)[0]
    kind = "" if isinstance(error, str) else f"{type(error).__name__}: "
    return StoreError(
        "a file cannot be read",
        where=file.name,
        found=kind + " ".join(found.split()),
        expected=f"a complete and well-formed {form} file",
        next_step="bring the file again from where it came, or mend it; then run again",
    )
