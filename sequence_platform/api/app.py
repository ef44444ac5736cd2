"""The ASGI application: one raw path for the sequence of an entity, Starlette for all the rest.

Whatever fails is answered in one form, and counted.
"""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import signal
from collections.abc import Callable
from contextlib import ExitStack, suppress
from multiprocessing.process import BaseProcess
from threading import Thread
from time import perf_counter

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Router
from starlette.types import Message, Receive, Scope, Send

from sequence_platform.api.problems import Refused, body_of, headers_of, refusal_of
from sequence_platform.api.sequences import PREFIX, Room, answer_one, place_of
from sequence_platform.api.service import Options, Service, open_service
from sequence_platform.api.surface import routes
from sequence_platform.errors import SequencePlatformError
from sequence_platform.settings import Settings

LOGGER = logging.getLogger(__name__)
OVERLOADED = {429: "rate", 503: "overload"}
NO_STORE = [(b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff")]


class Application:
    """Answers requests of one worker.

    Args:
        service: What it serves with.
        close: Called when the server has ended.
    """

    def __init__(self, service: Service, close: Callable[[], None] = lambda: None) -> None:
        self.service = service
        self._close = close
        self._room = Room(service.settings.serve_in_flight)
        # Not the Starlette class: its middleware would answer errors before we can.
        self._surface = Router(routes(service, self._room), redirect_slashes=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        match scope["type"]:
            case "lifespan":
                await self._live(receive, send)
            case "http":
                await self._http(scope, receive, send)
            case _:
                await send({"type": "websocket.close", "code": 1000})

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        self._close()
        await send({"type": "lifespan.shutdown.complete"})

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = perf_counter()
        scope["sequence_platform"] = told = {"endpoint": "other", "sequence": ""}
        scope["app"] = self  # Starlette's routes then raise what they refuse
        status = 0

        async def counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        with self.service.metrics.answering():
            try:
                await self._routed(scope, receive, counted, told)
            except ClientDisconnect:
                status = 499
            except Exception as error:
                if status:  # half an answer is out: only the connection can end it
                    raise
                await self._refuse(error, counted)
            finally:
                self.service.metrics.answered(told["endpoint"], status, told["sequence"], started)

    async def _routed(
        self, scope: Scope, receive: Receive, send: Send, told: dict[str, str]
    ) -> None:
        if scope["method"] in {"GET", "HEAD"} and scope["path"].startswith(PREFIX):
            place = place_of(scope.get("raw_path") or scope["path"].encode())
            if place is not None:
                told["endpoint"] = "get"
                name, entity = place
                if name in self.service.plan.sequences:
                    told["sequence"] = name
                with self._room:
                    # Those that came meanwhile are let in, too, or told at once that it is full.
                    await asyncio.sleep(0)
                    body = await answer_one(
                        self.service, name, entity, scope["query_string"], scope["headers"]
                    )
                    await _send(send, 200, [(b"content-type", body[0]), *NO_STORE], body[1])
                return
        await self._surface(scope, receive, send)

    async def _refuse(self, error: Exception, send: Send) -> None:
        refused = _of_starlette(error) if isinstance(error, HTTPException) else refusal_of(error)
        if refused.status == 500:  # noqa: PLR2004 - nobody foresaw it
            LOGGER.error("a request failed", exc_info=error)
        if refused.status in OVERLOADED:
            self.service.metrics.rejected(OVERLOADED[refused.status])
        await _send(send, refused.status, [*headers_of(refused), *NO_STORE], body_of(refused))


async def _send(send: Send, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
    headers.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _of_starlette(error: HTTPException) -> Refused:
    """Give what Starlette refuses (no such address, no such method) our form."""
    return Refused(
        error.status_code,
        error.detail,
        next_step="/openapi.json lists all addresses",
        headers=[(k.lower().encode(), v.encode()) for k, v in (error.headers or {}).items()],
    )


def load_application(settings: Settings, options: Options) -> Application:
    """Open everything and return the application: what a worker process starts with."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        Thread(target=_end_after, args=(parent,), daemon=True).start()
    with ExitStack() as stack:
        service = stack.enter_context(open_service(settings, options))
        with suppress(SequencePlatformError):  # /readyz says it
            service.reader.freshness()  # maps all segments: no request has to wait for it
        service.lookups.faults(service.plan.enrichments.values())  # opens what is looked up
        return Application(service, stack.pop_all().close)


def _end_after(parent: BaseProcess) -> None:
    """End this worker once the process that started it is gone.

    If that one was killed, nobody else would ever end it: it would go on answering on a port that
    the next server cannot take.
    """
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
