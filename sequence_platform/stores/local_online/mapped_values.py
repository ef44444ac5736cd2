"""A version of an enrichment's values, mapped into memory and looked up with numpy.

``rows.arrow`` holds its rows sorted by key and available_time; ``keys.arrow`` says where each key's
rows are, sorted by a number of the key.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from sequence_platform.engine.columns import Column, Ints, Mask, key_runs
from sequence_platform.engine.freshest import freshest
from sequence_platform.engine.point import hash_ids
from sequence_platform.errors import StoreError
from sequence_platform.plan.plan import EnrichmentPlan
from sequence_platform.ports.values import Found
from sequence_platform.stores.local_online.arrow_files import (
    checksum,
    is_hashed_here,
    map_file,
    sync,
    view,
    write_frame,
)

ROWS, KEYS = "rows.arrow", "keys.arrow"


def write_values(folder: Path, rows: pl.DataFrame) -> list[Path]:
    """Write a version and make it durable; only a pointer to it makes it count."""
    folder.mkdir(parents=True)
    keys = key_runs(rows["key"])
    number = pl.Series("number", numbers_of(Column.of(keys["key"]))[0])
    paths = files_of(folder)
    write_frame(paths[0], rows)
    write_frame(paths[1], keys.with_columns(number).sort("number"))
    sync(folder)
    sync(folder.parent)
    return paths


class MappedValues:
    """A version mapped into memory; nothing of it is read before it is asked for.

    Args:
        folder: Where it is.
        enrichment: Whose values it holds; columns that it lacks are null.
        published_at: When it was published.
        expected: The checksum that it must have, or None to trust it.

    Raises:
        FileNotFoundError: it is gone.
        StoreError: it is damaged.
    """

    def __init__(
        self,
        folder: Path,
        enrichment: EnrichmentPlan,
        published_at: datetime,
        expected: str | None,
    ) -> None:
        self.enrichment = enrichment
        self._published_at = published_at
        try:
            if expected is not None and (found := checksum(files_of(folder))) != expected:
                raise damaged(folder, f"checksum {found}, expected {expected}")
            rows, keys = (map_file(path) for path in files_of(folder))
        except pa.ArrowInvalid as error:
            raise damaged(folder, str(error)) from error
        self._rows = rows
        self._time_us: Ints | None = None
        if "available_time" in rows.schema.names and enrichment.is_versioned:
            self._time_us = view(rows, "available_time", "<i8")
        self._numbers: Ints = view(keys, "number", "<i8")
        self._starts: Ints = view(keys, "start", "<i8")
        self._stops: Ints = view(keys, "stop", "<i8")
        self._texts: pa.Array | None = None
        if not enrichment.schema["key"].is_integer():
            self._texts = keys.column("key")
            if not is_hashed_here(keys):
                self._number_anew()
        self._columns: dict[str, Column] = {}

    def look_up(self, keys: Column, at: datetime, columns: Sequence[str]) -> Found:
        """Return columns of the row that counts for each key."""
        places = self._find(keys)
        starts = _picked(self._starts, places)
        stops = _picked(self._stops, places)
        rows = freshest(self._time_us, starts, stops, at)
        found = {name: self._column(name).take_or_null(rows) for name in columns}
        return Found(found, self._published_at)

    def _column(self, name: str) -> Column:
        held = self._columns.get(name)
        if held is None:
            dtype = self.enrichment.schema[name]
            if name in self._rows.schema.names:
                held = Column.of_arrow(dtype, self._rows.column(name))
            else:
                held = Column.nulls(dtype, self._rows.num_rows)
            self._columns[name] = held
        return held

    def _find(self, keys: Column) -> Ints:
        """Return which key of ours each key is, -1 for those that we do not have."""
        found = np.full(len(keys), -1, dtype=np.int64)
        if not len(self._numbers):
            return found
        numbers, is_key = numbers_of(keys)
        at = self._numbers.searchsorted(numbers)
        is_open = is_key
        while True:  # once, unless two keys have one number
            inside = np.minimum(at, len(self._numbers) - 1)
            is_open = is_open & (at < len(self._numbers)) & (self._numbers[inside] == numbers)
            if not is_open.any():
                return found
            same = is_open
            if self._texts is not None:
                same = same & _are_equal(self._texts.take(pa.array(inside)), keys.to_arrow())
            found = np.where(same, at, found)
            is_open, at = is_open & ~same, at + 1

    def _number_anew(self) -> None:
        """Number keys as this process does: another version of Polars wrote the file."""
        keys = Column.of_arrow(self.enrichment.schema["key"], self._texts)
        numbers = numbers_of(keys)[0]
        order = numbers.argsort(kind="stable")
        self._numbers, self._starts = numbers[order], self._starts[order]
        self._stops, self._texts = self._stops[order], keys.values.take(pa.array(order))


def numbers_of(keys: Column) -> tuple[Ints, Mask]:
    """Return a number of each key and which are not null: an integer itself, of text a hash."""
    if isinstance(keys.values, np.ndarray):
        numbers: Ints = keys.values.view(np.int64)
        is_key = np.ones(len(keys), dtype=np.bool_) if keys.valid is None else keys.valid
        return numbers, is_key
    texts = keys.to_series("key")
    return hash_ids(texts).view(np.int64), texts.is_not_null().to_numpy()


def files_of(folder: Path) -> list[Path]:
    """Return the files of a version."""
    return [folder / ROWS, folder / KEYS]


def _picked(values: Ints, places: Ints) -> Ints:
    """Return values at places, 0 where a place is -1: an empty run."""
    if not len(values):
        return np.zeros(len(places), dtype=np.int64)
    return np.where(places >= 0, values[places], 0)


def _are_equal(mine: pa.Array, theirs: pa.Array) -> Mask:
    equal = pc.equal(mine.cast(theirs.type), theirs).fill_null(fill_value=False)
    found: Mask = equal.to_numpy(zero_copy_only=False)
    return found


def damaged(place: Path, found: str) -> StoreError:
    """Return the error of a version, or a pointer to one, that cannot be used."""
    return StoreError(
        "the values of an enrichment are damaged or gone",
        where=str(place),
        found=found,
        expected="the files that were written",
        next_step="remove current.json there, and publish them again",
    )
