"""A real server of two workers, real clients, signals, hostile requests."""

from __future__ import annotations

import shutil
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import httpx
import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sequence_platform import Client
from sequence_platform.api.keys import KeyRing
from sequence_platform.client import Entity
from sequence_platform.errors import RequestError, StoreError
from sequence_platform_tests.integration.http_server import (
    HttpServer,
    command,
    environment,
    serving,
)
from sequence_platform_tests.served import NOW, ORDER, Served, make_served

pytestmark = pytest.mark.integration

PATH = f"/v1/sequences/feed/7?as_of={quote(NOW.isoformat())}"


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    before, modules = list(sys.path), set(sys.modules)
    yield make_served(tmp_path / "project")
    sys.path[:] = before
    for name in set(sys.modules) - modules:
        if name.partition(".")[0] == "definitions":
            del sys.modules[name]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HttpServer]:
    """One server for tests that do not harm it."""
    served = make_served(tmp_path_factory.mktemp("served") / "project")
    with serving(served.settings) as server:
        yield server
        assert "a request failed" not in server.output.read_text(encoding="utf-8")


def wait_until(is_so: Callable[[], bool], what: str, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, f"in vain: {what}"
        time.sleep(0.05)


# ---- answering


def test_two_workers_answer_and_count_together(shared: HttpServer) -> None:
    for _ in range(30):  # a connection each: they go to either worker
        with Client(shared.url) as client:
            answer = client.sequences.get("feed", 7, as_of=NOW)
            assert answer.frame["event_id"].to_list() == ORDER
    with Client(shared.url) as client:
        answers = client.sequences.batch_get(
            "feed", [8, Entity(7, where={"pin": [12]})], as_of=NOW, columns=["event_id"]
        )
    assert [answer.frame["event_id"].to_list() for answer in answers] == [["x"], ["e"]]
    text = httpx.get(f"{shared.url}/metrics").text
    counted = [line for line in text.splitlines() if line.startswith("sequence_platform_requests")]
    (line,) = [
        line for line in counted
        if all(part in line for part in ('endpoint="get"', 'sequence="feed"', 'status="200"'))
    ]  # fmt: skip
    assert float(line.rpartition(" ")[2]) >= 30
    assert httpx.get(f"{shared.url}/readyz").json()["ready"]


def test_an_address_may_name_any_entity(shared: HttpServer) -> None:
    with Client(shared.url) as client:
        for entity in ("Zoë/é 1", "..", "a?b#c%20"):
            answer = client.sequences.get("notes", entity, as_of=NOW)
            assert answer.entity == entity
            assert answer.frame.height == (entity == "Zoë/é 1")


def test_errors_reach_the_caller(shared: HttpServer) -> None:
    with Client(shared.url) as client, pytest.raises(RequestError, match="cannot be read so"):
        client.sequences.get("feed", 7, limit=0)


# ---- hostile requests

texts = st.text(max_size=30)
names = st.sampled_from(
    ["columns", "limit", "max_age", "types", "as_of", "known_at", "where.pin", "where.score",
     "where.board", "context.pin_shown", "where.vector", "where.", "context."]
)  # fmt: skip
values = st.one_of(
    texts,
    st.sampled_from(
        ["pin,score", "event_id", "age_s,is_shown", "vector", "10", "-1", "7d", "1e9", "nan",
         "2026-03-02T12:00:00Z", "9999-12-31T23:59:59", "0001-01-01", "click,save", "inf",
         "99999999999999999999"]
    ),
)  # fmt: skip
scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(allow_nan=False), values
)
json = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(values, inner, max_size=4),
    max_leaves=8,
)  # fmt: skip
bodies = st.fixed_dictionaries(
    {"entities": st.one_of(json, st.lists(st.integers(5, 9), min_size=1, max_size=5))},
    optional={
        name: st.one_of(json, values)
        for name in ("columns", "limit", "max_age", "types", "as_of", "known_at")
    }
    | {
        "where": st.one_of(json, st.dictionaries(st.sampled_from(["pin", "score"]), json)),
        "context": st.one_of(json, st.dictionaries(st.just("pin_shown"), json)),
    },
)
FUZZED = settings(
    max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)


@pytest.fixture(scope="module")
def http(shared: HttpServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=shared.url, timeout=60) as client:
        yield client


