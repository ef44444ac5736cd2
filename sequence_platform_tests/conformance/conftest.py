"""A lake of each kind, empty, for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sequence_platform.stores.ducklake import DuckLakeLake
from sequence_platform_tests.backends import LAKES, LakePlace


@pytest.fixture(params=sorted(LAKES))
def place(request: pytest.FixtureRequest, tmp_path: Path) -> LakePlace:
    return LAKES[request.param](tmp_path)


@pytest.fixture
def lake(place: LakePlace) -> Iterator[DuckLakeLake]:
    with place.open() as opened:
        yield opened
