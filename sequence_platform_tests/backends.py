"""The register of adapters: for each port, what its conformance suite runs over."""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic

import duckdb
import fsspec  # type: ignore[import-untyped]
import polars as pl
import pyarrow as pa
from kafka import KafkaAdminClient, KafkaProducer, TopicPartition
from kafka.errors import TopicAlreadyExistsError

from sequence_platform.definition import Files, Table
from sequence_platform.ports import BatchSource, MessageDecoder
from sequence_platform.ports.log import LogPartition
from sequence_platform.ports.online import OnlineStore
from sequence_platform.ports.training import TrainingStore
from sequence_platform.ports.values import ValueStore
from sequence_platform.sources.avro_messages import AvroDecoder, SchemaRegistry
from sequence_platform.sources.files import FileSource
from sequence_platform.sources.json_messages import JsonDecoder
from sequence_platform.sources.jsonl_log import JsonlLog, JsonlLogWriter
from sequence_platform.sources.kafka_log import KafkaLog, KafkaLogWriter
from sequence_platform.sources.memory_log import MemoryLog, MemoryLogWriter, MemoryTopics
from sequence_platform.sources.sql_table import TableSource
from sequence_platform.stores.ducklake import DuckLakeLake, connect_read_only
from sequence_platform.stores.ducklake.connection import load_extensions
from sequence_platform.stores.local_online import LocalOnlineStore, LocalValueStore
from sequence_platform.stores.local_training import LocalTrainingStore
from sequence_platform.stores.redis_online import RedisOnlineStore, RedisValueStore
from sequence_platform_tests.conformance.log_places import PATIENCE_SECONDS, MakePlace
from sequence_platform_tests.conformance.source_rows import (
    POSSIBLE,
    SCHEMA,
    START,
    by_file_day,
    event_times,
)
from sequence_platform_tests.kafka import kafka_servers
from sequence_platform_tests.postgres import postgres_database
from sequence_platform_tests.redis_server import redis_url


@dataclass(frozen=True, slots=True)
class LakePlace:
    """Where a lake is, so that a test can open it more than once."""

    catalog: str
    data_path: str

    def open(self, *, read_only: bool = False) -> DuckLakeLake:
        """Open the lake; whoever opens it closes it."""
        return DuckLakeLake(self.catalog, self.data_path, read_only=read_only, threads=1)

    def connect(self) -> duckdb.DuckDBPyConnection:
        """Open it as a notebook does."""
        return connect_read_only(self.catalog, self.data_path)


def lake_in_sqlite(folder: Path) -> LakePlace:
    return LakePlace(str(folder / "catalog.sqlite"), str(folder / "data"))


def lake_in_postgres(folder: Path) -> LakePlace:
    return LakePlace(postgres_database(), str(folder / "data"))


LAKES: Mapping[str, Callable[[Path], LakePlace]] = {
    "ducklake-sqlite": lake_in_sqlite,
    "ducklake-postgres": lake_in_postgres,
}


@dataclass(frozen=True, slots=True)
class OneDatabase:
    """Settings that know one database."""

    source_root: Path
    databases: Mapping[str, str] = field(default_factory=lambda: {"warehouse": "warehouse.duckdb"})
    memory_limit_mb: int = 512
    threads: int = 1


def file_source(folder: Path, files: Files, schema: pl.Schema = SCHEMA) -> FileSource:
    return FileSource(files, schema, event_times, folder, folder / "split", "tests", start=START)


def table_source(folder: Path, table: Table, url: str = "warehouse.duckdb") -> TableSource:
    databases = OneDatabase(folder, {"warehouse": url})
    return TableSource(table, SCHEMA, event_times, databases, START, POSSIBLE)


def write_rows(rows: pl.DataFrame, path: Path) -> None:
    """Write a file in the format and compression that its name tells."""
    form, _, codec = path.name.partition(".")[2].partition(".")
    match form:
        case "parquet":
            rows.write_parquet(path)
            return
        case "ndjson":
            content = rows.write_ndjson().encode()
        case _:
            content = rows.write_csv(separator="\t" if form == "tsv" else ",").encode()
    pack: dict[str, Callable[[bytes], bytes]] = {
        "": bytes,
        "gz": gzip.compress,
        "zst": lambda plain: pa.compress(plain, codec="zstd", asbytes=True),
    }
    path.write_bytes(pack[codec](content))


