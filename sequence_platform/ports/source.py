"""Where history comes from: rows of a day, or all of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import polars as pl

from sequence_platform.plan.plan import Window


@dataclass(frozen=True, slots=True, eq=False)
class RawBatch:
    """Some rows of a source.

    Attributes:
        frame: Rows in the raw schema.
        dead: Rows that did not fit it (DEAD_LETTERS).
        source: Where they came from.
    """

    frame: pl.DataFrame
    dead: pl.DataFrame
    source: str = ""


class BatchSource(Protocol):
    """History of an event type, or the rows of an enrichment."""

    def read(self, window: Window | None) -> Iterator[RawBatch]:
        """Yield the rows that belong to a window of one day, or all rows if None.

        Every row of the source belongs to exactly one day: the day of its event_time. A row of a
        ``{day}`` file that is too old or not old enough for the file, or that has no usable time,
        belongs to the day of the file; a row without a usable time of an undated file, to the first
        day in that file. The caller sees these among the rows and judges them; a row that does not
        fit the raw schema comes in ``dead``. Memory is bounded by a batch. Reading twice gives the
        same.

        Raises:
            StoreError: a source is absent, unreadable, truncated, or lacks a column.
        """
        ...
