"""Streamed rows in Redis: of each entity a sorted set; a member is place, head, mark and row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from zlib import crc32

import numpy as np

from sequence_platform.online_format.coverage import Coverage
from sequence_platform.online_format.packed import Layout
from sequence_platform.online_format.tail import EARLIEST, PLACE, Messages, packed_rows
from sequence_platform.plan.plan import EventPlan
from sequence_platform.ports.online import TailAppend
from sequence_platform.stores.redis_online.connection import Client
from sequence_platform.stores.redis_online.keys import keys
from sequence_platform.stores.redis_online.scripts import DROP
from sequence_platform.stores.redis_online.segments import batched

PLACES = np.dtype([("time", ">u8"), ("flush", ">u8"), ("row", ">u4")])
NUMBERS = 1 << 16
MEMBERS = 1_000
"""Rows added with one command of a script: Lua passes no more than some thousand values."""
TAILS_AT_ONCE = 100


class LayoutRegister:
    """Layouts of an event type's tail, by number.

    Numbers come from the layouts themselves, so that a server that lost its last seconds, or a
    replica that never had them, gives none to another layout.
    """

    def __init__(self, client: Client, event: EventPlan) -> None:
        self.event = event
        self._client = client
        self._key = keys(event).layouts
        self._texts: dict[int, str] = {}
        self._layouts: dict[int, Layout] = {}

    def number(self, layout: Layout) -> int:
        """Return the number of a layout; rows that bear it are to be stored with its ``text``."""
        text = layout.to_json()
        number = crc32(text.encode()) % NUMBERS
        while self._texts.setdefault(number, text) != text:
            number = (number + 1) % NUMBERS
        return number

    def text(self, number: int) -> str:
        """Return a layout as text."""
        return self._texts[number]

    def of(self, messages: Messages) -> Mapping[int, Layout]:
        """Return the layouts of rows."""
        if messages.layouts - self._layouts.keys():
            self.read()
        return self._layouts

    def read(self) -> None:
        """Take over what is stored."""
        for code, text in self._client.hgetall(self._key).items():
            number = int(code)
            self._texts[number] = text.decode()
            self._layouts[number] = Layout.from_json(text.decode(), self.event.schema)


def messages_of(members: Sequence[bytes]) -> Messages | None:
    """Return the rows of a tail, or None if there are none."""
    if not members:
        return None
    places = np.frombuffer(b"".join([member[: PLACE.size] for member in members]), PLACES)
    time_us = (places["time"] - np.uint64(EARLIEST)).astype(np.int64)
    return Messages(time_us, [member[PLACE.size :] for member in members])


def appended_rows(
    append: TailAppend, layouts: LayoutRegister, flush: int
) -> tuple[list[bytes], list[object]]:
    """Return entities, and the arguments of APPEND from its bytes on, but for moves."""
    rows: dict[bytes, list[object]] = {}
    used: dict[int, str] = {}

    def number_of(layout: Layout) -> int:
        number = layouts.number(layout)
        used[number] = layouts.text(number)
        return number

    size = 0
    for entity, place, value in packed_rows(append, number_of, flush):
        member = place + value
        size += len(member)
        (time, *_) = PLACE.unpack(place)
        rows.setdefault(entity, []).extend((time - EARLIEST, member))
    entities: list[bytes] = []
    arguments: list[object] = [size, len(used), *(part for each in used.items() for part in each)]
    for entity, pairs in rows.items():
        for some in batched(pairs, 2 * MEMBERS):
            entities.append(entity)
            arguments += [entity, len(some) // 2, *some]
    return entities, arguments


def drop_covered(client: Client, event: EventPlan, covered: Sequence[Coverage]) -> int:
    """Drop rows that none of some manifests counts; return how many."""
    names = keys(event)
    drop = client.register_script(DROP)
    dropped = 0
    for entities in batched(client.sscan_iter(names.tails, count=TAILS_AT_ONCE), TAILS_AT_ONCE):
        with client.pipeline(transaction=False) as pipe:
            for entity in entities:
                pipe.zrange(names.tail(entity), 0, -1)
            found = pipe.execute()
        tails: list[bytes] = []
        arguments: list[object] = []
        for entity, members in zip(entities, found, strict=True):
            gone = _covered(members, covered)
            for some in batched(gone, MEMBERS):
                tails.append(entity)
                arguments += [entity, len(some), *some]
        if tails:
            every = [names.state, names.tails, *(names.tail(entity) for entity in tails)]
            dropped += int(drop(keys=every, args=arguments))
    return dropped


def _covered(members: Sequence[bytes], covered: Sequence[Coverage]) -> list[bytes]:
    messages = messages_of(members)
    if messages is None:
        return []
    counted = np.logical_or.reduce(
        [each.counts(messages.time_us, messages.marks()) for each in covered]
    )
    return [member for member, counts in zip(members, counted, strict=True) if not counts]
