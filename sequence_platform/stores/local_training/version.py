"""A version, opened: parts, and where in each part an entity's events are."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from sequence_platform.engine.columns import Ints, Mask
from sequence_platform.engine.point_in_time import first_not_before, positions_of
from sequence_platform.ports.training import UNKNOWN, Gathered, Sums, VersionInfo
from sequence_platform.stores.local_training.arrow_table import read_table, write_table
from sequence_platform.stores.local_training.column_file import (
    ColumnFile,
    ColumnWriter,
    Ranges,
)
from sequence_platform.stores.local_training.part import Part
from sequence_platform.stores.local_training.vocabulary import Vocabulary

ENTITIES, COPIES = "entities.arrow", "copies.npy"
SLOT_SHIFT = np.int64(32)
CHUNK_EVENTS = 1 << 20


def vocabulary_file(at: int) -> str:
    """Return the file of the vocabulary of the lineage's column with a number."""
    return f"vocabulary_{at:03}.arrow"


def write_index(folder: Path, parts: Sequence[Part]) -> int:
    """Write where the entities of parts are; return how many entities there are.

    By part: ``first_NNN``, each slot's first row in the part, and ``until_NNN``, how many events it
    has in this part and all before.
    """
    heads = [part.heads() for part in parts]
    entities = pl.concat([head.select("entity") for head in heads]).unique().sort("entity")
    write_table(folder / ENTITIES, entities)
    until = np.zeros(entities.height, dtype=np.int64)
    for at, head in enumerate(heads):
        placed = head.with_columns(first=pl.col("rows").cum_sum() - pl.col("rows"))
        mine = entities.join(placed, on="entity", how="left", maintain_order="left")
        until = until + mine["rows"].fill_null(0).cast(pl.Int64).to_numpy()
        _write_numbers(folder / f"first_{at:03}.npy", mine["first"].fill_null(0).to_numpy())
        _write_numbers(folder / f"until_{at:03}.npy", until)
    return entities.height


