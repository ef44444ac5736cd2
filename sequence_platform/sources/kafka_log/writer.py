"""Appends to topics of Kafka, in batches that all replicas in sync have taken."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from itertools import islice, repeat

from kafka import KafkaProducer
from kafka.errors import KafkaError

from sequence_platform.sources.kafka_log.clients import Client, open_client, translated, typed
from sequence_platform.sources.kafka_log.cluster import Cluster

BATCH_MESSAGES = 10_000
"""Handed over before it is asked whether the brokers took them; bounds memory."""
USUAL = {
    "acks": "all",
    "linger_ms": 5,
    "batch_size": 256 << 10,
    "buffer_memory": 256 << 20,
    "max_request_size": 64 << 20,
    "max_block_ms": 10_000,
    "delivery_timeout_ms": 40_000,
}
FLUSH_SECONDS = 45.0
"""A partition without a leader is waited for longer than that, for ever by kafka-python 3.0.12."""


class KafkaLogWriter:
    """Appends to topics of Kafka: ports.LogWriter."""

    def __init__(self, servers: str, settings: Mapping[str, str] | None = None) -> None:
        self._servers = servers
        self._settings = typed(settings or {})
        self._cluster = Cluster(servers, self._settings)
        self._producer: Client = None

    def create_topic(self, topic: str, partitions: int) -> None:
        """Make a topic with the brokers' defaults; nothing if it exists."""
        self._cluster.create(topic, partitions)

    def append(
        self, topic: str, values: Iterable[bytes | None], keys: Iterable[bytes | None] | None = None
    ) -> None:
        """Append messages: ports.LogWriter. A tombstone without a key gets an empty one."""
        self._cluster.identities([topic])
        if self._producer is None:
            self._producer = open_client(
                KafkaProducer, self._servers, **{**USUAL, **self._settings}
            )
        given = repeat(None) if keys is None else keys
        messages = zip(values, given, strict=keys is not None)
        with translated("Kafka did not take messages", f"{self._servers}, topic '{topic}'"):
            try:
                while batch := list(islice(messages, BATCH_MESSAGES)):
                    sent = [
                        self._producer.send(
                            topic, value=value, key=b"" if value is None and key is None else key
                        )
                        for value, key in batch
                    ]
                    self._producer.flush(timeout=FLUSH_SECONDS)
                    for future in sent:
                        future.get(timeout=0)
            except Exception:
                self._drop_producer()  # what it still holds must not arrive after this failed
                raise

    def close(self) -> None:
        """Close the connections."""
        self._drop_producer()
        self._cluster.close()

    def _drop_producer(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            with suppress(KafkaError, OSError, RuntimeError):
                producer.close(timeout=5)
