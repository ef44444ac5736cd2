"""A process that streams into a lake append by append; tests kill it, or run several at once.

Every append is whole in a way that a reader can check: it brings three messages, of which two are
rows and one is a dead letter, and moves the offset by three.

Usage: python lake_appender.py CATALOG DATA_PATH PARTITION APPENDS
"""

from __future__ import annotations

import random
import sys
import time
from contextlib import suppress

from sequence_platform.errors import ConflictError
from sequence_platform.stores.ducklake import DuckLakeLake
from sequence_platform_tests.conformance.appends import RAW, Stream, dead, letter, move
from sequence_platform_tests.conformance.lakes import CLICKS, NOON, click
from sequence_platform_tests.integration.lake_writer import say

PAUSE_SECONDS = 0.2
"""At most between two appends. Without one, who lost to another writer lost to it for ever."""


def append_next(stream: Stream, partition: int) -> int:
    """Append the next three messages; again, as the sink does, if another writer was faster."""
    stored = {at: offset for _, at, _, offset in stream.offsets()}
    start = stored.get(partition)
    first = start or 0
    rows = [click(first + n, f"{partition}-{first + n}", NOON) for n in range(2)]
    while True:
        with suppress(ConflictError):
            stream.append(
                stream.gain(*rows, first_offset=first),
                moves=[move(start, first + 3, partition)],
                letters=dead(letter(first + 2, partition=partition)),
            )
            return first + 3


def main(catalog: str, data_path: str, partition: str, appends: str) -> None:
    with DuckLakeLake(catalog, data_path, threads=1) as lake:
        say("open")
        stream = Stream(lake, RAW, CLICKS)
        for _ in range(int(appends)):
            say(f"{append_next(stream, int(partition))}")
            time.sleep(random.uniform(0, PAUSE_SECONDS))


if __name__ == "__main__":
    main(*sys.argv[1:])
