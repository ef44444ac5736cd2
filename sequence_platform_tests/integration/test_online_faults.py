"""The online store when processes are killed: nothing lost, nothing twice, no half of anything."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import numpy as np
import pytest

from sequence_platform.catalog import load_plan
from sequence_platform.errors import StoreError
from sequence_platform.settings import Settings
from sequence_platform.sources.jsonl_log import JsonlLogWriter
from sequence_platform.stores.local_online import LocalOnlineStore
from sequence_platform.wiring import open_online
from sequence_platform_tests.integration import online_publisher
from sequence_platform_tests.integration.online_publisher import DAYS, EACH, ENTITIES, event_plan
from sequence_platform_tests.integration.test_stream_process import DEFINITIONS

pytestmark = pytest.mark.integration

SECONDS = 120.0
KILLS = 10
USERS = 7
PUBLISHER = Path(online_publisher.__file__)
ROOT = str(PUBLISHER.parents[2])


@contextmanager
def process(*arguments: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """Run a process; kill it at the end."""
    started = subprocess.Popen(
        arguments,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | environment | {"PYTHONUNBUFFERED": "1"},
    )
    try:
        yield started
    finally:
        started.kill()
        started.communicate()


@pytest.fixture
def project(tmp_path: Path) -> Settings:
    (tmp_path / "definitions").mkdir()
    (tmp_path / "definitions" / "feed.py").write_text(DEFINITIONS)
    writer = JsonlLogWriter(tmp_path / "home" / "log")
    writer.create_topic("clicks", 2)
    writer.close()
    return Settings(
        home=tmp_path / "home", definitions=tmp_path / "definitions", source_root=tmp_path
    )


@contextmanager
def streaming(project: Settings) -> Iterator[subprocess.Popen[str]]:
    command = str(Path(sys.executable).with_name("sequence-platform"))
    with process(
        command, "stream", "--to", "online",
        SEQUENCE_PLATFORM_HOME=str(project.home),
        SEQUENCE_PLATFORM_DEFINITIONS=str(project.definitions),
        SEQUENCE_PLATFORM_SOURCE_ROOT=str(project.source_root),
    ) as worker:  # fmt: skip
        assert worker.stdout is not None
        assert "streaming click" in worker.stdout.readline()
        yield worker


def send(project: Settings, first: int, count: int) -> None:
    writer = JsonlLogWriter(project.home / "log")
    rows = [
        {"id": f"{n:06}", "user_id": n % USERS, "at": "2026-03-01T12:00:00Z"}
        for n in range(first, first + count)
    ]
    writer.append("clicks", [json.dumps(row).encode() for row in rows])
    writer.close()


def read_ids(project: Settings) -> list[str]:
    """Return the ids of all rows, those of each user in the order of answers."""
    event = load_plan(project.definitions).events["click"]
    ids: list[str] = []
    with open_online(project) as store, store.view() as view:
        for user in range(USERS):
            fresh = view.candidates(event, user).fresh
            if fresh is not None:
                column = fresh.column("event_id", 0, len(fresh.time_us))
                ids += column.to_series("event_id").to_list()
    return ids


def test_killed_workers_lose_nothing_and_repeat_nothing(project: Settings) -> None:
    moments, sent = random.Random(3), 0
    for _ in range(KILLS):
        with streaming(project):
            for _ in range(4):
                send(project, sent, 250)
                sent += 250
                time.sleep(moments.uniform(0, 0.15))
    with streaming(project):
        deadline = time.monotonic() + SECONDS
        while len(read_ids(project)) < sent and time.monotonic() < deadline:
            time.sleep(0.2)
    assert sorted(read_ids(project)) == [f"{n:06}" for n in range(sent)]
    with open_online(project) as store:
        event = load_plan(project.definitions).events["click"]
        assert store.offsets(event)["next_offset"].sum() == sent
        assert store.tail_size().rows == sent


def publishing(folder: Path, first: int) -> AbstractContextManager[subprocess.Popen[str]]:
    return process(sys.executable, str(PUBLISHER), str(folder), str(first), PYTHONPATH=ROOT)


def numbers_of(store: LocalOnlineStore, entity: int) -> set[int]:
    """Return which publications an answer has rows of; each must have all of its rows."""
    event = event_plan()
    with store.view() as view:
        settled = view.candidates(event, entity).settled
        count = len(settled.time_us)
        if count == 0:
            return set()
        values = settled.column("number", 0, count).values
    assert count == EACH * len(DAYS)
    return set(np.asarray(values).tolist())


def test_readers_see_whole_publications_while_publishers_are_killed(tmp_path: Path) -> None:
    moments, number, newest = random.Random(5), 1, 0
    store = LocalOnlineStore(tmp_path, tail_mb=64)
    try:
        for _ in range(KILLS):
            with publishing(tmp_path, number) as publisher:
                assert publisher.stdout is not None
                publisher.stdout.readline()
                until = time.monotonic() + moments.uniform(0.05, 0.6)
                while time.monotonic() < until:
                    found = numbers_of(store, moments.randrange(ENTITIES))
                    assert len(found) == 1, "rows of two publications in one answer"
                    assert newest <= max(found), "an older publication came back"
                    newest = max(found)
            number = newest + 2  # one more may be live than was seen
        [last] = numbers_of(store, 0)
        manifest = store.manifest(event_plan())
        assert {version.content_hash for version in manifest.days.values()} == {str(last)}
    finally:
        store.close()


def test_a_damaged_segment_is_refused_and_an_earlier_manifest_serves(tmp_path: Path) -> None:
    event = event_plan()
    with publishing(tmp_path, 1) as publisher:
        assert publisher.stdout is not None
        publisher.stdout.readline()
        publisher.stdout.readline()
    store = LocalOnlineStore(tmp_path, tail_mb=64)
    try:
        manifests = store.manifests(event)
        rows = tmp_path / "segments" / "click" / manifests[-1].segments[0].name / "rows.arrow"
        data = bytearray(rows.read_bytes())
        data[len(data) // 2] ^= 0xFF
        rows.write_bytes(data)
        with pytest.raises(StoreError, match="damaged") as caught:
            numbers_of(store, 3)
        assert "checksum" in caught.value.found
        store.rollback(event, manifests[-2].number, manifests[-1].activated_at)
        assert len(numbers_of(store, 3)) == 1
    finally:
        store.close()
