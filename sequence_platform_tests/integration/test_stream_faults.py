"""A stream worker on a real Kafka that is killed again and again: nothing lost, nothing twice."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sequence_platform.dev.kafka_broker import KafkaBroker
from sequence_platform.settings import Settings
from sequence_platform.sources.kafka_log import KafkaLogWriter
from sequence_platform.stores.ducklake import connect_read_only
from sequence_platform.wiring import open_platform
from sequence_platform_tests.kafka import kafka_broker
from sequence_platform_tests.orchestration.server import environment, wait_until

pytestmark = [
    pytest.mark.integration,
    pytest.mark.kafka,
    # The client leaves sockets to the collector when its broker is killed.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

MESSAGES = 200_000
KILLS = 20
BATCH = 4_000
PARTITIONS = 4
TOPIC = "clicks"
NOW = datetime.now(UTC)  # workers live by the machine's clock

DEFINITIONS = """
from datetime import date, timedelta

import polars as pl

from sequence_platform import EventType, Log

click = EventType(
    name="click", owner="team:feed", start=date.today() - timedelta(days=9),
    schema={"id": pl.Int64, "user_id": pl.Int64, "at": pl.Datetime("us", "UTC"), "pin": pl.Int64},
    event_id="id", event_time="at", entity="user_id", log=Log("clicks"),
    where={"has_pin": pl.col("pin") >= 0}, allowed_lateness=timedelta(hours=1))
"""


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[KafkaBroker]:
    made = kafka_broker(tmp_path / "kafka")
    made.start()
    try:
        yield made
    finally:
        made.kill()


@pytest.fixture
def settings(tmp_path: Path, broker: KafkaBroker) -> Settings:
    (tmp_path / "definitions").mkdir()
    (tmp_path / "definitions" / "click.py").write_text(DEFINITIONS)
    made = Settings(
        home=tmp_path / "home",
        definitions=tmp_path / "definitions",
        source_root=tmp_path,
        log=f"kafka://{broker.address}",
    )
    with open_platform(made):
        return made  # its tables are there now


@contextmanager
def worker(settings: Settings, *options: str) -> Iterator[subprocess.Popen[str]]:
    """Run `sequence-platform stream` in a process of its own, and end it at the end."""
    command = [str(Path(sys.executable).with_name("sequence-platform")), "stream", *options]
    process = subprocess.Popen(
        command,
        env=environment(settings, settings.home / "dagster"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def message(number: int) -> bytes:
    """Return a message; some are late by days, some are filtered, some come twice."""
    at = NOW - timedelta(days=number % 3 if number % 50 == 0 else 0)
    pin = -1 if number % 100 == 1 else number
    row = {"id": number, "user_id": number % 997, "at": at.isoformat(), "pin": pin}
    return json.dumps(row).encode()


def count(settings: Settings, sql: str) -> tuple[int, ...]:
    with connect_read_only(settings.catalog_url, settings.data_url) as connection:
        found = connection.execute(sql).fetchone()
    assert found is not None
    return tuple(found)


def raw_rows(settings: Settings) -> int:
    return count(settings, "SELECT count(*) FROM raw.click")[0]


def in_background(work: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def test_twenty_kills_and_a_broker_killed_lose_nothing_and_repeat_nothing(
    settings: Settings, broker: KafkaBroker
) -> None:
    writer = KafkaLogWriter(broker.address)
    writer.create_topic(TOPIC, PARTITIONS)
    stop = threading.Event()
    sent: list[int] = []

    def produce() -> None:
        for start in range(0, MESSAGES, BATCH):
            # What a broker that was killed did not confirm may be there twice: sent again.
            values = [message(n) for n in range(start, start + BATCH)]
            while not stop.is_set():
                try:
                    writer.append(TOPIC, values)
                except Exception:  # noqa: BLE001 - the broker is away
                    time.sleep(0.5)
                    continue
                break
            sent.append(BATCH)
            stop.wait(0.3)

    producing = in_background(produce)
    rng = random.Random(7)
    for kill in range(KILLS):
        with worker(settings, "--flush-seconds", "0.2") as process:
            before = raw_rows(settings) if kill else 0
            # Half of them die while they flush, the others at any moment, also of their start.
            if kill % 2:
                wait_until(lambda: raw_rows(settings) > before or len(sent) * BATCH == MESSAGES,  # noqa: B023 - waited for at once
                           180, "rows came")  # fmt: skip
            time.sleep(rng.uniform(0.1, 1.5))
            process.send_signal(signal.SIGKILL)
        if kill == KILLS // 2:
            broker.kill()
            broker.start()
    producing.join(120)
    assert sum(sent) == MESSAGES
    with worker(settings, "--until-caught-up") as process:
        output, _ = process.communicate(timeout=300)
        assert process.returncode == 0, output
    writer.close()
    rows, distinct, ids = count(
        settings,
        "SELECT count(*), count(DISTINCT (_topic, _partition, _offset)), count(DISTINCT id) "
        "FROM raw.click",
    )
    assert rows == distinct  # every message once
    assert ids == MESSAGES  # and none missing
    kept = MESSAGES - MESSAGES // 100
    assert count(settings, "SELECT count(*), count(DISTINCT event_id) FROM enriched.click") == (
        kept,
        kept,
    )
    [balance] = count(
        settings,
        "SELECT sum(received - admitted - superseded - deleted - dead_lettered "
        "- (filtered->>'has_pin')::INT) FROM platform.partitions",
    )
    assert balance == 0


def test_two_workers_of_one_shard_do_no_harm(settings: Settings, broker: KafkaBroker) -> None:
    writer = KafkaLogWriter(broker.address)
    writer.create_topic(TOPIC, PARTITIONS)
    with (
        closing(writer),
        worker(settings, "--flush-seconds", "0.2") as one,
        worker(settings, "--flush-seconds", "0.2") as other,
    ):
        for start in range(0, 40_000, 1_000):
            writer.append(TOPIC, [message(n) for n in range(start, start + 1_000)])
            if one.poll() is not None or other.poll() is not None:
                break
            time.sleep(0.2)
        sent = start + 1_000
        wait_until(lambda: raw_rows(settings) == sent, 120, "all rows")
        ended = [process for process in (one, other) if process.poll() is not None]
        assert len(ended) == 1
        output = ended[0].communicate()[0]
        assert "another worker has read on from where this one started" in output
    rows, distinct = count(
        settings,
        "SELECT count(*), count(DISTINCT (_topic, _partition, _offset)) FROM raw.click",
    )
    assert rows == distinct == sent


def test_a_broker_that_is_away_for_long_is_waited_for(
    settings: Settings, broker: KafkaBroker
) -> None:
    writer = KafkaLogWriter(broker.address)
    writer.create_topic(TOPIC, PARTITIONS)
    writer.append(TOPIC, [message(n) for n in range(2_000)])
    with worker(settings, "--flush-seconds", "0.2") as process:
        wait_until(lambda: raw_rows(settings) == 2_000, 180, "rows of before")
        broker.kill()
        time.sleep(60)
        assert process.poll() is None
        broker.start()
        writer.close()
        writer = KafkaLogWriter(broker.address)
        writer.append(TOPIC, [message(n) for n in range(2_000, 4_000)])
        wait_until(lambda: raw_rows(settings) == 4_000, 120, "rows of after")
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=60)
        assert process.returncode == 0, output
    writer.close()
