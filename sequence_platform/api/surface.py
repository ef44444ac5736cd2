"""Every address but that of an entity's sequence, as routes of Starlette."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import lru_cache

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from sequence_platform.api.answers import dump
from sequence_platform.api.body import read_body
from sequence_platform.api.described import describe_briefly, describe_fully
from sequence_platform.api.keys import ApiKey
from sequence_platform.api.metrics import CONTENT_TYPE
from sequence_platform.api.negotiation import ensure_json
from sequence_platform.api.openapi import build_openapi
from sequence_platform.api.pages import Pages
from sequence_platform.api.problems import JSON, Refused
from sequence_platform.api.sequences import PREFIX, Room, answer_many
from sequence_platform.api.service import Service

Handler = Callable[[Request, ApiKey], Awaitable[Response]]


def routes(service: Service, room: Room) -> list[BaseRoute]:
    """Return the routes of a worker."""
    surface = Surface(service, room)
    return [
        *Pages(service).routes(),
        Route("/healthz", surface.healthz),
        Route("/readyz", surface.readyz),
        Route("/metrics", surface.keyed("metrics", surface.counters)),
        Route("/openapi.json", surface.keyed("openapi", surface.openapi)),
        Route("/v1/definitions", surface.keyed("definitions", surface.definitions)),
        Route("/v1/definitions/{name}", surface.keyed("definition", surface.definition)),
        Route(PREFIX + "{name}:batchGet", surface.batch_get, methods=["POST"]),
        Route(PREFIX + "{name}/{entity:path}", surface.never, methods=["GET"]),
    ]


class Surface:
    """The handlers of a worker."""

    def __init__(self, service: Service, room: Room) -> None:
        self._service = service
        self._room = room
        self._openapi = lru_cache(maxsize=64)(self._openapi_of)

    def keyed(self, endpoint: str, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
        """Return a handler that only who has a key gets to."""

        async def handle(request: Request) -> Response:
            _tell(request, endpoint)
            return await handler(request, self._service.access.admit(request.headers.raw))

        return handle

    async def healthz(self, request: Request) -> Response:
        """The process answers."""
        _tell(request, "healthz")
        return _json({"alive": True})

    async def readyz(self, request: Request) -> Response:
        """Whether to send requests here, and why not."""
        _tell(request, "readyz")
        ready = await self._service.readiness.judge()
        told = {"ready": not ready.reasons, "reasons": ready.reasons, "notes": ready.notes}
        return _json(told, 503 if ready.reasons else 200)

    async def counters(self, _: Request, __: ApiKey) -> Response:
        """Counters of all workers."""
        text = await asyncio.to_thread(self._service.metrics.text)
        return Response(text, headers={"content-type": CONTENT_TYPE})

    async def openapi(self, _: Request, key: ApiKey) -> Response:
        """All addresses that a key opens, for machines."""
        plan = self._service.plan
        names = frozenset(name for name in plan.sequences if key.may_read(name))
        return Response(self._openapi(names), headers={"content-type": JSON.decode()} | NO_STORE)

    def _openapi_of(self, names: frozenset[str]) -> bytes:
        plan = self._service.plan
        opened = {name: sequence for name, sequence in plan.sequences.items() if name in names}
        return dump(build_openapi(replace(plan, sequences=opened)))

    async def definitions(self, _: Request, key: ApiKey) -> Response:
        """The sequences that a key opens."""
        plan = self._service.plan
        found = [describe_briefly(s) for s in plan.sequences.values() if key.may_read(s.name)]
        return _json({"plan": plan.fingerprint, "sequences": found})

    async def definition(self, request: Request, key: ApiKey) -> Response:
        """One sequence with its columns."""
        name = request.path_params["name"]
        ensure_opens(key, name)
        return _json(describe_fully(self._service.reader.sequence(name)))

    async def batch_get(self, request: Request) -> Response:
        """Sequences of many entities."""
        name = request.path_params["name"]
        known = name in self._service.plan.sequences
        _tell(request, "batch_get", name if known else "")
        headers = request.headers.raw
        key = self._service.access.admit(headers, name)
        ensure_json(headers)
        body = await read_body(request, self._service.settings.serve_body_bytes)
        with self._room:
            form, answer = await answer_many(self._service, name, body, headers, key)
        return Response(answer, headers={"content-type": form.decode()} | NO_STORE)

    async def never(self, request: Request) -> Response:
        """An address below a sequence that names no entity."""
        raise Refused(
            404,
            "no such address",
            found=request.url.path[:200],
            expected=f"{PREFIX}NAME/ENTITY; a / in an entity is %2F",
        )


NO_STORE = {"cache-control": "no-store", "x-content-type-options": "nosniff"}


def ensure_opens(key: ApiKey, name: str) -> None:
    """Raise Refused, 403, unless a key opens a sequence."""
    if not key.may_read(name):
        raise Refused(403, f"key '{key.name}' does not open '{name[:100]}'")


def _json(value: object, status: int = 200) -> Response:
    return Response(dump(value), status, {"content-type": JSON.decode()} | NO_STORE)


def _tell(request: Request, endpoint: str, sequence: str = "") -> None:
    """Note by what a request is counted."""
    request.scope["sequence_platform"] |= {"endpoint": endpoint, "sequence": sequence}
