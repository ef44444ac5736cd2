"""A project of shows, built once for the tests that only read it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from sequence_platform.training import Dataset
from sequence_platform.wiring import open_platform
from sequence_platform_tests.training.shows import Shows, make_shows


@pytest.fixture(scope="package")
def shows(tmp_path_factory: pytest.TempPathFactory) -> Shows:
    """Return a project whose lake and data sets are built; nobody changes it."""
    made = make_shows(tmp_path_factory.mktemp("shows") / "project")
    made.build()
    with open_platform(made.settings) as platform:
        for training in platform.plan.training.values():
            platform.build_training_set(training)
    return made


@pytest.fixture(scope="package")
def next_show(shows: Shows) -> Dataset:
    return Dataset.find("next_show", settings=shows.settings)


@pytest.fixture(scope="package")
def next_recent(shows: Shows) -> Dataset:
    return Dataset.find("next_recent", settings=shows.settings)


@pytest.fixture
def own_shows(tmp_path: Path) -> Shows:
    """Return a project that a test may change; its lake is built."""
    made = make_shows(tmp_path / "project")
    made.build()
    return made


@pytest.fixture
def aside(shows: Shows, tmp_path: Path) -> Shows:
    """Return the project with data sets and stores of its own; its lake is everybody's."""
    settings = shows.settings.model_copy(update={"training": str(tmp_path / "training")})
    return replace(shows, settings=settings)
