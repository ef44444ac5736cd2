"""What a request may send and wants back, by its headers."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from time import monotonic

from sequence_platform.api.answers import ARROW
from sequence_platform.api.problems import JSON, Refused

FORMS = (JSON, ARROW)
WILD = (b"application/*", b"*/*")
TIMEOUT = b"x-request-timeout-ms"
MAX_TIMEOUT_MS = 600_000
Headers = Iterable[tuple[bytes, bytes]]


def header(headers: Headers, name: bytes) -> bytes:
    """Return a header, b"" if it is not there."""
    return next((value for label, value in headers if label == name), b"")


@lru_cache(maxsize=256)
def form_of(accept: bytes) -> bytes:
    """Return in which form to answer; JSON if all are welcome.

    Raises:
        Refused: 406, neither form is.
    """
    if not accept:
        return JSON
    weights: dict[bytes, float] = {}
    for part in accept.lower().split(b","):
        kind, *parameters = (each.strip() for each in part.split(b";"))
        weights[kind] = max(weights.get(kind, 0.0), _weight(parameters))
    liked = [
        next((weights[kind] for kind in (form, *WILD) if kind in weights), 0.0) for form in FORMS
    ]
    if not max(liked):
        raise Refused(
            406,
            "there is no answer in that form",
            found=accept[:200].decode("latin-1"),
            expected=" or ".join(form.decode() for form in FORMS),
        )
    return FORMS[liked.index(max(liked))]


def _weight(parameters: list[bytes]) -> float:
    for each in parameters:
        if each.startswith(b"q="):
            try:
                return float(each[2:])
            except ValueError:
                return 0.0
    return 1.0


def ensure_json(headers: Headers) -> None:
    """Raise Refused, 415, unless a body is JSON as it is."""
    kind = header(headers, b"content-type").partition(b";")[0].strip().lower()
    coding = header(headers, b"content-encoding").strip().lower()
    if kind not in {b"", JSON} or coding not in {b"", b"identity"}:
        raise Refused(
            415,
            "the body is of a kind that is not read",
            found=b" ".join((kind, coding))[:200].decode("latin-1"),
            expected="application/json, not compressed",
        )


def deadline_of(headers: Headers) -> float | None:
    """Return until when an answer is of use, by ``monotonic``; None: always.

    Raises:
        Refused: 400, the header is no number.
    """
    text = header(headers, TIMEOUT)
    if not text:
        return None
    if not text.isdigit() or not 0 < int(text[:12]) <= MAX_TIMEOUT_MS:
        raise Refused(
            400,
            "X-Request-Timeout-Ms is not a time",
            found=text[:50].decode("latin-1"),
            expected=f"milliseconds, 1 to {MAX_TIMEOUT_MS}",
        )
    return monotonic() + int(text) / 1000


def ensure_in_time(deadline: float | None) -> None:
    """Raise Refused, 504, if it is too late."""
    if deadline is not None and monotonic() > deadline:
        raise Refused(
            504,
            "the time that the request gave is over",
            expected="an answer within X-Request-Timeout-Ms",
            next_step="ask for fewer entities, or give it more time",
        )
