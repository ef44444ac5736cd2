"""Kafka as a log when brokers restart, stay away and change leaders; and what clients may write."""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing
from itertools import count
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pytest
from kafka import KafkaAdminClient, KafkaProducer, TopicPartition

from sequence_platform.dev.kafka_broker import KafkaBroker, free_port
from sequence_platform.errors import StoreError
from sequence_platform.ports.log import Bounds, LogPartition
from sequence_platform.sources.kafka_log import KafkaLog, KafkaLogWriter
from sequence_platform_tests.conformance.log_places import messages, poll_all
from sequence_platform_tests.kafka import kafka_broker, kafka_servers

pytestmark = pytest.mark.kafka

AWAY_SECONDS = 20.0
NUMBERS = count(1)


@pytest.fixture
def servers() -> str:
    return kafka_servers()


@pytest.fixture
def log(servers: str) -> Iterator[KafkaLog]:
    with closing(KafkaLog(servers)) as opened:
        yield opened


@pytest.fixture
def at(servers: str) -> LogPartition:
    """The one partition of a topic that no other test knows."""
    name = f"clients-{next(NUMBERS)}-{int(monotonic() * 1e6)}"
    with closing(KafkaLogWriter(servers)) as writer:
        writer.create_topic(name, 1)
    return LogPartition(name, 0)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[KafkaBroker]:
    """A broker that a test may kill."""
    own = kafka_broker(tmp_path / "kafka")
    own.start()
    try:
        yield own
    finally:
        own.kill()


def producer(servers: str, **settings: object) -> Any:
    return closing(KafkaProducer(bootstrap_servers=servers, **settings))


@pytest.mark.parametrize("codec", [None, "gzip", "lz4", "snappy", "zstd"])
def test_every_compression_is_read(
    log: KafkaLog, servers: str, at: LogPartition, codec: str
) -> None:
    values = [b'{"n": %d}' % number for number in range(2000)]
    with producer(servers, compression_type=codec, linger_ms=50) as client:
        for value in values:
            client.send(at.topic, value)
        client.flush()
    for start in (0, 1, 777, 1999):
        log.assign({at: start})
        assert messages(poll_all(log, 2000 - start), at) == list(enumerate(values))[start:]


def test_messages_of_aborted_transactions_are_not_seen(
    log: KafkaLog, servers: str, at: LogPartition
) -> None:
    with producer(servers, transactional_id=at.topic) as client:
        client.init_transactions()
        for number in range(6):
            client.begin_transaction()
            client.send(at.topic, b"%d a" % number)
            client.send(at.topic, b"%d b" % number)
            client.flush()
            (client.abort_transaction if number % 2 else client.commit_transaction)()
    log.assign({at: 0})
    found = messages(poll_all(log, 6), at)
    assert [value for _, value in found] == [b"0 a", b"0 b", b"2 a", b"2 b", b"4 a", b"4 b"]
    assert [offset for offset, _ in found] == [0, 1, 6, 7, 12, 13]


def test_messages_of_an_open_transaction_are_waited_for(
    log: KafkaLog, servers: str, at: LogPartition
) -> None:
    with producer(servers, transactional_id=at.topic) as client:
        client.init_transactions()
        client.begin_transaction()
        client.send(at.topic, b"open").get(timeout=30)
        assert log.bounds(at.topic) == {0: Bounds(0, 0)}
        log.assign({at: 0})
        assert list(log.poll(max_messages=10, timeout_seconds=1)) == []
        client.commit_transaction()
    assert messages(poll_all(log, 1), at) == [(0, b"open")]


def test_keys_and_headers_do_not_disturb(log: KafkaLog, servers: str, at: LogPartition) -> None:
    with producer(servers) as client:
        client.send(at.topic, b"a", key=b"k", headers=[("trace", b"1")]).get(timeout=30)
        client.send(at.topic, None, key=b"k").get(timeout=30)
    log.assign({at: 0})
    assert messages(poll_all(log, 2), at) == [(0, b"a"), (1, None)]


