"""Damaged files, killed builds, little memory, planted leaks: an error, or the truth."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from sequence_platform import TrainingReader
from sequence_platform.catalog import load_plan
from sequence_platform.errors import SequencePlatformError, StateMismatchError, StoreError
from sequence_platform.runtimes.training import Verification, verify
from sequence_platform.stores.local_training.column_file import checksum
from sequence_platform.stores.local_training.descriptions import (
    read_description,
    write_description,
)
from sequence_platform.training import Dataset
from sequence_platform.wiring import open_lake, open_platform, open_training
from sequence_platform_tests.training.shows import Shows, seen_by

COLUMNS = ["event_time", "show", "minutes"]


def build(shows: Shows, name: str) -> Dataset:
    with open_platform(shows.settings) as platform:
        platform.build_training_set(platform.plan.training[name])
    return Dataset.find(name, settings=shows.settings)


def verified(shows: Shows, dataset: Dataset, sample: int = 60) -> Verification:
    training = load_plan(shows.settings.definitions).training[dataset.info.name]
    places = open_training(shows.settings)
    with open_lake(shows.settings, read_only=True) as lake:
        return verify(lake, *places, training, dataset.info, sample)


def rewrite(dataset: Dataset, change: Callable[[pl.DataFrame], pl.DataFrame]) -> Dataset:
    """Change the pointers of a data set, and its checksum, as a faulty exporter would."""
    path, description = (dataset.folder / name for name in ("pointers.parquet", "dataset.json"))
    change(pl.read_parquet(path)).write_parquet(path)
    described = read_description(description)
    described["checksums"]["pointers.parquet"] = checksum(path)
    write_description(description, described)
    return Dataset.find(dataset.folder)


@pytest.mark.parametrize("name", ["next_show", "next_recent"])
def test_a_sound_data_set_is_verified(shows: Shows, name: str) -> None:
    found = verified(shows, Dataset.find(name, settings=shows.settings))
    assert (found.checked, found.changed, found.differences) == (60, 0, ())
    assert found.planted > 200


def test_a_planted_leak_is_caught(aside: Shows) -> None:
    leaky = rewrite(
        build(aside, "next_recent"),
        lambda pointers: pointers.with_columns(
            pl.col("stop") + 1, label_time=pl.col("label_time") + pl.duration(days=9)
        ),
    )
    # Labels themselves say when they were made, so moving the times of pointers hides nothing.
    plain = rewrite(
        leaky,
        lambda pointers: pointers.with_columns(
            asked_at=pl.col("asked_at"), is_plain=pl.lit(value=True)
        ),
    )
    found = verified(aside, plain)
    assert found.leaks > 0
    assert "in the data set" in found.differences[0].what


def test_a_missing_event_is_a_difference_and_no_leak(aside: Shows) -> None:
    short = rewrite(
        build(aside, "next_show"),
        lambda pointers: pointers.with_columns(
            stop=pl.max_horizontal(pl.col("start"), pl.col("stop").cast(pl.Int64) - 1).cast(
                pl.UInt32
            )
        ),
    )
    found = verified(aside, short)
    assert found.differences
    assert found.leaks == 0


def test_pointers_into_other_events_are_noticed_when_read(aside: Shows) -> None:
    moved = rewrite(
        build(aside, "next_show"),
        lambda pointers: pointers.with_columns(stop=pl.col("stop") + 1),
    )
    with pytest.raises(StoreError, match="damaged or gone") as caught:
        TrainingReader(moved, COLUMNS)
    assert "pointers to other events" in caught.value.found


def test_labels_of_days_that_changed_are_left_out_of_the_check(own_shows: Shows) -> None:
    made = build(own_shows, "next_show")
    day = max(row["at"] for row in own_shows.plays).date()
    own_shows.plays[:] = [row for row in own_shows.plays if row["at"].date() != day]
    own_shows.write("plays", day)
    own_shows.build([day])
    found = verified(own_shows, made, 120)
    assert found.changed > 0
    assert found.checked > 0
    assert found.differences == ()


def test_other_definitions_are_told_from_those_of_the_data_set(
    aside: Shows, tmp_path: Path
) -> None:
    made = build(aside, "next_show")
    text = (aside.root / "definitions" / "shows.py").read_text()
    other = tmp_path / "others"
    other.mkdir()
    (other / "shows.py").write_text(text.replace("max_length=20", "max_length=15"))
    changed = replace(aside, settings=aside.settings.model_copy(update={"definitions": other}))
    with pytest.raises(StateMismatchError, match="made by other definitions"):
        verified(changed, made)


def damage(path: Path, how: str) -> None:
    data = bytearray(path.read_bytes())
    if how == "flip":
        data[len(data) // 2] ^= 1
    path.unlink()
    if how != "remove":
        path.write_bytes(data[: len(data) // 2] if how == "cut" else data)


@pytest.mark.parametrize("how", ["flip", "cut", "remove"])
@pytest.mark.parametrize(
    "file", ["pointers.parquet", "dataset.json", "column_001.npy", "key_sum.npy", "entities.arrow"]
)
def test_a_damaged_file_is_named(aside: Shows, file: str, how: str) -> None:
    made = build(aside, "next_show")
    home = aside.settings.training_folder
    paths = [path for path in home.rglob(file) if "recent" not in str(path)]
    assert paths
    for path in paths:
        damage(path, how)
    with pytest.raises(SequencePlatformError) as caught:
        list(TrainingReader(made.folder, COLUMNS))
    error = caught.value
    assert isinstance(error, StoreError)
    assert error.next_step
    assert "damaged" in error.what or "no data set" in error.what
    # What the error says to do helps.
    with open_platform(aside.settings) as platform:
        platform.build_training_set(platform.plan.training["next_show"], anew=True)
    assert list(TrainingReader(made.folder, COLUMNS))
    assert Dataset.find("next_show", settings=aside.settings).info.id == made.info.id


@pytest.mark.parametrize("after", [0.0, 0.05, 0.1, 0.2, 0.4])
def test_a_killed_build_leaves_no_half_data_set(aside: Shows, after: float) -> None:
    """Killed at any moment, the next build gives what an undisturbed one does."""
    script = (
        "from sequence_platform.settings import Settings\n"
        "from sequence_platform.wiring import open_platform\n"
        f"settings = Settings(home={str(aside.settings.home)!r}, "
        f"definitions={str(aside.settings.definitions)!r}, "
        f"source_root={str(aside.root)!r}, training={aside.settings.training!r})\n"
        "with open_platform(settings) as platform:\n"
        "    print('ready', flush=True)\n"
        "    platform.build_training_set(platform.plan.training['next_show'])\n"
    )
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(after)
        os.kill(process.pid, signal.SIGKILL)
    made = build(aside, "next_show")
    [batch] = TrainingReader(made, ["event_time"], batch_size=1000)
    for n in (0, 100, 399):
        label = aside.labels[n]
        rows = seen_by(aside, label["user_id"], label["asked_at"], label["asked_at"])
        assert batch.lengths[n] == len(rows)
    left = [path for path in aside.settings.training_folder.rglob(".*") if path.is_dir()]
    assert [path for path in left if path.parent.name in {"parts", "versions"}] == []


def test_little_address_space_is_enough_to_read(shows: Shows, next_show: Dataset) -> None:
    """Files that are too large to be mapped are read; the answer is the same."""
    [expected] = TrainingReader(next_show, [*COLUMNS, "taste"], batch_size=1000)
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    column = max(path.stat().st_size for path in shows.settings.training_folder.rglob("*.npy"))
    assert column > 10_000
    script = f"""
import resource
import numpy as np
import sequence_platform.stores.local_training.column_file as files
files._may_map = lambda path: False
from sequence_platform import TrainingReader
[batch] = TrainingReader({str(next_show.folder)!r}, {[*COLUMNS, "taste"]!r}, batch_size=1000)
print(int(batch["event_time"].sum()), int(batch["show"].sum()), float(batch["taste"].sum()))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert (soft, hard) == resource.getrlimit(resource.RLIMIT_AS)
    assert done.stdout.split() == [
        str(int(expected["event_time"].sum())),
        str(int(expected["show"].sum())),
        str(float(expected["taste"].sum())),
    ]
