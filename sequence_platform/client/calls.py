"""Requests as they are sent, what is tried again, and errors as the server meant them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import quote

import httpx
from tenacity import (
    RetryCallState,
    retry_if_exception,
    stop_after_attempt,
    wait_random_exponential,
)

from sequence_platform.client.answers import ARROW
from sequence_platform.client.asked import Asked, Entity, plain, to_parameters
from sequence_platform.errors import RequestError, StoreError, UnknownNameError

ATTEMPTS = 4
MAX_PATIENCE_MS = 600_000
MAX_WAIT_SECONDS = 30.0
"""A server that wants more patience is not waited for."""
RETRIED = {429, 503}
NOT_FOUND = 404
FAILED = 500
BACKOFF = wait_random_exponential(multiplier=0.1, max=2.0)


class Trouble(Exception):  # noqa: N818 - caught here, never raised to callers
    """An answer that is worth asking for again, or a connection that broke."""

    def __init__(self, error: Exception, retry_after: float | None) -> None:
        super().__init__(str(error))
        self.error = error
        self.retry_after = retry_after


def _wait(state: RetryCallState) -> float:
    failed = state.outcome.exception() if state.outcome else None
    asked = failed.retry_after if isinstance(failed, Trouble) else None
    return BACKOFF(state) if asked is None else asked + BACKOFF(state) / 4


def _is_worth_it(failed: BaseException) -> bool:
    return isinstance(failed, Trouble) and (failed.retry_after or 0) <= MAX_WAIT_SECONDS


class Calls:
    """What is sent and what is made of the answer, whichever way it travels."""

    def __init__(self, url: str, key: str | None, timeout: float, attempts: int) -> None:
        self.base = url.rstrip("/")
        self.headers = {"authorization": f"Bearer {key}"} if key else {}
        self.timeout = timeout
        self.policy: dict[str, Any] = {
            "stop": stop_after_attempt(attempts),
            "wait": _wait,
            "retry": retry_if_exception(_is_worth_it),
            "reraise": True,
        }

    def get(self, name: str, entity: object, asked: Asked) -> httpx.Request:
        """Return the request for one entity."""
        parameters = to_parameters({**asked})
        # An address cannot say values with commas, nor name an entity that it takes for a folder.
        if parameters is None or str(entity) in {".", ".."}:
            return self.batch(name, [entity], asked)
        path = f"/v1/sequences/{quote(name, safe='')}/{quote(str(entity), safe='')}"
        return self._request(path, params=parameters)

    def batch(self, name: str, entities: Iterable[object], asked: Asked) -> httpx.Request:
        """Return the request for many entities."""
        body = {label: plain(value) for label, value in asked.items() if value is not None}
        body["entities"] = [e.to_json() if isinstance(e, Entity) else plain(e) for e in entities]
        patience = min(max(1, int(self.timeout * 1000)), MAX_PATIENCE_MS)
        request = self._request(f"/v1/sequences/{quote(name, safe='')}:batchGet", json=body)
        request.headers["x-request-timeout-ms"] = str(patience)
        return request

    def definitions(self, name: str | None) -> httpx.Request:
        """Return the request for the definitions, or one."""
        path = "/v1/definitions" + ("" if name is None else f"/{quote(name, safe='')}")
        request = self._request(path)
        request.headers["accept"] = "application/json"
        return request

    def _request(
        self, path: str, *, params: Sequence[tuple[str, str]] = (), json: object = None
    ) -> httpx.Request:
        return httpx.Request(
            "GET" if json is None else "POST",
            self.base + path,
            params=list(params) or None,
            json=json,
            headers={"accept": ARROW, **self.headers},
            extensions={"timeout": httpx.Timeout(self.timeout).as_dict()},
        )


def ensure_ok(response: httpx.Response) -> httpx.Response:
    """Return an answer, or raise what the server said."""
    if response.is_success:
        return response
    error = _error_of(response)
    if response.status_code in RETRIED:
        raise Trouble(error, _retry_after(response))
    raise error


def _error_of(response: httpx.Response) -> RequestError | StoreError:
    try:
        facts = response.json()["error"]
    except (ValueError, KeyError, TypeError):
        facts = {"what": "the server did not answer as one of ours", "found": response.text[:200]}
    told = {
        "where": facts.get("where") or str(response.request.url)[:200],
        "found": facts.get("found", ""),
        "expected": facts.get("expected", ""),
        "next_step": facts.get("next", ""),
    }
    what = str(facts.get("what", response.reason_phrase))
    if response.status_code == NOT_FOUND:
        return UnknownNameError(what, **told)
    if response.status_code in RETRIED or response.status_code >= FAILED:
        return StoreError(what, **told, retryable=response.status_code in RETRIED)
    return RequestError(what, **told)


def _retry_after(response: httpx.Response) -> float | None:
    text = response.headers.get("retry-after", "")
    return float(text) if text.isdecimal() else None


def unreachable(error: httpx.TransportError, request: httpx.Request) -> Trouble:
    """Return a failed connection as an error of ours."""
    failed = StoreError(
        "the server cannot be reached",
        where=str(request.url)[:200],
        found=f"{type(error).__name__}: {error}",
        next_step="is it running? 'sequence-platform serve' starts one",
        retryable=True,
    )
    failed.__cause__ = error
    return Trouble(failed, None)
