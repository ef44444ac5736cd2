"""Commands about data sets for training: build, look, verify, tidy up."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from sequence_platform.catalog import load_plan
from sequence_platform.cli.console import open_console
from sequence_platform.cli.progress import counting
from sequence_platform.clock import SystemClock
from sequence_platform.errors import UnknownNameError, nearest
from sequence_platform.plan.plan import Plan, TrainingPlan
from sequence_platform.ports.training import DatasetInfo
from sequence_platform.runtimes.training import Verification, collect, verify
from sequence_platform.settings import Settings
from sequence_platform.stores.local_training import LocalDatasets
from sequence_platform.wiring import (
    Platform,
    open_lake,
    open_platform,
    open_training,
)

SHOWN = 5


@click.group()
def training() -> None:
    """Data sets for training: labels with the sequences that a model would have seen."""


@training.command("build")
@click.argument("names", nargs=-1, metavar="[TRAINING_SET]...")
@click.option("--anew", is_flag=True, help="Write the training store anew; it may be damaged.")
@click.pass_obj
def build_(settings: Settings, names: tuple[str, ...], *, anew: bool) -> None:
    """Bring training stores up to the lake, and make the data sets of all training sets."""
    console = open_console()
    with open_platform(settings) as platform:
        for item in _chosen(platform.plan, names):
            run_build(console, platform, item, anew=anew)


def run_build(
    console: Console, platform: Platform, item: TrainingPlan, *, anew: bool = False
) -> DatasetInfo:
    """Make a data set, with a progress bar, and say what it holds."""
    with counting(console, item.name) as progress:
        made = platform.build_training_set(
            item,
            tell=lambda what, done, total: progress(done, total or done, what),
            anew=anew,
        )
    state = "" if made.changed else ", as it was"
    info = made.dataset
    console.print(
        f"{info.name}: {info.rows:,} labels in {made.seconds:.1f} s{state}; "
        f"{_outcomes(info)}; data set {info.id}"
    )
    console.print(
        f"  points into {made.version.rows:,} events of {made.version.entities:,} entities, "
        f"{made.version.bytes / 1e6:,.1f} MB, version {made.version.id}"
    )
    for note in info.notes:
        console.print(f"  note: {note}")
    return info


@training.command("list")
@click.pass_obj
def list_(settings: Settings) -> None:
    """List the data sets there are, the newest of each training set last."""
    _, datasets = open_training(settings)
    table = Table("training set", "made", "labels", "outcomes", "MB")
    table.add_column("data set", no_wrap=True)
    for name in datasets.names():
        for info in datasets.all(name):
            size = sum(path.stat().st_size for path in datasets.folder_of(info).iterdir())
            table.add_row(
                info.name,
                f"{info.created_at:%Y-%m-%d %H:%M:%S}",
                f"{info.rows:,}",
                _outcomes(info),
                f"{size / 1e6:,.1f}",
                info.id,
            )
        for error in datasets.damaged(name):
            table.add_row(name, "damaged", "", error.found, "", Path(error.where).name)
    console = open_console()
    console.print(table if table.rows else "no data set yet: sequence-platform training build")


@training.command("verify")
@click.argument("name", metavar="TRAINING_SET")
@click.option("--dataset", default="", help="Id of a data set; the newest unless given.")
@click.option("--sample", default=100, show_default=True, help="Labels that are computed again.")
@click.option("--seed", default=0, show_default=True, help="Which labels.")
@click.pass_obj
def verify_(settings: Settings, name: str, dataset: str, sample: int, seed: int) -> None:
    """Prove that nothing which happened or arrived after a request is in its sequence.

    Labels are computed again from the lake, each by itself, without the events that it must not
    see, and with more of them planted. Exits with 1 if one differs.
    """
    plan = load_plan(settings.definitions)
    [item] = _chosen(plan, (name,))
    store, datasets = open_training(settings)
    info = _dataset(datasets, item, dataset)
    with open_lake(settings, read_only=True) as lake:
        found = verify(lake, store, datasets, item, info, sample, seed)
    for line in verification_text(found):
        click.echo(line)
    if found.differences:
        raise click.exceptions.Exit(1)


def verification_text(found: Verification) -> list[str]:
    """Return what a check found, for people."""
    head = (
        f"{found.checked} of {found.sampled} labels computed again, {found.planted:,} events that "
        f"they must not see planted: {len(found.differences)} differ, {found.leaks} leak"
    )
    lines = [head]
    if found.changed:
        lines.append(
            f"{found.changed} were left out: the lake holds other events of their days by now; "
            "build the training set again to check them"
        )
    lines += [
        f"  label {each.row}, entity {each.entity} as of {each.request_time}"
        f"{', LEAK' if each.is_leak else ''}: {each.what}"
        for each in found.differences[:SHOWN]
    ]
    return lines


@training.command("collect")
@click.option("--keep", default=2, show_default=True, help="Newest data sets of a training set.")
@click.option(
    "--keep-days", default=7.0, show_default=True, help="Data sets younger than this stay, too."
)
@click.pass_obj
def collect_(settings: Settings, keep: int, keep_days: float) -> None:
    """Remove old data sets, and versions of stores that no data set points into."""
    younger = timedelta(days=keep_days)
    removed = collect(*open_training(settings), SystemClock(), keep=keep, younger_than=younger)
    click.echo(f"removed {removed.datasets} data sets and {removed.bytes / 1e6:,.1f} MB of stores")


def _chosen(plan: Plan, names: tuple[str, ...]) -> list[TrainingPlan]:
    for name in names:
        if name not in plan.training:
            raise UnknownNameError(
                f"no training set is called '{name}'", expected=nearest(name, plan.training)
            )
    if not plan.training:
        raise UnknownNameError(
            "there is no training set",
            next_step="define one: TrainingSet(name=..., sequence=..., labels=...)",
        )
    return [plan.training[name] for name in names or plan.training]


def _dataset(datasets: LocalDatasets, item: TrainingPlan, id_: str) -> DatasetInfo:
    held = {info.id: info for info in datasets.all(item.table)}
    if not held or (id_ and id_ not in held):
        raise UnknownNameError(
            f"training set '{item.name}' has no data set {id_}".rstrip(),
            expected=nearest(id_, held),
            next_step=f"sequence-platform training build {item.name}",
        )
    return held[id_] if id_ else list(held.values())[-1]


def _outcomes(info: DatasetInfo) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in info.outcomes.items()) or "no labels"
