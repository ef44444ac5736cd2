"""Errors as answers: a status that machines act on, and the five facts that people read."""

from __future__ import annotations

from collections.abc import Iterable

import orjson

from sequence_platform.errors import (
    RequestError,
    SequencePlatformError,
    StateMismatchError,
    StoreError,
    UnknownNameError,
)

JSON = b"application/json"
Headers = list[tuple[bytes, bytes]]


class Refused(Exception):  # noqa: N818 - it is an answer, not a failure
    """A request that is answered by an error.

    Attributes:
        status: Of HTTP.
        retry_after: Seconds after which trying again may help; None: it will not.
    """

    def __init__(  # noqa: PLR0913 - the facts of every message, and what HTTP adds
        self,
        status: int,
        what: str,
        *,
        found: str = "",
        expected: str = "",
        next_step: str = "",
        retry_after: float | None = None,
        headers: Iterable[tuple[bytes, bytes]] = (),
    ) -> None:
        super().__init__(what)
        self.status = status
        self.facts = {"found": found, "expected": expected, "next": next_step}
        self.retry_after = retry_after
        self.headers = list(headers)


def refusal_of(error: Exception) -> Refused:
    """Return how an error is answered."""
    if isinstance(error, Refused):
        return error
    if not isinstance(error, SequencePlatformError):
        return Refused(500, "the server failed", next_step="its log says why")
    match error:
        case UnknownNameError():
            status = 404
        case RequestError():
            status = 400
        case StateMismatchError():
            status = 410
        case StoreError():
            status = 503
        case _:
            status = 500
    retries = isinstance(error, StoreError) and error.retryable
    refused = Refused(status, error.what, retry_after=1.0 if retries else None)
    refused.facts = error.facts
    return refused


def body_of(refused: Refused) -> bytes:
    """Return the body of an error."""
    facts = {name: text for name, text in refused.facts.items() if text}
    return orjson.dumps({"error": {"what": str(refused), **facts}})


def headers_of(refused: Refused) -> Headers:
    """Return the headers of an error."""
    headers: Headers = [(b"content-type", JSON), *refused.headers]
    if refused.retry_after is not None:
        # Whole seconds: other forms are dates.
        headers.append((b"retry-after", b"%d" % max(1, -int(-refused.retry_after // 1))))
    return headers