def test_the_time_of_a_message_is_what_its_producer_said(
    log: KafkaLog, servers: str, at: LogPartition
) -> None:
    with producer(servers) as client:
        client.send(at.topic, b"a", timestamp_ms=1_700_000_000_123).get(timeout=30)
    log.assign({at: 0})
    assert [us for batch in poll_all(log, 1) for us in batch.appended_us] == [1_700_000_000_123_000]


def test_offsets_that_compaction_left_out_are_passed(
    log: KafkaLog, servers: str, at: LogPartition
) -> None:
    with producer(servers) as client:
        for number in range(10):
            client.send(at.topic, b"%d" % number).get(timeout=30)
    with closing(KafkaAdminClient(bootstrap_servers=servers)) as admin:
        admin.delete_records({TopicPartition(*at): 4})
    assert log.bounds(at.topic) == {0: Bounds(4, 10)}
    log.assign({at: 4})
    assert [offset for offset, _ in messages(poll_all(log, 6), at)] == [4, 5, 6, 7, 8, 9]


def unless_it_passes(error: StoreError) -> None:
    """Raise an error that trying again does not mend."""
    if not error.retryable:
        raise error


def poll_through(log: KafkaLog, at: LogPartition, wanted: int) -> list[int]:
    """Poll until so many messages came, through errors that may pass; return their offsets."""
    offsets: list[int] = []
    deadline = monotonic() + 120
    while len(offsets) < wanted and monotonic() < deadline:
        try:
            batches = log.poll(max_messages=500, timeout_seconds=1)
        except StoreError as error:
            unless_it_passes(error)
        else:
            offsets += [offset for offset, _ in messages(batches, at)]
    return offsets


def append_through(writer: KafkaLogWriter, topic: str, values: list[bytes]) -> None:
    """Append at least once, through errors that may pass."""
    for _ in range(30):
        try:
            return writer.append(topic, values)
        except StoreError as error:
            unless_it_passes(error)
            sleep(1)
    raise AssertionError("appending failed for too long")


@pytest.fixture
def client(broker: KafkaBroker) -> Iterator[tuple[KafkaLogWriter, KafkaLog]]:
    """A writer and a reader of a broker that has a topic 'clicks'."""
    with (
        closing(KafkaLogWriter(broker.address)) as writer,
        closing(KafkaLog(broker.address)) as log,
    ):
        writer.create_topic("clicks", 1)
        yield writer, log


CLICKS = LogPartition("clicks", 0)


@pytest.mark.integration
@pytest.mark.slow
def test_a_killed_broker_that_comes_back_costs_nothing(
    broker: KafkaBroker, client: tuple[KafkaLogWriter, KafkaLog]
) -> None:
    writer, log = client
    writer.append("clicks", [b"%d" % number for number in range(5000)])
    log.assign({CLICKS: 0})
    offsets = poll_through(log, CLICKS, 1000)
    broker.kill()
    broker.start()
    append_through(writer, "clicks", [b"%d" % number for number in range(5000)])
    end = log.bounds("clicks")[0].end
    assert end >= 10_000
    assert offsets + poll_through(log, CLICKS, end - len(offsets)) == list(range(end))


@pytest.mark.integration
@pytest.mark.slow
def test_a_broker_that_is_away_is_told_and_waited_for(
    broker: KafkaBroker, client: tuple[KafkaLogWriter, KafkaLog]
) -> None:
    writer, log = client
    writer.append("clicks", [b"a", b"b"])
    log.assign({CLICKS: 0})
    assert poll_through(log, CLICKS, 2) == [0, 1]
    broker.stop()
    away, errors = monotonic(), []
    while monotonic() < away + AWAY_SECONDS:
        try:
            assert list(log.poll(max_messages=10, timeout_seconds=1)) == []
        except StoreError as error:
            errors.append(error)
    assert {error.retryable for error in errors} == {True}
    with pytest.raises(StoreError) as raised:
        log.bounds("clicks")
    assert raised.value.retryable
    broker.start()
    append_through(writer, "clicks", [b"c"])
    back = monotonic()
    assert poll_through(log, CLICKS, 1) == [2]
    assert monotonic() - back < 30
    assert threading.active_count() < 12, "clients that were given up left threads"


