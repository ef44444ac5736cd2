"""The command that runs a Kafka for developers: it tells its address, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from time import monotonic, sleep

import pytest

from sequence_platform.ports.log import Bounds
from sequence_platform.sources.kafka_log import KafkaLog, KafkaLogWriter
from sequence_platform_tests.kafka import kafka_jars

pytestmark = [pytest.mark.kafka, pytest.mark.integration, pytest.mark.slow]

PROGRAM = "from sequence_platform.cli import main; main()"
SECONDS = 120.0


@pytest.fixture
def command(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    kafka_jars()
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "dev", "kafka", "--data", str(tmp_path / "kafka")],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def address(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    for line in process.stdout:
        name, _, told = line.strip().partition("=")
        if name == "export KAFKA_BOOTSTRAP_SERVERS":
            return told
    raise AssertionError("the command ended without an address")


def is_gone(servers: str) -> bool:
    host, _, port = servers.partition(":")
    deadline = monotonic() + 30
    while monotonic() < deadline:
        try:
            socket.create_connection((host, int(port)), timeout=1).close()
        except OSError:
            return True
        sleep(0.2)
    return False


def test_it_tells_its_address_and_ends_with_ctrl_c(command: subprocess.Popen[str]) -> None:
    servers = address(command)
    assert servers.startswith("127.0.0.1:")
    with closing(KafkaLogWriter(servers)) as writer, closing(KafkaLog(servers)) as log:
        writer.create_topic("clicks", 2)
        writer.append("clicks", [b"a"], [b"k"])
        assert sum(held.end for held in log.bounds("clicks").values()) == 1
        assert Bounds(0, 0) in log.bounds("clicks").values()
    command.send_signal(signal.SIGINT)
    assert command.wait(SECONDS) == 0
    assert is_gone(servers)


def test_its_broker_ends_when_it_is_killed(command: subprocess.Popen[str]) -> None:
    servers = address(command)
    with suppress(ProcessLookupError):
        os.kill(command.pid, signal.SIGKILL)
    command.wait(SECONDS)
    assert is_gone(servers)
