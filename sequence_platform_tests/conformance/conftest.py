"""Lakes of each kind: one that the tests of a module share, and one for a test of its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest

from sequence_platform.ports import TableSpec
from sequence_platform.stores.ducklake import DuckLakeLake
from sequence_platform_tests.backends import LAKES, LakePlace
from sequence_platform_tests.conformance.appends import RAW, Stream
from sequence_platform_tests.conformance.lakes import CLICKS, HOME, PRICES

NUMBERS = count(1)


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


@pytest.fixture
def table(lake: DuckLakeLake) -> TableSpec:
    return _ensured(lake, CLICKS)


@pytest.fixture
def prices(lake: DuckLakeLake) -> TableSpec:
    return _ensured(lake, PRICES)


@pytest.fixture
def home(lake: DuckLakeLake) -> TableSpec:
    return _ensured(lake, HOME)


@pytest.fixture
def stream(lake: DuckLakeLake, table: TableSpec) -> Stream:
    """Return two empty tables of an event type with a log."""
    return Stream(lake, _ensured(lake, RAW), table)


@pytest.fixture(params=sorted(LAKES))
def place(request: pytest.FixtureRequest, tmp_path: Path) -> LakePlace:
    """Where a test may have a lake of its own."""
    return LAKES[request.param](tmp_path)


@pytest.fixture
def own_lake(place: LakePlace) -> Iterator[DuckLakeLake]:
    with place.open() as opened:
        yield opened


def _ensured(lake: DuckLakeLake, spec: TableSpec) -> TableSpec:
    """Return an empty table like ``spec`` that no other test knows."""
    own = replace(spec, name=f"{spec.name}_{next(NUMBERS)}")
    lake.ensure_tables([own])
    return own