@FUZZED
@given(
    entity=st.one_of(st.integers().map(str), texts),
    sequence=st.sampled_from(["feed", "notes", "é"]),
    pairs=st.lists(st.tuples(st.one_of(names, texts), values), max_size=6),
    page=st.booleans(),
)
def test_no_address_makes_the_server_fail(
    http: httpx.Client, entity: str, sequence: str, pairs: list[tuple[str, str]], *, page: bool
) -> None:
    path = f"/v1/sequences/{quote(sequence)}/{quote(entity, safe='')}"
    if page:
        path, pairs = f"/sequences/{quote(sequence)}/timeline", [("entity", entity), *pairs]
    query = "&".join(f"{quote(name)}={quote(value)}" for name, value in pairs)
    assert http.get(f"{path}?{query}").status_code < 500


@FUZZED
@given(raw=st.binary(max_size=60))
def test_no_bytes_in_an_address_make_the_server_fail(http: httpx.Client, raw: bytes) -> None:
    encoded = "".join(f"%{byte:02x}" for byte in raw)
    for path in (f"/v1/sequences/feed/{encoded}", f"/v1/sequences/feed/7?{encoded}", f"/{encoded}"):
        assert http.get(path).status_code < 500


@FUZZED
@given(body=st.one_of(bodies, json), sequence=st.sampled_from(["feed", "notes"]))
def test_no_body_makes_the_server_fail(http: httpx.Client, body: object, sequence: str) -> None:
    path = f"/v1/sequences/{sequence}:batchGet"
    assert http.post(path, json=_finite(body)).status_code < 500


@FUZZED
@given(body=st.binary(max_size=200))
def test_no_bytes_make_the_server_fail(http: httpx.Client, body: bytes) -> None:
    answer = http.post("/v1/sequences/feed:batchGet", content=body)
    assert answer.status_code == 400


def _finite(value: object) -> object:
    """Return JSON without infinities, which httpx refuses to send."""
    match value:
        case float() if value in {float("inf"), float("-inf")}:
            return 1e308
        case list():
            return [_finite(each) for each in value]
        case dict():
            return {name: _finite(each) for name, each in value.items()}
        case _:
            return value


# ---- ending


def test_what_is_being_answered_is_answered_before_the_end(served: Served) -> None:
    with serving(served.settings) as server:
        done: list[tuple[float, int, int]] = []
        unheard: list[float] = []
        wrong: list[Exception] = []
        told = threading.Event()

        def ask() -> None:
            """Ask until nobody answers."""
            with httpx.Client(base_url=server.url, timeout=60) as client:
                while True:
                    try:
                        answer = client.get(PATH)
                        done.append((time.monotonic(), answer.status_code, answer.json()["length"]))
                    except (httpx.ConnectError, httpx.RemoteProtocolError, httpx.ReadError):
                        # Nothing of an answer came: it was not being answered.
                        unheard.append(time.monotonic())
                        return
                    except Exception as error:  # noqa: BLE001 - told below
                        wrong.append(error)
                        return

        def ask_long() -> None:
            body = {"entities": [7] * 1000, "as_of": NOW.isoformat()}
            try:
                told.set()
                answer = httpx.post(
                    f"{server.url}/v1/sequences/feed:batchGet", json=body, timeout=120
                )
                lengths = {each["length"] for each in answer.json()["answers"]}
                long.append((answer.status_code, len(answer.json()["answers"]), lengths))
            except Exception as error:  # noqa: BLE001 - told below
                wrong.append(error)

        long: list[tuple[int, int, set[int]]] = []
        threads = [threading.Thread(target=ask) for _ in range(3)]
        threads += [threading.Thread(target=ask_long) for _ in range(2)]
        for thread in threads:
            thread.start()
        told.wait()
        wait_until(lambda: len(done) > 10, "answers")
        assert not long
        ended = time.monotonic()
        server.signal(signal.SIGTERM)
        for thread in threads:
            thread.join(120)
        assert server.wait() == 0
        assert not wrong
        assert long == [(200, 1000, {5})] * 2
        assert {(status, length) for _, status, length in done} == {(200, 5)}
        assert all(at >= ended for at in unheard)
        assert len(unheard) == 3


