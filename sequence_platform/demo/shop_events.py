"""Generates a shop's events, product attributes and product vectors as Parquet files; seeded.

It replaces what it wrote before and refuses a folder that holds anything else.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl

from sequence_platform.demo import LAST_DAY
from sequence_platform.demo.shop_behaviour import behave
from sequence_platform.demo.shop_catalogue import make_catalogue
from sequence_platform.demo.shop_defects import Deliveries, deliver
from sequence_platform.demo.shop_labels import recommendations
from sequence_platform.errors import StoreError, listed

Progress = Callable[[int, int], None]
"""Called with what is done and what there is to do."""

MARKER = "generated.json"
"""Says that a folder's content was generated, and may be replaced."""


@dataclass(frozen=True, slots=True)
class ShopReport:
    """What was generated.

    Attributes:
        rows: Rows written, by event type and enrichment.
        defects: Rows that something was done to, by what was done; a few of them land after the
            last day and are in no file.
    """

    folder: Path
    first_day: date
    last_day: date
    rows: Mapping[str, int]
    defects: Mapping[str, int]
    files: int
    bytes: int


def generate_shop(  # noqa: PLR0913 - the size of a shop
    folder: Path,
    *,
    days: int = 30,
    end: date = LAST_DAY,
    events: int = 1_000_000,
    users: int = 20_000,
    products: int = 5_000,
    seed: int = 7,
    progress: Progress | None = None,
) -> ShopReport:
    """Write a shop into ``folder``; equal arguments give equal data.

    ``<event type>/day=YYYY-MM-DD/part-0.parquet`` holds what landed on a day: rows of the day, and
    rows of the day before that came late or again. What would land after the last day is left
    out, as if the files were copied that midnight. ``product_attributes/``, ``product_vectors/``
    and ``recommendations/`` (labels for training) hold a file each.

    Args:
        folder: Made if absent.
        days: How many, up to and including ``end``.
        end: The last day.
        events: About how many, of all event types together.
        users: How many there are; some may never come.
        products: How many the shop sells.
        seed: Another seed is another shop.
        progress: Told how many days are written, and of how many.

    Raises:
        StoreError: the folder holds other files, or cannot be written.
    """
    rng = np.random.default_rng(seed)
    first = end - timedelta(days=days - 1)
    start = datetime(first.year, first.month, first.day, tzinfo=UTC)
    catalogue = make_catalogue(products, start=start, days=days, rng=rng)
    clean = behave(catalogue, start=start, days=days, events=events, users=users, rng=rng)
    deliveries = Deliveries(rng, first)
    tables = deliver(clean, deliveries)
    whole = {
        "product_attributes": catalogue.attributes,
        "product_vectors": catalogue.vectors,
        "recommendations": recommendations(clean.views, seed),
    }
    try:
        _prepare(folder, [*tables, *whole])
        rows = {
            name: _write(frame, folder / name / "part-0.parquet") for name, frame in whole.items()
        }
        rows |= _write_days(
            tables, folder, [first + timedelta(days=n) for n in range(days)], progress
        )
        (folder / MARKER).write_text(json.dumps({"seed": seed, "rows": rows}, indent=2) + "\n")
    except OSError as error:
        raise StoreError(
            "the shop cannot be written",
            where=str(folder),
            found=str(error),
            expected="a folder on a disk with room for it",
            next_step="free space or choose another folder, then generate again",
        ) from error
    files = list(folder.rglob("*.parquet"))
    size = sum(file.stat().st_size for file in files)
    return ShopReport(folder, first, end, rows, dict(deliveries.counts), len(files), size)


def _prepare(folder: Path, names: list[str]) -> None:
    """Remove what an earlier run wrote, and nothing else."""
    present = {item.name for item in folder.iterdir()} if folder.exists() else set()
    if present and MARKER not in present:
        raise StoreError(
            "the folder is not empty and was not generated",
            where=str(folder),
            found=listed(sorted(present)),
            expected=f"an empty folder, or one with {MARKER} in it",
            next_step="choose another folder, or empty this one",
        )
    folder.mkdir(parents=True, exist_ok=True)
    # The marker comes first: what a run leaves that dies half-way, the next one may replace.
    (folder / MARKER).write_text("{}\n")
    for name in names:
        shutil.rmtree(folder / name, ignore_errors=True)


def _write_days(
    tables: Mapping[str, pl.DataFrame], folder: Path, days: list[date], progress: Progress | None
) -> dict[str, int]:
    by_day = {name: _by_day(frame, days) for name, frame in tables.items()}
    rows = dict.fromkeys(tables, 0)
    for done, day in enumerate(days, 1):
        for name, frames in by_day.items():
            rows[name] += _write(frames[day], folder / name / f"day={day}" / "part-0.parquet")
        if progress:
            progress(done, len(days))
    return rows


def _by_day(frame: pl.DataFrame, days: list[date]) -> dict[date, pl.DataFrame]:
    """Return the rows of each day's file, in the order in which they landed."""
    until = datetime(days[-1].year, days[-1].month, days[-1].day, tzinfo=UTC) + timedelta(days=1)
    there = frame.filter(pl.col("landed") < until, pl.col("folder") <= days[-1])
    parts = there.sort("landed", maintain_order=True).partition_by(
        "folder", as_dict=True, include_key=True
    )
    empty = frame.clear()
    return {day: parts.get((day,), empty).drop("landed", "folder") for day in days}


def _write(frame: pl.DataFrame, path: Path) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    frame.write_parquet(path)
    return frame.height
