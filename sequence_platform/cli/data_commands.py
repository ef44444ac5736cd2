"""Commands that make input: shop events out of nothing, commits out of a checkout."""

from __future__ import annotations

from pathlib import Path

import click

from sequence_platform.cli.console import open_console
from sequence_platform.cli.progress import counting
from sequence_platform.demo import git_export, shop_events
from sequence_platform.settings import Settings


@click.command("generate-shop")
@click.option(
    "--days",
    type=click.IntRange(1, 30),
    default=30,
    show_default=True,
    help="Days, the last being the demo's last day.",
)
@click.option(
    "--events",
    type=click.IntRange(1),
    default=1_000_000,
    show_default=True,
    help="About how many events.",
)
@click.option("--users", type=click.IntRange(1), default=20_000, show_default=True)
@click.option("--products", type=click.IntRange(1), default=5_000, show_default=True)
@click.option("--seed", default=7, show_default=True)
@click.pass_obj
def generate_shop(
    settings: Settings, *, days: int, events: int, users: int, products: int, seed: int
) -> None:
    """Generate believable shop events for definitions/shop, in data/shop of the source root."""
    folder = settings.source_root / "data" / "shop"
    console = open_console()
    with counting(console, "generating") as progress:
        report = shop_events.generate_shop(
            folder,
            days=days,
            events=events,
            users=users,
            products=products,
            seed=seed,
            progress=progress,
        )
    rows = ", ".join(f"{count:,} {name}" for name, count in report.rows.items())
    console.print(
        f"{folder}: {report.first_day} to {report.last_day}, {rows}; {report.bytes / 1e6:.0f} MB"
    )


@click.command("export-git")
@click.argument("checkout", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Default: data/git under the source root.",
)
@click.option("--repository", default="", help="Name in the rows; that of the remote unless given.")
@click.pass_obj
def export_git(settings: Settings, checkout: Path, out: Path | None, repository: str) -> None:
    """Export a checkout's commits and file changes for definitions/git_activity."""
    console = open_console()
    folder = out or settings.source_root / "data" / "git"
    with counting(console, "reading commits") as progress:
        report = git_export.export_git(checkout, folder, repository=repository, progress=progress)
    console.print(
        f"{report.repository}: {report.commits:,} commits in {report.commits_file}, "
        f"{report.file_changes:,} file changes in {report.file_changes_file}"
    )
