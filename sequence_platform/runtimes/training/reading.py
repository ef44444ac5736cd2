"""Pointers to sequences: the columns of a version that they point at, trimmed as serving trims."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl
import pyarrow as pa

from sequence_platform.engine.assemble import dedupe_keys
from sequence_platform.engine.columns import Column, Ints, filled
from sequence_platform.engine.point_in_time import Candidates, positions_of, seen
from sequence_platform.engine.trim import NO_KEY, keep_newest
from sequence_platform.errors import FrameSchemaError, nearest
from sequence_platform.ports.training import (
    EVENT_COLUMNS,
    UNKNOWN,
    Gathered,
    Pointers,
    Rules,
    TrainingVersion,
)


@dataclass(frozen=True, slots=True, eq=False)
class Sequences:
    """Sequences of several requests, jagged.

    Attributes:
        offsets: Request ``n`` has the values ``[offsets[n], offsets[n + 1])`` of each column.
        columns: By name; text as codes of the version.
    """

    offsets: Ints
    columns: Mapping[str, Gathered]


class SequenceRows:
    """Reads sequences of a version by pointers.

    Args:
        version: Of the store.
        rules: Of the sequence.
    """

    def __init__(self, version: TrainingVersion, rules: Rules) -> None:
        self.version, self.rules = version, rules

    @cached_property
    def types(self) -> Mapping[str, pl.DataType]:
        """The columns that can be read, and their types."""
        held = self.version.info.lineage.columns
        return {**EVENT_COLUMNS, **held, **self.rules.derived_types}

    def check(self, columns: Sequence[str]) -> None:
        """Raise FrameSchemaError if one of some columns cannot be read."""
        unknown = [name for name in columns if name not in self.types]
        if unknown:
            raise FrameSchemaError(
                f"the training store of '{self.version.info.lineage.sequence}' has no column "
                f"'{unknown[0]}'",
                expected=nearest(unknown[0], self.types),
                next_step="add it to the training set's columns, and build it again",
            )

    def read(
        self, pointers: Pointers, columns: Sequence[str], max_length: int | None = None
    ) -> Sequences:
        """Return the sequences that pointers say, oldest event first.

        Args:
            pointers: Of requests.
            columns: Of ``types``.
            max_length: Only so many of the newest events.
        """
        limit = self.rules.policy.max_length
        limit = limit if max_length is None else min(limit, max_length)
        newest = np.maximum(pointers.start, pointers.stop - limit)
        start = np.where(pointers.is_plain, newest, pointers.start)
        lengths = np.where(pointers.slots == UNKNOWN, 0, pointers.stop - start)
        where = (pointers.slots, start, start + lengths)
        kept = None
        if not pointers.is_plain.all():
            kept, lengths = self._kept(pointers, where, lengths, limit)
        offsets = np.append(0, np.cumsum(lengths))
        stored = [name for name in columns if name not in self.rules.derived]
        derived = [name for name in columns if name in self.rules.derived]
        found = {name: _taken(self.version.gather(name, *where), kept) for name in stored}
        if derived:
            found |= self._derived(derived, where, kept, lengths)
        return Sequences(offsets, {name: found[name] for name in columns})

    def decoded(self, name: str, values: Gathered) -> pl.Series:
        """Return values with their own type: texts instead of codes, nulls as nulls."""
        dtype = self.types[name]
        if isinstance(dtype, pl.String) and isinstance(values.values, np.ndarray):
            texts = self._texts(name)
            if name == "event_type":
                return texts.gather(values.values)
            codes = pl.Series(values.values.astype(np.int64)) - 1
            return texts.gather(codes.set(codes < 0, None))
        return Column(dtype, values.values, values.valid).to_series(name)

    def _texts(self, name: str) -> pl.Series:
        if name not in self._vocabularies:
            self._vocabularies[name] = self.version.vocabulary(name)
        return self._vocabularies[name]

    @cached_property
    def _vocabularies(self) -> dict[str, pl.Series]:
        return {}

    def _kept(
        self, pointers: Pointers, where: tuple[Ints, Ints, Ints], lengths: Ints, limit: int
    ) -> tuple[Ints, Ints]:
        """Return which of the values gathered stay, and how many of each request."""
        judged = np.flatnonzero(~pointers.is_plain & (lengths > 0))
        slots, start, stop = (each[judged] for each in where)
        runs = np.repeat(np.arange(len(judged)), stop - start)

        def values(name: str) -> Gathered:
            return self.version.gather(name, slots, start, stop)

        time_us, arrival_us = values("event_time").values, values("arrival_time").values
        is_copied = self.version.holds_copies(slots, start, stop)
        copies, ranks = None, None
        if is_copied.any():
            at = np.flatnonzero(is_copied[runs])
            copies, ranks = _copies(values("copy").values, at, runs, time_us, arrival_us)
        events = Candidates(runs, time_us, values("event_type").values, arrival_us, copies, ranks)
        by = self.rules.policy.dedupe.by if self.rules.policy.dedupe is not None else ()
        names = [by] if isinstance(by, str) else list(by)
        keys = {name: self._comparable(name, values(name)) for name in names}
        stays = seen(
            self.rules.policy,
            events,
            pointers.known_us[judged],
            lambda at: dedupe_keys(pl.DataFrame({name: keys[name].gather(at) for name in names})),
        )
        stays = stays[keep_newest(runs[stays], limit)]
        is_kept = np.ones(int(lengths.sum()), dtype=np.bool_)
        ends = np.cumsum(lengths)
        places, _ = positions_of((ends - lengths)[judged], ends[judged])
        is_kept[places] = False
        is_kept[places[stays]] = True
        left = lengths.copy()
        left[judged] = np.bincount(runs[stays], minlength=len(judged))
        return np.flatnonzero(is_kept), left

    def _comparable(self, name: str, found: Gathered) -> pl.Series:
        """Return values, texts as numbers, null where they are null."""
        if not (isinstance(self.types[name], pl.String) and isinstance(found.values, np.ndarray)):
            return self.decoded(name, found)
        codes = pl.Series(name, found.values)
        return codes if name == "event_type" else codes.set(codes == 0, None)

    def _derived(
        self,
        names: Sequence[str],
        where: tuple[Ints, Ints, Ints],
        kept: Ints | None,
        lengths: Ints,
    ) -> dict[str, Gathered]:
        expressions = {name: self.rules.derived[name] for name in names}
        roots = {root for expr in expressions.values() for root in expr.meta.root_names()}
        flat = pl.DataFrame(
            [
                pl.Series("entity", np.repeat(np.arange(len(lengths)), lengths)),
                *(
                    self.decoded(root, _taken(self.version.gather(root, *where), kept)).alias(root)
                    for root in sorted(roots)
                ),
            ]
        )
        computed = flat.select(
            expr.over("entity").cast(self.rules.derived_types[name]).alias(name)
            for name, expr in expressions.items()
        )
        return {series.name: _gathered(series) for series in computed}


def _taken(found: Gathered, kept: Ints | None) -> Gathered:
    if kept is None:
        return found
    if isinstance(found.values, pa.Array):
        return Gathered(found.values.take(pa.array(kept)))
    return Gathered(found.values[kept], None if found.valid is None else found.valid[kept])


def _gathered(series: pl.Series) -> Gathered:
    column = filled(series)
    return Gathered(column.values, column.valid)


def _copies(
    hashes: Ints, at: Ints, runs: Ints, time_us: Ints, arrival_us: Ints
) -> tuple[Ints, Ints]:
    """Return which candidates are copies of one event, and which of those beats which.

    Args:
        hashes: Of the keys of all candidates.
        at: Candidates of requests that may see copies.
        runs: The request of each candidate.
        time_us: When each happened.
        arrival_us: When each arrived; the newest wins.
    """
    order = at[np.lexsort((hashes[at], runs[at]))]
    same = (hashes[order[1:]] == hashes[order[:-1]]) & (runs[order[1:]] == runs[order[:-1]])
    is_copy = np.append(same, False) | np.append(False, same)
    copies, ranks = np.full(len(runs), NO_KEY), np.zeros(len(runs), dtype=np.int64)
    # Numbered anew: a hash may be NO_KEY.
    copies[order[is_copy]] = np.cumsum(np.append(True, ~same))[is_copy]
    found = order[is_copy]
    ranks[found[np.lexsort((time_us[found], arrival_us[found]))]] = np.arange(len(found))
    return copies, ranks
