"""Finds the rows that make an expression fail: one bad row costs itself and not its batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

import polars as pl

from sequence_platform.errors import FrameSchemaError

T = TypeVar("T")

MAX_FAILED_ROWS = 10_000
"""Of one batch. Past this the definition is wrong, not the data; finding each would take long."""


def isolate(
    frame: pl.DataFrame, evaluate: Callable[[pl.DataFrame], T]
) -> Iterator[tuple[int, T | str]]:
    """Yield (first row, result) of stretches that evaluate, (row, why) of rows that do not.

    In order. Costs one evaluation when nothing fails; halves what fails otherwise.

    Raises:
        FrameSchemaError: more than MAX_FAILED_ROWS rows fail.
    """
    failed = 0
    stretches = [(0, frame)]
    while stretches:
        first, part = stretches.pop()
        try:
            yield first, evaluate(part)
        except pl.exceptions.PolarsError as error:
            if part.height > 1:
                half = part.height // 2
                stretches += [(first + half, part.slice(half)), (first, part.head(half))]
                continue
            if part.is_empty():
                raise
            failed += 1
            if failed > MAX_FAILED_ROWS:
                raise FrameSchemaError(
                    "an expression fails on row after row",
                    found=f"more than {MAX_FAILED_ROWS} failures; {_reason(error)}",
                    expected="an expression that suits the data",
                    next_step="mend it, or make it forgiving (strict=False) and filter nulls",
                ) from error
            yield first, _reason(error)


def _reason(error: Exception) -> str:
    return str(error).split("\n", 1)[0]
