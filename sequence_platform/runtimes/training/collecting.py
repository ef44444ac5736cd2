"""Removes data sets that nobody is likely to read any more, and store versions of none."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import timedelta

from sequence_platform.clock import Clock
from sequence_platform.ports.training import Datasets, TrainingStore


@dataclass(frozen=True, slots=True)
class Collected:
    """What was removed: data sets, and bytes of stores."""

    datasets: int
    bytes: int


def collect(
    store: TrainingStore,
    datasets: Datasets,
    clock: Clock,
    *,
    keep: int,
    younger_than: timedelta,
) -> Collected:
    """Remove old data sets, then the versions of stores that no data set points into.

    The newest version of a store stays, since the next one is made from it.

    Args:
        store: The training store.
        datasets: The data sets.
        clock: For their age.
        keep: Newest data sets of a training set that stay.
        younger_than: Data sets made since stay, too.
    """
    needed: dict[str, set[str]] = defaultdict(set)
    removed = 0
    for name in datasets.names():
        held = datasets.all(name)
        for position, info in enumerate(reversed(held)):
            if position < keep or info.created_at > clock.now() - younger_than:
                needed[info.sequence].add(info.store_version)
            else:
                datasets.remove(info)
                removed += 1
    freed = 0
    for sequence in store.sequences():
        newest = [version.id for version in store.versions(sequence)[-1:]]
        freed += store.collect(sequence, {*needed[sequence], *newest})
    return Collected(removed, freed)
