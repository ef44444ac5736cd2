"""The composition root: settings to adapters to runtimes.

The only module that knows both sides of a port.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Literal

import polars as pl

from sequence_platform.catalog import load_plan
from sequence_platform.clock import Clock, SystemClock
from sequence_platform.definition import Files, Source, Table
from sequence_platform.definition.source import MessageFormat
from sequence_platform.engine.enrich import event_times
from sequence_platform.errors import StoreError
from sequence_platform.plan.plan import EventPlan, Plan, TrainingPlan
from sequence_platform.plan.tables import all_tables, enrichment_table
from sequence_platform.ports import BatchSource, EventLog, Lake, LogWriter, MessageDecoder
from sequence_platform.ports.online import OnlineStore
from sequence_platform.ports.values import ValueStore
from sequence_platform.runtimes.publishing import ensure_published, publish
from sequence_platform.runtimes.streaming import (
    LakeStream,
    OnlineSink,
    Pace,
    Shard,
    Sink,
    StreamWorker,
    Tell,
)
from sequence_platform.runtimes.streaming.received import Decode
from sequence_platform.runtimes.training import Exported, Told, export
from sequence_platform.settings import Settings
from sequence_platform.sources.avro_messages import AvroDecoder, SchemaRegistry
from sequence_platform.sources.files import FileSource
from sequence_platform.sources.json_messages import JsonDecoder
from sequence_platform.sources.jsonl_log import JsonlLog, JsonlLogWriter
from sequence_platform.sources.sql_table import TableSource
from sequence_platform.stores.ducklake import DuckLakeLake
from sequence_platform.stores.local_online import LocalOnlineStore, LocalValueStore
from sequence_platform.stores.local_training import LocalDatasets, LocalTrainingStore

REDIS = ("redis://", "rediss://")


@dataclass(frozen=True, slots=True, eq=False)
class Platform:
    """A project's plan with everything it runs on."""

    plan: Plan
    lake: Lake
    clock: Clock
    settings: Settings

    def ensure_published(self) -> None:
        """Raise StateMismatchError if other definitions were published meanwhile."""
        ensure_published(self.lake, self.plan)

    def decode_of(self, event: EventPlan) -> Decode:
        """Return what reads the messages of an event type that has a log.

        Raises:
            StoreError: no schema registry is set, or an extra is missing.
        """
        log = event.definition.log
        return message_decoder(self.settings, log.format if log else "json").decode

    def build_training_set(
        self, training: TrainingPlan, tell: Told | None = None, *, anew: bool = False
    ) -> Exported:
        """Make the data set of a training set from what the lake and its labels hold now.

        ``anew``: the training store is not trusted, and written whole.
        """
        return export(
            self.lake,
            *open_training(self.settings),
            training,
            self.source_of(training.name).read(None),
            self.clock,
            plan_fingerprint=self.plan.fingerprint,
            tell=tell,
            anew=anew,
        )

    def history_of(self, name: str) -> BatchSource | None:
        """Return the batch source of an event type, or None if it has only a log."""
        has_history = self.plan.events[name].definition.batch is not None
        return self.source_of(name) if has_history else None

    def source_of(self, name: str) -> BatchSource:
        """Return the batch source of an event type, enrichment or training set, by its name.

        Raises:
            StoreError: the event type has only a log.
        """
        if name in self.plan.training:
            training = self.plan.training[name]
            return self._source(name, training.definition.labels, training.raw_schema, None)
        if name in self.plan.enrichments:
            enrichment = self.plan.enrichments[name]
            return self._source(name, enrichment.definition.source, enrichment.raw_schema, None)
        event = self.plan.events[name]
        if event.definition.batch is None:
            raise StoreError(
                f"event type '{name}' has no batch source",
                found="only a log",
                expected="batch=Files(...) or batch=Table(...)",
                next_step="give it one",
            )
        return self._source(name, event.definition.batch, event.raw_schema, event)

    def _source(
        self, name: str, source: Source, schema: pl.Schema, event: EventPlan | None
    ) -> BatchSource:
        time = None if event is None else partial(event_times, event)
        start = None if event is None else event.definition.start
        match source:
            case Files():
                return FileSource(
                    definition=source,
                    schema=schema,
                    time=time,
                    root=self.settings.source_root.absolute(),
                    split_root=self.settings.home.absolute() / "split",
                    name=name,
                    identity="" if event is None else event.time_fingerprint,
                    start=start,
                )
            case Table():
                possible = (
                    None if event is None else (event.definition.earliest, event.definition.latest)
                )
                return TableSource(source, schema, time, self.settings, start, possible)


