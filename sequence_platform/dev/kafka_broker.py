"""Runs a broker of Apache Kafka on loopback, without ZooKeeper, for one developer or test run.

A broker ends with the process that started it, however that ends.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from base64 import urlsafe_b64encode
from contextlib import suppress
from pathlib import Path
from time import monotonic, sleep
from uuid import uuid4

from sequence_platform.dev.kafka_jars import ensure_java
from sequence_platform.errors import StoreError

START_SECONDS = 90.0
STOP_SECONDS = 30.0
LOOPBACK = "127.0.0.1"
LARGEST_MESSAGE_BYTES = 64 << 20
JVM = ("-Xms64m", "-Xmx512m", "-XX:+UseSerialGC", "-Dlog4j2.level=WARN")
"""Small: a broker for one developer."""

SUPERVISED = """
exec 3<&0 </dev/null
trap : TERM INT HUP
"$@" 3<&- &
broker=$!
(cat <&3 >/dev/null; kill -9 "$broker") 2>/dev/null &
while kill -0 "$broker" 2>/dev/null; do wait "$broker"; done
"""
"""Ends the broker when whoever holds the other end of standard input is gone."""


class KafkaBroker:
    """One broker; can be stopped or killed, and started again with its data on its port.

    Attributes:
        node_id: Of this broker in its cluster.
        port: Of this broker, on loopback.
        controller: Of the cluster, ``node@host:port``.
    """

    def __init__(
        self,
        jars: Path,
        data: Path,
        *,
        port: int = 0,
        settings: dict[str, object] | None = None,
        cluster: KafkaBroker | None = None,
    ) -> None:
        """Say what to run; ``start`` runs it.

        Args:
            jars: From ensure_jars.
            data: Folder of what it keeps.
            port: From the system unless given.
            settings: More of its server.properties.
            cluster: The first broker of a cluster to join.
        """
        self._jars = jars
        self._data = data
        self._settings = settings or {}
        self._process: subprocess.Popen[bytes] | None = None
        self.port = port or free_port()
        self.node_id: int = 1 if cluster is None else cluster.node_id + 1
        self.cluster_id: str = _random_id() if cluster is None else cluster.cluster_id
        self.controller: str = (
            f"1@{LOOPBACK}:{free_port()}" if cluster is None else cluster.controller
        )
        self._is_first = cluster is None

    @property
    def address(self) -> str:
        """What clients connect to."""
        return f"{LOOPBACK}:{self.port}"

    @property
    def log(self) -> Path:
        """What the broker said."""
        return self._data / "broker.log"

    def start(self) -> None:
        """Start it, and wait until it answers.

        Raises:
            StoreError: it ended, or does not answer.
        """
        java = ensure_java()
        self._data.mkdir(parents=True, exist_ok=True)
        properties = self._data / "server.properties"
        lines = (f"{name}={value}" for name, value in self._properties().items())
        properties.write_text("\n".join(lines) + "\n")
        command = [java, *JVM, "-cp", f"{self._jars.absolute()}/*"]
        if not (self._data / "log" / "meta.properties").exists():
            self._format([*command, "kafka.tools.StorageTool", "format"], properties)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - ours
                ["/bin/sh", "-c", SUPERVISED, "broker", *command, "kafka.Kafka", str(properties)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            self._wait_for_answer()
        except BaseException:
            self.kill()
            raise

    def stop(self) -> None:
        """End it in order."""
        self._signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self._join(STOP_SECONDS)
        self.kill()

    def kill(self) -> None:
        """End it at once, as a power cut does."""
        self._signal(signal.SIGKILL)
        self._join(STOP_SECONDS)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)

    def _join(self, seconds: float) -> None:
        if self._process is not None:
            self._process.wait(seconds)
            if self._process.stdin is not None:
                self._process.stdin.close()
            self._process = None

    def _properties(self) -> dict[str, object]:
        listeners = [f"PLAINTEXT://{self.address}"]
        controller = self.controller.partition("@")[2]
        return {
            "process.roles": "broker,controller" if self._is_first else "broker",
            "node.id": self.node_id,
            "controller.quorum.voters": self.controller,
            "listeners": ",".join(
                [*listeners, f"CONTROLLER://{controller}"] if self._is_first else listeners
            ),
            "advertised.listeners": ",".join(listeners),
            "controller.listener.names": "CONTROLLER",
            "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
            "log.dirs": (self._data / "log").absolute(),
            "auto.create.topics.enable": "false",
            "num.partitions": 1,
            "default.replication.factor": 1,
            "offsets.topic.num.partitions": 1,
            "offsets.topic.replication.factor": 1,
            "transaction.state.log.num.partitions": 1,
            "transaction.state.log.replication.factor": 1,
            "transaction.state.log.min.isr": 1,
            "share.coordinator.state.topic.num.partitions": 1,
            "share.coordinator.state.topic.replication.factor": 1,
            "share.coordinator.state.topic.min.isr": 1,
            "group.initial.rebalance.delay.ms": 0,
            "message.max.bytes": LARGEST_MESSAGE_BYTES,
            "replica.fetch.max.bytes": LARGEST_MESSAGE_BYTES,
            "socket.request.max.bytes": 2 * LARGEST_MESSAGE_BYTES,
            "log.cleaner.dedupe.buffer.size": 16 << 20,
            **self._settings,
        }

    def _format(self, command: list[str], properties: Path) -> None:
        done = subprocess.run(  # noqa: S603 - ours
            [*command, f"--cluster-id={self.cluster_id}", "-c", str(properties)],
            check=False,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise self._failed("format its folder", done.stdout + done.stderr)

    def _wait_for_answer(self) -> None:
        deadline = monotonic() + START_SECONDS
        while monotonic() < deadline:
            if self._process is None or self._process.poll() is not None:
                raise self._failed("start", self.log.read_text(errors="replace"))
            if self._answers():
                return
            sleep(0.1)
        raise self._failed("answer in time", self.log.read_text(errors="replace"))

    def _answers(self) -> bool:
        from kafka import KafkaAdminClient  # noqa: PLC0415 - slow to import, and not for commands
        from kafka.errors import KafkaError  # noqa: PLC0415 - likewise

        with suppress(OSError):
            socket.create_connection((LOOPBACK, self.port), timeout=1).close()
            with suppress(KafkaError):
                admin = KafkaAdminClient(bootstrap_servers=self.address, bootstrap_timeout_ms=5000)
                try:
                    brokers = admin.describe_cluster()["brokers"]
                    return any(broker["port"] == self.port for broker in brokers)
                finally:
                    admin.close()
        return False

    def _failed(self, what: str, said: str) -> StoreError:
        return StoreError(
            f"Kafka did not {what}",
            where=str(self._data),
            found=" ".join(said[-500:].split()) or "no word",
            expected=f"a broker at {self.address}",
            next_step=f"read {self.log}; another broker with this folder or port must end first",
        )


def free_port() -> int:
    """Return a port that nobody listens at now."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def _random_id() -> str:
    return urlsafe_b64encode(uuid4().bytes).decode().rstrip("=")
