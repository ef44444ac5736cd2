"""Sequences of many entities in one request."""

from __future__ import annotations

import asyncio

import httpx
import orjson
import pyarrow as pa
import pytest

from sequence_platform.api.sequences import TURN
from sequence_platform_tests.served import ORDER
from sequence_platform_tests.unit.api.conftest import ARROW, Asker, MakeAsker

PATH = "/v1/sequences/feed:batchGet"


def test_answers_stand_in_the_order_of_entities(asker: Asker) -> None:
    answer = asker.batch({"entities": [8, 7, 99, 7], "columns": ["event_id"], "limit": 2})
    assert answer.status_code == 200
    body = answer.json()
    assert [each["entity"] for each in body["answers"]] == [8, 7, 99, 7]
    found = [each["columns"]["event_id"] for each in body["answers"]]
    assert found == [["x"], ["s", "d"], [], ["s", "d"]]
    assert body["answers"][1]["trimmed"]["max_length"] == 3
    assert body["freshness"]["click"]["manifest"] == 1
    assert body["sequence"] == "feed"


def test_each_entity_may_bring_its_own_context_and_filter(asker: Asker) -> None:
    body = asker.batch(
        {
            "columns": ["event_id", "is_shown"],
            "context": {"pin_shown": 10},
            "entities": [
                7,
                {"entity": 7, "context": {"pin_shown": 12}},
                {"entity": 7, "where": {"pin": [11, 12]}},
                {"entity": "8"},
            ],
        }
    ).json()
    columns = [each["columns"] for each in body["answers"]]
    assert columns[0] == {"event_id": ORDER, "is_shown": [False, True, False, True, True]}
    assert columns[1] == {"event_id": ORDER, "is_shown": [True, False, False, False, False]}
    assert columns[2] == {"event_id": ["e", "b"], "is_shown": [False, False]}
    assert columns[3] == {"event_id": ["x"], "is_shown": [True]}


def test_arrow_has_a_row_an_event_and_says_the_lengths(asker: Asker) -> None:
    answer = asker.batch({"entities": [8, 99, 7], "columns": ["event_id", "vector"]}, headers=ARROW)
    table = pa.ipc.open_stream(answer.content).read_all()
    assert table.column_names == ["entity", "event_id", "vector"]
    assert table["entity"].to_pylist() == [8, 7, 7, 7, 7, 7]
    assert table["event_id"].to_pylist() == ["x", *ORDER]
    assert table["vector"].to_pylist()[5] == [5.0, 6.0]
    envelope = orjson.loads(table.schema.metadata[b"sequence_platform"])
    assert [each["length"] for each in envelope["answers"]] == [1, 0, 5]


def test_text_entities_are_taken_as_they_are(asker: Asker) -> None:
    body = asker.batch({"entities": ["Zoë/é 1", "", "nobody"]}, name="notes").json()
    assert [each["length"] for each in body["answers"]] == [1, 0, 0]


def test_times_and_durations_may_be_numbers(asker: Asker) -> None:
    body = asker.batch(
        {"entities": [7], "columns": ["event_id"], "max_age": 86400, "as_of": 1772445600000000}
    ).json()
    assert body["answers"][0]["columns"]["event_id"] == ["b", "s", "d"]


def test_everything_wrong_with_a_body_is_said_at_once(asker: Asker) -> None:
    answer = asker.batch(
        {
            "colums": ["pin"],
            "limit": "many",
            "entities": [7, "x", True, {"id": 1}, {"entity": 8, "where": {"pin": ["a"]}}],
            "context": {"foo": 1},
        }
    )
    assert answer.status_code == 400
    error = answer.json()["error"]
    for part in ("field 'colums'", "limit many", "entities[1] x", "entities[2] True"):
        assert part in error["found"]
    for part in ("entities[3]", "entities[4]: where pin a", "context 'foo'"):
        assert part in error["found"]


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"1", b'"\\ud800"', b"\xff", b'{"entities": []}', b"{}"]
)
def test_a_body_that_is_no_query_is_refused(asker: Asker, body: bytes) -> None:
    answer = asker.request("POST", PATH, content=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["expected"]


def test_a_body_that_is_too_long_is_refused_unread(make_asker: MakeAsker) -> None:
    asker = make_asker(serve_body_bytes=1000)
    answer = asker.batch({"entities": [7] * 800})
    assert answer.status_code == 413
    assert "up to 1000" in answer.json()["error"]["expected"]

    async def parts() -> object:
        for _ in range(100):
            yield b" " * 100

    streamed = asker.request("POST", PATH, content=parts())
    assert streamed.status_code == 413


def test_more_entities_than_one_request_may_name_are_refused(asker: Asker) -> None:
    answer = asker.batch({"entities": list(range(1001))})
    assert answer.status_code == 400
    assert "1 to 1000" in answer.json()["error"]["expected"]


@pytest.mark.parametrize(
    "headers",
    [
        {"content-type": "text/xml"},
        {"content-type": "application/json", "content-encoding": "gzip"},
    ],
)
def test_a_body_of_another_kind_is_refused(asker: Asker, headers: dict[str, str]) -> None:
    assert asker.request("POST", PATH, headers, content=b"{}").status_code == 415


def test_an_answer_that_comes_too_late_is_not_computed_to_its_end(asker: Asker) -> None:
    body = {"entities": [7] * 1000}
    answer = asker.batch(body, headers={"x-request-timeout-ms": "1"})
    assert answer.status_code == 504
    assert asker.batch({"entities": [7]}, headers={"x-request-timeout-ms": "60000"}).is_success
    assert asker.batch(body, headers={"x-request-timeout-ms": "soon"}).status_code == 400


def test_others_are_answered_while_a_long_batch_is_read(asker: Asker) -> None:
    async def both() -> list[str]:
        transport = httpx.ASGITransport(app=asker.application)
        order: list[str] = []
        async with httpx.AsyncClient(transport=transport, base_url=asker.url) as client:

            async def long() -> None:
                await client.post(PATH, json={"entities": [7] * (TURN * 10)})
                order.append("long")

            async def short() -> None:
                await asyncio.sleep(0)
                await client.get("/v1/sequences/feed/8")
                order.append("short")

            await asyncio.gather(long(), short())
        return order

    assert asyncio.run(both()) == ["short", "long"]


def test_a_worker_that_has_enough_to_do_says_when_to_come_again(make_asker: MakeAsker) -> None:
    asker = make_asker(serve_in_flight=2)

    async def many() -> list[httpx.Response]:
        transport = httpx.ASGITransport(app=asker.application)
        async with httpx.AsyncClient(transport=transport, base_url=asker.url) as client:
            body = {"entities": [7] * (TURN * 4)}
            return await asyncio.gather(*(client.post(PATH, json=body) for _ in range(6)))

    answers = asyncio.run(many())
    assert sorted(answer.status_code for answer in answers) == [200, 200, 503, 503, 503, 503]
    refused = next(answer for answer in answers if answer.status_code == 503)
    assert refused.headers["retry-after"] == "1"
    assert asker.counter("rejected_total", reason="overload") == 4
    assert asker.batch({"entities": [7]}).is_success