def streamed_events(plan: Plan) -> dict[str, EventPlan]:
    """Return the event types that have a log, by name."""
    return {name: event for name, event in plan.events.items() if event.definition.log is not None}


@contextmanager
def open_lake(settings: Settings, *, read_only: bool = False) -> Iterator[Lake]:
    """Open the lake of these settings, and close it at the end."""
    temporary = settings.home.absolute() / "spill"
    lake = DuckLakeLake(
        settings.catalog_url,
        settings.data_url,
        read_only=read_only,
        memory_limit_mb=settings.memory_limit_mb,
        threads=settings.threads,
        temp_directory=str(temporary),
    )
    try:
        yield lake
    finally:
        lake.close()


def open_training(settings: Settings) -> tuple[LocalTrainingStore, LocalDatasets]:
    """Return the training stores and the data sets of these settings."""
    folder = settings.training_folder
    return LocalTrainingStore(folder / "stores"), LocalDatasets(folder / "datasets")


@contextmanager
def open_online(settings: Settings) -> Iterator[OnlineStore]:
    """Open the online store of these settings, and close it at the end.

    Raises:
        StoreError: it cannot be opened, or the extra that it needs is missing.
    """
    url = settings.online_url
    store: OnlineStore
    if url.startswith(REDIS):
        store = _redis().RedisOnlineStore(url)
    else:
        store = LocalOnlineStore(Path(url), tail_mb=settings.online_tail_mb)
    try:
        yield store
    finally:
        store.close()


@contextmanager
def open_values(settings: Settings) -> Iterator[ValueStore]:
    """Open the store of values by key, where the online store is, and close it at the end.

    Raises:
        StoreError: it cannot be opened, or the extra that it needs is missing.
    """
    url = settings.online_url
    store: ValueStore
    if url.startswith(REDIS):
        store = _redis().RedisValueStore(url)
    else:
        store = LocalValueStore(Path(url) / "values")
    try:
        yield store
    finally:
        store.close()


def _redis() -> ModuleType:
    """Return the stores on Redis."""
    try:
        return importlib.import_module("sequence_platform.stores.redis_online")  # an extra
    except ModuleNotFoundError as error:
        raise StoreError(
            "an online store on Redis needs the extra 'redis'",
            where="SEQUENCE_PLATFORM_ONLINE=redis://...",
            found=str(error),
            next_step="pip install 'sequence-platform[redis]'",
        ) from error


@contextmanager
def open_log(settings: Settings) -> Iterator[EventLog]:
    """Open the log of these settings for reading, and close it at the end."""
    kind, address = _log_address(settings)
    log: EventLog
    if kind == "kafka":
        from sequence_platform.sources.kafka_log import KafkaLog  # noqa: PLC0415 - slow to import

        log = KafkaLog(address, _kafka_settings(settings))
    else:
        log = JsonlLog(Path(address))
    try:
        yield log
    finally:
        log.close()


@contextmanager
def open_log_writer(settings: Settings) -> Iterator[LogWriter]:
    """Open the log of these settings for appending, and close it at the end."""
    kind, address = _log_address(settings)
    writer: LogWriter
    if kind == "kafka":
        from sequence_platform.sources.kafka_log import KafkaLogWriter  # noqa: PLC0415 - likewise

        writer = KafkaLogWriter(address, _kafka_settings(settings))
    else:
        writer = JsonlLogWriter(Path(address))
    try:
        yield writer
    finally:
        writer.close()


