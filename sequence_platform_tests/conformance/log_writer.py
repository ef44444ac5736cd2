"""A process that appends numbered messages to a log; tests run several at once, or kill one.

Usage: python log_writer.py jsonl|kafka ADDRESS TOPIC COUNT [NAME]
"""

from __future__ import annotations

import sys
from pathlib import Path

from sequence_platform.settings import Settings
from sequence_platform.wiring import open_log_writer

AT_A_TIME = 10


def main(kind: str, address: str, topic: str, count: str, name: str = "") -> None:
    with open_log_writer(Settings(log=f"{kind}:{address}", home=Path("unused"))) as writer:
        for start in range(0, int(count), AT_A_TIME):
            numbers = range(start, min(start + AT_A_TIME, int(count)))
            writer.append(topic, [f"{name}{number}".encode() for number in numbers])
            sys.stdout.write(f"{numbers[-1]}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
