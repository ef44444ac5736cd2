"""Splits files that hold any days by day, once; a day is then read without reading the rest.

Each file becomes a folder of runs: rows in the raw schema, sorted by day, with an index of where
each day is. A folder appears whole or not at all, belongs to one content of one file, and goes when
that goes.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import date
from hashlib import blake2b
from pathlib import Path

import polars as pl

from sequence_platform.engine.dead_letters import DEAD_LETTERS
from sequence_platform.engine.decode import Decoded
from sequence_platform.errors import StoreError
from sequence_platform.sources.files.formats import BATCH_ROWS
from sequence_platform.sources.files.locate import SourceFile
from sequence_platform.sources.files.readers import Piece

RUN_BYTES = 64 << 20
"""Of rows in memory before a run is written. While it is, there are two copies."""
RECORD_ROWS = 16_384
"""Of what is decompressed at least to read a day of a run."""
VERSION = 1
"""Of what a folder holds. Another one is made anew."""
DAY = "\0day"
"""No column of a source has this name."""

Times = Callable[[pl.DataFrame], pl.Series]
Slice = tuple[int, int, int]
"""Run, first row, rows."""


@dataclass(frozen=True, slots=True)
class Index:
    """Where the rows of a file are.

    Attributes:
        days: By day.
        timeless: Rows without a usable time.
        dead: How many files of dead letters there are.
    """

    days: dict[str, list[Slice]]
    timeless: list[Slice]
    dead: int

    @property
    def first_day(self) -> date | None:
        """The first day that has a row."""
        return date.fromisoformat(min(self.days)) if self.days else None

    @property
    def is_orphaned(self) -> bool:
        """Whether there are rows that belong to no day, and no day to give them to."""
        return not self.days and bool(self.timeless or self.dead)


@dataclass(frozen=True, slots=True)
class DaySplit:
    """The split files of one source.

    Attributes:
        folder: Where they are kept, for this source alone.
        schema: Of the rows.
        identity: Of all beside the files that decides what a row becomes and its day.
    """

    folder: Path
    schema: pl.Schema
    identity: str

    def ensure(
        self,
        files: Sequence[SourceFile],
        read: Callable[[SourceFile], Iterator[Piece]],
        times: Times,
    ) -> None:
        """Split the files that are not yet, and forget those that are gone.

        Of several processes one does it, and the others wait.

        Raises:
            StoreError: a file cannot be read, or the split not be written.
        """
        if self._is_current(files):
            return
        with self._writing():
            for leftover in self.folder.glob("*.part"):
                shutil.rmtree(leftover)
            for file in files:
                if not self._place(file).exists():
                    self._split(file, read(file), times)
            self._forget_all_but({self._place(file) for file in files})

    def index(self, file: SourceFile) -> Index:
        """Return where the rows of a file are.

        Raises:
            StoreError: the file changed since ``ensure``.
        """
        with self._reading(file) as place:
            facts = json.loads((place / "index.json").read_text())
        return Index(facts["days"], facts["timeless"], facts["dead"])

    def rows(self, file: SourceFile, slices: Iterable[Slice]) -> Iterator[pl.DataFrame]:
        """Yield some rows of a file, in order."""
        with self._reading(file) as place:
            for run, first, count in slices:
                scan = pl.scan_ipc(place / f"rows-{run:05}.arrow", glob=False)
                for at in range(first, first + count, BATCH_ROWS):
                    yield scan.slice(at, min(BATCH_ROWS, first + count - at)).collect()

    def dead(self, file: SourceFile, index: Index) -> Iterator[pl.DataFrame]:
        """Yield the dead letters of a file, in order."""
        with self._reading(file) as place:
            for number in range(index.dead):
                yield pl.read_ipc(place / f"dead-{number:05}.arrow")

    def _place(self, file: SourceFile) -> Path:
        types = [(name, repr(dtype)) for name, dtype in self.schema.items()]
        facts = json.dumps([VERSION, file.name, file.identity, types, self.identity])
        return self.folder / blake2b(facts.encode(), digest_size=16).hexdigest()

    def _is_current(self, files: Sequence[SourceFile]) -> bool:
        kept = {entry for entry in self.folder.glob("*") if entry.is_dir()}
        return kept == {self._place(file) for file in files}

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with (self.folder / "lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                yield
        except (OSError, pl.exceptions.PolarsError) as error:
            raise StoreError(
                "a source cannot be split by day",
                where=str(self.folder),
                found=f"{type(error).__name__}: {error}",
                expected="a folder that can be written, with space for the rows of the source",
                next_step="free space or give access, then run again; nothing is half written",
            ) from error

    @contextmanager
    def _reading(self, file: SourceFile) -> Iterator[Path]:
        """Give the folder of a file, which stays while it is being read."""
        place = self._place(file)
        try:
            descriptor = os.open(place, os.O_RDONLY)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_SH)
                yield place
            finally:
                os.close(descriptor)
        except (OSError, pl.exceptions.PolarsError, ValueError, LookupError) as error:
            is_gone = not place.exists()
            raise StoreError(
                "a file changed while it was being read"
                if is_gone
                else "what a file was split into cannot be read",
                where=file.name,
                found=f"{type(error).__name__}: {error}",
                expected=f"its split in {place}",
                next_step="run again" if is_gone else "remove that folder and run again",
                retryable=is_gone,
            ) from error

    def _split(self, file: SourceFile, pieces: Iterator[Piece], times: Times) -> None:
        place = self._place(file)
        part = place.with_suffix(".part")
        part.mkdir()
        try:
            runs = _Runs(part)
            for piece in pieces:
                runs.add(piece.decoded, times)
            runs.finish()
            part.rename(place)
        finally:
            shutil.rmtree(part, ignore_errors=True)

    def _forget_all_but(self, kept: set[Path]) -> None:
        for entry in self.folder.iterdir():
            if entry.is_dir() and entry not in kept:
                with suppress(
                    BlockingIOError
                ):  # somebody reads it: the next one to split removes it
                    descriptor = os.open(entry, os.O_RDONLY)
                    try:
                        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                        shutil.rmtree(entry)
                    finally:
                        os.close(descriptor)


class _Runs:
    """Writes the rows of a file as runs."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._rows: list[pl.DataFrame] = []
        self._dead: list[pl.DataFrame] = []
        self._bytes = 0.0
        self._runs = 0
        self._dead_files = 0
        self._slices: dict[str | None, list[Slice]] = {}

    def add(self, decoded: Decoded, times: Times) -> None:
        """Take some rows."""
        self._rows.append(decoded.frame.with_columns(times(decoded.frame).dt.date().alias(DAY)))
        self._dead.append(decoded.dead)
        self._bytes += self._rows[-1].estimated_size() + decoded.dead.estimated_size()
        if self._bytes >= RUN_BYTES:
            self._flush()

    def finish(self) -> None:
        """Write what is left, and the index."""
        self._flush()
        timeless = self._slices.pop(None, [])
        facts = {"days": self._slices, "timeless": timeless, "dead": self._dead_files}
        with (self._folder / "index.json").open("w") as stream:
            json.dump(facts, stream)
            _sync(stream.fileno())

    def _flush(self) -> None:
        rows = (
            pl.concat(self._rows).sort(DAY, maintain_order=True) if self._rows else pl.DataFrame()
        )
        dead = pl.concat([pl.DataFrame(schema=DEAD_LETTERS), *self._dead])
        self._rows, self._dead, self._bytes = [], [], 0.0
        if dead.height:
            _write(dead, self._folder / f"dead-{self._dead_files:05}.arrow")
            self._dead_files += 1
        if rows.height:
            first = 0
            for day, count in rows[DAY].rle().struct.unnest().select("value", "len").iter_rows():
                slices = self._slices.setdefault(None if day is None else day.isoformat(), [])
                slices.append((self._runs, first, count))
                first += count
            _write(rows.drop(DAY), self._folder / f"rows-{self._runs:05}.arrow")
            self._runs += 1


def _write(frame: pl.DataFrame, path: Path) -> None:
    with path.open("wb") as stream:
        frame.write_ipc(stream, compression="zstd", record_batch_size=RECORD_ROWS)
        stream.flush()
        _sync(stream.fileno())


def _sync(descriptor: int) -> None:
    # The folder is renamed afterwards: after a power cut it must not be there without its content.
    os.fsync(descriptor)
