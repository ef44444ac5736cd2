"""Files as a batch source: which rows belong to which day."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl

from sequence_platform.definition.source import FORMAT_OF_SUFFIX, Files
from sequence_platform.engine.conform import unusable_rows
from sequence_platform.engine.dead_letters import DEAD_LETTERS
from sequence_platform.errors import FrameSchemaError, StoreError, listed
from sequence_platform.plan.plan import Window
from sequence_platform.ports import RawBatch
from sequence_platform.sources.files.locate import (
    SourceFile,
    find_files,
    nothing_found,
    pattern_of_all_days,
    pattern_of_day,
)
from sequence_platform.sources.files.readers import Piece, Reader
from sequence_platform.sources.files.split import DaySplit, Times

ONE_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class FileSource:
    """Reads Files: ports.BatchSource.

    Attributes:
        definition: Which files, and what they may lack.
        schema: The raw schema.
        time: Returns the event_time of raw rows (TIME), null where it is absent or impossible; None
            for a source that is only read whole.
        root: Where relative patterns start.
        split_root: Where files without ``{day}`` are kept split by day.
        name: Of the source, unique within ``split_root``.
        identity: Of what ``time`` returns, as text: when it changes, files are split again.
        start: The first day that anybody asks for. Rows that belong to no day of their file go to
            its first day, but not before this.
    """

    definition: Files
    schema: pl.Schema
    time: Times | None
    root: Path
    split_root: Path
    name: str
    identity: str = ""
    start: date | None = None

    def read(self, window: Window | None) -> Iterator[RawBatch]:
        """Yield the rows of a day, or all: see ports.BatchSource."""
        if window is None:
            for file in self._all_files():
                for piece in self._read_file(file):
                    yield _batch(file, piece.decoded.frame, piece.decoded.dead)
            return
        if self.time is None:
            raise FrameSchemaError(
                "a source without event_time cannot be read by day",
                where=self.name,
                found=f"window {window.start} .. {window.end}",
                expected="no window",
                next_step="read it whole",
            )
        read = self._read_daily if self.definition.is_daily else self._read_split
        yield from read(window.start.date(), self.time)

    def _read_daily(self, day: date, time: Times) -> Iterator[RawBatch]:
        own = self._files_of(day)
        if not own and self.definition.missing == "error":
            raise nothing_found(
                pattern_of_day(self.definition.pattern, day),
                self.root,
                or_else="; or say missing='empty' if a day may have no events",
            )
        for file in own:
            for piece in self._read_file(file):
                yield self._of_own_file(file, piece, day, time(piece.decoded.frame))
        for later in range(1, -(-self.definition.late // ONE_DAY) + 1):
            landed = day + later * ONE_DAY
            for file in self._files_of(landed):
                for piece in self._read_file(file):
                    times = time(piece.decoded.frame)
                    is_late = (times >= self._earliest(landed)) & (times < _midnight(day + ONE_DAY))
                    is_late &= times >= _midnight(day)
                    yield _batch(file, piece.decoded.frame.filter(is_late))

    def _of_own_file(self, file: SourceFile, piece: Piece, day: date, times: pl.Series) -> RawBatch:
        """Return what belongs to the day of the file itself: late rows belong to theirs."""
        frame, dead = piece.decoded.frame, piece.decoded.dead
        earliest, start, end = self._earliest(day), _midnight(day), _midnight(day + ONE_DAY)
        is_outside = ((times < earliest) | (times >= end)).fill_null(value=False)
        if is_outside.any():
            found = times.filter(is_outside).dt.to_string("iso:strict")
            outside = unusable_rows(
                frame.filter(is_outside),
                rules=pl.repeat("outside_partition", len(found), eager=True),
                details="found " + found + f", expected {earliest} <= event_time < {end}",
                source=file.name,
                positions=piece.positions.filter(is_outside),
            )
            dead = pl.concat([dead, outside]).sort("position")
        return _batch(
            file, frame.filter(times.is_null() | times.is_between(start, end, "left")), dead
        )

    def _earliest(self, day: date) -> datetime:
        """Return the first time that may stand in the file of a day."""
        return _midnight(day) - self.definition.late

    def _read_split(self, day: date, time: Times) -> Iterator[RawBatch]:
        files = self._all_files()
        split = DaySplit(self.split_root / self.name, self.schema, self.identity)
        split.ensure(files, self._read_file, time)
        for file in files:
            index = split.index(file)
            if index.is_orphaned and self.start is None:
                raise _no_times(file)
            first = max(filter(None, (index.first_day, self.start)), default=None)
            slices = [*index.days.get(day.isoformat(), ())]
            slices += index.timeless if day == first else ()
            for frame in split.rows(file, slices):
                yield _batch(file, frame)
            if day == first:
                for dead in split.dead(file, index):
                    yield _batch(file, pl.DataFrame(schema=self.schema), dead)

    def _read_file(self, file: SourceFile) -> Iterator[Piece]:
        form = self.definition.file_format
        if form is None:
            raise StoreError(
                "the format of a file is not known",
                where=self.definition.pattern,
                found="no suffix that tells it, and no format=",
                expected=f"a suffix of {listed(FORMAT_OF_SUFFIX)} (also .gz, .zst)",
                next_step="say format= in the definition",
            )
        scratch = self.split_root / "scratch"
        reader = Reader(form, self.schema, self.definition.missing_columns, scratch)
        yield from reader.read(file)
        if file.is_local and find_files(file.path, self.root) != [file]:
            raise StoreError(
                "a file changed while it was being read",
                where=file.name,
                found="another size or time of change than at the start",
                expected="files that are written elsewhere and then moved here whole",
                next_step="run again when the file is complete",
                retryable=True,
            )

    def _files_of(self, day: date) -> list[SourceFile]:
        return find_files(pattern_of_day(self.definition.pattern, day), self.root)

    def _all_files(self) -> list[SourceFile]:
        pattern = self.definition.pattern
        if self.definition.is_daily:
            pattern = pattern_of_all_days(pattern)
        files = find_files(pattern, self.root)
        if not files and not (self.definition.is_daily and self.definition.missing == "empty"):
            raise nothing_found(pattern, self.root)
        return files


def _batch(file: SourceFile, frame: pl.DataFrame, dead: pl.DataFrame | None = None) -> RawBatch:
    return RawBatch(frame, pl.DataFrame(schema=DEAD_LETTERS) if dead is None else dead, file.name)


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def _no_times(file: SourceFile) -> StoreError:
    return StoreError(
        "no row of a file has a usable event_time",
        where=file.name,
        found="no day that its rows could be counted on",
        expected="at least one row with a possible time",
        next_step="check event_time in the definition, and the file; or take the file away",
    )
