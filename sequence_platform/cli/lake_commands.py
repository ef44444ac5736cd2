"""Commands about what was built: backfill, status, show, maintain, settings."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

import click
import polars as pl
from rich.console import Console
from rich.table import Table

from sequence_platform.catalog import load_plan
from sequence_platform.cli.console import open_console
from sequence_platform.cli.progress import counting
from sequence_platform.cli.tables import partitions_table, sequence_table
from sequence_platform.clock import SystemClock
from sequence_platform.errors import PartitionsFailedError
from sequence_platform.notebook import read_sequences
from sequence_platform.plan.plan import Plan
from sequence_platform.ports import EXPIRED
from sequence_platform.runtimes.batch import stale_days
from sequence_platform.runtimes.retention import expire
from sequence_platform.settings import Settings
from sequence_platform.wiring import open_lake, open_platform

if TYPE_CHECKING:
    from sequence_platform.orchestration.backfill import Progress

DAY = click.DateTime(["%Y-%m-%d"])


@click.command()
@click.argument("targets", nargs=-1, metavar="[TABLE]...")
@click.option(
    "--from", "start", type=DAY, help="First day; the first that the definitions have unless given."
)
@click.option("--to", "end", type=DAY, help="Last day, included; yesterday (UTC) unless given.")
@click.pass_obj
def backfill(
    settings: Settings, targets: tuple[str, ...], start: datetime | None, end: datetime | None
) -> None:
    """Build days of tables, and of all they are made from, as runs of the Dagster instance.

    TABLE is a sequence's name, or a table such as enriched/commit; all sequences unless given.
    """
    console = open_console()
    plan = load_plan(settings.definitions)
    last = end.date() if end else (SystemClock().now() - timedelta(days=1)).date()
    tables = [
        f"sequences/{plan.sequences[name].table}" if name in plan.sequences else name
        for name in targets or plan.sequences
    ]
    first = start.date() if start else first_day(plan, tables, default=last)
    run_backfill(console, settings, tables, first, last)


def first_day(plan: Plan, tables: list[str], *, default: date) -> date:
    """Return the first day that any of some tables has; the default if none of them has days."""
    starts = {f"sequences/{item.table}": plan.start_of(item) for item in plan.sequences.values()}
    starts |= {f"enriched/{item.table}": plan.start_of(item) for item in plan.events.values()}
    return min((starts[table] for table in tables if table in starts), default=default)


def run_backfill(
    console: Console, settings: Settings, targets: list[str], first: date, last: date
) -> None:
    """Build a range of days with a progress bar, and say what it made.

    Raises:
        PartitionsFailedError: some days failed; says which and why.
    """
    # Dagster takes a second to import, which other commands need not wait for.
    from sequence_platform.orchestration.backfill import materialize_range  # noqa: PLC0415

    with counting(console, "building") as progress:

        def committed(step: Progress) -> None:
            day = "" if step.report.day is None else f" {step.report.day}"
            progress(step.done, step.total, f"{step.report.table}{day}: {step.report.rows:,} rows")

        summary = materialize_range(
            settings, targets, first, last + timedelta(days=1), progress=committed
        )
    console.print(partitions_table(summary.reports))
    changed = sum(report.changed for report in summary.reports)
    console.print(
        f"{len(summary.reports)} partitions in {summary.seconds:.1f} s, {changed} of them changed"
    )
    left = sum(report.is_beyond_retention for report in summary.reports)
    if left:
        console.print(f"{left} partitions look back on days beyond retention and were left alone")
    for table, days in summary.withheld.items():
        console.print(f"{table}: {len(days)} days wait for failed days that they look back on")
    failures = dict.fromkeys(summary.failures)  # what fails every run is said once
    for failure in failures:
        click.echo(f"\n{failure}\n", err=True)
    if failures:
        raise PartitionsFailedError(
            "some of it failed; what does not look back on it is built",
            found=f"{len(failures)} failed, as said above",
            next_step="mend each cause, then run the same again: what is built stays",
        )


@click.command()
@click.pass_obj
def status(settings: Settings) -> None:
    """Say what is built, what is stale, and what could not be used."""
    plan = load_plan(settings.definitions)
    console = open_console()
    with open_lake(settings, read_only=True) as lake:
        ledger = lake.ledger().filter(pl.col("state") != EXPIRED)
        clock = SystemClock()
        stale = {
            f"sequences.{s.table}": stale_days(lake, s, clock) for s in plan.sequences.values()
        }
    table = Table("table", "days", "first", "last", "rows", "MB", "dead letters", "stale days")
    summary = ledger.group_by("table_name").agg(
        pl.len(),
        pl.col("day").min().alias("first"),
        pl.col("day").max().alias("last"),
        pl.col("rows", "bytes", "dead_lettered").sum(),
    )
    for name, days, first, last, rows, size, dead in summary.sort("table_name").iter_rows():
        dated = ("" if first is None else str(days), str(first or ""), str(last or ""))
        table.add_row(
            name,
            *dated,
            f"{rows:,}",
            f"{size / 1e6:.1f}",
            f"{dead:,}",
            str(len(stale.get(name, ())) or ""),
        )
    console.print(table)


@click.command()
@click.argument("sequence")
@click.argument("entity")
@click.option(
    "--as-of",
    type=click.DateTime(),
    help="Events strictly before it, UTC; the newest day built unless given.",
)
@click.option("--columns", help="Names, separated by commas; all that snapshots hold unless given.")
@click.option("--limit", default=20, show_default=True, help="Newest events shown.")
@click.pass_obj
def show(
    settings: Settings,
    sequence: str,
    entity: str,
    as_of: datetime | None,
    columns: str | None,
    limit: int,
) -> None:
    """Show one entity's SEQUENCE as a table, newest event first."""
    plan = load_plan(settings.definitions)
    is_number = sequence in plan.sequences and plan.sequences[sequence].entity_type.is_integer()
    names = None if columns is None else ["event_time", "event_type", *columns.split(",")]
    at = None if as_of is None else as_of.replace(tzinfo=UTC)
    if is_number and not entity.lstrip("-").isdigit():
        raise click.BadParameter(
            f"{entity!r} is not an integer, as the entities of {sequence} are", param_hint="ENTITY"
        )
    found = read_sequences(
        sequence, at, [int(entity) if is_number else entity], names, settings=settings
    )
    console = open_console()
    if found.is_empty():
        console.print(f"{entity} has no events in {sequence} then")
        return
    console.print(sequence_table(found, limit))


