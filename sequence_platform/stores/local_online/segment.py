"""Segments: a folder of Arrow files for one event type and some days, never changed once written.

``rows.arrow`` holds rows sorted by (entity, event_time, event_id), without compression, so that a
read is a slice of mapped memory. ``entities.arrow`` says where each entity's rows are, sorted by
``entity_number``. ``removals.arrow`` holds the keys that were deleted or rejected, sorted so, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa

from sequence_platform.engine.columns import Column, Ints, Values, fixed_width, key_runs
from sequence_platform.engine.point import Hashes, Removals, hash_ids
from sequence_platform.errors import StoreError
from sequence_platform.online_format.entity import entity_number, entity_numbers
from sequence_platform.plan.plan import ENVELOPE, EventPlan
from sequence_platform.stores.local_online.arrow_files import (
    checksum,
    is_hashed_here,
    map_file,
    size_of,
    sync,
    view,
    write_frame,
)

ROWS, ENTITIES, REMOVALS = "rows.arrow", "entities.arrow", "removals.arrow"
ID_HASH = "__id_hash"


@dataclass(frozen=True, slots=True)
class Written:
    """A segment on disk.

    Attributes:
        bytes: Of all files.
        checksum: Of all files.
    """

    rows: int
    bytes: int
    checksum: str


def write_segment(folder: Path, rows: pl.DataFrame, removals: pl.DataFrame) -> Written:
    """Write a segment and make it durable; only the manifest makes it count.

    Args:
        folder: Created; must not exist.
        rows: An event type's rows sorted by KEY_ORDER.
        removals: ENVELOPE and rule, any order.
    """
    try:
        folder.mkdir(parents=True)
        write_frame(
            folder / ROWS, rows.with_columns(pl.Series(ID_HASH, hash_ids(rows["event_id"])))
        )
        write_frame(folder / ENTITIES, _entities(rows["entity"]))
        if not removals.is_empty():
            numbers = pl.Series("__number", entity_numbers(removals["entity"]))
            hashes = pl.Series(ID_HASH, hash_ids(removals["event_id"]))
            write_frame(folder / REMOVALS, removals.with_columns(numbers, hashes).sort("__number"))
        sync(folder)
        sync(folder.parent)
    except OSError as error:
        raise StoreError(
            "a segment cannot be written",
            where=str(folder),
            found=str(error),
            next_step="free space on the disk, or mend the folder's permissions, and publish again",
            retryable=True,
        ) from error
    return Written(rows.height, size_of(_files(folder)), checksum(_files(folder)))


class SegmentFile:
    """A segment mapped into memory; nothing of it is read before it is asked for.

    Args:
        folder: Where it is.
        event: Whose rows it holds; columns that it lacks are null.
        expected: The checksum that it must have, or None to trust it.

    Raises:
        StoreError: it is gone or damaged.
    """

    def __init__(self, folder: Path, event: EventPlan, expected: str | None) -> None:
        self.folder = folder
        self.event = event
        try:
            if expected is not None and (found := checksum(_files(folder))) != expected:
                raise _damaged(folder, f"checksum {found}", f"checksum {expected}")
            self._rows = map_file(folder / ROWS)
            entities = map_file(folder / ENTITIES)
            has_removals = (folder / REMOVALS).exists()
            self._removals = map_file(folder / REMOVALS) if has_removals else None
        except (OSError, pa.ArrowInvalid, pl.exceptions.PolarsError) as error:
            raise _damaged(folder, str(error), "the files that were written") from error
        self.is_hashed = is_hashed_here(self._rows)
        self._numbers = view(entities, "number", "<i8")
        self._starts = view(entities, "start", "<i8")
        self._stops = view(entities, "stop", "<i8")
        self._entities = entities.column("entity")
        self.time_us: Ints = view(self._rows, "event_time", "<i8")
        self.id_hash: Hashes = view(self._rows, ID_HASH, "<u8")
        if self._removals is not None:
            self._removal_numbers: Ints = view(self._removals, "__number", "<i8")
            self._removal_hashes: Hashes = view(self._removals, ID_HASH, "<u8")
        self.views = dict(self._plain_views())

    def find(self, entity: object) -> tuple[int, int]:
        """Return the rows of an entity, ``[start, stop)``."""
        number = entity_number(entity)
        at = int(self._numbers.searchsorted(number))
        while at < len(self._numbers) and self._numbers[at] == number:
            if isinstance(entity, int) or self._entities[at].as_py() == entity:
                return int(self._starts[at]), int(self._stops[at])
            at += 1
        return 0, 0

    def removals(self, entity: object) -> Removals | None:
        """Return an entity's keys that were removed, or None."""
        if self._removals is None:
            return None
        start, stop = np.searchsorted(
            self._removal_numbers, [number := entity_number(entity), number + 1]
        ).tolist()
        if start == stop:
            return None
        return Removals(
            self._removal_hashes[start:stop], lambda: self._removed(start, stop - start)
        )

    def _removed(self, start: int, count: int) -> pl.DataFrame:
        rows = [] if self._removals is None else [self._removals.slice(start, count)]
        frame = pl.DataFrame(pa.Table.from_batches(rows))
        return frame.select(
            *(pl.col(name).cast(self.event.schema[name]) for name in ENVELOPE), "rule"
        )

    def column(self, name: str, start: int, stop: int) -> Column:
        """Return a column of the rows of ``[start, stop)``."""
        dtype = self.event.schema[name]
        view = self.views.get(name)
        if view is not None:
            return Column(dtype, view[start:stop])
        if name not in self._rows.schema.names:
            return Column.nulls(dtype, stop - start)
        return Column.of_arrow(dtype, self._rows.column(name).slice(start, stop - start))

    def frames(self) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Return all rows, in the event type's schema, and all removals, to be merged."""
        table = pa.Table.from_batches([self._rows])
        frame = pl.DataFrame(table).select(
            pl.col(name).cast(dtype)
            if name in table.column_names
            else pl.lit(None, dtype).alias(name)
            for name, dtype in self.event.schema.items()
        )
        if self._removals is None:
            schema = {name: self.event.schema[name] for name in ENVELOPE} | {"rule": pl.String()}
            return frame, pl.DataFrame(schema=schema)
        return frame, self._removed(0, self._removals.num_rows)

    def _plain_views(self) -> Iterator[tuple[str, Values]]:
        """Yield columns of fixed width without nulls as numpy, made once."""
        for name, dtype in self.event.schema.items():
            if name not in self._rows.schema.names or fixed_width(dtype) in {None, np.dtype("?")}:
                continue
            array = self._rows.column(name)
            if not array.null_count:
                column = Column.of_arrow(dtype, array)
                if isinstance(column.values, np.ndarray):
                    yield name, column.values


def _entities(entities: pl.Series) -> pl.DataFrame:
    """Return where each entity's rows are, by its number."""
    runs = key_runs(entities).rename({"key": "entity"})
    numbers = pl.Series("number", entity_numbers(runs["entity"]))
    return runs.with_columns(numbers).sort("number")


def _damaged(folder: Path, found: str, expected: str) -> StoreError:
    return StoreError(
        "a segment is damaged or gone",
        where=str(folder),
        found=found,
        expected=expected,
        next_step="roll back to an earlier manifest, or publish its days again",
    )


def _files(folder: Path) -> list[Path]:
    return [folder / name for name in (ROWS, ENTITIES, REMOVALS) if (folder / name).exists()]
