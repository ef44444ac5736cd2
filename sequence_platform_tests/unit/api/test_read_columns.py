"""Columns that are looked up by key when a sequence is asked for, over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from threading import Event
from time import monotonic

import httpx
import orjson
import polars as pl
import pyarrow as pa
import pytest

from sequence_platform.api.app import Application
from sequence_platform.api.service import Options, build_service
from sequence_platform.clock import FixedClock
from sequence_platform.engine.columns import Column
from sequence_platform.errors import StoreError
from sequence_platform.plan.plan import EnrichmentPlan
from sequence_platform.ports.values import Found, ValueReader
from sequence_platform.runtimes.serving.lookups import THREADS
from sequence_platform.stores.local_online import LocalValueStore
from sequence_platform.wiring import open_online
from sequence_platform_tests.served import DEFINITIONS, NOW, Served, at, make_served
from sequence_platform_tests.unit.api.conftest import ARROW, Asker

ENRICHMENTS = """
from sequence_platform import Enrichment

prices = Enrichment(
    name="prices", owner="team:pins", key="pin", resolve="read",
    deadline=timedelta(seconds=0.5),
    schema={"pin": pl.Int64, "since": pl.Datetime("us", "UTC"), "price": pl.Float64,
            "label": pl.String},
    source=Files("prices.parquet"), available_time="since", columns=["price", "label"])

stocks = Enrichment(
    name="stocks", owner="team:pins", key="pin", resolve="read", on_timeout="fail",
    deadline=timedelta(seconds=0.5), schema={"pin": pl.Int64, "stock": pl.Int32},
    source=Files("stocks.parquet"), columns=["stock"])

levels = Enrichment(
    name="levels", owner="team:pins", key="user", resolve="read",
    deadline=timedelta(seconds=10),
    schema={"user": pl.Int64, "level": pl.String}, source=Files("levels.parquet"),
    columns=["level"])

