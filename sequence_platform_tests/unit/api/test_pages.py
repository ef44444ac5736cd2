"""The pages for people."""

from __future__ import annotations

import pytest

from sequence_platform.api.service import Options
from sequence_platform_tests.unit.api.conftest import Asker, MakeAsker
from sequence_platform_tests.unit.api.test_access import keyed

TIMELINE = "/sequences/feed/timeline?entity=7"


def test_the_first_page_shows_definitions_and_how_far_the_store_is(asker: Asker) -> None:
    page = asker.get("/")
    assert page.status_code == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    for text in ("What a user did with pins.", "ml@example.com", "up to date", "not streamed"):
        assert text in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]


def test_a_stream_that_is_behind_is_said(make_asker: MakeAsker) -> None:
    asker = make_asker(ready_lag_seconds=30)
    assert "60 seconds behind" in asker.get("/").text
    empty = asker.get("/sequences/feed/timeline?entity=99").text
    assert "Nothing is known of it, and click is behind" in empty


def test_a_page_of_a_sequence_has_its_columns_and_rules(asker: Asker) -> None:
    page = asker.get("/sequences/feed").text
    for text in ("is_shown", "microseconds since 1970-01-01, UTC", "context.pin_shown"):
        assert text in page
    assert "the newest 3 of save" in page


def test_a_timeline_tells_of_every_row_where_it_is_and_what_became_of_it(asker: Asker) -> None:
    page = asker.get(TIMELINE).text
    assert "<b>5</b>" in page
    assert "<b>6</b>" in page
    assert "cut: repeats another event" in page  # c
    assert page.count("<td>tail</td>") == 3
    assert page.count("<td>segment</td>") == 3
    assert page.count("<circle") == 6
    assert "2026-03-01 08:00:00" in page


def test_a_timeline_may_be_of_another_time(asker: Asker) -> None:
    page = asker.get(TIMELINE + "&as_of=2026-03-01T10:00:00Z&known_at=").text
    assert "not before as_of" in page
    assert "<b>2</b>" in page


def test_what_users_wrote_is_escaped(asker: Asker) -> None:
    page = asker.get(TIMELINE).text
    assert "&lt;b&gt;boards &amp; co&lt;/b&gt;" in page
    assert "<b>boards" not in page
    notes = asker.get("/sequences/notes/timeline?entity=Zo%C3%AB/%C3%A9%201").text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in notes
    evil = asker.get("/sequences/feed/timeline?entity=%22%3E%3Cscript%3E").text
    assert "<script" not in evil
    assert asker.get("/sequences/%3Cscript%3E").text.count("<script") == 0


@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        ("/sequences/fed", 404, "close: &#39;feed&#39;"),
        ("/sequences/feed/timeline", 400, "is no entity"),
        ("/sequences/feed/timeline?entity=x", 400, "an integer"),
        (TIMELINE + "&as_of=soon", 400, "as_of soon"),
    ],
)
def test_what_is_wrong_is_said_on_a_page(asker: Asker, path: str, status: int, text: str) -> None:
    page = asker.get(path)
    assert page.status_code == status
    assert text in page.text
    assert "text/html" in page.headers["content-type"]


def test_a_person_gives_a_key_once(make_asker: MakeAsker) -> None:
    asker, key = keyed(make_asker, sequences=("notes",))
    closed = asker.get("/")
    assert closed.status_code == 401
    assert 'type="password"' in closed.text
    assert "notes" not in closed.text
    wrong = asker.request("POST", "/login", data={"key": "sp_other"})
    assert (wrong.status_code, "not known" in wrong.text) == (401, True)
    opened = asker.request("POST", "/login", data={"key": f" {key} "})
    assert opened.status_code == 303
    cookie = opened.headers["set-cookie"]
    for part in ("HttpOnly", "SameSite=strict", "Path=/"):
        assert part in cookie
    assert "Secure" not in cookie
    headers = {"cookie": cookie.partition(";")[0]}
    page = asker.get("/", headers)
    assert page.status_code == 200
    assert "What an author wrote." in page.text
    assert "What a user did with pins." not in page.text
    assert asker.get("/sequences/feed", headers).status_code == 403
    assert (
        asker.request("POST", "/logout", headers)
        .headers["set-cookie"]
        .startswith('sequence_platform_key=""')
    )


def test_over_tls_the_cookie_is_for_tls_only(make_asker: MakeAsker) -> None:
    asker = make_asker(Options(is_secure=True))
    assert "Secure" in asker.request("POST", "/login", data={"key": "any"}).headers["set-cookie"]


def test_the_style_comes_from_the_server(asker: Asker) -> None:
    style = asker.get("/style.css")
    assert style.headers["content-type"].startswith("text/css")
    assert "http" not in style.text
