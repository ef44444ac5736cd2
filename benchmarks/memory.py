"""Peak memory is bounded by a bucket of entities, not by history: 20M events assembled within 2 GB.

The process that builds has its address space left alone and its peak resident memory taken from
the operating system; a quarter of the events, built with the same buckets, shows that the peak
does not follow history.

    python benchmarks/memory.py [--events 20000000]
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from assemble import generate, measure
from rich.console import Console
from rich.table import Table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=20_000_000)
    options = parser.parse_args()
    console = Console()
    table = Table("events", "seconds", "peak MB of the building process")
    for events in (options.events // 4, options.events):
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary) / "lake"
            folder.mkdir()
            generate(folder, events)
            cost = measure("platform", folder, Path(temporary) / "rows")
        table.add_row(f"{events:,}", f"{cost.seconds:.1f}", f"{cost.peak_mb:.0f}")
    console.print(table)
    console.print("goal: 20M events within 2048 MB")


if __name__ == "__main__":
    main()