@click.command()
@click.option(
    "--keep-snapshots", default=7.0, show_default=True, help="Days that time travel reaches back."
)
@click.option(
    "--orphans-older-than",
    default=24.0,
    show_default=True,
    help="Hours; longer than any run takes.",
)
@click.pass_obj
def maintain(settings: Settings, keep_snapshots: float, orphans_older_than: float) -> None:
    """Remove days beyond retention, merge small files, delete files that nobody needs."""
    with open_platform(settings) as platform:
        expired = expire(platform.lake, platform.plan, platform.clock)
        done = platform.lake.maintain(
            keep_snapshots=timedelta(days=keep_snapshots),
            orphans_older_than=timedelta(hours=orphans_older_than),
        )
    for each in expired:
        click.echo(
            f"{each.table}: {each.days} days before {each.before} are beyond retention; removed "
            f"{each.rows:,} rows, {each.dead_letters:,} dead letters"
        )
    click.echo(
        f"{done.files_before} -> {done.files_after} files, "
        f"{done.bytes_before / 1e6:.1f} -> {done.bytes_after / 1e6:.1f} MB, "
        f"{done.snapshots_expired} snapshots expired"
    )


@click.command()
@click.pass_obj
def settings(settings: Settings) -> None:
    """List the settings, their environment variables and values."""
    table = Table("variable", "value", "meaning")
    for name, field in Settings.model_fields.items():
        value = getattr(settings, name)
        match name:
            case "databases" | "kafka":
                value = dict.fromkeys(value, "...")
            case "api_keys":
                value = value or ""  # stars
            case "catalog":
                value = settings.catalog_url.split("@")[-1]
            case "data_path":
                value = settings.data_url
            case "log":
                value = settings.log_url
            case _:
                pass
        prefix = "" if field.validation_alias else "SEQUENCE_PLATFORM_"
        table.add_row(f"{prefix}{name.upper()}", str(value), field.description)
    open_console().print(table)
