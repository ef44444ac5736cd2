"""Commands about the online store: publish, look, roll back, tidy up."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, timedelta

import click
from rich.console import Console
from rich.table import Table

from sequence_platform.catalog import load_plan
from sequence_platform.cli.console import open_console
from sequence_platform.cli.progress import counting
from sequence_platform.errors import UnknownNameError, nearest
from sequence_platform.plan.plan import EnrichmentPlan, EventPlan, Plan
from sequence_platform.ports.online import OnlineStore
from sequence_platform.runtimes.segments import (
    collect,
    confirm_days,
    in_segments,
    publish_days,
    unpublished_days,
)
from sequence_platform.runtimes.values import publish_values
from sequence_platform.settings import Settings
from sequence_platform.wiring import Platform, open_online, open_platform, open_values

DAY = click.DateTime(["%Y-%m-%d"])


@click.group()
def online() -> None:
    """The store that requests are answered from: publish days, look, roll back."""


@online.command("publish")
@click.argument("names", nargs=-1, metavar="[EVENT_TYPE|ENRICHMENT]...")
@click.option("--from", "start", type=DAY, help="First day; all days that changed unless given.")
@click.option("--to", "end", type=DAY, help="Last day, included.")
@click.pass_obj
def publish_(
    settings: Settings, names: tuple[str, ...], start: datetime | None, end: datetime | None
) -> None:
    """Publish what the online store does not hold as the lake does.

    That is days of event types, and enrichments that are looked up when a sequence is read.
    """
    console = open_console()
    with open_platform(settings) as platform, open_online(settings) as store:
        read = _read_enrichments(platform.plan)
        chosen = [read[name] for name in names or read if name in read]
        others = tuple(name for name in names if name not in read)
        if others or not names:
            events = _chosen(platform.plan, others)
            run_publish(console, platform, store, events, start, end)
        run_publish_values(console, platform, chosen)


def run_publish_values(
    console: Console, platform: Platform, enrichments: Sequence[EnrichmentPlan]
) -> None:
    """Publish enrichments that changed, and say what each is."""
    if not enrichments:
        return
    with open_values(platform.settings) as store:
        for each in enrichments:
            done = publish_values(platform.lake, store, each, platform.clock)
            if done.version is None:
                console.print(f"{each.name} is not built yet: nothing to publish")
            else:
                was = "published" if done.changed else "unchanged:"
                console.print(f"{was} {each.name}, {done.version.rows:,} rows")


def run_publish(
    console: Console,
    platform: Platform,
    store: OnlineStore,
    events: Sequence[EventPlan],
    start: datetime | None = None,
    end: datetime | None = None,
) -> None:
    """Publish days that changed, with a progress bar, and say how much it was."""
    lake, clock = platform.lake, platform.clock
    wanted = {
        event.name: [
            day for day in unpublished_days(lake, store, event) if _is_within(day, start, end)
        ]
        for event in events
    }
    total, done, rows = sum(map(len, wanted.values())), 0, 0
    began = clock.now()
    with counting(console, "publishing") as progress:
        for event in events:
            for days in in_segments(lake, event, wanted[event.name]):
                published = publish_days(lake, store, event, days, clock)
                done, new = done + len(days), sum(each.rows for each in published)
                rows += new
                progress(done, total, f"{event.name} to {days[-1]}: {new:,} rows")
            confirm_days(lake, store, event, clock)
    seconds = (clock.now() - began).total_seconds()
    console.print(f"published {total} days to the online store, {rows:,} rows, in {seconds:.1f} s")


@online.command("status")
@click.pass_obj
def status_(settings: Settings) -> None:
    """Show, by event type, what is live and how far streams are."""
    table = Table(
        "event type", "manifest", "segments", "rows", "MB", "settled until", "streamed until"
    )
    plan = load_plan(settings.definitions)
    with open_online(settings) as store:
        for event in plan.events.values():
            manifest = store.manifest(event)
            with store.view() as view:
                until = view.freshness(event).streamed_until
            table.add_row(
                event.name,
                str(manifest.number),
                str(len(manifest.segments)),
                f"{sum(segment.rows for segment in manifest.segments):,}",
                f"{sum(segment.bytes for segment in manifest.segments) / 1e6:,.1f}",
                str(manifest.settled_until or ""),
                "" if until is None else f"{until:%Y-%m-%d %H:%M:%S}",
            )
        size = store.tail_size()
    open_console().print(table)
    click.echo(f"tail: {size.rows:,} rows, {size.bytes / 1e6:,.1f} MB")
    if read := _read_enrichments(plan):
        open_console().print(_values_table(settings, read.values()))


def _values_table(settings: Settings, enrichments: Iterable[EnrichmentPlan]) -> Table:
    table = Table("looked up when read", "version", "rows", "MB", "published (UTC)")
    with open_values(settings) as store:
        for each in enrichments:
            version = store.version(each)
            if version is None:
                table.add_row(each.name, "none")
                continue
            at = f"{version.published_at.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
            size = (f"{version.rows:,}", f"{version.bytes / 1e6:,.1f}")
            table.add_row(each.name, str(version.number), *size, at)
    return table


@online.command("history")
@click.argument("event_type")
@click.pass_obj
def history_(settings: Settings, event_type: str) -> None:
    """List the manifests of EVENT_TYPE that are kept, newest first: rollback can choose them."""
    table = Table("manifest", "live since (UTC)", "why", "segments", "days")
    [event] = _chosen(load_plan(settings.definitions), [event_type])
    with open_online(settings) as store:
        for each in reversed(store.manifests(event)):
            since = f"{each.activated_at.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
            counts = (str(len(each.segments)), str(len(each.days)))
            table.add_row(str(each.number), since, each.reason, *counts)
    open_console().print(table)


@online.command("rollback")
@click.argument("event_type")
@click.argument("manifest", type=int)
@click.pass_obj
def rollback_(settings: Settings, event_type: str, manifest: int) -> None:
    """Serve EVENT_TYPE from the segments of an earlier MANIFEST again; streamed rows stay."""
    with open_platform(settings) as platform, open_online(settings) as store:
        [event] = _chosen(platform.plan, [event_type])
        now = store.rollback(event, manifest, platform.clock.now())
    click.echo(f"{event.name} is served as by manifest {manifest}, under number {now.number}")


@online.command("collect")
@click.option("--keep-hours", default=24.0, show_default=True, help="Of the past.")
@click.pass_obj
def collect_(settings: Settings, keep_hours: float) -> None:
    """Merge segments; drop old manifests, and streamed rows that segments hold."""
    with open_platform(settings) as platform, open_online(settings) as store:
        dropped = 0
        for event in platform.plan.events.values():
            confirm_days(platform.lake, store, event, platform.clock)
            store.compact(event, platform.clock.now())
            dropped += collect(store, event, timedelta(hours=keep_hours), platform.clock)
        size = store.tail_size()
    click.echo(f"dropped {dropped:,} streamed rows; the tail holds {size.rows:,}")


def _is_within(day: date, start: datetime | None, end: datetime | None) -> bool:
    return (start is None or day >= start.date()) and (end is None or day <= end.date())


def _read_enrichments(plan: Plan) -> dict[str, EnrichmentPlan]:
    return {name: each for name, each in plan.enrichments.items() if each.is_read}


def _chosen(plan: Plan, names: tuple[str, ...] | list[str]) -> list[EventPlan]:
    for name in names:
        if name not in plan.events:
            raise UnknownNameError(
                f"there is no event type '{name}'", expected=nearest(name, plan.events)
            )
    return [plan.events[name] for name in names or plan.events]