def write_copies(folder: Path, version: Version) -> None:
    """Write which events have copies: ``slot << 32 | ordinal``, sorted."""
    writer = ColumnWriter(folder / COPIES, "<i8")
    totals = version.totals()
    bounds = np.flatnonzero(np.diff((np.cumsum(totals) - totals) // CHUNK_EVENTS, prepend=-1))
    for first, last in zip(bounds, [*bounds[1:], len(totals)], strict=True):
        slots = np.arange(first, last)
        nothing = np.zeros(len(slots), dtype=np.int64)
        hashes = version.gather("copy", slots, nothing, totals[slots]).values
        ordinals, runs = positions_of(nothing, totals[slots])
        order = np.lexsort((hashes, runs))
        same = (hashes[order[1:]] == hashes[order[:-1]]) & (runs[order[1:]] == runs[order[:-1]])
        is_copy = np.zeros(len(order), dtype=np.bool_)
        is_copy[order[1:][same]] = True
        is_copy[order[:-1][same]] = True
        writer.append(_packed(slots[runs[is_copy]], ordinals[is_copy]))
    writer.close()


class Version:
    """ports.training.TrainingVersion on files.

    Args:
        info: What it is.
        folder: Of its index.
        parts: As in ``info``.
    """

    def __init__(self, info: VersionInfo, folder: Path, parts: Sequence[Part]) -> None:
        self._info, self._folder, self._parts = info, folder, parts
        numbers = range(len(parts))
        self._first = [ColumnFile(folder / f"first_{at:03}.npy") for at in numbers]
        self._until = [ColumnFile(folder / f"until_{at:03}.npy") for at in numbers]
        self._ranges: tuple[tuple[Ints, Ints, Ints], list[Ranges]] | None = None

    @property
    def info(self) -> VersionInfo:
        """What it is."""
        return self._info

    @cached_property
    def _entities(self) -> pl.Series:
        return read_table(self._folder / ENTITIES)["entity"].cast(self._info.lineage.entity)

    @cached_property
    def _copies(self) -> Ints:
        if not (self._folder / COPIES).exists():
            return np.empty(0, dtype=np.int64)
        return ColumnFile(self._folder / COPIES).view()

    def slots(self, entities: pl.Series) -> Ints:
        """Return the slot of each entity, UNKNOWN where there is none."""
        wanted = entities.cast(self._entities.dtype, strict=False).alias("entity").to_frame()
        known = self._entities.to_frame("entity").with_row_index("slot")
        found = wanted.join(known, on="entity", how="left", maintain_order="left")
        slots: Ints = found["slot"].cast(pl.Int64).fill_null(UNKNOWN).to_numpy()
        return slots

    def entities(self, slots: Ints) -> pl.Series:
        """Return the entities of slots."""
        return self._entities.gather(slots)

    def totals(self) -> Ints:
        """Return how many events each slot has."""
        if not self._until:
            return np.empty(0, dtype=np.int64)
        return np.asarray(self._until[-1].view(), dtype=np.int64)

    def before(self, slots: Ints, time_us: Ints) -> Ints:
        """Return how many events of each slot happened before a time."""
        found = np.zeros(len(slots), dtype=np.int64)
        known = np.flatnonzero(slots != UNKNOWN)
        for at, part in enumerate(self._parts):
            start, stop = self._rows(at, slots[known])
            place = first_not_before(part.own("event_time").at, start, stop, time_us[known])
            found[known] += place - start
        return found

    def latest_arrival(self, slots: Ints, start: Ints, stop: Ints) -> Ints:
        """Return a time by which all events of each range had arrived, perhaps a later one."""
        latest = np.full(len(slots), np.iinfo(np.int64).min)
        for part, ranges in zip(self._parts, self._split(slots, start, stop), strict=True):
            held = np.flatnonzero(ranges.lengths)
            name = "event_time" if part.is_on_time else "arrived_by"
            arrived = part.own(name).at((ranges.starts + ranges.lengths - 1)[held])
            latest[held] = np.maximum(latest[held], arrived)
        return latest

    def holds_copies(self, slots: Ints, start: Ints, stop: Ints) -> Mask:
        """Return which ranges hold an event that has copies."""
        if not len(self._copies):
            return np.zeros(len(slots), dtype=np.bool_)
        known = np.maximum(slots, 0)
        from_, to = (self._copies.searchsorted(_packed(known, at)) for at in (start, stop))
        holds: Mask = (slots != UNKNOWN) & (to > from_)
        return holds

    def sums(self, slots: Ints, start: Ints, stop: Ints) -> Sums:
        """Return the sum, modulo 2**64, of the hashes of the keys of the events of each range."""
        total: Sums = np.zeros(len(slots), dtype=np.uint64)
        for part, ranges in zip(self._parts, self._split(slots, start, stop), strict=True):
            sums, held = part.own("key_sum"), np.flatnonzero(ranges.lengths)
            until = sums.at((ranges.starts + ranges.lengths)[held])
            total[held] += until - sums.at(ranges.starts[held])
        return total

    def gather(self, name: str, slots: Ints, start: Ints, stop: Ints) -> Gathered:
        """Return a column of ranges, one range after the other."""
        ranges = self._split(slots, start, stop)
        held = [at for at, each in enumerate(ranges) if each.total] or [0]
        found = [self._parts[at].gather(name, ranges[at]) for at in held]
        return found[0] if len(found) == 1 else _interleaved(found, [ranges[at] for at in held])

    def vocabulary(self, name: str) -> pl.Series:
        """Return the texts of a column, by code less 1."""
        if name == "event_type":
            return pl.Series(name, self._info.lineage.types, dtype=pl.String)
        at = list(self._info.lineage.columns).index(name)
        return Vocabulary.read(self._folder / vocabulary_file(at)).texts.alias(name)

    def _rows(self, at: int, slots: Ints) -> tuple[Ints, Ints]:
        """Return the rows that slots have in a part, ``[start, stop)``."""
        first = self._first[at].at(slots).astype(np.int64)
        until = self._until[at].at(slots).astype(np.int64)
        before = self._until[at - 1].at(slots).astype(np.int64) if at else 0
        return first, first + until - before

    def _split(self, slots: Ints, start: Ints, stop: Ints) -> list[Ranges]:
        """Return by part the first row of each range, and how many rows.

        The last answer is kept, since a reader asks for many columns of the same ranges.
        """
        asked = (slots, start, stop)
        kept = self._ranges
        if kept is not None and all(a is b for a, b in zip(kept[0], asked, strict=True)):
            return kept[1]
        known = np.maximum(slots, 0)
        before: Ints | int = 0
        ranges = []
        for first, until in zip(self._first, self._until, strict=True):
            after = until.at(known).astype(np.int64)
            begin, end = np.clip(start, before, after), np.clip(stop, before, after)
            lengths = np.where(slots == UNKNOWN, 0, end - begin)
            ranges.append(Ranges(first.at(known).astype(np.int64) + begin - before, lengths))
            before = after
        self._ranges = (asked, ranges)
        return ranges


def _interleaved(found: Sequence[Gathered], ranges: Sequence[Ranges]) -> Gathered:
    """Return what parts gave of the same ranges as one: each range's oldest part first."""
    bases = np.cumsum([0, *(each.total for each in ranges[:-1])])
    pieces = [each.lengths for each in ranges]
    starts = [base + np.cumsum(each) - each for base, each in zip(bases, pieces, strict=True)]
    order = Ranges(np.stack(starts, axis=1).ravel(), np.stack(pieces, axis=1).ravel())
    if isinstance(found[0].values, pa.Array):
        joined = pa.concat_arrays([each.values for each in found])
        return Gathered(joined.take(pa.array(order.rows)))
    values = order.join(np.concatenate([each.values for each in found]))
    if all(each.valid is None for each in found):
        return Gathered(values)
    valid = [
        np.ones(len(each.values), np.bool_) if each.valid is None else each.valid for each in found
    ]
    return Gathered(values, order.join(np.concatenate(valid)))


def _packed(slots: Ints, ordinals: Ints) -> Ints:
    return (slots.astype(np.int64) << SLOT_SHIFT) | ordinals


def _write_numbers(path: Path, values: npt.NDArray[np.integer]) -> None:
    writer = ColumnWriter(path, "<i8", narrows=True)
    writer.append(values)
    writer.close()