@pytest.mark.integration
@pytest.mark.slow
def test_a_partition_whose_leader_changes_is_read_on(broker: KafkaBroker, tmp_path: Path) -> None:
    second = kafka_broker(tmp_path / "second", cluster=broker)
    try:
        second.start()
        servers = f"{broker.address},{second.address}"
        with closing(KafkaAdminClient(bootstrap_servers=servers)) as admin:
            admin.create_topics({"clicks": {"assignments": {0: [2, 1]}}})
            admin.wait_for_topics(["clicks"])
        with closing(KafkaLogWriter(servers)) as writer, closing(KafkaLog(servers)) as log:
            append_through(writer, "clicks", [b"%d" % number for number in range(1000)])
            log.assign({CLICKS: 0})
            offsets = poll_through(log, CLICKS, 500)
            second.kill()
            append_through(writer, "clicks", [b"%d" % number for number in range(1000)])
            end = log.bounds("clicks")[0].end
            assert end >= 2000
            assert offsets + poll_through(log, CLICKS, end - len(offsets)) == list(range(end))
    finally:
        second.kill()


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A key and a certificate that signs itself, in one file."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl here to make a certificate")
    key, made = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    command += ["-subj", "/CN=kafka", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*command, "-keyout", key, "-out", made], check=True, capture_output=True)
    both = tmp_path / "both.pem"
    both.write_text(key.read_text() + made.read_text())
    return both


@pytest.fixture
def guarded(tmp_path: Path, certificate: Path) -> Iterator[str]:
    """The address at which a broker speaks TLS and wants a user and a password."""
    port, guarded_port, controller_port = free_port(), free_port(), free_port()
    module = "org.apache.kafka.common.security.plain.PlainLoginModule"
    listeners = f"PLAINTEXT://127.0.0.1:{port},GUARDED://127.0.0.1:{guarded_port}"
    settings: dict[str, object] = {
        "controller.quorum.voters": f"1@127.0.0.1:{controller_port}",
        "listeners": f"{listeners},CONTROLLER://127.0.0.1:{controller_port}",
        "advertised.listeners": listeners,
        "inter.broker.listener.name": "PLAINTEXT",
        "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,"
        "GUARDED:SASL_SSL",
        "sasl.enabled.mechanisms": "PLAIN",
        "listener.name.guarded.plain.sasl.jaas.config": f'{module} required user_ann="geheim";',
        "listener.name.guarded.ssl.keystore.type": "PEM",
        "listener.name.guarded.ssl.keystore.location": certificate,
    }
    own = kafka_broker(tmp_path / "kafka", port=port, settings=settings)
    own.start()
    try:
        yield f"127.0.0.1:{guarded_port}"
    finally:
        own.kill()


@pytest.mark.integration
@pytest.mark.slow
def test_tls_a_user_and_a_password_open_the_log_and_are_not_told(
    guarded: str, certificate: Path
) -> None:
    named = {
        "security_protocol": "SASL_SSL",
        "ssl_cafile": str(certificate),
        "sasl_mechanism": "PLAIN",
        "sasl_plain_username": "ann",
    }
    right = {**named, "sasl_plain_password": "geheim"}
    with (
        closing(KafkaLogWriter(guarded, right)) as writer,
        closing(KafkaLog(guarded, right)) as log,
    ):
        writer.create_topic("clicks", 1)
        writer.append("clicks", [b"a"])
        log.assign({CLICKS: 0})
        assert messages(poll_all(log, 1), CLICKS) == [(0, b"a")]
    with closing(KafkaLog(guarded, {**named, "sasl_plain_password": "verkehrt"})) as log:
        with pytest.raises(StoreError) as raised:
            log.identity("clicks")
        assert "password" in str(raised.value)
        assert "verkehrt" not in str(raised.value)
