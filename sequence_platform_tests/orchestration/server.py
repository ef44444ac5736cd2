"""A real `dagster dev` for the tests, in processes of its own, on loopback."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg

from sequence_platform.orchestration.home import ensure_dagster_home
from sequence_platform.settings import Settings

MODULE = "sequence_platform.orchestration.definitions"
ENDED = {"COMPLETED_SUCCESS", "COMPLETED_FAILED", "COMPLETED", "FAILED", "CANCELED"}

LOADED = """{ workspaceOrError { ... on Workspace { locationEntries {
  loadStatus locationOrLoadError { __typename ... on PythonError { message } } } } } }"""
LAUNCH = """mutation ($params: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $params) {
    __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message } } }"""
START_SENSOR = """mutation ($selector: SensorSelector!) {
  startSensor(sensorSelector: $selector) {
    __typename ... on PythonError { message } ... on SensorNotFoundError { message } } }"""
REPOSITORIES = """{ repositoriesOrError { ... on RepositoryConnection {
  nodes { name location { name } } } } }"""
TERMINATE = """mutation ($run: String!) {
  terminateRun(runId: $run, terminatePolicy: SAFE_TERMINATE) {
    __typename ... on TerminateRunFailure { message } ... on PythonError { message } } }"""
STATUS = """query ($id: String!) { partitionBackfillOrError(backfillId: $id) {
  ... on PartitionBackfill { status error { message } } } }"""


@dataclass(frozen=True, slots=True)
class DagsterServer:
    """The address of a running Dagster and the folder of its instance."""

    url: str
    home: Path

    def query(self, query: str, **variables: object) -> dict[str, Any]:
        """Return what GraphQL answers, as the browser would get it."""
        body = json.dumps({"query": query, "variables": variables}).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.url}/graphql", body, headers)
        with urllib.request.urlopen(request, timeout=60) as response:
            answer = json.load(response)
        assert "errors" not in answer, answer["errors"]
        data: dict[str, Any] = answer["data"]
        return data

    def launch_backfill(self, assets: Sequence[str], days: Sequence[str]) -> str:
        """Start a backfill as the UI's dialog does, and return its id."""
        selection = [{"path": asset.split("/")} for asset in assets]
        params = {"assetSelection": selection, "partitionNames": list(days)}
        launched = self.query(LAUNCH, params=params)["launchPartitionBackfill"]
        assert launched["__typename"] == "LaunchBackfillSuccess", launched
        return str(launched["backfillId"])

    def backfill_status(self, backfill: str) -> str:
        """Return how a backfill is doing."""
        return str(self.query(STATUS, id=backfill)["partitionBackfillOrError"]["status"])

    def wait_for_backfill(self, backfill: str, seconds: float = 600) -> str:
        """Return how a backfill ended."""
        wait_until(lambda: self.backfill_status(backfill) in ENDED, seconds, f"backfill {backfill}")
        return self.backfill_status(backfill)

    def start_sensor(self, name: str) -> None:
        """Switch a sensor on, as in the UI."""
        [repository] = self.query(REPOSITORIES)["repositoriesOrError"]["nodes"]
        selector = {
            "repositoryName": repository["name"],
            "repositoryLocationName": repository["location"]["name"],
            "sensorName": name,
        }
        started = self.query(START_SENSOR, selector=selector)["startSensor"]
        assert started["__typename"] == "Sensor", started

    def terminate(self, run_id: str) -> None:
        """End a run, as in the UI."""
        ended = self.query(TERMINATE, run=run_id)["terminateRun"]
        assert ended["__typename"] == "TerminateRunSuccess", ended

    @contextmanager
    def instance(self) -> Iterator[dg.DagsterInstance]:
        """Open the same instance from here, to look at runs and events."""
        with dg.DagsterInstance.from_config(str(self.home)) as opened:
            yield opened


def wait_until(is_so: Callable[[], bool], seconds: float, what: str) -> None:
    """Wait until something is so.

    Raises:
        TimeoutError: it was not, in time.
    """
    deadline = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not so after {seconds} s")
        time.sleep(0.2)


def environment(settings: Settings, home: Path) -> dict[str, str]:
    """Return the environment in which another process has these settings."""
    return {
        **os.environ,
        "DAGSTER_HOME": str(home),
        "SEQUENCE_PLATFORM_HOME": str(settings.home),
        "SEQUENCE_PLATFORM_DEFINITIONS": str(settings.definitions),
        "SEQUENCE_PLATFORM_SOURCE_ROOT": str(settings.source_root),
        "SEQUENCE_PLATFORM_LOG": settings.log_url,
        "SEQUENCE_PLATFORM_PARTITIONS_PER_RUN": str(settings.partitions_per_run),
        "SEQUENCE_PLATFORM_STREAM_FLUSH_SECONDS": str(settings.stream_flush_seconds),
        "SEQUENCE_PLATFORM_STREAM_LEASE_MINUTES": str(settings.stream_lease_minutes),
        "SEQUENCE_PLATFORM_STREAM_SHARDS": str(settings.stream_shards),
        "SEQUENCE_PLATFORM_SETTLE_SECONDS": str(settings.settle_seconds),
    }


@contextmanager
def running_dagster(settings: Settings) -> Iterator[DagsterServer]:
    """Run `dagster dev` until the end of the block, and end every process of it."""
    home = ensure_dagster_home(settings)
    port = _free_port()
    command = [
        sys.executable,
        "-m",
        "dagster",
        "dev",
        "-m",
        MODULE,
        "-h",
        "127.0.0.1",
        "-p",
        str(port),
    ]
    with (home / "dev.log").open("wb") as log:
        process = subprocess.Popen(
            command,
            cwd=home,
            env=environment(settings, home),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # so that its children can be ended with it
        )
        server = DagsterServer(f"http://127.0.0.1:{port}", home)
        try:
            wait_until(
                lambda: _is_loaded(server, process), 180, f"dagster dev (see {home}/dev.log)"
            )
            yield server
        finally:
            _end(process)


def _is_loaded(server: DagsterServer, process: subprocess.Popen[bytes]) -> bool:
    assert process.poll() is None, (server.home / "dev.log").read_text()[-3000:]
    try:
        entries = server.query(LOADED)["workspaceOrError"]["locationEntries"]
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False
    loaded = bool(entries) and all(entry["loadStatus"] == "LOADED" for entry in entries)
    for entry in entries if loaded else ():
        assert entry["locationOrLoadError"]["__typename"] != "PythonError", entry
    return loaded


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ask nicely, then end the session that was started here: run workers outlive their server."""
    process.send_signal(signal.SIGINT)
    with suppress(subprocess.TimeoutExpired):
        process.wait(timeout=30)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
