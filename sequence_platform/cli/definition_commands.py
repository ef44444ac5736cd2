"""Commands about definitions: check, compile, diff, explain, publish."""

from __future__ import annotations

from pathlib import Path

import click

from sequence_platform.catalog import load_plan
from sequence_platform.clock import SystemClock
from sequence_platform.plan import diff as differ
from sequence_platform.plan.explain import explain as explain_plan
from sequence_platform.plan.manifest import build_manifest, dump_manifest, load_manifest
from sequence_platform.runtimes import publishing
from sequence_platform.settings import Settings
from sequence_platform.wiring import open_lake


@click.command()
@click.pass_obj
def check(settings: Settings) -> None:
    """Check all definitions and report every problem at once."""
    plan = load_plan(settings.definitions)
    click.echo(
        f"{settings.definitions}: {len(plan.events)} event types, "
        f"{len(plan.enrichments)} enrichments, {len(plan.sequences)} sequences, "
        f"{len(plan.training)} training sets, "
        f"no problems (plan {plan.fingerprint})"
    )


@click.command("compile")
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write to a file instead of the terminal.",
)
@click.pass_obj
def compile_(settings: Settings, out: Path | None) -> None:
    """Compile the definitions to their manifest, canonical JSON."""
    text = dump_manifest(build_manifest(load_plan(settings.definitions)))
    if out is None:
        click.echo(text)
    else:
        out.write_text(text + "\n", encoding="utf-8")
        click.echo(f"wrote {out}, {len(text):,} characters")


@click.command()
@click.option(
    "--against",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A manifest written by 'compile --out'; the published one unless given.",
)
@click.pass_obj
def diff(settings: Settings, against: Path | None) -> None:
    """Say what the definitions change for readers, and what must be built again.

    Exits with 1 if a change is breaking.
    """
    manifest = build_manifest(load_plan(settings.definitions))
    if against is not None:
        published: str | None = against.read_text(encoding="utf-8")
    else:
        with open_lake(settings) as lake:
            published = lake.published()
    changes = differ.diff(None if published is None else load_manifest(published), manifest)
    for change in changes:
        click.echo(str(change))
    breaking = sum(change.impact is differ.Impact.BREAKING for change in changes)
    click.echo(f"{len(changes)} changes, {breaking} breaking" if changes else "nothing changed")
    if breaking:
        raise click.exceptions.Exit(1)


@click.command()
@click.argument("name")
@click.pass_obj
def explain(settings: Settings, name: str) -> None:
    """Say in words what a sequence, event type, enrichment or training set compiles to."""
    click.echo(explain_plan(load_plan(settings.definitions), name))


@click.command()
@click.option(
    "--accept-breaking",
    is_flag=True,
    help="Publish even what breaks readers of the published definitions.",
)
@click.pass_obj
def publish(settings: Settings, *, accept_breaking: bool) -> None:
    """Make the definitions the published ones.

    Runs do it by themselves unless a change is breaking.
    """
    plan = load_plan(settings.definitions)
    with open_lake(settings) as lake:
        changes = publishing.publish(lake, plan, SystemClock(), accept_breaking=accept_breaking)
    for change in changes:
        click.echo(str(change))
    click.echo(f"published {len(changes)} changes" if changes else "already published")
