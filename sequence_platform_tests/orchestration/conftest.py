"""A project in a temporary folder, and a Dagster instance of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from sequence_platform.runtimes.batch import build_enrichment, build_events, build_sequence
from sequence_platform.wiring import open_platform
from sequence_platform_tests.orchestration.project import (
    DAY,
    START,
    Project,
    copy_project,
    make_project,
)

DAYS = 5


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return make_project(tmp_path / "project", days=DAYS)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral


@pytest.fixture(scope="session")
def built_once(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project all of whose days are built, for copies; Dagster knows of none of it."""
    project = make_project(tmp_path_factory.mktemp("built") / "project", days=DAYS)
    with open_platform(project.settings) as platform:
        plan, lake, clock = platform.plan, platform.lake, platform.clock
        build_enrichment(lake, platform.source_of("pins"), plan.enrichments["pins"], clock)
        for day in [START + n * DAY for n in range(DAYS)]:
            for name, event in plan.events.items():
                build_events(lake, platform.source_of(name), event, day, clock)
            build_sequence(lake, plan.sequences["feed"], day, clock)
    return project


@pytest.fixture
def built(built_once: Project, tmp_path: Path) -> Project:
    """A project all of whose days are built: building them takes longer than most tests."""
    return copy_project(built_once, tmp_path / "project")
