"""Keys: who may ask, for what, how often."""

from __future__ import annotations

import base64
import stat
from pathlib import Path

import pytest

from sequence_platform.api.access import Access
from sequence_platform.api.keys import ApiKey, KeyRing, hash_of
from sequence_platform.api.problems import Refused
from sequence_platform.api.server import Address, ensure_closed, ensure_pair
from sequence_platform.errors import RequestError, StateMismatchError
from sequence_platform.settings import Settings
from sequence_platform_tests.unit.api.conftest import Asker, MakeAsker

PATH = "/v1/sequences/feed/7"


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def keyed(
    make_asker: MakeAsker, *, sequences: tuple[str, ...] = ("*",), rate: float | None = None
) -> tuple[Asker, str]:
    """Return a server that needs keys, and one."""
    secret = "sp_secret"
    key = ApiKey(
        name="reader",
        tenant="ads",
        hash=hash_of(secret),
        sequences=sequences,
        requests_per_second=rate,
    )
    return make_asker(api_keys=f"[{key.model_dump_json()}]"), secret


def test_without_a_key_nothing_but_health_is_answered(make_asker: MakeAsker) -> None:
    asker, _ = keyed(make_asker)
    for path in (PATH, "/v1/definitions", "/metrics", "/openapi.json", "/v1/definitions/feed"):
        refused = asker.get(path)
        assert refused.status_code == 401
        assert refused.headers["www-authenticate"].startswith("Bearer")
        assert refused.json()["error"]["expected"] == "Authorization: Bearer KEY"
    assert asker.batch({"entities": [7]}).status_code == 401
    assert asker.get("/healthz").status_code == 200
    assert asker.get("/readyz").status_code == 200


def test_a_key_opens_as_bearer_password_or_cookie(make_asker: MakeAsker) -> None:
    asker, key = keyed(make_asker)
    password = base64.b64encode(f"anybody:{key}".encode()).decode()
    for headers in (
        bearer(key),
        {"authorization": f"Basic {password}"},
        {"cookie": f"a=b; sequence_platform_key={key}"},
    ):
        assert asker.get(PATH, headers).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        bearer("sp_other"),
        bearer(""),
        bearer("ü" * 1000),
        {"authorization": "Basic ???"},
        {"authorization": "sp_secret"},
        {"cookie": "sequence_platform_key="},
    ],
)
def test_another_key_does_not_open(make_asker: MakeAsker, headers: dict[str, str]) -> None:
    asker, _ = keyed(make_asker)
    encoded = {name: value.encode("latin-1").decode("latin-1") for name, value in headers.items()}
    raw = {name: value.encode("latin-1") for name, value in encoded.items()}
    assert asker.request("GET", PATH, raw).status_code == 401  # type: ignore[arg-type]


def test_a_key_opens_only_its_sequences(make_asker: MakeAsker) -> None:
    asker, key = keyed(make_asker, sequences=("note*",))
    assert asker.get(PATH, bearer(key)).status_code == 403
    assert asker.get("/v1/definitions/feed", bearer(key)).status_code == 403
    assert asker.batch({"entities": [7]}, headers=bearer(key)).status_code == 403
    assert asker.get("/v1/sequences/notes/max", bearer(key)).status_code == 200
    listed = asker.get("/v1/definitions", bearer(key)).json()["sequences"]
    assert [each["name"] for each in listed] == ["notes"]


def test_a_tenant_that_asks_too_often_is_told_when_to_come_again(make_asker: MakeAsker) -> None:
    asker, key = keyed(make_asker, rate=2)
    answers = [asker.get(PATH, bearer(key)) for _ in range(4)]
    refused = [answer for answer in answers if answer.status_code == 429]
    assert refused
    assert int(refused[0].headers["retry-after"]) >= 1
    assert asker.counter("rejected_total", reason="rate") == len(refused)


def test_tokens_come_back_with_time(tmp_path: Path) -> None:
    ring = KeyRing(tmp_path / "keys.json")
    secret = ring.create("a", "ads", ("*",), 2)
    other = ring.create("b", "ads", ("*",), 2)
    now = [100.0]
    access = Access(ring, lambda: now[0])

    def ask(key: str) -> int:
        try:
            access.admit([(b"authorization", f"Bearer {key}".encode())], "feed")
        except Refused as refused:
            return refused.status
        return 200

    assert [ask(secret), ask(other), ask(secret)] == [200, 200, 429]  # of one tenant
    now[0] += 0.5
    assert [ask(secret), ask(secret)] == [200, 429]
    now[0] += 3600
    assert [ask(secret), ask(secret), ask(secret)] == [200, 200, 429]


