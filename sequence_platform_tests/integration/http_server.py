"""A real server for the tests: granian and its workers in processes of their own, on loopback."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from sequence_platform.settings import Settings

START_SECONDS = 90
URL = re.compile(r"https?://\S+")


@dataclass(frozen=True, slots=True)
class HttpServer:
    """A running server."""

    url: str
    process: subprocess.Popen[bytes]
    output: Path

    def workers(self) -> list[psutil.Process]:
        children = psutil.Process(self.process.pid).children()
        return [each for each in children if _is_worker(each)]

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self) -> int:
        return self.process.wait(START_SECONDS)


def _is_worker(process: psutil.Process) -> bool:
    try:
        return "spawn_main" in " ".join(process.cmdline())
    except psutil.Error:  # it has just ended
        return False


def environment(settings: Settings) -> dict[str, str]:
    prefix = "SEQUENCE_PLATFORM_"
    own = {
        "HOME": settings.home,
        "DEFINITIONS": settings.definitions,
        "SOURCE_ROOT": settings.source_root,
        "ONLINE_TAIL_MB": settings.online_tail_mb,
        "READY_LAG_SECONDS": 1e9,
    }
    return {**os.environ, **{f"{prefix}{name}": str(value) for name, value in own.items()}}


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-c", "from sequence_platform.cli import main; main()", *arguments]


@contextmanager
def serving(settings: Settings, *arguments: str, workers: int = 2) -> Iterator[HttpServer]:
    """Run a server until the end of the block."""
    output = settings.source_root / "server.txt"
    with output.open("wb") as file:
        process = subprocess.Popen(
            command("serve", "--port", "0", "--workers", str(workers), *arguments),
            env=environment(settings),
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    try:
        yield HttpServer(_url(process, output), process, output)
    finally:
        children = psutil.Process(process.pid).children(recursive=True) if _lives(process) else []
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for child in children:
            if child.is_running():
                child.kill()


def _lives(process: subprocess.Popen[bytes]) -> bool:
    return process.poll() is None


def _url(process: subprocess.Popen[bytes], output: Path) -> str:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and _lives(process):
        found = URL.search(output.read_text(encoding="utf-8"))
        if found:
            return found[0]
        time.sleep(0.05)
    raise AssertionError(output.read_text(encoding="utf-8"))
