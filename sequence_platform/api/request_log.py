"""A sample of requests as lines of JSON, for audits and for replaying what was asked.

Entities are hashed unless it is said otherwise. That hides them from eyes, not from somebody who
hashes all the entities there are.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b

import orjson


def write_line(line: bytes) -> None:
    """Write a line to standard output, at once: workers share it."""
    sys.stdout.buffer.write(line)
    sys.stdout.buffer.flush()


@dataclass(frozen=True, slots=True)
class RequestLog:
    """Writes lines.

    Attributes:
        rate: Share of requests, 0 to 1.
        names_entities: Whether entities stand in it as they are.
        write: Takes a line.
        draw: A number of [0, 1).
    """

    rate: float = 0.0
    names_entities: bool = False
    write: Callable[[bytes], None] = write_line
    draw: Callable[[], float] = random.random

    def is_drawn(self) -> bool:
        """Return whether this request is one of the sample."""
        return self.rate > 0 and self.draw() < self.rate

    def note(
        self,
        at: datetime,
        key: str,
        sequence: str,
        asked: dict[str, object],
        seconds: float,
    ) -> None:
        """Write a request; ``asked`` has ``entity`` or ``entities``, and the query."""
        shown = {name: self._shown(name, value) for name, value in asked.items()}
        line = {
            "time": at.isoformat(),
            "key": key,
            "sequence": sequence,
            **shown,
            "latency_us": round(seconds * 1e6),
        }
        self.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))

    def _shown(self, name: str, value: object) -> object:
        if self.names_entities or name not in {"entity", "entities"}:
            return value
        if isinstance(value, list):
            return [_hash(each) for each in value]
        return _hash(value)


def _hash(entity: object) -> str:
    return blake2b(str(entity).encode(errors="replace"), digest_size=8).hexdigest()
