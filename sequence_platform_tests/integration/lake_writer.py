"""A process that commits days of a lake over and over; tests kill it, or run several at once.

Every build of a day is whole in a way that a reader can check: all its rows name its round, and
how many rows and dead letters there are follows from the round.

Usage: python lake_writer.py CATALOG DATA_PATH SEED ROUNDS DAY...
"""

from __future__ import annotations

import random
import sys
from contextlib import suppress
from datetime import timedelta
from typing import Any

from sequence_platform.errors import ConflictError
from sequence_platform.ports import Committed
from sequence_platform.stores.ducklake import DuckLakeLake
from sequence_platform_tests.conformance.lakes import (
    CLICKS,
    DAY,
    NOON,
    build,
    click,
    clicks,
    correction,
    corrections,
    day_after,
    letters,
)

CORRECTING = 4
"""The day that holds no rows, but corrections of the days before it."""


def rows_of(round_: int) -> int:
    return 50 + round_ % 7


def letters_of(round_: int) -> int:
    return round_ % 3


def partition_of(offset: int, round_: int) -> dict[str, Any]:
    """Return what a day is built from: rows, or corrections that remove rows of all other days."""
    at = NOON + timedelta(days=offset)
    if offset != CORRECTING:
        numbers = range(rows_of(round_))
        rows = clicks(*(click(n, f"{offset}-{n}", at, surface=f"{round_}") for n in numbers))
        return {"frames": [rows[:20], rows[20:]], "dead": letters(*["x"] * letters_of(round_))}
    beaten = random.Random(round_).sample(range(50), 9)
    removals = [
        correction(click(n, f"{other}-{n}", at, revision=1), removes=True)
        for other in range(CORRECTING)
        for n in beaten
    ]
    return {"frames": [], "corrected_by": corrections(*removals)}


def build_day(lake: DuckLakeLake, offset: int, round_: int) -> Committed:
    """Build a day as of a round; again, as a runtime does, if another writer was faster."""
    made = partition_of(offset, round_)
    while True:
        with suppress(ConflictError):
            return build(lake, CLICKS, day_after(offset), inputs=f"{round_}", **made)


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main(catalog: str, data_path: str, seed: str, rounds: str, *offsets: str) -> None:
    choose = random.Random(int(seed))
    with DuckLakeLake(catalog, data_path, threads=1) as lake:
        say("open")
        for _ in range(int(rounds)):
            for offset in choose.sample(offsets, len(offsets)):
                round_ = choose.randrange(1000)
                done = build_day(lake, int(offset), round_)
                corrected = ",".join(f"{(day - DAY).days}" for day in done.corrected)
                say(f"{offset} {done.changed} {corrected}")


if __name__ == "__main__":
    main(*sys.argv[1:])
