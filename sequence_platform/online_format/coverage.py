"""What the segments of a manifest hold of the tail: which streamed rows count beside them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from functools import cached_property, lru_cache
from itertools import groupby
from zlib import crc32

import numpy as np

from sequence_platform.engine.columns import Ints, Mask
from sequence_platform.plan.plan import EventPlan
from sequence_platform.ports.online import LogId, Manifest

DAY_US = 86_400_000_000
EPOCH_DAY = date(1970, 1, 1)
MARK = np.dtype([("log", "<u4"), ("partition", "<u4"), ("offset", "<u8")])
"""The last offset that a flush had read of a partition; a mark is one of each."""


def log_number(log: LogId) -> int:
    """Return a number for a log."""
    return crc32(log.encode())


@lru_cache(maxsize=4096)
def offsets_of(mark: bytes) -> tuple[tuple[tuple[int, int], int], ...]:
    """Return log and partition with the last offset read, of a mark."""
    found = np.frombuffer(mark, dtype=MARK)
    return tuple(((log, partition), offset) for log, partition, offset in found.tolist())


class Coverage:
    """How far logs are in each day of a manifest."""

    def __init__(self, event: EventPlan, manifest: Manifest) -> None:
        self._event = event
        self._days = {
            (day - EPOCH_DAY).days: {
                (log_number(log), partition): offset
                for (log, partition), offset in version.reflected.offsets.items()
            }
            for day, version in manifest.days.items()
        }
        self._newest = max(self._days, default=None)
        self._kept_from = (manifest.kept_from - EPOCH_DAY).days

    def counts(self, time_us: Ints, marks: Iterable[bytes]) -> Mask:
        """Return which streamed rows count beside the segments.

        Args:
            time_us: When each happened, sorted.
            marks: How far the flush of each had read; looked at where segments hold such days.
        """
        day = time_us // DAY_US
        is_kept: Mask = day >= self._kept_from
        if self._newest is None or int(day[0]) > self._newest:
            return is_kept
        places = zip(marks, day.tolist(), strict=True)
        return is_kept & np.fromiter((self._is_new(*place) for place in places), np.bool_, len(day))

    def _is_new(self, mark: bytes, day: int) -> bool:
        """Return whether a flush had read anything that a day does not hold."""
        reflected = self._days.get(day)
        if reflected is None:
            return True
        if self._event.corrects:
            # A correction may hit another day, whose segment does not have it yet.
            reflected = self._reflected_everywhere
        return any(offset >= reflected.get(place, 0) for place, offset in offsets_of(mark))

    @cached_property
    def _reflected_everywhere(self) -> dict[tuple[int, int], int]:
        """How far logs are in every day there is."""
        days = list(self._days.values())
        known = {place for each in days for place in each}
        return {place: min(each.get(place, 0) for each in days) for place in known}


def runs_of(days: Iterable[date]) -> list[tuple[int, int]]:
    """Return runs of adjacent days as numbers since the epoch, ``[first, end)``."""
    numbers = sorted((day - EPOCH_DAY).days for day in days)
    runs = []
    for _, run in groupby(enumerate(numbers), key=lambda pair: pair[1] - pair[0]):
        found = [number for _, number in run]
        runs.append((found[0], found[-1] + 1))
    return runs
