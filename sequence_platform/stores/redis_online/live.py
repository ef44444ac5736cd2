"""A manifest with what its segments are made of, and one entity's rows in them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from sequence_platform.engine.columns import Column, Ints, concat
from sequence_platform.engine.point import Hashes, Removals, hash_ids
from sequence_platform.online_format.coverage import DAY_US, Coverage, runs_of
from sequence_platform.plan.plan import TIME, EventPlan, Window
from sequence_platform.ports.online import Manifest
from sequence_platform.stores.redis_online.chunks import keys_of_chunk
from sequence_platform.stores.redis_online.segments import Written, gone, removed, stored_column

Fetch = Callable[[Sequence[bytes]], Sequence[bytes | None]]
"""Reads fields of an entity."""
WINDOW = 256


class Habit:
    """Which columns requests ask for: they are fetched with the keys, in one round trip.

    Those that at least half of the last requests asked for. Wrong guesses cost bytes or a round
    trip, never an answer; so threads need not take turns.
    """

    def __init__(self) -> None:
        self.usual: tuple[str, ...] = ()
        self._reads = 0
        self._asked: dict[str, int] = {}

    def read(self) -> None:
        """Note that an entity is read."""
        reads = self._reads
        if reads and not reads & (reads - 1):
            asked = list(self._asked.items())
            self.usual = tuple(sorted(name for name, count in asked if 2 * count >= reads))
            if reads >= WINDOW:
                self._reads, self._asked = 0, {}
        self._reads += 1

    def ask(self, name: str) -> None:
        """Note that a column was asked for."""
        self._asked[name] = self._asked.get(name, 0) + 1


@dataclass(frozen=True, slots=True, eq=False)
class Span:
    """Days ``[first, end)`` for which a segment answers, as times."""

    how: Written
    first_us: int
    end_us: int
    is_whole: bool


class Live:
    """A manifest with its segments."""

    def __init__(self, event: EventPlan, manifest: Manifest, hows: Sequence[Written]) -> None:
        self.event = event
        self.manifest = manifest
        self.covered = Coverage(event, manifest)
        self.is_hashed = all(how.is_hashed for how in hows)
        self.hows = hows
        self.spans = sorted(
            (
                span
                for segment, how in zip(manifest.segments, hows, strict=True)
                for span in _spans(how, runs_of(segment.days), len(segment.days), segment.held_days)
            ),
            key=lambda span: span.first_us,
        )
        until = manifest.settled_until
        self.settled_until = None if until is None else Window.of_day(until).start
        self._fields: dict[tuple[str, ...], list[bytes]] = {}

    def fields(self, columns: tuple[str, ...]) -> list[bytes]:
        """Return the fields that hold an entity's keys, removals and some columns."""
        found = self._fields.get(columns)
        if found is None:
            found = [how.rows_field for how in self.hows]
            found += [how.removals_field for how in self.hows if how.has_removals]
            found += self.chunk_fields(self.hows, columns)
            if len(self._fields) > WINDOW:
                self._fields.clear()
            self._fields[columns] = found
        return found

    @staticmethod
    def chunk_fields(hows: Iterable[Written], columns: Iterable[str]) -> list[bytes]:
        """Return the fields of columns; segments older than a column have none."""
        names = list(columns)
        return [
            how.chunk_fields[name] for how in hows for name in names if name in how.chunk_fields
        ]

    def removals(self, found: Mapping[bytes, bytes | None]) -> list[Removals]:
        """Return what was removed of an entity in these segments."""
        removals = []
        for how in self.hows:
            chunk = found.get(how.removals_field)
            if chunk is not None:
                spans = [span for span in self.spans if span.how is how]
                frame = _within(removed(self.event, chunk), spans)
                if not frame.is_empty():
                    removals.append(Removals(hash_ids(frame["event_id"]), frame.clone))
        return removals


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """Rows ``[start, stop)`` of the ``count`` that a segment has of an entity."""

    how: Written
    start: int
    stop: int
    count: int