def one_file(suffix: str, folder: Path, rows: pl.DataFrame) -> BatchSource:
    write_rows(rows, folder / f"events.{suffix}")
    return file_source(folder, Files(f"events.{suffix}"))


def file_a_day(suffix: str, folder: Path, rows: pl.DataFrame) -> BatchSource:
    for day, part in by_file_day(rows):
        (folder / f"{day:%Y/%m}").mkdir(parents=True, exist_ok=True)
        write_rows(part, folder / f"{day:%Y/%m/%d}.{suffix}")
    return file_source(folder, Files(f"{{day:%Y/%m/%d}}.{suffix}", missing="empty"))


def in_object_store(suffix: str, folder: Path, rows: pl.DataFrame) -> BatchSource:
    write_rows(rows, folder / f"events.{suffix}")
    url = f"memory://{folder.name}"  # pytest gives each test another folder
    fsspec.filesystem("memory").put(str(folder / f"events.{suffix}"), f"{url}/events.{suffix}")
    return file_source(folder, Files(f"{url}/*.{suffix}"))


def duckdb_table(folder: Path, rows: pl.DataFrame) -> BatchSource:
    with duckdb.connect(str(folder / "warehouse.duckdb")) as connection:
        connection.register("rows", rows.to_arrow())
        connection.execute("CREATE TABLE events AS FROM rows")
    return table_source(folder, Table("events", time_column="at"))


def postgres_table(folder: Path, rows: pl.DataFrame) -> BatchSource:
    url = postgres_database()
    with duckdb.connect() as connection:
        load_extensions(connection, ["postgres_scanner"])
        connection.execute(f"ATTACH '{url}' AS pg (TYPE postgres)")
        connection.register("rows", rows.to_arrow())
        connection.execute("CREATE TABLE pg.public.events AS FROM rows")
    return table_source(folder, Table("public.events", time_column="at"), url)


SOURCES: Mapping[str, Callable[[Path, pl.DataFrame], BatchSource]] = {
    "file-parquet": partial(one_file, "parquet"),
    "file-csv": partial(one_file, "csv"),
    "file-csv-gz": partial(one_file, "csv.gz"),
    "file-tsv-zst": partial(one_file, "tsv.zst"),
    "file-ndjson": partial(one_file, "ndjson"),
    "file-ndjson-gz": partial(one_file, "ndjson.gz"),
    "file-ndjson-zst": partial(one_file, "ndjson.zst"),
    "daily-parquet": partial(file_a_day, "parquet"),
    "daily-csv-gz": partial(file_a_day, "csv.gz"),
    "daily-ndjson": partial(file_a_day, "ndjson"),
    "object-parquet": partial(in_object_store, "parquet"),
    "object-csv-gz": partial(in_object_store, "csv.gz"),
    "object-ndjson-zst": partial(in_object_store, "ndjson.zst"),
    "table-duckdb": duckdb_table,
    "table-postgres": postgres_table,
}


@dataclass(frozen=True, slots=True)
class MemoryPlace:
    topics: MemoryTopics = field(default_factory=MemoryTopics)

    def open(self) -> MemoryLog:
        return MemoryLog(self.topics)

    def writer(self) -> MemoryLogWriter:
        return MemoryLogWriter(self.topics)

    def expire(self, at: LogPartition, first: int) -> None:
        self.topics.expire(at, first)

    def recreate(self, topic: str, partitions: int) -> None:
        self.topics.delete(topic)
        self.topics.create(topic, partitions)

    def add_partition(self, topic: str) -> None:
        self.topics.add_partitions(topic, 1)

    def skip(self, at: LogPartition) -> None:
        self.topics.skip(at, 1)

    def command(self, topic: str, count: int) -> Sequence[str]:
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class JsonlPlace:
    """A log whose every append begins a new segment."""

    root: Path

    def open(self) -> JsonlLog:
        return JsonlLog(self.root)

    def writer(self) -> JsonlLogWriter:
        return JsonlLogWriter(self.root, segment_bytes=1)

    def expire(self, at: LogPartition, first: int) -> None:
        for file in (self.root / at.topic / f"partition={at.partition}").glob("*.jsonl"):
            if int(file.stem) < first:
                file.unlink()

    def recreate(self, topic: str, partitions: int) -> None:
        shutil.rmtree(self.root / topic)
        self.writer().create_topic(topic, partitions)

    def add_partition(self, topic: str) -> None:
        (self.root / topic / "partition=1").mkdir()

    def skip(self, at: LogPartition) -> None:
        raise NotImplementedError

    def command(self, topic: str, count: int) -> Sequence[str]:
        return ["jsonl", str(self.root), topic, str(count)]