StreamTo = Literal["lake", "online"]
EVERYWHERE: tuple[StreamTo, ...] = ("lake", "online")


@contextmanager
def open_workers(  # noqa: PLR0913 - what is streamed, where to, how, and who is told
    platform: Platform,
    events: Iterable[EventPlan],
    tell: Mapping[StreamTo, Tell],
    *,
    shard: Shard | None = None,
    flush_seconds: float | None = None,
    to: Sequence[StreamTo] = EVERYWHERE,
) -> Iterator[list[StreamWorker]]:
    """Open what streams event types, a worker a sink, each with its own connections.

    Args:
        platform: Everything they run on.
        events: Event types with a log.
        tell: Who is told of what a worker does, by sink.
        shard: The share of every topic.
        flush_seconds: Between flushes into the lake; from the settings unless given.
        to: The sinks.
    """
    settings, chosen = platform.settings, list(events)
    with ExitStack() as stack:
        sinks: dict[StreamTo, tuple[Sink, Pace]] = {}
        if "lake" in to:
            pace = Pace(flush_seconds=flush_seconds or settings.stream_flush_seconds)
            sinks["lake"] = (LakeStream(platform.lake, platform.clock, platform.decode_of), pace)
        if "online" in to:
            store = stack.enter_context(open_online(settings))
            lookups = stack.enter_context(open_lake(settings, read_only=True))
            sink = OnlineSink(
                store,
                platform.clock,
                platform.decode_of,
                lambda enrichment, keys: lookups.read_lookup(enrichment_table(enrichment), keys),
            )
            sinks["online"] = (sink, _online_pace(settings))
        yield [
            StreamWorker(
                stack.enter_context(open_log(settings)),
                sink,
                chosen,
                platform.clock,
                shard=shard,
                pace=pace,
                tell=tell.get(name),
                # One asks the lake for all.
                ensure=platform.ensure_published if name == to[0] else None,
            )
            for name, (sink, pace) in sinks.items()
        ]


def _online_pace(settings: Settings) -> Pace:
    seconds = settings.online_flush_seconds
    # While Redis stores a flush it answers nobody: ten milliseconds for a thousand rows.
    messages = 1_000 if settings.online_url.startswith(REDIS) else 20_000
    return Pace(
        flush_seconds=seconds,
        poll_seconds=seconds,
        flush_messages=messages,
        poll_messages=messages,
        look_seconds=1,
    )


def message_decoder(settings: Settings, message_format: MessageFormat) -> MessageDecoder:
    """Return what reads messages of a format.

    Raises:
        StoreError: no schema registry is set, or an extra is missing.
    """
    if message_format == "json":
        return JsonDecoder()
    if not settings.schema_registry:
        raise StoreError(
            "messages cannot be read without a schema registry",
            found=f"messages in {message_format}, and no registry",
            expected="SEQUENCE_PLATFORM_SCHEMA_REGISTRY=http://host:8081",
            next_step="set it",
        )
    user = settings.schema_registry_user.get_secret_value()
    return AvroDecoder(SchemaRegistry(settings.schema_registry, user=user))


def _log_address(settings: Settings) -> tuple[str, str]:
    kind, _, address = settings.log_url.partition(":")
    return kind, address.removeprefix("//")


def _kafka_settings(settings: Settings) -> dict[str, str]:
    return {name.lower(): value.get_secret_value() for name, value in settings.kafka.items()}


@contextmanager
def open_platform(settings: Settings, *, clock: Clock | None = None) -> Iterator[Platform]:
    """Open everything for writing: the plan is published and its tables exist.

    Raises:
        DefinitionError: the definitions are broken.
        StateMismatchError: they would break readers of the published ones.
        StoreError: the lake cannot be opened.
    """
    plan = load_plan(settings.definitions)
    with open_lake(settings) as lake:
        platform = Platform(plan, lake, clock or SystemClock(), settings)
        publish(lake, plan, platform.clock)
        lake.ensure_tables(all_tables(plan))
        yield platform
