"""A small project on disk and a way to run commands on it, in this process."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner, Result

from sequence_platform.cli import main

DEFINITIONS = """
from datetime import date, timedelta

import polars as pl

from sequence_platform import EventType, Files, Sequence

click = EventType(
    name="click", owner="team:feed", description="A click.", start=date(2026, 3, 1),
    schema={"id": pl.String, "user_id": pl.Int64, "at": pl.Datetime("us", "UTC"), "pin": pl.Int64},
    retention=timedelta(days=36500),
    event_id="id", event_time="at", entity="user_id", batch=Files("clicks/{day}.parquet"),
    where={"known": pl.col("pin") > 0})

feed = Sequence(
    name="feed", owner="team:feed", events=[click], columns=["pin"], max_age=timedelta(days=30))
"""
FIRST = date(2026, 3, 1)


@dataclass(frozen=True, slots=True)
class Shell:
    """Runs commands with settings that point into a temporary folder."""

    root: Path

    def run(self, *arguments: str, definitions: str = "definitions", **variables: str) -> Result:
        """Run a command; settings by keyword, as ``threads="1"``."""
        environment = {
            "HOME": str(self.root / "home"),
            "DEFINITIONS": str(self.root / definitions),
            "SOURCE_ROOT": str(self.root),
            "THREADS": "1",  # of few rows a second one only costs
        } | {name.upper(): value for name, value in variables.items()}
        return CliRunner().invoke(
            main,
            list(arguments),
            env={f"SEQUENCE_PLATFORM_{name}": value for name, value in environment.items()}
            | {"COLUMNS": "200"},
        )

    def define(self, old: str = "", new: str = "", folder: str = "definitions") -> None:
        """Write the definitions, changed; another folder stands for a later checkout."""
        assert old in DEFINITIONS
        path = self.root / folder / "feed.py"
        path.parent.mkdir(parents=True)
        path.write_text(DEFINITIONS.replace(old, new) if old else DEFINITIONS, encoding="utf-8")


@contextmanager
def shell_in(root: Path) -> Iterator[Shell]:
    """Make the project in a folder."""
    before, modules = list(sys.path), set(sys.modules)
    shell = Shell(root)
    shell.define()
    (root / "clicks").mkdir()
    rows = [("a", 7, 9, 10), ("b", 7, 10, 11), ("c", 8, 11, 0), ("d", -3, 12, 13)]
    pl.DataFrame(
        [
            {"id": key, "user_id": user, "at": datetime(2026, 3, 1, hour, tzinfo=UTC), "pin": pin}
            for key, user, hour, pin in rows
        ],
        schema={
            "id": pl.String,
            "user_id": pl.Int64,
            "at": pl.Datetime("us", "UTC"),
            "pin": pl.Int64,
        },
    ).write_parquet(root / "clicks" / f"{FIRST}.parquet")
    yield shell
    sys.path[:] = before
    for name in set(sys.modules) - modules:
        if name.partition(".")[0] == "definitions":
            del sys.modules[name]


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    with shell_in(tmp_path) as shell:
        yield shell
