"""One entity's sequence over HTTP."""

from __future__ import annotations

import asyncio
import math
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import httpx
import orjson
import pyarrow as pa
import pytest

from sequence_platform.wiring import open_online
from sequence_platform_tests.served import NOW, ORDER, SETTLED_CLICKS, publish
from sequence_platform_tests.unit.api.conftest import ARROW, Asker, MakeAsker

PATH = "/v1/sequences/feed/7"


def us(day: int, hour: int, minute: int = 0) -> int:
    return int(datetime(2026, 3, day, hour, minute, tzinfo=UTC).timestamp()) * 1_000_000


def test_an_answer_has_columns_and_says_where_it_comes_from(asker: Asker) -> None:
    answer = asker.get(PATH + "?columns=event_id,event_time,pin")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"
    body = answer.json()
    fingerprint = asker.served.plan.sequences["feed"].fingerprint
    assert body == {
        "sequence": "feed",
        "version": 1,
        "fingerprint": fingerprint,
        "entity": 7,
        "as_of": us(2, 12),
        "length": 5,
        "trimmed": {"sessions": 0, "dedupe": 1, "quotas": 0, "max_length": 0},
        "freshness": {
            "click": {
                "manifest": 1,
                "settled_until": us(2, 0),
                "streamed_until": us(2, 11, 59),
                "lag_seconds": 60.0,
            },
            "save": {
                "manifest": 1,
                "settled_until": us(2, 0),
                "streamed_until": None,
                "lag_seconds": None,
            },
        },
        "behind": [],
        "served_at": us(2, 12),
        "columns": {
            "event_id": ORDER,
            "event_time": [us(1, 8), us(1, 9), us(1, 10), us(1, 11), us(2, 9, 1)],
            "pin": [12, 10, 11, 10, 10],
        },
    }


def test_what_is_no_number_and_what_is_not_known_are_null_in_json(asker: Asker) -> None:
    columns = asker.get(PATH + "?columns=score,board,vector").json()["columns"]
    assert columns["score"] == [0.75, 0.5, None, None, 0.25]  # of b NaN, of s null
    assert columns["board"] == [None, None, None, "<b>boards & co</b>", None]
    assert columns["vector"] == [None, [1.0, 2.0], [3.0, 4.0], None, [5.0, 6.0]]


def test_late_and_request_columns_are_left_out_unless_asked_for(asker: Asker) -> None:
    columns = asker.get(PATH).json()["columns"]
    assert list(columns) == [
        *("event_type", "event_time", "event_id", "pin", "score", "board", "gap_s"),
    ]


def test_arrow_has_types_and_the_envelope(asker: Asker) -> None:
    answer = asker.get(PATH + "?columns=event_id,event_time,score,vector", ARROW)
    assert answer.headers["content-type"] == ARROW["accept"]
    table = pa.ipc.open_stream(answer.content).read_all()
    assert table.column_names == ["event_id", "event_time", "score", "vector"]
    assert table.schema.field("event_time").type == pa.timestamp("us", "UTC")
    assert table.schema.field("vector").type == pa.list_(pa.float32(), 2)
    assert table["event_id"].to_pylist() == ORDER
    assert math.isnan(table["score"].to_pylist()[2])
    assert table["score"].to_pylist()[3] is None
    envelope = orjson.loads(table.schema.metadata[b"sequence_platform"])
    assert envelope["length"] == 5
    assert envelope["freshness"]["click"]["lag_seconds"] == 60.0


def test_an_entity_that_nobody_knows_has_no_events(asker: Asker) -> None:
    body = asker.get("/v1/sequences/feed/-99").json()
    assert body["length"] == 0
    assert body["entity"] == -99
    assert body["columns"]["event_id"] == []
    empty = pa.ipc.open_stream(asker.get("/v1/sequences/feed/-99", ARROW).content).read_all()
    assert empty.num_rows == 0


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        ("limit=2", ["s", "d"]),
        ("types=save", ["s"]),
        ("max_age=1d", ["d"]),
        ("max_age=24h", ["d"]),
        ("max_age=86400", ["d"]),
        ("max_age=1530m", ["s", "d"]),
        ("as_of=2026-03-01T10:00:00Z", ["e", "a"]),
        ("as_of=2026-03-01T10:00:00", ["e", "a"]),
        ("as_of=2026-03-01T11:00:00%2B01:00", ["e", "a"]),
        ("as_of=2026-03-01T11:00:00+01:00", ["e", "a"]),  # + as a form decodes it
        (f"as_of={us(1, 10)}", ["e", "a"]),
        ("known_at=2026-03-02T06:00:00Z", ["a", "b", "s"]),  # before anything streamed in
        ("where.pin=11,12", ["e", "b"]),
        ("where.pin=11&where.pin=12", ["e", "b"]),
        ("where.board=%3Cb%3Eboards%20%26%20co%3C/b%3E", ["s"]),
        ("where.score=0.5", ["a"]),
    ],
)
def test_a_query_narrows(asker: Asker, query: str, ids: list[str]) -> None:
    answer = asker.get(f"{PATH}?columns=event_id&{query}")
    assert answer.status_code == 200, answer.text
    assert answer.json()["columns"]["event_id"] == ids


def test_request_columns_are_computed_with_the_context(asker: Asker) -> None:
    path = PATH + "?columns=event_id,is_shown,age_s&context.pin_shown=10&limit=2"
    columns = asker.get(path).json()["columns"]
    assert columns == {"event_id": ["s", "d"], "is_shown": [True, True], "age_s": [90000, 10740]}


@pytest.mark.parametrize("entity", ["Zoë/é 1", "max"])
def test_an_entity_may_be_any_text(asker: Asker, entity: str) -> None:
    body = asker.get(f"/v1/sequences/notes/{quote(entity, safe='')}").json()
    assert body["entity"] == entity
    assert body["length"] == 1


