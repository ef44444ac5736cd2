"""A process that commits days of a lake over and over; tests kill it, or run several at once.

Every build of a day is whole in a way that a reader can check: all its rows name its round, and
how many rows and dead letters there are follows from the round.

Usage: python lake_writer.py CATALOG DATA_PATH SEED ROUNDS DAY...
"""

from __future__ import annotations

import random
import sys
from datetime import timedelta

from sequence_platform.errors import ConflictError
from sequence_platform.stores.ducklake import DuckLakeLake
from sequence_platform_tests.conformance.lakes import (
    CLICKS,
    NOON,
    build,
    click,
    clicks,
    day_after,
    letters,
)


def rows_of(round_: int) -> int:
    return 50 + round_ % 7


def letters_of(round_: int) -> int:
    return round_ % 3


def build_day(lake: DuckLakeLake, offset: int, round_: int) -> bool:
    """Build a day as of a round; again, as a runtime does, if another writer was faster."""
    day, at = day_after(offset), NOON + timedelta(days=offset)
    rows = clicks(
        *(click(n, f"{offset}-{n}", at, surface=f"{round_}") for n in range(rows_of(round_)))
    )
    dead = letters(*["x"] * letters_of(round_))
    while True:
        try:
            return build(
                lake, CLICKS, day, [rows[:20], rows[20:]], dead=dead, inputs=f"{round_}"
            ).changed
        except ConflictError:
            continue


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
                changed = build_day(lake, int(offset), round_)
                say(f"committed {offset} {round_} {changed}")


if __name__ == "__main__":
    main(*sys.argv[1:])