def test_a_killed_worker_is_replaced(served: Served) -> None:
    with serving(served.settings) as server:
        wait_until(lambda: len(server.workers()) == 2, "two workers")
        time.sleep(6)  # granian takes an earlier death for a worker that cannot start
        killed = server.workers()[0]
        killed.kill()
        wait_until(
            lambda: len([w for w in server.workers() if w.pid != killed.pid]) == 2, "a new worker"
        )
        with Client(server.url, attempts=10) as client:
            for _ in range(10):
                assert client.sequences.get("feed", 7, as_of=NOW).frame.height == 5


def test_workers_end_with_a_server_that_was_killed(served: Served) -> None:
    with serving(served.settings) as server:
        wait_until(lambda: len(server.workers()) == 2, "two workers")
        workers = server.workers()
        assert httpx.get(f"{server.url}/healthz").is_success
        server.process.kill()
        server.wait()
        wait_until(lambda: not any(map(lives, workers)), "the end of the workers")
        with serving(served.settings, "--port", server.url.rpartition(":")[2]) as next_one:
            assert httpx.get(f"{next_one.url}/healthz").is_success


def lives(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_hup_takes_the_definitions_of_now(served: Served) -> None:
    with serving(served.settings, workers=1) as server, Client(server.url, attempts=8) as client:
        file = served.settings.definitions / "feed.py"
        changed = file.read_text(encoding="utf-8").replace("What a user did", "All a user did")
        file.write_text(changed, encoding="utf-8")
        assert client.definitions("feed")["description"] == "What a user did with pins."
        server.signal(signal.SIGHUP)
        wait_until(
            lambda: client.definitions("feed")["description"] == "All a user did with pins.",
            "the new definitions",
        )


# ---- keys, TLS, addresses


def test_keys_and_rates_hold_at_a_real_server(served: Served) -> None:
    ring = KeyRing.of(served.settings)
    fast = ring.create("fast", "feed", ("*",), None)
    slow = ring.create("slow", "ads", ("feed",), 1)
    with serving(served.settings, "--host", "0.0.0.0", workers=1) as server:
        url = server.url.replace("0.0.0.0", "127.0.0.1")
        with Client(url) as client, pytest.raises(RequestError, match="needs a key"):
            client.sequences.get("feed", 7)
        with Client(url, fast) as client:
            for _ in range(5):
                assert client.sequences.get("feed", 7, as_of=NOW).frame.height == 5
        with Client(url, slow, attempts=1) as client:
            client.sequences.get("feed", 7)
            with pytest.raises(StoreError, match="asks too often"):
                client.sequences.get("feed", 7)
            with pytest.raises(RequestError, match="does not open"):
                client.sequences.get("notes", "max")
        with Client(url, slow) as client:  # waits as it is told
            assert client.sequences.get("feed", 7, as_of=NOW).frame.height == 5
        ring.revoke("fast")
        time.sleep(1.5)
        with Client(url, fast) as client, pytest.raises(RequestError, match="needs a key"):
            client.sequences.get("feed", 7)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl to make a certificate")
def test_it_speaks_tls(served: Served) -> None:
    key, certificate = (served.root / name for name in ("key.pem", "cert.pem"))
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1",
         "-keyout", str(key), "-out", str(certificate)],
        check=True, capture_output=True,
    )  # fmt: skip
    arguments = ("--tls-cert", str(certificate), "--tls-key", str(key))
    with serving(served.settings, *arguments, workers=1) as server:
        assert server.url.startswith("https://")
        trusted = ssl.create_default_context(cafile=str(certificate))
        with Client(server.url, verify=trusted) as client:
            assert client.sequences.get("feed", 7, as_of=NOW).frame.height == 5
        with Client(server.url, attempts=1) as client, pytest.raises(StoreError, match="reached"):
            client.definitions()


def test_what_cannot_be_served_is_said_before_it_starts(served: Served) -> None:
    with serving(served.settings, workers=1) as server:
        port = server.url.rpartition(":")[2]
        for arguments, text in (
            (("--port", port), "the port cannot be used"),
            (("--port", "0", "--host", "0.0.0.0"), "answers this machine only"),
            (("--port", "0", "--host", "no.such.host.invalid"), "answers this machine only"),
        ):
            done = subprocess.run(
                command("serve", *arguments),
                env=environment(served.settings),
                capture_output=True,
                text=True,
                check=False,
                timeout=90,
            )
            assert done.returncode == 1
            assert text in done.stderr
