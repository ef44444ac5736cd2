"""Answering for sequences: one entity on the hot path, many in turns that leave room for others."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from datetime import datetime
from time import perf_counter
from urllib.parse import unquote_to_bytes

from sequence_platform.api.access import ANYBODY
from sequence_platform.api.answers import (
    ARROW,
    answer_arrow,
    answer_json,
    batch_arrow,
    batch_envelope,
    batch_json,
    own_json,
)
from sequence_platform.api.keys import ApiKey
from sequence_platform.api.negotiation import (
    Headers,
    deadline_of,
    ensure_in_time,
    form_of,
    header,
)
from sequence_platform.api.problems import Refused
from sequence_platform.api.query import Asked
from sequence_platform.api.service import Service
from sequence_platform.errors import RequestError
from sequence_platform.runtimes.serving import Answer, Draft, entity_of

PREFIX = "/v1/sequences/"
TURN = 8
"""Entities read before others get a turn: some milliseconds at most."""
Body = tuple[bytes, bytes]
"""Content type and bytes."""


def place_of(raw_path: bytes) -> tuple[str, str] | None:
    """Return the sequence and the entity that an address names, or None if it is another address.

    Raises:
        RequestError: it is no UTF-8.
    """
    parts = raw_path.partition(b"?")[0].split(b"/")
    if len(parts) != 5:  # noqa: PLR2004 - "", v1, sequences, name, entity
        return None
    try:
        return unquote_to_bytes(parts[3]).decode(), unquote_to_bytes(parts[4]).decode()
    except UnicodeDecodeError as error:
        raise RequestError("the address is no text", expected="UTF-8, percent-encoded") from error


async def answer_one(
    service: Service, name: str, entity_text: str, query_text: bytes, headers: Headers
) -> Body:
    """Return the answer for one entity. It is read at once: that takes less than to wait for.

    Only what a store across a network looks up is waited for.
    """
    started = perf_counter()
    key = service.access.admit(headers, name)
    sequence = service.reader.sequence(name)
    form = form_of(header(headers, b"accept"))
    entity = entity_of(sequence, entity_text)
    query = service.parser.of_text(sequence, query_text)
    draft = service.reader.draft(name, entity, query)
    answer = next(await _looked_up(service, [draft])) if draft.looks_up else draft.answer()
    now = service.clock.now()
    encode = answer_arrow if form == ARROW else answer_json
    body = encode(answer, service.lateness, now)
    service.metrics.returned("get", name, answer.length)
    if service.log.is_drawn():
        asked = {"entity": entity, "query": query_text.decode("latin-1")}
        service.log.note(now, key.name, name, asked, perf_counter() - started)
    return form, body


async def answer_many(
    service: Service, name: str, body: bytes, headers: Headers, key: ApiKey = ANYBODY
) -> Body:
    """Return the answers for the entities of a body, in their order."""
    started = perf_counter()
    sequence = service.reader.sequence(name)
    form = form_of(header(headers, b"accept"))
    deadline = deadline_of(headers)
    asked = service.parser.of_body(sequence, body)
    batch = await _read_in_turns(service, name, asked, deadline, is_json=form != ARROW)
    now = service.clock.now()
    encoded = batch.encoded(service, now)
    service.metrics.returned("batch_get", name, batch.events)
    if service.log.is_drawn():
        entities = [entity for entity, _ in asked.each]
        noted: dict[str, object] = {"entities": entities}
        if service.options.logs_entities:  # entities stand in the query too
            noted["query"] = body[:10_000].decode(errors="replace")
        service.log.note(now, key.name, name, noted, perf_counter() - started)
    return form, encoded


async def _looked_up(service: Service, drafts: Sequence[Draft]) -> Iterator[Answer]:
    """Look up what drafts need, while others have their turn, and return their answers."""
    together = service.reader.look_up(drafts)
    for each in together.pending:
        if not each.result.done():
            with suppress(TimeoutError):
                await asyncio.wait_for(asyncio.wrap_future(each.result), each.seconds_left)
    return together.answers()


@dataclass(slots=True)
class _Batch:
    """Answers as they come; those for JSON are encoded at once, while others wait for their turn.

    Attributes:
        first: Has what all share.
    """

    is_json: bool
    first: Answer | None = None
    answers: list[Answer] = field(default_factory=list)
    texts: list[bytes] = field(default_factory=list)
    events: int = 0

    def add(self, answer: Answer) -> None:
        self.first = self.first or answer
        self.events += answer.length
        if self.is_json:
            self.texts.append(own_json(answer))
        else:
            self.answers.append(answer)

    def encoded(self, service: Service, now: datetime) -> bytes:
        if not self.is_json:
            return batch_arrow(self.answers, service.lateness, now)
        assert self.first is not None  # noqa: S101 - a batch without entities is refused
        return batch_json(batch_envelope(self.first, service.lateness, now), self.texts)


async def _read_in_turns(
    service: Service, name: str, asked: Asked, deadline: float | None, *, is_json: bool
) -> _Batch:
    batch = _Batch(is_json)
    looking: list[Draft] = []
    turns = service.reader.draft_in_turn(name, asked.each, asked.shared.known_at)
    with closing(turns):
        for number, draft in enumerate(turns, 1):
            if draft.looks_up:
                looking.append(draft)
            else:
                batch.add(draft.answer())
            await _let_others(number, deadline)
    # All of a batch ask for the same columns, so that all of them look up, or none.
    for number, answer in enumerate(await _looked_up(service, looking) if looking else (), 1):
        batch.add(answer)
        await _let_others(number, deadline)
    ensure_in_time(deadline)
    return batch


async def _let_others(number: int, deadline: float | None) -> None:
    """After every few entities give others their turn, and see whether there is still time."""
    if number % TURN == 0:
        await asyncio.sleep(0)
        ensure_in_time(deadline)


class Room:
    """How many requests a worker answers at once: more would only wait, and time out together."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._taken = 0

    def __enter__(self) -> None:
        if self._taken >= self._most:
            raise Refused(
                503,
                "this worker has enough to do",
                found=f"{self._taken} requests",
                expected=f"up to {self._most} at once",
                next_step="try again, or add workers",
                retry_after=1.0,
            )
        self._taken += 1

    def __exit__(self, *_: object) -> None:
        self._taken -= 1