def test_a_key_is_kept_as_a_hash_that_its_owner_reads(tmp_path: Path) -> None:
    ring = KeyRing(tmp_path / "home" / "keys.json")
    secret = ring.create("a", "ads", ("feed",), None)
    assert secret not in ring.file.read_text(encoding="utf-8")
    assert stat.S_IMODE(ring.file.stat().st_mode) == 0o600
    assert len(secret) > 40


def test_a_revoked_key_ends_without_a_restart(tmp_path: Path) -> None:
    ring = KeyRing(tmp_path / "keys.json")
    secret = ring.create("a", "ads", ("*",), None)
    now = [100.0]
    access = Access(KeyRing(ring.file), lambda: now[0])
    headers = [(b"authorization", f"Bearer {secret}".encode())]
    assert access.admit(headers, "feed").name == "a"
    ring.revoke("a")
    now[0] += 2
    with pytest.raises(Refused, match="needs a key"):
        access.admit(headers, "feed")
    ring.file.unlink()  # a server that was closed stays closed
    now[0] += 2
    with pytest.raises(Refused, match="needs a key"):
        access.admit(headers, "feed")


def test_keys_of_before_stay_valid_while_the_file_is_broken(tmp_path: Path) -> None:
    ring = KeyRing(tmp_path / "keys.json")
    secret = ring.create("a", "ads", ("*",), None)
    now = [100.0]
    access = Access(KeyRing(ring.file), lambda: now[0])
    ring.file.write_text("[", encoding="utf-8")
    now[0] += 2
    assert access.admit([(b"authorization", f"Bearer {secret}".encode())]).name == "a"
    with pytest.raises(StateMismatchError, match="cannot be read"):
        Access(KeyRing(ring.file))


def test_names_of_keys_are_unique_and_plain(tmp_path: Path) -> None:
    ring = KeyRing(tmp_path / "keys.json")
    ring.create("a", "ads", ("*",), None)
    with pytest.raises(RequestError, match="already"):
        ring.create("a", "ads", ("*",), None)
    with pytest.raises(RequestError, match="no key"):
        ring.create("a b", "ads", ("*",), None)
    with pytest.raises(RequestError, match="no key 'x'"):
        ring.revoke("x")


def test_without_keys_a_server_answers_this_machine_only(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    for host in ("127.0.0.1", "::1", "localhost"):
        ensure_closed(settings, host)
    for host in ("0.0.0.0", "::", "example.com"):
        with pytest.raises(StateMismatchError, match="this machine only"):
            ensure_closed(settings, host)
    KeyRing.of(settings).create("a", "a", ("*",), None)
    ensure_closed(settings, "0.0.0.0")


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:8080", 200),
        ("127.0.0.2", 200),
        ("[::1]:8080", 200),
        ("evil.example:8080", 403),
        ("127.0.0.1.evil.example", 403),
        ("[::2]", 403),
        ("localhost.evil.example", 403),
    ],
)
def test_without_keys_a_page_of_somebody_else_cannot_ask(
    asker: Asker, host: str, status: int
) -> None:
    for path in (PATH, "/", "/v1/definitions"):
        assert asker.get(path, {"host": host}).status_code == status


def test_with_keys_a_server_may_have_any_name(make_asker: MakeAsker) -> None:
    asker, key = keyed(make_asker)
    assert asker.get(PATH, bearer(key) | {"host": "sequences.example.com"}).status_code == 200


def test_openapi_shows_what_a_key_opens(make_asker: MakeAsker) -> None:
    asker, key = keyed(make_asker, sequences=("notes",))
    text = asker.get("/openapi.json", bearer(key)).text
    assert "/v1/sequences/notes/{entity}" in text
    assert "feed" not in text


def test_tls_needs_both_files(tmp_path: Path) -> None:
    with pytest.raises(StateMismatchError, match="certificate and its key"):
        ensure_pair(Address(certificate=tmp_path / "c.pem"))
