"""A lake that the tests of a module share; every test has tables of its own."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import pytest

from sequence_platform.ports.online import OnlineStore
from sequence_platform.stores.ducklake import DuckLakeLake
from sequence_platform_tests.backends import ONLINE_STORES
from sequence_platform_tests.unit.streaming.streams import Streams

NUMBERS = count(1)


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DuckLakeLake]:
    folder = tmp_path_factory.mktemp("lake")
    with DuckLakeLake(f"{folder}/catalog.sqlite", f"{folder}/data", threads=1) as opened:
        yield opened


@pytest.fixture
def streams(lake: DuckLakeLake) -> Streams:
    return Streams(lake, f"t{next(NUMBERS)}")


@pytest.fixture(params=ONLINE_STORES)
def online(request: pytest.FixtureRequest) -> Iterator[OnlineStore]:
    """An empty online store of each kind."""
    with ONLINE_STORES[request.param]() as opened:
        yield opened
