"""Bodies of requests: not too long, and not for ever on their way."""

from __future__ import annotations

import asyncio

from starlette.requests import Request

from sequence_platform.api.problems import Refused

BODY_SECONDS = 30.0
"""A client has so long to send a body."""
LONGEST_NUMBER = 15


async def read_body(request: Request, most: int) -> bytes:
    """Return a body of at most so many bytes; a longer one is not read to its end.

    Raises:
        Refused: 413 or 408.
    """
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and (len(announced) > LONGEST_NUMBER or int(announced) > most):
        raise _too_long(announced, most)
    parts, size = [], 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for part in request.stream():
                parts.append(part)
                size += len(part)
                if size > most:
                    raise _too_long(f"{size} or more", most)
    except TimeoutError as error:
        expected = f"within {BODY_SECONDS:.0f} s"
        raise Refused(408, "the body did not arrive", expected=expected) from error
    return b"".join(parts)


def _too_long(found: str, most: int) -> Refused:
    return Refused(
        413,
        "the body is too long",
        found=f"{found[:20]} bytes",
        expected=f"up to {most}",
        next_step="ask for fewer entities at once",
    )
