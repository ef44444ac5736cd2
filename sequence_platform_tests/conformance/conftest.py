"""Lakes of each kind: one that the tests of a module share, and one for a test of its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path

import pytest

from sequence_platform.ports import TableSpec
from sequence_platform.stores.ducklake import DuckLakeLake
from sequence_platform_tests.backends import LAKES, LakePlace
from sequence_platform_tests.conformance.appends import RAW, Stream
from sequence_platform_tests.conformance.lakes import CLICKS, HOME, PRICES

NUMBERS = count(1)
STOCK = 12
"""Tables that are made at once: one transaction costs about as much as one table in it."""


@pytest.fixture(scope="module", params=sorted(LAKES))
def shared_place(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> LakePlace:
    return LAKES[request.param](tmp_path_factory.mktemp("lake"))


@pytest.fixture(scope="module")
def lake(shared_place: LakePlace) -> Iterator[DuckLakeLake]:
    """A lake in which every test has tables of its own: opening one costs more than most tests."""
    with shared_place.open() as opened:
        yield opened


@dataclass(slots=True)
class Stock:
    """Empty tables of a lake, made ahead of the tests that take them."""

    lake: DuckLakeLake
    made: dict[str, list[TableSpec]] = field(default_factory=dict)

    def take(self, spec: TableSpec) -> TableSpec:
        """Return an empty table like ``spec`` that no other test knows."""
        left = self.made.setdefault(spec.name, [])
        if not left:
            left += [replace(spec, name=f"{spec.name}_{next(NUMBERS)}") for _ in range(STOCK)]
            self.lake.ensure_tables(left)
        return left.pop()


@pytest.fixture(scope="module")
def stock(lake: DuckLakeLake) -> Stock:
    return Stock(lake)


@pytest.fixture
def table(stock: Stock) -> TableSpec:
    return stock.take(CLICKS)


@pytest.fixture
def prices(stock: Stock) -> TableSpec:
    return stock.take(PRICES)


@pytest.fixture
def home(stock: Stock) -> TableSpec:
    return stock.take(HOME)


@pytest.fixture
def stream(stock: Stock, table: TableSpec) -> Stream:
    """Return two empty tables of an event type with a log."""
    return Stream(stock.lake, stock.take(RAW), table)


@pytest.fixture(params=sorted(LAKES))
def place(request: pytest.FixtureRequest, tmp_path: Path) -> LakePlace:
    """Where a test may have a lake of its own."""
    return LAKES[request.param](tmp_path)


@pytest.fixture
def own_lake(place: LakePlace) -> Iterator[DuckLakeLake]:
    with place.open() as opened:
        yield opened
