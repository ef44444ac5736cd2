"""Definitions, health, counters, the request log and OpenAPI."""

from __future__ import annotations

from dataclasses import replace

import orjson
import pytest
from pydantic import SecretStr

from sequence_platform.api.app import Application
from sequence_platform.api.request_log import RequestLog
from sequence_platform.api.service import Options
from sequence_platform.clock import SystemClock
from sequence_platform.runtimes.publishing import publish
from sequence_platform.settings import Settings
from sequence_platform.wiring import open_lake
from sequence_platform_tests.unit.api.conftest import Asker, MakeAsker


def test_definitions_are_listed_and_described(asker: Asker) -> None:
    listed = asker.get("/v1/definitions").json()
    assert listed["plan"] == asker.served.plan.fingerprint
    assert [each["name"] for each in listed["sequences"]] == ["feed", "notes"]
    feed = asker.get("/v1/definitions/feed").json()
    assert feed["owner"] == "ml@example.com"
    columns = {column["name"]: column for column in feed["columns"]}
    assert columns["event_time"]["unit"] == "microseconds since 1970-01-01, UTC"
    assert columns["board"]["of"] == ["save"]
    assert columns["vector"]["by_default"] is False
    assert columns["is_shown"]["kind"] == "request"
    assert feed["request_context"] == {"pin_shown": "Int64"}
    assert feed["trim"]["quotas"] == {"save": 3}
    assert feed["event_types"][0]["log"] == "clicks"
    assert asker.get("/v1/definitions/fed").status_code == 404


def test_openapi_names_every_sequence_and_column(asker: Asker) -> None:
    document = asker.get("/openapi.json").json()
    assert document["openapi"] == "3.1.0"
    operation = document["paths"]["/v1/sequences/feed/{entity}"]["get"]
    names = [each["name"] for each in operation["parameters"]]
    assert {"columns", "limit", "max_age", "context.pin_shown", "where.pin"} <= set(names)
    assert "/v1/sequences/notes:batchGet" in document["paths"]
    schema = document["components"]["schemas"]["Feed"]["properties"]["columns"]["properties"]
    assert schema["pin"]["items"]["type"] == ["integer", "null"]


def test_answers_and_errors_are_as_openapi_says(asker: Asker) -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")
    document = asker.get("/openapi.json").json()

    def ensure_is(name: str, value: object) -> None:
        schema = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
        jsonschema.Draft202012Validator(schema).validate(value)

    columns = "event_type,event_time,event_id,pin,score,board,vector,gap_s,age_s,is_shown"
    ensure_is("Feed", asker.get(f"/v1/sequences/feed/7?columns={columns}").json())
    ensure_is("Feed", asker.get("/v1/sequences/feed/99").json())
    ensure_is("Notes", asker.get("/v1/sequences/notes/max").json())
    ensure_is("Error", asker.get("/v1/sequences/feed/x").json())
    post = document["paths"]["/v1/sequences/feed:batchGet"]["post"]
    body = post["requestBody"]["content"]["application/json"]["schema"]
    (example,) = body["examples"]
    jsonschema.Draft202012Validator(body).validate(example)
    assert asker.batch(example).is_success


def test_a_worker_lives_before_it_is_ready(make_asker: MakeAsker) -> None:
    asker = make_asker(ready_lag_seconds=30)
    assert asker.get("/healthz").json() == {"alive": True}
    ready = asker.get("/readyz")
    assert ready.status_code == 503
    assert ready.json()["reasons"] == [
        "event type 'click' is 60 s behind; up to 30 s is ready",
    ]


def test_a_lake_that_cannot_be_read_is_noted_and_takes_nothing(asker: Asker) -> None:
    ready = asker.get("/readyz")
    assert ready.status_code == 200
    assert "what is published is not known" in ready.json()["notes"][0]


def test_other_definitions_published_make_a_worker_not_ready(asker: Asker) -> None:
    plan, settings = asker.served.plan, asker.served.settings
    with open_lake(settings) as lake:
        publish(lake, plan, SystemClock())
    assert asker.get("/readyz").json() == {"ready": True, "reasons": [], "notes": []}
    asker.application.service.readiness._looked = -100
    with open_lake(settings) as lake:
        publish(lake, replace(plan, fingerprint="other"), SystemClock())
    (reason,) = asker.get("/readyz").json()["reasons"]
    assert reason.startswith("plan other is published, this worker runs")


def test_requests_are_counted_by_endpoint_status_and_sequence(asker: Asker) -> None:
    asker.get("/v1/sequences/feed/7")
    asker.get("/v1/sequences/feed/7?limit=0")
    asker.get("/v1/sequences/x/7")
    asker.batch({"entities": [7, 8]})
    feed = {"endpoint": "get", "sequence": "feed"}
    assert asker.counter("requests_total", status="200", **feed) == 1
    assert asker.counter("requests_total", status="400", **feed) == 1
    assert asker.counter("requests_total", endpoint="get", status="404", sequence="") == 1
    assert asker.counter("events_returned_sum", **feed) == 5
    assert asker.counter("events_returned_sum", endpoint="batch_get", sequence="feed") == 6
    assert asker.counter("request_seconds_count", endpoint="get") == 3
    assert asker.counter("in_flight") == 0
    text = asker.get("/metrics")
    assert text.headers["content-type"].startswith("text/plain")
    assert "sequence_platform_requests_total{" in text.text


@pytest.mark.parametrize("names", [True, False])
def test_a_sample_of_requests_is_logged(asker: Asker, *, names: bool) -> None:
    lines: list[bytes] = []
    draws = iter([0.1, 0.9, 0.4])
    log = RequestLog(0.5, names, lines.append, lambda: next(draws))
    service = replace(asker.application.service, log=log, options=Options(logs_entities=names))
    sampled = replace(asker, application=Application(service))
    sampled.get("/v1/sequences/feed/7?limit=2")
    sampled.get("/v1/sequences/feed/8")
    sampled.batch({"entities": [7, 8]})
    first, second = (orjson.loads(line) for line in lines)
    assert (first["sequence"], first["query"], first["key"]) == ("feed", "limit=2", "none")
    assert first["latency_us"] > 0
    assert (first["entity"] == 7) is names
    assert (second["entities"] == [7, 8]) is names
    assert first["entity"] == second["entities"][0]


def test_keys_that_a_setting_gives_are_not_shown_by_settings() -> None:
    assert "abc" not in repr(Settings(api_keys=SecretStr("abc")))
