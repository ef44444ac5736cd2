"""The command that streams, as a process: it is asked to end, and killed, and another goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sequence_platform.settings import Settings
from sequence_platform.sources.jsonl_log import JsonlLogWriter
from sequence_platform.stores.ducklake import connect_read_only

pytestmark = pytest.mark.integration

SECONDS = 120.0
DEFINITIONS = """
from datetime import date, timedelta

import polars as pl

from sequence_platform import EventType, Log

click = EventType(
    name="click", owner="team:feed", description="A click.", start=date(2026, 3, 1),
    schema={"id": pl.String, "user_id": pl.Int64, "at": pl.Datetime("us", "UTC")},
    event_id="id", event_time="at", entity="user_id", log=Log("clicks"),
    retention=timedelta(days=36500))
"""


@pytest.fixture
def project(tmp_path: Path) -> Settings:
    (tmp_path / "definitions").mkdir()
    (tmp_path / "definitions" / "feed.py").write_text(DEFINITIONS)
    home = tmp_path / "home"
    writer = JsonlLogWriter(home / "log")
    writer.create_topic("clicks", 2)
    writer.close()
    return Settings(home=home, definitions=tmp_path / "definitions", source_root=tmp_path)


def send(project: Settings, first: int, count: int) -> None:
    writer = JsonlLogWriter(project.home / "log")
    rows = [
        {"id": f"{n:05}", "user_id": n % 7, "at": "2026-03-01T12:00:00Z"}
        for n in range(first, first + count)
    ]
    writer.append("clicks", [json.dumps(row).encode() for row in rows])
    writer.close()


def stored(project: Settings) -> tuple[int, int, int]:
    """Return how many messages, rows and ids the lake holds."""
    with connect_read_only(project.catalog_url, project.data_url) as connection:
        found = connection.execute(
            "SELECT (SELECT count(*) FROM raw.click), count(*), count(DISTINCT event_id) "
            "FROM enriched.click"
        ).fetchone()
    assert found is not None
    return found[0], found[1], found[2]


@contextmanager
def streaming(project: Settings, flush_seconds: float) -> Iterator[subprocess.Popen[str]]:
    """Run a worker, past its first line of output; kill it at the end."""
    environment = os.environ | {
        "SEQUENCE_PLATFORM_HOME": str(project.home),
        "SEQUENCE_PLATFORM_DEFINITIONS": str(project.definitions),
        "SEQUENCE_PLATFORM_SOURCE_ROOT": str(project.source_root),
        "PYTHONUNBUFFERED": "1",
    }
    command = Path(sys.executable).with_name("sequence-platform")
    process = subprocess.Popen(
        [command, "stream", "--flush-seconds", f"{flush_seconds}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
    )
    try:
        assert process.stdout is not None
        assert "streaming click" in process.stdout.readline()
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_for_line(process: subprocess.Popen[str], text: str) -> str:
    assert process.stdout is not None
    for line in process.stdout:
        if text in line:
            return line
    raise AssertionError(f"the process ended without saying {text!r}")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_that_is_asked_to_end_flushes_what_it_read_and_succeeds(
    project: Settings, number: signal.Signals
) -> None:
    with streaming(project, flush_seconds=600) as process:
        wait_for_line(process, "click: 0 messages")  # it knows where it begins, and polls
        send(project, 0, 40)
        time.sleep(3)  # many polls
        process.send_signal(number)
        output, _ = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, output
    assert "ending after this flush" in output
    assert "click: 40 messages, 2026-03-01, +40 rows" in output
    assert stored(project) == (40, 40, 40)


def test_a_killed_worker_is_followed_by_one_that_goes_on_where_it_was(project: Settings) -> None:
    send(project, 0, 30)
    with streaming(project, flush_seconds=0.1) as process:
        wait_for_line(process, "+30 rows")
        send(project, 30, 500)
        process.kill()
        process.wait()
    send(project, 530, 70)
    with streaming(project, flush_seconds=0.1) as process:
        deadline = time.monotonic() + SECONDS
        while stored(project)[0] < 600 and time.monotonic() < deadline:
            time.sleep(0.2)
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, output
    assert stored(project) == (600, 600, 600)
