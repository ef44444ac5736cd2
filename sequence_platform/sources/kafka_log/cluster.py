"""What brokers say of topics: who they are, what they hold. Asked anew each time: nothing stale."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from typing import Any, TypeVar

from kafka import KafkaAdminClient, TopicPartition
from kafka.errors import KafkaError, TopicAlreadyExistsError
from kafka.protocol.consumer import IsolationLevel, OffsetSpec
from kafka.protocol.metadata import MetadataRequest

from sequence_platform.errors import StoreError
from sequence_platform.ports.log import Bounds
from sequence_platform.sources.kafka_log.clients import Client, open_client, translated

REQUEST_SECONDS = 10
"""To answer a question, which brokers do in milliseconds."""
UNKNOWN = 3
"""The error code of a topic that does not exist."""

Answer = TypeVar("Answer")


class Cluster:
    """Asks the brokers; opens its connection when first asked, and again after any failure."""

    def __init__(self, servers: str, settings: Mapping[str, object]) -> None:
        self.servers = servers
        self._settings = {"request_timeout_ms": REQUEST_SECONDS * 1000, **settings}
        self._admin: Client = None

    def identities(self, topics: Iterable[str]) -> dict[str, str]:
        """Return the ids of topics.

        Raises:
            StoreError: one does not exist, or no broker answers.
        """
        return {name: str(facts["topic_id"]) for name, facts in self._describe(topics).items()}

    def identities_at(
        self, brokers: Collection[int | None], topics: Collection[str]
    ) -> list[dict[str, str]]:
        """Return the ids of topics as each of these brokers knows them; None is any broker.

        Messages of a topic made anew come from a broker that has heard of it; another may not have.

        Raises:
            StoreError: as ``identities``.
        """
        answers = self._ask(lambda admin: admin._manager.run(_metadata, admin, brokers, topics))  # noqa: SLF001 - the library has no other way to ask a certain broker
        return [
            {
                name: str(facts["topic_id"])
                for name, facts in self._checked(answer.to_dict()["topics"], topics).items()
            }
            for answer in answers
        ]

    def bounds(self, topics: Iterable[str]) -> dict[str, dict[int, Bounds]]:
        """Return what the partitions of topics hold; the end is that of committed messages.

        Raises:
            StoreError: as ``identities``.
        """
        held = {
            name: [int(partition["partition_index"]) for partition in facts["partitions"]]
            for name, facts in self._describe(topics).items()
        }
        places = [TopicPartition(name, number) for name, found in held.items() for number in found]
        firsts = self._ask(lambda admin: _offsets(admin, places, OffsetSpec.EARLIEST))
        ends = self._ask(lambda admin: _offsets(admin, places, OffsetSpec.LATEST))
        return {
            name: {
                number: Bounds(
                    firsts[TopicPartition(name, number)].offset,
                    ends[TopicPartition(name, number)].offset,
                )
                for number in sorted(found)
            }
            for name, found in held.items()
        }

    def create(self, topic: str, partitions: int) -> None:
        """Make a topic, with as many replicas as the brokers make by default."""
        wanted = {topic: {"num_partitions": partitions, "replication_factor": -1}}
        try:
            self._ask(lambda admin: admin.create_topics(wanted))
        except StoreError as error:
            if not isinstance(error.__cause__, TopicAlreadyExistsError):
                raise
        self._ask(lambda admin: admin.wait_for_topics([topic]))

    def close(self) -> None:
        """Close the connection; asked again, this opens another."""
        admin, self._admin = self._admin, None
        if admin is not None:
            with suppress(KafkaError, OSError, RuntimeError):
                admin.close()

    def _describe(self, topics: Iterable[str]) -> dict[str, dict[str, Any]]:
        names = sorted(topics)
        if not names:
            return {}
        return self._checked(self._ask(lambda admin: admin.describe_topics(names)), names)

    def _checked(
        self, answer: Iterable[dict[str, Any]], names: Iterable[str]
    ) -> dict[str, dict[str, Any]]:
        """Return what brokers say of topics, by name; raise if one cannot be read."""
        found = {facts["name"]: facts for facts in answer}
        for name in names:
            if name not in found or found[name]["error_code"] == UNKNOWN:
                raise self._missing(name)
            if found[name]["error_code"]:
                raise StoreError(
                    "a topic cannot be read now",
                    where=f"{self.servers}, topic '{name}'",
                    found=f"error {found[name]['error_code']} of Kafka",
                    expected="its partitions",
                    next_step="check the name, the brokers, and the client's rights on the topic",
                    retryable=True,
                )
        return found

    def _missing(self, topic: str) -> StoreError:
        return StoreError(
            "a topic does not exist",
            where=self.servers,
            found="no topic of this name, or no right to see it",
            expected=f"'{topic}'",
            next_step="check the name, or create the topic",
        )

    def _ask(self, question: Callable[[Client], Answer]) -> Answer:
        """Ask the brokers, over a connection that is given up when anything is wrong with it."""
        if self._admin is None:
            self._admin = open_client(KafkaAdminClient, self.servers, **self._settings)
        with translated("Kafka does not answer", self.servers):
            try:
                return question(self._admin)
            except Exception:
                self.close()
                raise


def _offsets(admin: Client, places: list[TopicPartition], spec: OffsetSpec) -> dict[Any, Any]:
    found: dict[Any, Any] = admin.list_partition_offsets(
        dict.fromkeys(places, spec), isolation_level=IsolationLevel.READ_COMMITTED
    )
    return found


async def _metadata(
    admin: Client, brokers: Collection[int | None], topics: Collection[str]
) -> list[Any]:
    """Ask all brokers, then wait for their answers."""
    wanted = [MetadataRequest.MetadataRequestTopic(name=topic) for topic in topics]
    asked = [
        admin._manager.send(  # noqa: SLF001 - as above
            MetadataRequest(topics=wanted, allow_auto_topic_creation=False), node_id=broker
        )
        for broker in brokers
    ]
    return [await answer for answer in asked]
