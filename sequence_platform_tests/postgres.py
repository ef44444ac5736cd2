"""A real PostgreSQL for tests: on a port that the system gives, and ended with the test run."""

from __future__ import annotations

import atexit
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import uuid
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from time import monotonic, sleep

import pytest

START_SECONDS = 30.0
ATTEMPTS = 3
"""Between asking the system for a port and using it, another process may take it."""


def postgres_database() -> str:
    """Return the address of a new, empty database; skip the test where no server can be had."""
    binaries = _binaries()
    if binaries is None:
        reason = "no PostgreSQL server binaries here (Debian: apt-get install postgresql)"
        if os.environ.get("REQUIRE_POSTGRES"):
            pytest.fail(reason)
        pytest.skip(reason)
    port = _server(binaries)
    name = f"lake_{uuid.uuid4().hex}"
    _run([binaries / "createdb", "-h", "127.0.0.1", "-p", str(port), "-U", "lake", name])
    return f"postgresql://lake@127.0.0.1:{port}/{name}"


@cache
def _binaries() -> Path | None:
    found = shutil.which("initdb")
    debian = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/initdb"),
        key=lambda p: int(p.parts[-3].split(".")[0]),
    )
    candidates = [Path(found).resolve()] if found else []
    return next((path.parent for path in [*debian[::-1], *candidates] if path.is_file()), None)


@cache
def _server(binaries: Path) -> int:
    """Start the server and return its port."""
    # Not in pytest's folder: initdb refuses root, and nobody else may enter a folder of root.
    home = Path(tempfile.mkdtemp(prefix="lake-postgres-"))
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    user = _unprivileged_user()
    if user is not None:
        shutil.chown(home, user)
    data = home / "data"
    _run(
        [binaries / "initdb", "-D", data, "-U", "lake", "-A", "trust", "-E", "UTF8", "--no-sync"],
        user=user,
    )
    for _ in range(ATTEMPTS):
        port = _free_port()
        options = {"port": port, "unix_socket_directories": home, "listen_addresses": "127.0.0.1"}
        options |= {"fsync": "off", "max_connections": 100, "shared_buffers": "32MB"}
        command = [str(binaries / "postgres"), "-D", str(data), *_settings(options)]
        with (home / "log").open("w") as log:
            server = subprocess.Popen(command, user=user, cwd=home, stdout=log, stderr=log)
        if _answers(server, binaries, port):
            atexit.register(_stop, server)
            return port
        _stop(server)
    pytest.fail(f"PostgreSQL did not start: {(home / 'log').read_text()[-2000:]}")


def _settings(options: Mapping[str, object]) -> list[str]:
    return [part for name, value in options.items() for part in ("-c", f"{name}={value}")]


def _answers(server: subprocess.Popen[bytes], binaries: Path, port: int) -> bool:
    deadline = monotonic() + START_SECONDS
    while server.poll() is None and monotonic() < deadline:
        command = [str(binaries / "pg_isready"), "-h", "127.0.0.1", "-p", str(port), "-q"]
        if subprocess.run(command, check=False).returncode == 0:
            return True
        sleep(0.05)
    return False


def _stop(server: subprocess.Popen[bytes]) -> None:
    server.terminate()
    try:
        server.wait(timeout=10)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


def _unprivileged_user() -> str | None:
    if os.getuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return next(name for name in ("postgres", "nobody") if name in names)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _run(command: list[str | Path], *, user: str | None = None) -> None:
    done = subprocess.run(command, user=user, cwd="/", check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
