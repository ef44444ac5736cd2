"""The segments of one manifest, opened: who has rows in which, and what they cover of the tail."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date
from functools import lru_cache

import numpy as np
import polars as pl

from sequence_platform.engine.columns import Column, Ints, concat
from sequence_platform.engine.point import Hashes, Removals
from sequence_platform.online_format.coverage import DAY_US, Coverage, runs_of
from sequence_platform.plan.plan import EventPlan, Window
from sequence_platform.ports.online import Manifest
from sequence_platform.stores.local_online.segment import SegmentFile

PLACES = 200_000
"""Entities whose places are remembered: looking into sixteen segments takes longer than reading."""


@dataclass(frozen=True, slots=True, eq=False)
class Span:
    """Days ``[first, end)`` for which a segment answers, as numbers since the epoch."""

    file: SegmentFile
    first: int
    end: int
    is_whole: bool

    def find(self, entity: object) -> tuple[int, int]:
        """Return the rows of an entity in these days, ``[start, stop)``."""
        start, stop = self.file.find(entity)
        if self.is_whole or start == stop:
            return start, stop
        times = self.file.time_us[start:stop]
        return (
            start + int(times.searchsorted(self.first * DAY_US)),
            start + int(times.searchsorted(self.end * DAY_US)),
        )


Place = tuple[SegmentFile, int, int]


class SettledRows:
    """Rows of one entity in several segments, oldest first: engine.point.Rows."""

    def __init__(self, event: EventPlan, places: Sequence[Place]) -> None:
        self._event = event
        self._places = places
        if len(places) == 1:
            file, start, stop = places[0]
            self.time_us: Ints = file.time_us[start:stop]
            self.id_hash: Hashes = file.id_hash[start:stop]
        elif places:
            self.time_us = np.concatenate([f.time_us[start:stop] for f, start, stop in places])
            self.id_hash = np.concatenate([f.id_hash[start:stop] for f, start, stop in places])
        else:
            self.time_us, self.id_hash = np.empty(0, np.int64), np.empty(0, np.uint64)

    def column(self, name: str, start: int, stop: int) -> Column:
        """Return a column of the rows of ``[start, stop)``."""
        if len(self._places) == 1:
            file, first, _ = self._places[0]
            return file.column(name, first + start, first + stop)
        if 0 < stop - start == len(self.time_us):
            views = [
                view[first:last]
                for file, first, last in self._places
                if (view := file.views.get(name)) is not None
            ]
            if len(views) == len(self._places):
                return Column(self._event.schema[name], np.concatenate(views))
        parts, base = [], 0
        for file, first, last in self._places:
            low, high = max(start - base, 0), min(stop - base, last - first)
            if low < high:
                parts.append(file.column(name, first + low, first + high))
            base += last - first
        return concat(self._event.schema[name], parts)


class Live:
    """A manifest with its segments open."""

    def __init__(self, event: EventPlan, manifest: Manifest, files: Sequence[SegmentFile]) -> None:
        self.event = event
        self.manifest = manifest
        self.is_hashed = all(file.is_hashed for file in files)
        self._spans = sorted(
            (
                span
                for file, segment in zip(files, manifest.segments, strict=True)
                for span in _spans(file, segment.days, segment.held_days)
            ),
            key=lambda span: span.first,
        )
        self.covered = Coverage(event, manifest)
        until = manifest.settled_until
        self.settled_until = None if until is None else Window.of_day(until).start
        self.places = lru_cache(maxsize=PLACES)(self._places)

    def settled(self, entity: object) -> SettledRows:
        """Return the rows of an entity in segments."""
        return SettledRows(self.event, self.places(entity))

    def removals(self, entity: object) -> list[Removals]:
        """Return the removals of an entity in segments."""
        found = []
        for span in self._spans:
            part = span.file.removals(entity)
            if part is not None:
                found.append(part if span.is_whole else _within(part, span))
        return found

    def _places(self, entity: object) -> tuple[Place, ...]:
        found = ((span.file, *span.find(entity)) for span in self._spans)
        return tuple(place for place in found if place[1] < place[2])


def _within(removals: Removals, span: Span) -> Removals:
    """Return the removals of some days; hashes of others stay, which only costs time."""
    day = pl.col("event_time").dt.epoch("us") // DAY_US
    in_days = day.is_between(span.first, span.end, closed="left")
    return Removals(removals.id_hash, lambda: removals.read().filter(in_days))


def _spans(file: SegmentFile, days: Collection[date], held_days: int) -> list[Span]:
    """Return runs of adjacent days that a segment answers for."""
    runs = runs_of(days)
    if not runs or len(days) < held_days:
        return [Span(file, first, end, is_whole=False) for first, end in runs]
    return [Span(file, runs[0][0], runs[-1][1], is_whole=True)]
