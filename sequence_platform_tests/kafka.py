"""A real Kafka for tests: one that the environment names, or a broker that ends with the run."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from functools import cache
from pathlib import Path

import pytest

from sequence_platform.dev.kafka_broker import KafkaBroker
from sequence_platform.dev.kafka_jars import ensure_jars
from sequence_platform.errors import StoreError
from sequence_platform.settings import Settings


def kafka_servers() -> str:
    """Return the address of a Kafka; skip the test where none can be had."""
    return os.environ.get("KAFKA_BOOTSTRAP_SERVERS") or _shared_broker().address


def kafka_broker(data: Path, **options: object) -> KafkaBroker:
    """Return a broker for one test, which starts, kills and ends it."""
    return KafkaBroker(kafka_jars(), data, **options)  # type: ignore[arg-type] # as KafkaBroker takes


@cache
def _shared_broker() -> KafkaBroker:
    home = Path(tempfile.mkdtemp(prefix="kafka-"))
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    broker = kafka_broker(home)
    broker.start()
    atexit.register(broker.kill)
    return broker


def kafka_jars() -> Path:
    try:
        return _found_jars()
    except StoreError as error:
        if os.environ.get("REQUIRE_KAFKA"):
            pytest.fail(f"no Kafka here: {error}")
        pytest.skip(f"no Kafka here: {error}")


@cache
def _found_jars() -> Path:
    return ensure_jars(Settings().cache)