class SettledRows:
    """Rows of one entity in several segments, oldest first: engine.point.Rows.

    Args:
        live: The manifest.
        entity: Whose they are.
        found: Fields that were read.
        fetch: Reads more of them.
        habit: Is told what is asked for.
    """

    def __init__(
        self,
        live: Live,
        entity: object,
        found: dict[bytes, bytes | None],
        fetch: Fetch,
        habit: Habit,
    ) -> None:
        self._event = live.event
        self._entity = entity
        self._found = found
        self._fetch = fetch
        self._habit = habit
        self._columns: dict[str, Column] = {}
        self._missed = False
        self._parts, times, hashes = _parts(live, found)
        if len(times) == 1:
            self.time_us: Ints = times[0]
            self.id_hash: Hashes = hashes[0]
        elif times:
            self.time_us, self.id_hash = np.concatenate(times), np.concatenate(hashes)
        else:
            self.time_us, self.id_hash = np.empty(0, np.int64), np.empty(0, np.uint64)

    def column(self, name: str, start: int, stop: int) -> Column:
        """Return a column of the rows of ``[start, stop)``."""
        if name == "event_time":
            return Column(TIME, self.time_us[start:stop])
        if name == "entity":
            owners = [self._entity] * (stop - start)
            return Column.of(pl.Series(owners, dtype=self._event.schema["entity"]))
        column = self._columns.get(name)
        if column is None:
            self._habit.ask(name)
            column = self._columns[name] = self._read(name)
        return column.slice(start, stop)

    def _read(self, name: str) -> Column:
        dtype = self._event.schema[name]
        self._ensure_fetched(name)
        parts = []
        for part in self._parts:
            field = part.how.chunk_fields.get(name)
            if field is None:
                parts.append(Column.nulls(dtype, part.stop - part.start))
                continue
            chunk = self._found[field]
            if chunk is None:
                raise gone(self._event, part.how.name)
            column = stored_column(part.how, name, dtype, chunk, part.count)
            parts.append(column.slice(part.start, part.stop))
        return concat(dtype, parts)

    def _ensure_fetched(self, name: str) -> None:
        hows = {part.how.name: part.how for part in self._parts}.values()
        missing = [f for f in Live.chunk_fields(hows, [name]) if f not in self._found]
        if not missing:
            return
        if self._missed:  # a second time: it will not be the last
            schema = self._event.schema
            others = [n for n, dtype in schema.items() if not isinstance(dtype, pl.Array)]
            more = Live.chunk_fields(hows, others)
            missing += [f for f in more if f not in self._found and f not in missing]
        self._missed = True
        self._found.update(zip(missing, self._fetch(missing), strict=True))


def _parts(
    live: Live, found: Mapping[bytes, bytes | None]
) -> tuple[list[Part], list[Ints], list[Hashes]]:
    parts, times, hashes = [], [], []
    for span in live.spans:
        chunk = found[span.how.rows_field]
        if chunk is None:
            continue
        time_us, id_hash = keys_of_chunk(chunk)
        start, stop = 0, len(time_us)
        if not span.is_whole:
            start, stop = time_us.searchsorted([span.first_us, span.end_us]).tolist()
        if start < stop:
            parts.append(Part(span.how, start, stop, len(time_us)))
            times.append(time_us[start:stop])
            hashes.append(id_hash[start:stop])
    return parts, times, hashes


def _spans(how: Written, runs: Sequence[tuple[int, int]], days: int, held_days: int) -> list[Span]:
    """Return what a segment answers for."""
    if not runs or days < held_days:
        return [Span(how, first * DAY_US, end * DAY_US, is_whole=False) for first, end in runs]
    return [Span(how, runs[0][0] * DAY_US, runs[-1][1] * DAY_US, is_whole=True)]


def _within(removals: pl.DataFrame, spans: Sequence[Span]) -> pl.DataFrame:
    """Return the removals of the days that a segment answers for."""
    if any(span.is_whole for span in spans):
        return removals
    at = pl.col("event_time").dt.epoch("us")
    inside = [at.is_between(span.first_us, span.end_us, closed="left") for span in spans]
    return removals.filter(pl.any_horizontal(inside) if inside else pl.lit(False))