@dataclass(frozen=True, slots=True)
class KafkaPlace:
    """A Kafka that tests share: each has topics of its own."""

    servers: str

    def open(self) -> KafkaLog:
        return KafkaLog(self.servers)

    def writer(self) -> KafkaLogWriter:
        return KafkaLogWriter(self.servers)

    def expire(self, at: LogPartition, first: int) -> None:
        with closing(KafkaAdminClient(bootstrap_servers=self.servers)) as admin:
            admin.delete_records({TopicPartition(*at): first})

    def recreate(self, topic: str, partitions: int) -> None:
        with closing(KafkaAdminClient(bootstrap_servers=self.servers)) as admin:
            admin.delete_topics([topic])
            wanted = {topic: {"num_partitions": partitions, "replication_factor": -1}}
            deadline = monotonic() + PATIENCE_SECONDS
            while monotonic() < deadline:
                with suppress(TopicAlreadyExistsError):  # it is still being deleted
                    admin.create_topics(wanted)
                    admin.wait_for_topics([topic])
                    return

    def add_partition(self, topic: str) -> None:
        with closing(KafkaAdminClient(bootstrap_servers=self.servers)) as admin:
            admin.create_partitions({topic: 2})

    def skip(self, at: LogPartition) -> None:
        """Abort a transaction: its message and its end take two offsets."""
        with closing(
            KafkaProducer(bootstrap_servers=self.servers, transactional_id=at.topic)
        ) as producer:
            producer.init_transactions()
            producer.begin_transaction()
            producer.send(at.topic, b"aborted", partition=at.partition).get(timeout=30)
            producer.abort_transaction()

    def command(self, topic: str, count: int) -> Sequence[str]:
        return ["kafka", self.servers, topic, str(count)]


LOGS: Mapping[str, MakePlace] = {
    "jsonl": lambda folder: JsonlPlace(folder / "log"),
    "kafka": lambda _: KafkaPlace(kafka_servers()),
    "memory": lambda _: MemoryPlace(),
}

DECODERS: Mapping[str, Callable[[str], MessageDecoder]] = {
    "avro": lambda registry: AvroDecoder(SchemaRegistry(registry)),
    "json": lambda _: JsonDecoder(),
}
"""By the address of a schema registry."""


@contextmanager
def local_online() -> Iterator[OnlineStore]:
    with TemporaryDirectory() as folder:
        store = LocalOnlineStore(Path(folder), tail_mb=64)
        try:
            yield store
        finally:
            store.close()


@contextmanager
def redis_online() -> Iterator[OnlineStore]:
    store = RedisOnlineStore(redis_url())
    try:
        yield store
    finally:
        store.close()


ONLINE_STORES: Mapping[str, Callable[[], AbstractContextManager[OnlineStore]]] = {
    "local": local_online,
    "redis": redis_online,
}
"""Each opening is an empty one."""


@contextmanager
def local_values() -> Iterator[MakeValues]:
    with TemporaryDirectory() as folder:
        yield lambda: LocalValueStore(Path(folder))


@contextmanager
def redis_values() -> Iterator[MakeValues]:
    url = redis_url()
    yield lambda: RedisValueStore(url)


MakeValues = Callable[[], ValueStore]

VALUE_STORES: Mapping[str, Callable[[], AbstractContextManager[MakeValues]]] = {
    "local": local_values,
    "redis": redis_values,
}
"""Each yields what opens one empty place, as often as it is called."""


@contextmanager
def local_training() -> Iterator[TrainingStore]:
    with TemporaryDirectory() as folder:
        yield LocalTrainingStore(Path(folder))


TRAINING_STORES: Mapping[str, Callable[[], AbstractContextManager[TrainingStore]]] = {
    "local": local_training
}
"""Each opening is an empty one."""
