"""The real application over a real store, asked in this process."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from sequence_platform.api.app import Application
from sequence_platform.api.service import Options, open_service
from sequence_platform.clock import FixedClock
from sequence_platform_tests.served import NOW, Served, make_served

ARROW = {"accept": "application/vnd.apache.arrow.stream"}


@dataclass(frozen=True, slots=True)
class Asker:
    """Asks an application, as a client would."""

    application: Application
    served: Served
    url: str = "http://127.0.0.1:8080"

    def request(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, **more: Any
    ) -> httpx.Response:
        async def send() -> httpx.Response:
            transport = httpx.ASGITransport(app=self.application)
            async with httpx.AsyncClient(transport=transport, base_url=self.url) as client:
                return await client.request(method, path, headers=headers, **more)

        return asyncio.run(send())

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> httpx.Response:
        return self.request("GET", path, headers)

    def batch(
        self, body: object, name: str = "feed", headers: Mapping[str, str] | None = None
    ) -> httpx.Response:
        return self.request("POST", f"/v1/sequences/{name}:batchGet", headers, json=body)

    def counter(self, name: str, **labels: str) -> float:
        value = self.application.service.metrics.registry.get_sample_value(
            f"sequence_platform_{name}", labels
        )
        return value or 0.0


MakeAsker = Callable[..., Asker]


@pytest.fixture(autouse=True)
def forgets_definitions() -> Iterator[None]:
    before, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = before
    for name in set(sys.modules) - modules:
        if name.partition(".")[0] == "definitions":
            del sys.modules[name]


@pytest.fixture
def make_asker(tmp_path: Path) -> Iterator[MakeAsker]:
    """Return what makes an application, with settings and options by keyword."""
    with ExitStack() as stack:

        def make(options: Options | None = None, **settings: Any) -> Asker:
            served = make_served(tmp_path / "project", **settings)
            service = stack.enter_context(
                open_service(served.settings, options or Options(), clock=FixedClock(NOW))
            )
            return Asker(Application(service), served)

        yield make


@pytest.fixture
def asker(make_asker: MakeAsker) -> Asker:
    return make_asker()
