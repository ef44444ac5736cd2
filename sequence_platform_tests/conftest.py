"""What all tests share: how many examples are tried, which worker runs what, kept texts."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadFileScheduling  # type: ignore[import-untyped] # it has none

SLOW_MACHINES = [HealthCheck.too_slow, HealthCheck.data_too_large]
"""Drawing a history takes milliseconds, which a busy machine stretches: not the code's fault."""

INTEGRATION = "sequence_platform_tests/integration/"
LONG = ("parity/", "conformance/test_lake", "orchestration/")
"""Beginnings of files that take longest among those of one process."""
LAKE_KIND = re.compile(r"ducklake-\w+")
LAWS = ("parity/", "properties/")
"""Folders whose tests share nothing that is costly to make."""
SNAPSHOTS = Path(__file__).with_name("snapshots")

settings.register_profile(
    "dev", max_examples=40, deadline=None, suppress_health_check=SLOW_MACHINES
)
settings.register_profile(
    "ci", max_examples=400, deadline=None, print_blob=True, suppress_health_check=SLOW_MACHINES
)
settings.register_profile(
    "long", max_examples=4000, deadline=None, print_blob=True, suppress_health_check=SLOW_MACHINES
)


def pytest_configure(config: pytest.Config) -> None:
    """Use the fast profile unless ``--hypothesis-profile`` says otherwise."""
    if not config.getoption("--hypothesis-profile"):
        settings.load_profile("dev")


class Shares(LoadFileScheduling):  # type: ignore[misc] # likewise
    """What one worker runs, where several share the tests (``make test``): mostly whole files.

    Tests that start processes are two shares, those of Dagster and the others: they mostly wait,
    while another worker computes, and no more than two press each other's time limits. Laws are
    shared one by one, and suites of lakes by the kind of lake, which are what files of them set up.
    """

    def _split_scope(self, nodeid: str) -> str:
        file: str = super()._split_scope(nodeid)
        if file.startswith(INTEGRATION):
            return "dagster" if file.startswith(f"{INTEGRATION}test_dagster_") else "processes"
        if _within(file).startswith(LAWS):
            return nodeid
        kind = LAKE_KIND.search(nodeid)
        return f"{file}[{kind.group()}]" if kind else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Shares:
    """Share the tests so."""
    return Shares(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Let a worker begin with what takes longest, and end with what is shared finely."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: _turn(item.nodeid))


def _turn(nodeid: str) -> int:
    if nodeid.startswith(INTEGRATION):
        return 0
    within = _within(nodeid)
    return 1 if within.startswith(LONG) else 3 if within.startswith(LAWS) else 2


def _within(nodeid: str) -> str:
    return nodeid.removeprefix("sequence_platform_tests/")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--update-snapshots``, which writes what tests compare with files."""
    parser.addoption(
        "--update-snapshots", action="store_true", help="write snapshots instead of comparing"
    )


@pytest.fixture
def assert_snapshot(pytestconfig: pytest.Config) -> Callable[[str, str], None]:
    """Return what compares a text with ``snapshots/<name>.txt``."""

    def compare(name: str, text: str) -> None:
        file = SNAPSHOTS / f"{name}.txt"
        if pytestconfig.getoption("--update-snapshots"):
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"{text}\n", encoding="utf-8")
        assert file.is_file(), "no snapshot yet: run pytest with --update-snapshots and review it"
        assert f"{text}\n" == file.read_text(encoding="utf-8"), "meant? pytest --update-snapshots"

    return compare
