"""Reads partitions of topics. What is next is kept here: the library's consumer may be lost."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from time import monotonic, sleep
from typing import Any

import numpy as np
from kafka import KafkaConsumer, TopicPartition
from kafka.errors import (
    CorruptRecordError,
    KafkaError,
    LogTruncationError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
)

from sequence_platform.errors import SequencePlatformError, StoreError
from sequence_platform.ports.log import Bounds, LogBatch, LogPartition
from sequence_platform.ports.log_positions import (
    ensure_positions,
    ensure_same_topics,
    position_gone,
    shown,
)
from sequence_platform.sources.kafka_log.clients import Client, open_client, translated, typed
from sequence_platform.sources.kafka_log.cluster import Cluster

FETCH_WAIT_SECONDS = 0.1
"""How long brokers keep a question that they have no messages for; a message ends it at once."""
LOOK_SECONDS = 5.0
"""Without messages for so long, brokers are asked: the library does not say that they are away."""
STALLED_SECONDS = 15.0
"""Spent waiting for a partition that has messages: the consumer hangs, as some versions do."""
POSITION_SECONDS = 2.0
"""For the consumer to say where it is, which it knows."""

NOBODY = -1
"""Leads a partition whose leader went away."""
GONE = (OffsetOutOfRangeError, LogTruncationError, NoOffsetForPartitionError)
PROMISED = {
    "group_id": None,
    "enable_auto_commit": False,
    "auto_offset_reset": "none",
    "isolation_level": "read_committed",
}
"""Nothing is stored in Kafka, skipped, or read before it is committed."""


class KafkaLog:
    """Reads topics of Kafka: ports.EventLog."""

    def __init__(self, servers: str, settings: Mapping[str, str] | None = None) -> None:
        self._servers = servers
        self._settings = typed(settings or {})
        self._cluster = Cluster(servers, self._settings)
        self._consumer: Client = None
        self._positions: dict[LogPartition, int] = {}
        self._identities: dict[str, str] = {}
        self._waited: dict[LogPartition, float] = {}
        self._looked_at = 0.0

    def identity(self, topic: str) -> str:
        """Return the id that Kafka gave this topic: ports.EventLog."""
        return self._cluster.identities([topic])[topic]

    def bounds(self, topic: str) -> Mapping[int, Bounds]:
        """Return the offsets that each partition holds, committed ones: ports.EventLog."""
        return self._cluster.bounds([topic])[topic]

    def assign(self, positions: Mapping[LogPartition, int]) -> None:
        """Read these partitions from these offsets on: ports.EventLog."""
        topics = {at.topic for at in positions}
        identities = self._cluster.identities(topics)
        ensure_positions(positions, self._cluster.bounds(topics), log=self._servers)
        self._positions, self._identities = dict(positions), identities
        self._waited = dict.fromkeys(positions, 0.0)
        self._looked_at = monotonic()
        self._drop_consumer()  # what it has fetched is of other positions

    def poll(self, *, max_messages: int, timeout_seconds: float) -> Sequence[LogBatch]:
        """Return the next messages: ports.EventLog."""
        if not self._positions:
            sleep(timeout_seconds)
            return []
        try:
            start = monotonic()
            found = self._fetch(max_messages, timeout_seconds)
            batches = [self._batch(at, records) for at, records in found.items()]
            self._wait(monotonic() - start, {batch.at for batch in batches})
            if batches:
                self._ensure_same_served(found)
            if self._must_look():
                self._look()
        except Exception:
            self._drop_consumer()  # it may be past what was returned: begin at the positions again
            raise
        self._positions |= {batch.at: batch.next_offset for batch in batches}
        return batches

    def close(self) -> None:
        """Close the connections."""
        self._drop_consumer()
        self._cluster.close()

    def _fetch(self, max_messages: int, timeout_seconds: float) -> dict[Any, list[Any]]:
        consumer = self._consumer or self._open()
        with translated("Kafka cannot be read", self._servers):
            try:
                found: dict[Any, list[Any]] = consumer.poll(
                    timeout_ms=int(timeout_seconds * 1000), max_records=max_messages
                )
            except GONE as error:
                raise self._gone(error) from error
            except CorruptRecordError as error:
                raise self._corrupt(error) from error
            return found

    def _batch(self, place: Any, records: list[Any]) -> LogBatch:  # noqa: ANN401 - of the library
        count = len(records)
        milliseconds = np.fromiter((record.timestamp for record in records), np.int64, count)
        return LogBatch(
            at=LogPartition(place.topic, place.partition),
            values=[record.value for record in records],
            offsets=np.fromiter((record.offset for record in records), np.int64, count),
            appended_us=milliseconds * 1000,
            next_offset=self._position(place),
        )

    def _position(self, place: Any) -> int:  # noqa: ANN401 - of the library
        """Return where the consumer reads on, past records that are no messages."""
        with translated("Kafka cannot be read", self._servers):
            return int(self._consumer.position(place, timeout_ms=int(POSITION_SECONDS * 1000)))

    def _open(self) -> Client:
        wait_ms = int(FETCH_WAIT_SECONDS * 1000)
        settings = {"fetch_max_wait_ms": wait_ms, **self._settings, **PROMISED}
        self._consumer = open_client(KafkaConsumer, self._servers, **settings)
        self._seek(self._consumer)
        return self._consumer

    def _seek(self, consumer: Client) -> None:
        places = {TopicPartition(*at): offset for at, offset in self._positions.items()}
        with translated("Kafka cannot be read", self._servers):
            consumer.assign(list(places))
            for place, offset in places.items():
                consumer.seek(place, offset)

    def _drop_consumer(self) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            with suppress(KafkaError, OSError, RuntimeError):
                consumer.close(autocommit=False, timeout_ms=1000)

    def _wait(self, seconds: float, served: set[LogPartition]) -> None:
        for at in self._waited:
            self._waited[at] = 0.0 if at in served else self._waited[at] + seconds

    def _must_look(self) -> bool:
        """Whether to ask the brokers: nothing came for some time, or not for one partition."""
        if monotonic() - self._looked_at < LOOK_SECONDS:
            return False
        waited = self._waited.values()
        return min(waited) >= LOOK_SECONDS or max(waited) >= STALLED_SECONDS

    def _look(self) -> None:
        """Ask the brokers what they hold, and give up a consumer that does not bring it.

        Raises:
            LogPositionError: another topic, or not what was to be read next.
            StoreError: no broker answers.
        """
        self._ensure_same_topics()
        bounds = self._cluster.bounds(self._identities)
        self._looked_at = monotonic()
        idle = [at for at, waited in self._waited.items() if waited > 0]
        self._positions |= {at: self._position(TopicPartition(*at)) for at in idle}
        ensure_positions(self._positions, bounds, log=self._servers)
        hung = [
            at
            for at in idle
            if self._waited[at] >= STALLED_SECONDS
            and bounds[at.topic][at.partition].end > self._positions[at]
        ]
        if hung:
            raise StoreError(
                "the Kafka client hangs",
                where=f"{self._servers}, {shown(hung[0])} at {self._positions[hung[0]]}",
                found=f"messages up to {bounds[hung[0].topic][hung[0].partition].end}, none of "
                f"which came within {STALLED_SECONDS:g} s",
                expected="messages",
                next_step="poll again: it was closed, and another is opened",
                retryable=True,
            )

    def _ensure_same_topics(self) -> None:
        found = self._cluster.identities(self._identities)
        ensure_same_topics(found, self._identities, log=self._servers)

    def _ensure_same_served(self, places: Collection[Any]) -> None:
        """Raise unless messages are of the topics that reading began with.

        Asked at every poll that brings messages, after they came: the library fetches by name, and
        nothing else tells a topic made anew. Ids are never used twice, so a topic that has its id
        now had it all along. It takes a millisecond or two.
        """
        fetcher = self._consumer._fetcher  # noqa: SLF001 - it knows whom it asks; nothing else tells
        asked = {fetcher._select_read_replica(place) for place in places}  # noqa: SLF001 - likewise
        brokers = {None if broker == NOBODY else broker for broker in asked}
        expected = {place.topic: self._identities[place.topic] for place in places}
        for found in self._cluster.identities_at(brokers, expected):
            ensure_same_topics(found, expected, log=self._servers)

    def _gone(self, error: Exception) -> SequencePlatformError:
        """Return what to raise for a position that the broker does not take."""
        self._ensure_same_topics()
        ensure_positions(self._positions, self._cluster.bounds(self._identities), log=self._servers)
        if isinstance(error, LogTruncationError):
            return position_gone(
                [str(error)], log=self._servers, expected="a log that nothing was cut off from"
            )
        return StoreError(
            "Kafka does not take a position that it holds",
            where=self._servers,
            found=str(error),
            expected="messages",
            next_step="poll again; it passes when the brokers agree on the partition's leader",
            retryable=True,
        )

    def _corrupt(self, error: Exception) -> StoreError:
        return StoreError(
            "messages of Kafka are damaged",
            where=self._servers,
            found=str(error),
            expected="messages that have the checksum that they were written with",
            next_step="check the disk of the partition's leader, or make another replica leader",
        )