click = """
PROJECT = (
    DEFINITIONS.replace("\nclick = ", ENRICHMENTS, 1)
    .replace(
        'log=Log("clicks"),', 'log=Log("clicks"), enrich=[prices, stocks, levels.by("entity")],'
    )
    .replace('"vector"],', '"vector", "price", "label", "stock", "level"],', 1)
    .replace('request={"age_s"', 'request={"is_dear": pl.col("price") > 1.5, "age_s"')
)
PRICES = [
    (10, at(1, 0), 1.0, "old"),
    (10, at(2, 10), 2.0, "new"),
    (10, at(3, 0), 3.0, "of tomorrow"),
    (11, at(1, 0), None, "é"),
]
STOCKS = [(10, 5), (11, 0)]
LEVELS = [(7, "gold")]
ORDER = ["e", "a", "b", "s", "d"]
"""Their pins are 12, 10, 11, 10 and 10; s is a save, of which nothing is looked up."""
PATH = "/v1/sequences/feed/7?columns="


@dataclass(slots=True)
class Slow:
    """A store that takes its time, as one across a network may."""

    values: ValueReader
    seconds: dict[str, float] = field(default_factory=dict)
    broken: set[str] = field(default_factory=set)
    asked: list[tuple[str, int]] = field(default_factory=list)
    is_near: bool = False
    _ends: Event = field(default_factory=Event)

    def look_up(
        self, enrichment: EnrichmentPlan, keys: Column, at: datetime, columns: Sequence[str]
    ) -> Found:
        self.asked.append((enrichment.name, len(keys)))
        self._ends.wait(self.seconds.get(enrichment.name, 0.0))
        if enrichment.name in self.broken:
            raise StoreError("the store is away", where="there", retryable=True)
        return self.values.look_up(enrichment, keys, at, columns)

    def close(self) -> None:
        self._ends.set()


@dataclass(frozen=True, slots=True)
class Shop:
    """An application whose store of values can be made slow."""

    asker: Asker
    slow: Slow
    local: LocalValueStore
    served: Served

    def columns(self, names: str, more: str = "") -> Mapping[str, list[object]]:
        answer = self.asker.get(PATH + names + more)
        assert answer.status_code == 200, answer.text
        columns: Mapping[str, list[object]] = answer.json()["columns"]
        return columns


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    served = make_served(tmp_path / "project", PROJECT)
    with ExitStack() as stack:
        local = stack.enter_context(closing(LocalValueStore(tmp_path / "values")))
        for name, rows in (("prices", PRICES), ("stocks", STOCKS), ("levels", LEVELS)):
            enrichment = served.plan.enrichments[name]
            frame = pl.DataFrame(rows, schema=enrichment.schema, orient="row")
            local.publish(enrichment, frame, "first", NOW)
        slow = stack.enter_context(closing(Slow(local)))
        store = stack.enter_context(open_online(served.settings))
        clock = FixedClock(NOW)
        service = build_service(served.plan, store, slow, clock, served.settings, Options())
        stack.enter_context(closing(service.lookups))
        yield Shop(Asker(Application(service), served), slow, local, served)


@pytest.mark.parametrize("is_near", [True, False])
def test_they_have_the_newest_value_of_now(shop: Shop, *, is_near: bool) -> None:
    shop.slow.is_near = is_near
    assert shop.columns("event_id,price,label,stock,level") == {
        "event_id": ORDER,
        "price": [None, 2.0, None, None, 2.0],
        "label": [None, "new", "é", None, "new"],
        "stock": [None, 5, 0, None, 5],
        "level": ["gold", "gold", "gold", None, "gold"],
    }


def test_as_of_an_earlier_time_they_have_what_was_available_then(shop: Shop) -> None:
    assert shop.columns("event_id,price", "&as_of=2026-03-02T09:30:00Z") == {
        "event_id": ORDER,
        "price": [None, 1.0, None, None, 1.0],
    }
    then = shop.columns("price", "&as_of=2026-03-02T10:00:00Z")
    assert then["price"] == [None, 2.0, None, None, 2.0]  # available at that very time


def test_as_known_at_an_earlier_time_too(shop: Shop) -> None:
    assert shop.columns("event_id,price", "&known_at=2026-03-02T06:00:00Z") == {
        "event_id": ["a", "b", "s"],
        "price": [1.0, None, None],
    }


def test_request_columns_may_use_them(shop: Shop) -> None:
    assert shop.columns("is_dear,event_id") == {
        "is_dear": [None, True, None, None, True],
        "event_id": ORDER,
    }
    assert shop.slow.asked == [("prices", 5)]


def test_they_are_left_out_and_not_looked_up_unless_asked_for(shop: Shop) -> None:
    body = shop.asker.get("/v1/sequences/feed/7").json()
    assert "price" not in body["columns"]
    assert "lookups" not in body
    assert shop.slow.asked == []


def test_a_query_narrows_before_anything_is_looked_up(shop: Shop) -> None:
    assert shop.columns("price", "&limit=1") == {"price": [2.0]}
    assert shop.columns("price", "&types=click&where.pin=10") == {"price": [2.0]}
    assert shop.columns("price", "&types=save") == {"price": [None]}
    assert [count for _, count in shop.slow.asked] == [1, 1, 1]


def test_they_cannot_be_filtered_on(shop: Shop) -> None:
    refused = shop.asker.get(PATH + "price&where.price=2.0")
    assert refused.status_code == 400
    assert refused.json()["error"]["found"] == "a filter on 'price'"


def test_an_entity_without_events_has_none(shop: Shop) -> None:
    body = shop.asker.get("/v1/sequences/feed/99?columns=price,level,is_dear").json()
    assert body["columns"] == {"price": [], "level": [], "is_dear": []}


def test_arrow_has_their_types_and_says_what_became_of_lookups(shop: Shop) -> None:
    answer = shop.asker.get(PATH + "price,label,stock", ARROW)
    table = pa.ipc.open_stream(answer.content).read_all()
    assert table.schema.field("stock").type == pa.int32()
    assert table["label"].to_pylist() == [None, "new", "é", None, "new"]
    envelope = orjson.loads(table.schema.metadata[b"sequence_platform"])
    now = int(NOW.timestamp()) * 1_000_000
    assert envelope["lookups"] == {
        "prices": {"outcome": "answered", "published_at": now},
        "stocks": {"outcome": "answered", "published_at": now},
    }


@pytest.mark.parametrize("form", [{}, ARROW])
def test_a_batch_looks_each_enrichment_up_once(shop: Shop, form: Mapping[str, str]) -> None:
    body = {"entities": [7, 99, {"entity": 8, "where": {"pin": [10]}}], "columns": ["pin", "price"]}
    answer = shop.asker.batch(body, headers=form)
    assert shop.slow.asked == [("prices", 6)]
    if form:
        table = pa.ipc.open_stream(answer.content).read_all()
        assert table["price"].to_pylist() == [None, 2.0, None, None, 2.0, 2.0]
        return
    found = answer.json()
    assert found["lookups"]["prices"]["outcome"] == "answered"
    assert [each["columns"]["price"] for each in found["answers"]] == [
        [None, 2.0, None, None, 2.0],
        [],
        [2.0],
    ]


# ---- stores that are slow, or away


def test_late_values_are_null_and_the_answer_says_so(shop: Shop) -> None:
    shop.slow.seconds["prices"] = 30.0
    began = monotonic()
    body = shop.asker.get(PATH + "event_id,price,level,is_dear").json()
    assert monotonic() - began < 10
    assert body["columns"] == {
        "event_id": ORDER,
        "price": [None] * 5,
        "level": ["gold", "gold", "gold", None, "gold"],
        "is_dear": [None] * 5,
    }
    assert body["lookups"]["prices"] == {"outcome": "timed_out", "published_at": None}
    assert body["lookups"]["levels"]["outcome"] == "answered"
    assert shop.asker.counter("lookups_total", enrichment="prices", outcome="timed_out") == 1
    assert shop.asker.counter("lookups_total", enrichment="levels", outcome="answered") == 1
    assert shop.asker.counter("lookup_seconds_count", enrichment="prices") == 1
    assert shop.asker.counter("lookup_seconds_sum", enrichment="prices") >= 0.5


def test_a_batch_waits_for_its_values_once(shop: Shop) -> None:
    shop.slow.seconds["prices"] = 30.0
    began = monotonic()
    body = shop.asker.batch({"entities": [*range(200)], "columns": ["price"]}).json()
    assert monotonic() - began < 10
    assert body["lookups"]["prices"]["outcome"] == "timed_out"
    assert len(shop.slow.asked) == 1


def test_others_are_answered_meanwhile(shop: Shop) -> None:
    shop.slow.seconds["prices"] = 30.0

    async def ask_all() -> tuple[list[str], list[httpx.Response]]:
        ended: list[str] = []

        async def ask(client: httpx.AsyncClient, columns: str) -> httpx.Response:
            response = await client.get(PATH + columns)
            ended.append(columns)
            return response

        transport = httpx.ASGITransport(app=shop.asker.application)
        async with httpx.AsyncClient(transport=transport, base_url=shop.asker.url) as client:
            # More than there are threads for: some never begin to look up.
            slow = [ask(client, "price") for _ in range(THREADS + 8)]
            return ended, await asyncio.gather(*slow, ask(client, "pin"))

    began = monotonic()
    ended, answers = asyncio.run(ask_all())
    assert monotonic() - began < 10
    assert ended[0] == "pin"
    assert {answer.status_code for answer in answers} == {200}
    assert [answer.json()["columns"] for answer in answers[:-1]] == [
        {"price": [None] * 5} for _ in range(THREADS + 8)
    ]


def test_requests_fail_where_values_must_be_there(shop: Shop) -> None:
    shop.slow.seconds["stocks"] = 30.0
    refused = shop.asker.get(PATH + "stock")
    assert refused.status_code == 503
    assert refused.headers["retry-after"] == "1"
    assert refused.json() == {
        "error": {
            "what": "enrichment 'stocks' was not looked up in time",
            "found": "no answer within 500 ms",
            "expected": "an answer: the enrichment says on_timeout='fail'",
            "next": "try again, or ask for other columns",
        }
    }
    assert shop.asker.counter("lookups_total", enrichment="stocks", outcome="timed_out") == 1
    assert shop.columns("price")["price"] == [None, 2.0, None, None, 2.0]
    batch = shop.asker.batch({"entities": [7], "columns": ["stock"]})
    assert batch.status_code == 503


def test_a_store_that_is_away_is_as_one_that_is_late(shop: Shop) -> None:
    shop.slow.broken = {"prices", "stocks"}
    body = shop.asker.get(PATH + "price").json()
    assert body["columns"]["price"] == [None] * 5
    assert body["lookups"]["prices"]["outcome"] == "failed"
    refused = shop.asker.get(PATH + "stock")
    assert refused.status_code == 503
    assert refused.headers["retry-after"] == "1"
    assert refused.json()["error"]["what"] == (
        "enrichment 'stocks' cannot be looked up: the store is away"
    )
    assert shop.asker.counter("lookups_total", enrichment="stocks", outcome="failed") == 1


def test_what_was_never_published_says_so(shop: Shop) -> None:
    shop.slow.values = LocalValueStore(shop.served.root / "nothing")
    assert shop.asker.get(PATH + "price").json()["lookups"]["prices"]["outcome"] == "failed"
    refused = shop.asker.get(PATH + "stock")
    assert refused.status_code == 503
    assert "retry-after" not in refused.headers  # trying again does not help
    assert refused.json()["error"]["next"] == "sequence-platform online publish stocks"


def test_a_worker_is_ready_and_notes_what_cannot_be_looked_up(shop: Shop) -> None:
    shop.slow.broken = {"stocks"}
    ready = shop.asker.get("/readyz")
    assert ready.status_code == 200
    text = "enrichment 'stocks' cannot be looked up: the store is away"
    assert text in ready.json()["notes"]


def test_new_values_count_once_they_are_published(shop: Shop) -> None:
    assert shop.columns("stock")["stock"] == [None, 5, 0, None, 5]
    stocks = shop.served.plan.enrichments["stocks"]
    frame = pl.DataFrame([(12, 1)], schema=stocks.schema, orient="row")
    shop.local.publish(stocks, frame, "second", NOW)
    assert shop.columns("stock")["stock"] == [1, None, None, None, None]


# ---- what people and programs are told


def test_definitions_and_openapi_say_where_they_come_from(shop: Shop) -> None:
    described = shop.asker.get("/v1/definitions/feed").json()
    price = next(each for each in described["columns"] if each["name"] == "price")
    assert price == {
        "name": "price",
        "kind": "read",
        "type": "Float64",
        "unit": "",
        "by_default": False,
        "of": ["click"],
        "enrichment": "prices",
        "key": {"click": "pin"},
        "deadline_ms": 500.0,
        "on_timeout": "null",
    }
    document = shop.asker.get("/openapi.json").json()
    answer = document["components"]["schemas"]["Feed"]["properties"]
    assert answer["columns"]["properties"]["price"]["items"]["type"] == ["number", "null"]
    assert set(answer["lookups"]["properties"]) == {"prices", "stocks", "levels"}
    assert "lookups" not in document["components"]["schemas"]["Notes"]["properties"]
    page = shop.asker.get("/sequences/feed", {"accept": "text/html"}).text
    assert "newest <code>prices</code> when asked for, by pin; of click" in page


def test_a_column_that_is_not_there_is_answered_with_those_that_are(shop: Shop) -> None:
    refused = shop.asker.get(PATH + "pric")
    assert refused.status_code == 400
    assert "close: 'price'" in refused.json()["error"]["expected"]
