"""The client against the real application."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import httpx
import numpy as np
import polars as pl
import pytest

from sequence_platform.client import AsyncClient, Entity
from sequence_platform.errors import RequestError, StoreError, UnknownNameError
from sequence_platform_tests.served import ORDER
from sequence_platform_tests.unit.api.conftest import Asker

T = TypeVar("T")
TEN = datetime(2026, 3, 1, 10, tzinfo=UTC)


def ask(asker: Asker, call: Callable[[AsyncClient], Awaitable[T]]) -> T:
    async def run() -> T:
        transport = httpx.ASGITransport(app=asker.application)
        async with AsyncClient(asker.url, transport=transport) as client:
            return await call(client)

    return asyncio.run(run())


def test_a_sequence_is_a_frame(asker: Asker) -> None:
    answer = ask(asker, lambda c: c.sequences.get("feed", 7, columns=["event_id", "vector"]))
    assert answer.frame.schema == {"event_id": pl.String(), "vector": pl.Array(pl.Float32, 2)}
    assert answer.frame["event_id"].to_list() == ORDER
    assert answer.entity == 7
    assert answer.behind == ()
    assert answer.envelope["trimmed"]["dedupe"] == 1


def test_every_part_of_a_query_can_be_asked(asker: Asker) -> None:
    async def calls(client: AsyncClient) -> list[list[str]]:
        queries = [
            await client.sequences.get("feed", 7, limit=2),
            await client.sequences.get("feed", 7, types=["save"]),
            await client.sequences.get("feed", 7, max_age=timedelta(days=1)),
            await client.sequences.get("feed", 7, max_age="1d"),
            await client.sequences.get("feed", 7, as_of=TEN),
            await client.sequences.get("feed", 7, as_of=TEN.replace(tzinfo=None)),
            await client.sequences.get("feed", 7, where={"pin": [11, 12]}),
            await client.sequences.get("feed", 7, where={"board": ["a,b", "<b>boards & co</b>"]}),
            await client.sequences.get("feed", 7, where={"pin": []}),
            await client.sequences.get("feed", np.int64(8)),
        ]
        return [answer.frame["event_id"].to_list() for answer in queries]

    assert ask(asker, calls) == [
        *(["s", "d"], ["s"], ["d"], ["d"], ["e", "a"], ["e", "a"], ["e", "b"], ["s"], [], ["x"])
    ]


def test_request_columns_get_their_context(asker: Asker) -> None:
    answer = ask(
        asker,
        lambda c: c.sequences.get("feed", 8, columns=["is_shown"], context={"pin_shown": 10}),
    )
    assert answer.frame["is_shown"].to_list() == [True]


@pytest.mark.parametrize("entity", ["Zoë/é 1", ".", "..", "a?b#c", ""])
def test_an_entity_may_be_any_text(asker: Asker, entity: str) -> None:
    answer = ask(asker, lambda c: c.sequences.get("notes", entity))
    assert answer.entity == entity
    assert answer.frame.height == (entity == "Zoë/é 1")


def test_a_batch_is_an_answer_an_entity(asker: Asker) -> None:
    entities = [8, np.int64(99), Entity(7, context={"pin_shown": 12}, where={"pin": [12]})]
    answers = ask(
        asker, lambda c: c.sequences.batch_get("feed", entities, columns=["event_id", "is_shown"])
    )
    assert [answer.entity for answer in answers] == [8, 99, 7]
    assert [answer.frame.rows() for answer in answers] == [[("x", None)], [], [("e", True)]]
    assert answers[2].envelope["sequence"] == "feed"


def test_definitions_are_read(asker: Asker) -> None:
    assert ask(asker, lambda c: c.definitions())["sequences"][0]["name"] == "feed"
    assert ask(asker, lambda c: c.definitions("feed"))["trim"]["max_length"] == 10


def test_errors_have_the_facts_of_the_server(asker: Asker) -> None:
    with pytest.raises(UnknownNameError) as unknown:
        ask(asker, lambda c: c.sequences.get("fed", 7))
    assert unknown.value.expected == "close: 'feed'; present: feed, notes"
    with pytest.raises(RequestError, match="cannot be read so") as wrong:
        ask(asker, lambda c: c.sequences.get("feed", 7, limit=0))
    assert wrong.value.found == "limit 0"
    assert wrong.value.next_step == "see /v1/definitions/feed"


class Replies(httpx.AsyncBaseTransport):
    """A server that fails for a while: what a network does, by hand."""

    def __init__(self, *replies: httpx.Response | Exception) -> None:
        self.replies = list(replies)
        self.asked = 0

    async def handle_async_request(self, _: httpx.Request) -> httpx.Response:
        self.asked += 1
        reply = self.replies.pop(0)
        if isinstance(reply, Exception):
            raise reply
        return reply


def busy(status: int = 503, retry_after: str = "") -> httpx.Response:
    headers = {"retry-after": retry_after} if retry_after else {}
    return httpx.Response(status, headers=headers, json={"error": {"what": "busy"}})


def definitions_through(transport: Replies) -> object:
    async def run() -> object:
        async with AsyncClient("http://server", transport=transport) as client:
            return await client.definitions()

    return asyncio.run(run())


def test_what_failed_on_the_way_is_asked_again() -> None:
    good = httpx.Response(200, json={"sequences": []})
    transport = Replies(httpx.ConnectError("refused"), busy(), busy(429), good)
    assert definitions_through(transport) == {"sequences": []}
    assert transport.asked == 4


def test_a_server_is_given_the_time_it_asks_for() -> None:
    good = httpx.Response(200, json={})
    transport = Replies(busy(retry_after="1"), good)
    begin = datetime.now(UTC)
    definitions_through(transport)
    assert datetime.now(UTC) - begin >= timedelta(seconds=1)


def test_one_that_wants_too_much_patience_is_given_up() -> None:
    transport = Replies(busy(429, retry_after="3600"))
    with pytest.raises(StoreError, match="busy"):
        definitions_through(transport)
    assert transport.asked == 1


def test_in_the_end_the_error_says_where_it_was_tried() -> None:
    transport = Replies(*[httpx.ConnectError("refused") for _ in range(9)])
    with pytest.raises(StoreError, match="cannot be reached") as failed:
        definitions_through(transport)
    assert failed.value.where == "http://server/v1/definitions"
    assert "refused" in failed.value.found
    assert failed.value.retryable
    assert transport.asked == 4


def test_a_server_of_another_kind_is_named_so() -> None:
    with pytest.raises(StoreError, match="did not answer as one of ours"):
        definitions_through(Replies(httpx.Response(500, text="<html>")))
