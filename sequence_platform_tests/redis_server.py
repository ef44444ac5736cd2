"""A real Redis for tests: on a port that the system gives, and ended with the test run."""

from __future__ import annotations

import atexit
import os
import shutil
import socket
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from time import monotonic, sleep

import pytest
import redis

START_SECONDS = 20.0
ATTEMPTS = 3
"""Between asking the system for a port and using it, another process may take it."""


class RedisServer:
    """A server on loopback, which can be killed and started again on what it wrote down."""

    def __init__(self, home: Path, *, keeps: bool = False) -> None:
        self._home = home
        self._keeps = keeps
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start it, where it was if it was killed."""
        binary = shutil.which("redis-server") or shutil.which("valkey-server")
        if binary is None:
            _missing("no redis-server here (Debian: apt-get install redis-server)")
        assert binary
        for _ in range(ATTEMPTS):
            port = self.port or _free_port()
            options = ["--bind", "127.0.0.1", "--port", str(port), "--save", ""]
            options += ["--dir", str(self._home), "--appendonly", "yes" if self._keeps else "no"]
            with (self._home / "log").open("a") as log:
                self._process = subprocess.Popen([binary, *options], stdout=log, stderr=log)
            if self._answers(port):
                self.port = port
                return
            self.kill()
        pytest.fail(f"Redis did not start: {(self._home / 'log').read_text()[-2000:]}")

    def kill(self) -> None:
        """End it at once, by its id."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _answers(self, port: int) -> bool:
        deadline = monotonic() + START_SECONDS
        assert self._process is not None
        while self._process.poll() is None and monotonic() < deadline:
            try:
                with redis.Redis(host="127.0.0.1", port=port) as client:
                    client.ping()
            except redis.exceptions.ConnectionError:
                sleep(0.02)
            else:
                return True
        return False


def redis_url() -> str:
    """Return the address of an empty Redis that tests share; skip the test where there is none."""
    url = _server().url
    with redis.Redis.from_url(url) as client:
        client.flushdb()
    return url


@cache
def _server() -> RedisServer:
    home = Path(tempfile.mkdtemp(prefix="online-redis-"))
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    server = RedisServer(home)
    server.start()
    atexit.register(server.kill)
    return server


def _missing(reason: str) -> None:
    if os.environ.get("REQUIRE_REDIS"):
        pytest.fail(reason)
    pytest.skip(reason)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
