"""Commands for developers: a Kafka of their own."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event

import click
from rich.console import Console

from sequence_platform.cli.console import open_console
from sequence_platform.dev.kafka_broker import KafkaBroker
from sequence_platform.dev.kafka_jars import ensure_jars
from sequence_platform.settings import Settings


@click.group()
def dev() -> None:
    """Run for development what production has elsewhere."""


@dev.command()
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of topics, kept when it ends; kafka in home unless given.",
)
@click.option(
    "--port", type=click.IntRange(0, 65535), default=0, help="From the system unless given."
)
@click.pass_obj
def kafka(settings: Settings, data: Path | None, port: int) -> None:
    """Run a broker of Apache Kafka on loopback until Ctrl-C. Needs Java 17 and Maven.

    The first time, Maven fetches some 45 MB of jars.
    """
    console = open_console()
    with running_kafka(console, settings, data or settings.home / "kafka", port=port) as place:
        console.print(f"export KAFKA_BOOTSTRAP_SERVERS={place.log.removeprefix('kafka://')}")
        console.print("Ctrl-C ends it", style="dim")
        _wait_for_end()


@contextmanager
def running_kafka(
    console: Console, settings: Settings, data: Path, *, port: int = 0
) -> Iterator[Settings]:
    """Run a broker until the end of the block; yield the settings with it as the log."""
    console.print("Kafka comes up; the first time, Maven fetches it", style="dim")
    with console.status("Kafka's jars") as status:
        jars = ensure_jars(settings.cache, lambda name: status.update(f"fetching {name}"))
        status.update("starting Kafka")
        broker = KafkaBroker(jars, data, port=port)
        broker.start()
    try:
        yield settings.model_copy(update={"log": f"kafka://{broker.address}"})
    finally:
        broker.stop()


def _wait_for_end() -> None:
    ended = Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    ended.wait()