def test_a_stream_that_stands_still_is_told_from_a_quiet_user(make_asker: MakeAsker) -> None:
    asker = make_asker(ready_lag_seconds=30)
    body = asker.get("/v1/sequences/feed/-99").json()
    assert (body["length"], body["behind"]) == (0, ["click"])
    earlier = asker.get("/v1/sequences/feed/-99?as_of=2026-03-02T11:59:00Z").json()
    assert earlier["behind"] == []  # of the time asked for nothing is missing


# ---- what is refused


def facts(answer_text: bytes) -> dict[str, str]:
    error: dict[str, str] = orjson.loads(answer_text)["error"]
    return error


def test_everything_wrong_with_a_query_is_said_at_once(asker: Asker) -> None:
    answer = asker.get(
        PATH + "?colums=a&limit=99999&max_age=soon&types=clik&as_of=x&where.pin=a&where.no=1"
        "&context.foo=1&columns=pni,pni"
    )
    assert answer.status_code == 400
    error = facts(answer.content)
    for part in ("'colums'", "limit 99999", "max_age soon", "event type 'clik'", "as_of x"):
        assert part in error["found"]
    for part in ("where pin a", "a filter on 'no'", "context 'foo'", "column 'pni'"):
        assert part in error["found"]
    assert "close: 'columns'" in error["expected"]
    assert "close: 'pin'" in error["expected"]
    assert error["next"] == "see /v1/definitions/feed"


def test_an_unknown_sequence_is_not_found_and_the_nearest_is_named(asker: Asker) -> None:
    answer = asker.get("/v1/sequences/fed/7")
    assert answer.status_code == 404
    assert facts(answer.content)["expected"] == "close: 'feed'; present: feed, notes"


@pytest.mark.parametrize("entity", ["abc", "1.5", "9" * 30, "", "%00"])
def test_an_entity_that_is_no_integer_is_refused(asker: Asker, entity: str) -> None:
    answer = asker.get(f"/v1/sequences/feed/{entity}")
    assert answer.status_code == 400
    assert "integer" in facts(answer.content)["expected"]


@pytest.mark.parametrize("path", ["/v1/sequences/feed/%ff", PATH + "?columns=%ff"])
def test_what_is_not_utf_8_is_refused(asker: Asker, path: str) -> None:
    answer = asker.get(path)
    assert answer.status_code == 400
    assert "UTF-8" in facts(answer.content)["expected"]


def test_a_parameter_given_twice_is_refused(asker: Asker) -> None:
    assert "'limit' twice" in facts(asker.get(PATH + "?limit=1&limit=2").content)["found"]


def test_more_parameters_than_anybody_needs_are_refused(asker: Asker) -> None:
    assert asker.get(PATH + "?" + "&".join(["types=click"] * 300)).status_code == 400


@pytest.mark.parametrize("time", ["0001-01-01", "9999-12-31", "1969-12-31", "-1", "9" * 20])
def test_times_beyond_reason_are_refused(asker: Asker, time: str) -> None:
    for name in ("as_of", "known_at"):
        assert asker.get(f"{PATH}?{name}={time}").status_code == 400


def test_a_form_that_there_is_not_is_refused(asker: Asker) -> None:
    answer = asker.get(PATH, {"accept": "text/csv"})
    assert answer.status_code == 406
    assert "application/vnd.apache.arrow.stream" in facts(answer.content)["expected"]


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("*/*", "application/json"),
        ("application/vnd.apache.arrow.stream;q=0.5, application/json", "application/json"),
        ("text/html, application/vnd.apache.arrow.stream", ARROW["accept"]),
        ("application/json;q=0, */*;q=0.1", ARROW["accept"]),
    ],
)
def test_the_form_that_is_liked_best_is_given(asker: Asker, accept: str, kind: str) -> None:
    assert asker.get(PATH, {"accept": accept}).headers["content-type"] == kind


def test_an_answer_about_a_time_that_is_forgotten_is_gone(asker: Asker) -> None:
    click = asker.served.plan.events["click"]
    with open_online(asker.served.settings) as store:
        publish(store, click, SETTLED_CLICKS[:1], content="second", published_at=NOW)
        store.collect(click, keep=timedelta(0), at=NOW + timedelta(seconds=1))
    answer = asker.get(PATH + "?known_at=2026-03-01T12:00:00Z")
    assert answer.status_code == 410
    assert "known_at from" in facts(answer.content)["expected"]


def test_addresses_and_methods_that_there_are_not_are_refused(asker: Asker) -> None:
    for path in ("/nope", "/v1/sequences/feed", "/v1/sequences/feed/7/8"):
        assert asker.get(path).status_code == 404
        assert facts(asker.get(path).content)["what"]
    refused = asker.request("DELETE", PATH)
    assert refused.status_code == 405
    assert "GET" in refused.headers["allow"]


def test_head_has_the_headers_of_get(asker: Asker) -> None:
    got, told = asker.get(PATH), asker.request("HEAD", PATH)
    assert told.status_code == 200
    assert told.headers["content-length"] == got.headers["content-length"]


def test_requests_that_come_together_are_answered_or_refused_at_once(make_asker: MakeAsker) -> None:
    asker = make_asker(serve_in_flight=2)

    async def many() -> list[httpx.Response]:
        transport = httpx.ASGITransport(app=asker.application)
        async with httpx.AsyncClient(transport=transport, base_url=asker.url) as client:
            return await asyncio.gather(*(client.get(PATH) for _ in range(6)))

    answers = asyncio.run(many())
    assert sorted(answer.status_code for answer in answers) == [200, 200, 503, 503, 503, 503]
    assert asker.get(PATH).is_success
