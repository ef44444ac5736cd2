"""The clients, for threads and for asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from types import TracebackType
from typing import Any, Self, Unpack

import httpx
from tenacity import AsyncRetrying, Retrying

from sequence_platform.client.answers import Answer, answer_of, answers_of
from sequence_platform.client.asked import Asked
from sequence_platform.client.calls import ATTEMPTS, Calls, Trouble, ensure_ok, unreachable


class Sequences:
    """The sequences of a ``Client``."""

    def __init__(self, calls: Calls, send: Callable[[httpx.Request], httpx.Response]) -> None:
        self._calls = calls
        self._send = send

    def get(self, name: str, entity: object, **asked: Unpack[Asked]) -> Answer:
        """Return an entity's sequence; one that nothing is known of has no rows.

        Raises:
            RequestError: the query is wrong, or the key does not open it.
            StoreError: the server, or the way to it, failed in every attempt.
        """
        return answer_of(self._send(self._calls.get(name, entity, asked)))

    def batch_get(
        self, name: str, entities: Iterable[object], **asked: Unpack[Asked]
    ) -> list[Answer]:
        """Return sequences of entities, in order, from one moment of the store.

        Args:
            name: The sequence.
            entities: Plain, or ``Entity`` with a context or filter of its own.
            asked: Of all of them.

        Raises:
            RequestError: the query is wrong, or the key does not open it.
            StoreError: the server, or the way to it, failed in every attempt.
        """
        return answers_of(self._send(self._calls.batch(name, entities, asked)))


class AsyncSequences:
    """The sequences of an ``AsyncClient``."""

    def __init__(
        self, calls: Calls, send: Callable[[httpx.Request], Awaitable[httpx.Response]]
    ) -> None:
        self._calls = calls
        self._send = send

    async def get(self, name: str, entity: object, **asked: Unpack[Asked]) -> Answer:
        """Return an entity's sequence: ``Sequences.get``."""
        return answer_of(await self._send(self._calls.get(name, entity, asked)))

    async def batch_get(
        self, name: str, entities: Iterable[object], **asked: Unpack[Asked]
    ) -> list[Answer]:
        """Return sequences of entities: ``Sequences.batch_get``."""
        return answers_of(await self._send(self._calls.batch(name, entities, asked)))


class Client:
    """Asks a server.

    Args:
        url: ``http://host:port``.
        key: An API key, if the server wants one.
        timeout: Seconds that one attempt may take.
        attempts: How often a connection that failed, or a server that is busy, is tried.
        verify: As httpx takes it: a path or context for a certificate of one's own.
    """

    def __init__(
        self,
        url: str,
        key: str | None = None,
        *,
        timeout: float = 10.0,
        attempts: int = ATTEMPTS,
        verify: Any = True,  # noqa: ANN401 - what httpx takes
    ) -> None:
        self._calls = Calls(url, key, timeout, attempts)
        self._http = httpx.Client(verify=verify)
        self.sequences = Sequences(self._calls, self._send)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def definitions(self, name: str | None = None) -> dict[str, Any]:
        """Return the sequences that there are, or one with its columns."""
        found: dict[str, Any] = self._send(self._calls.definitions(name)).json()
        return found

    def _send(self, request: httpx.Request) -> httpx.Response:
        try:
            return Retrying(**self._calls.policy)(self._try, request)
        except Trouble as failed:
            raise failed.error from failed.error.__cause__

    def _try(self, request: httpx.Request) -> httpx.Response:
        try:
            return ensure_ok(self._http.send(request))
        except httpx.TransportError as error:
            raise unreachable(error, request) from error


class AsyncClient:
    """Asks a server, from asyncio; arguments as ``Client`` takes them."""

    def __init__(  # noqa: PLR0913 - all but the address have a default
        self,
        url: str,
        key: str | None = None,
        *,
        timeout: float = 10.0,
        attempts: int = ATTEMPTS,
        verify: Any = True,  # noqa: ANN401 - what httpx takes
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._calls = Calls(url, key, timeout, attempts)
        self._http = httpx.AsyncClient(verify=verify, transport=transport)
        self.sequences = AsyncSequences(self._calls, self._send)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def definitions(self, name: str | None = None) -> dict[str, Any]:
        """Return the sequences that there are, or one with its columns."""
        response = await self._send(self._calls.definitions(name))
        found: dict[str, Any] = response.json()
        return found

    async def _send(self, request: httpx.Request) -> httpx.Response:
        try:
            return await AsyncRetrying(**self._calls.policy, sleep=asyncio.sleep)(
                self._try, request
            )
        except Trouble as failed:
            raise failed.error from failed.error.__cause__

    async def _try(self, request: httpx.Request) -> httpx.Response:
        try:
            return ensure_ok(await self._http.send(request))
        except httpx.TransportError as error:
            raise unreachable(error, request) from error
