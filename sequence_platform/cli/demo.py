"""``sequence-platform demo``: the main job on the embedded default, from nothing to sequences."""

from __future__ import annotations

from contextlib import nullcontext

import click
from rich import box
from rich.table import Table

from sequence_platform.catalog import load_plan
from sequence_platform.cli.console import open_console
from sequence_platform.cli.demo_stream import stream_live
from sequence_platform.cli.dev_commands import running_kafka
from sequence_platform.cli.lake_commands import run_backfill
from sequence_platform.cli.online_commands import run_publish
from sequence_platform.cli.progress import counting
from sequence_platform.cli.tables import sequence_table
from sequence_platform.demo.shop_events import generate_shop
from sequence_platform.demo.shop_live import TOPICS
from sequence_platform.notebook import connect, read_sequences
from sequence_platform.settings import Settings
from sequence_platform.wiring import open_online, open_platform

SEQUENCES = ("shop_activity", "purchase_intent")
SHOWN = ["event_time", "event_type", "product_id", "category", "query", "amount", "gap_s"]

COMMAND = ".venv/bin/sequence-platform"

NEXT = (
    ("make ui", "the Dagster UI on these tables: lineage, partitions, backfills"),
    ("make notebook", "the notebook that reads them with SQL and Polars"),
    ("{command} training build", "labels with what each user had done until then"),
    ("{command} serve", "the API, and a page for people, at http://127.0.0.1:8080"),
    ("{command} status", "what is built, what is stale, what could not be used"),
    ("{command} show shop_activity {entity}", "the sequence of this user"),
    ("{command} explain shop_activity", "what the definition compiles to"),
    ("{command} diff", "after a change in definitions/: what it means"),
)


@click.command()
@click.option(
    "--events",
    type=click.IntRange(1000),
    default=1_000_000,
    show_default=True,
    help="About how many events to generate.",
)
@click.option(
    "--days", type=click.IntRange(1, 30), default=30, show_default=True, help="Days of events."
)
@click.option(
    "--live-seconds",
    type=click.FloatRange(0),
    default=30,
    show_default=True,
    help="How long live events are streamed after that; 0 for not at all.",
)
@click.option("--kafka", is_flag=True, help="Through a Kafka that is started for it.")
@click.option("--seed", default=7, show_default=True, help="The same seed makes the same events.")
@click.pass_obj
def demo(
    settings: Settings, *, events: int, days: int, live_seconds: float, kafka: bool, seed: int
) -> None:
    """Generate a month of shop events, build it through Dagster and show what came out.

    Then stream live events, through JSONL files unless KAFKA_BOOTSTRAP_SERVERS names a Kafka.
    """
    console = open_console()
    load_plan(settings.definitions)  # problems end the demo before it writes anything
    folder = settings.source_root / "data" / "shop"
    with counting(console, "generating") as progress:
        made = generate_shop(folder, days=days, events=events, seed=seed, progress=progress)
    total = sum(made.rows.values())
    console.print(
        f"generated {total:,} rows, {made.first_day} to {made.last_day}, "
        f"in {folder} ({made.bytes / 1e6:.0f} MB)"
    )
    run_backfill(
        console,
        settings,
        [f"sequences/{name}" for name in SEQUENCES],
        made.first_day,
        made.last_day,
    )
    with open_platform(settings) as platform, open_online(settings) as store:
        run_publish(console, platform, store, [platform.plan.events[name] for name in TOPICS])
    entity = _user(settings, "list_contains(event_type, 'purchase')")
    shown = read_sequences(SEQUENCES[0], entities=[entity], columns=SHOWN, settings=settings)
    console.print(sequence_table(shown, limit=12))
    if live_seconds:
        broker = running_kafka(console, settings, settings.home / "kafka")
        with broker if kafka else nullcontext(settings) as place:
            watched = _user(settings, "length <= 200")  # with room to grow
            stream_live(console, place, folder, made.last_day, watched, live_seconds)
    table = Table("next", "", box=box.SIMPLE, show_edge=False)
    for command, meaning in NEXT:
        table.add_row(command.format(command=COMMAND, entity=entity), meaning)
    console.print(table)


def _user(settings: Settings, condition: str) -> int:
    """Return the user with most events of those who did something on the last day."""
    with connect(settings) as lake:
        found = lake.sql(
            f"""
            SELECT entity FROM sequences.shop_activity
            WHERE day = (SELECT max(day) FROM sequences.shop_activity WHERE {condition})
            AND {condition} ORDER BY length DESC, entity LIMIT 1
            """  # noqa: S608 - a condition of ours
        ).pl()
    return int(found["entity"].item())
