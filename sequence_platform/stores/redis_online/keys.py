"""Names of keys. All of an event type have one hash tag: what must change at once is on one node.

So one event type lives on one node of a cluster; several event types spread over several.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import lru_cache

from sequence_platform.plan.plan import EventPlan

TABLES = b"sequence_platform:tables"
"""A set: tables that have keys."""


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of an event type.

    Attributes:
        prefix: What they all begin with.
        state: A hash: number of the live manifest, floor, until, last segment, rows, bytes.
        manifests: A hash: JSON by number.
        activated: A sorted set: numbers of manifests by when they were activated.
        segments: A hash: how each was written, by number.
        layouts: A list: how rows of the tail are packed.
        next: A hash: the offset to read next, by place of the log.
        offsets: A hash: the same with all that is known of it, as JSON.
        until: A hash: before when all can be read, by place.
        flushes: A hash: which flush was the last, by place.
        tails: A set: keys of entities that have a tail.
    """

    prefix: bytes
    state: bytes
    manifests: bytes
    activated: bytes
    segments: bytes
    layouts: bytes
    next: bytes
    offsets: bytes
    until: bytes
    flushes: bytes
    tails: bytes

    def tail(self, entity: bytes) -> bytes:
        """Return the key of an entity's streamed rows, a sorted set by time."""
        return self.prefix + b"t:" + entity

    def settled(self, entity: bytes) -> bytes:
        """Return the key of an entity's rows in segments, a hash of chunks."""
        return self.prefix + b"s:" + entity

    def members(self, segment: str) -> bytes:
        """Return the key of the entities of a segment, a list of their keys, many in one."""
        return self.prefix + b"m:" + segment.encode()


@lru_cache(maxsize=4096)
def keys_of(table: str) -> Keys:
    """Return the keys of an event type's table."""
    prefix = b"sequence_platform:{" + table.encode() + b"}:"
    names = [field.name for field in fields(Keys)[1:]]
    return Keys(prefix, *(prefix + name.encode() for name in names))


def keys(event: EventPlan) -> Keys:
    """Return the keys of an event type."""
    return keys_of(event.table)
