"""TrainingReader hands out what each label could see, in the order and the form asked for."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from sequence_platform import TrainingReader
from sequence_platform.errors import FrameSchemaError, StateMismatchError, StoreError
from sequence_platform.training import Batch, Dataset
from sequence_platform_tests.training.shows import MAX_LENGTH, Shows, seen_by

VECTORS = ["event_time", "event_type", "show", "minutes", "taste", "gap_s"]


def texts(reader: TrainingReader, name: str, codes: Any) -> list[str | None]:
    """Return what codes stand for; 0 is nothing, 1 is not in the vocabulary."""
    words = [None, "?", *reader.vocabulary[name]]
    return [words[code] for code in codes.tolist()]


def all_rows(reader: TrainingReader) -> list[int]:
    return [int(row) for batch in reader for row in batch.rows]


def test_every_label_has_what_a_plain_loop_finds(shows: Shows, next_show: Dataset) -> None:
    reader = TrainingReader(next_show, VECTORS, batch_size=64)
    assert len(reader) == 7
    labels = iter(shows.labels)
    for batch in reader:
        for n in range(len(batch)):
            label = next(labels)
            expected = seen_by(shows, label["user_id"], label["asked_at"], label["asked_at"])
            part = slice(batch.offsets[n], batch.offsets[n + 1])
            at_us = [int(row["at"].timestamp() * 1_000_000) for row in expected]
            assert batch["event_time"][part].tolist() == at_us
            types = texts(reader, "event_type", batch["event_type"][part])
            assert types == [row["type"] for row in expected]
            assert texts(reader, "show", batch["show"][part]) == [row["show"] for row in expected]
            minutes = [row.get("minutes") for row in expected]
            assert batch["minutes"][part].tolist() == [value or 0 for value in minutes]
            assert batch.valid["minutes"][part].tolist() == [v is not None for v in minutes]
            tastes = np.array([row.get("taste", [0] * 4) for row in expected]).reshape(-1, 4)
            assert np.array_equal(batch["taste"][part], tastes.astype(np.float32))
            assert batch.labels.row(n, named=True) == label
    assert next(labels, None) is None


def test_lists_hold_what_pointers_do(next_recent: Dataset) -> None:
    lists = next_recent.scan_lists().collect()
    reader = TrainingReader(next_recent, ["event_time", "minutes", "show"], batch_size=1000)
    [batch] = reader
    assert lists["length"].to_list() == batch.lengths.tolist()
    flat = lists.select("event_time", "minutes", "show").explode("event_time", "minutes", "show")
    flat = flat.drop_nulls("event_time")
    assert flat["event_time"].to_physical().to_list() == batch["event_time"].tolist()
    assert flat["minutes"].fill_null(0).to_list() == batch["minutes"].tolist()
    assert flat["show"].to_list() == texts(reader, "show", batch["show"])
    assert lists["label_id"].to_list() == batch.labels["label_id"].to_list()
    assert 0 < batch.lengths.max() <= 10


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("pad_to", [None, 7, 50])
def test_padded_batches_hold_the_newest_events_beside_zeros(
    next_show: Dataset, side: Any, pad_to: int | None
) -> None:
    jagged = TrainingReader(next_show, VECTORS, batch_size=100, max_length=pad_to)
    padded = TrainingReader(
        next_show, VECTORS, batch_size=100, layout="padded", padding=side, pad_to=pad_to
    )
    for flat, square in zip(jagged, padded, strict=True):
        assert square.mask is not None
        longest = int(flat.lengths.max()) if pad_to is None else pad_to
        assert square.mask.shape == (len(flat), longest)
        assert square.mask.sum(axis=1).tolist() == flat.lengths.tolist()
        edge = square.mask[:, -1] if side == "left" else square.mask[:, 0]
        assert edge.tolist() == (flat.lengths > 0).tolist()
        for name in VECTORS:
            assert square[name].shape[:2] == square.mask.shape
            assert np.array_equal(square[name][square.mask], flat[name])
            assert not square[name][~square.mask].any()


def test_shorter_sequences_are_the_newest_events(next_show: Dataset) -> None:
    long = TrainingReader(next_show, ["event_time"], batch_size=400)
    short = TrainingReader(next_show, ["event_time"], batch_size=400, max_length=3)
    [whole], [newest] = long, short
    assert whole.lengths.max() == MAX_LENGTH
    for n in range(len(whole)):
        mine = whole["event_time"][whole.offsets[n] : whole.offsets[n + 1]]
        assert newest["event_time"][newest.offsets[n] : newest.offsets[n + 1]].tolist() == (
            mine[-3:].tolist()
        )


def test_a_given_vocabulary_numbers_texts(next_show: Dataset) -> None:
    reader = TrainingReader(next_show, ["show"], vocabulary={"show": ["sport", "döner"]})
    default = TrainingReader(next_show, ["show"])
    [mine], [theirs] = reader, default
    words = texts(default, "show", theirs["show"])
    known = {None: 0, "sport": 2, "döner": 3}
    assert mine["show"].tolist() == [known.get(word, 1) for word in words]
    assert default.vocabulary["show"] == sorted(default.vocabulary["show"])


def test_an_epoch_is_shuffled_anew_and_the_same_for_a_seed(next_show: Dataset) -> None:
    def orders(seed: int) -> list[list[int]]:
        reader = TrainingReader(next_show, ["show"], shuffle=True, seed=seed, batch_size=32)
        return [all_rows(reader), all_rows(reader)]

    first, second = orders(1)
    assert sorted(first) == sorted(second) == list(range(400))
    assert first != second
    assert orders(1) == [first, second]
    assert orders(2)[0] != first


@pytest.mark.parametrize("shuffle", [False, True])
def test_shards_and_workers_share_all_labels(next_show: Dataset, *, shuffle: bool) -> None:
    parts = [
        all_rows(
            TrainingReader(
                next_show,
                ["show"],
                shuffle=shuffle,
                shard=(rank, 3),
                worker=(number, 2),
                batch_size=16,
            )
        )
        for rank in range(3)
        for number in range(2)
    ]
    assert sorted(row for part in parts for row in part) == list(range(400))


def test_dropping_the_last_batch_gives_every_shard_as_many(next_show: Dataset) -> None:
    readers = [
        TrainingReader(next_show, ["show"], shard=(rank, 3), batch_size=10, drop_last=True)
        for rank in range(3)
    ]
    assert [len(reader) for reader in readers] == [13, 13, 13]
    assert all(len(batch) == 10 for reader in readers for batch in reader)


def test_a_reader_goes_on_where_its_state_was_taken(next_show: Dataset) -> None:
    def reader() -> TrainingReader:
        return TrainingReader(next_show, ["show"], shuffle=True, seed=3, batch_size=30)

    whole = reader()
    expected = [all_rows(whole), all_rows(whole)]
    first = reader()
    seen = []
    for batch in first:
        seen += batch.rows.tolist()
        if len(seen) == 150:
            break
    state = json.loads(json.dumps(first.state_dict()))
    second = reader()
    second.load_state_dict(state)
    assert [seen + all_rows(second), all_rows(second)] == expected


def test_a_killed_trainer_goes_on_from_its_checkpoint(next_show: Dataset, tmp_path: Path) -> None:
    """A process reads, writes its state after each batch, and dies in the middle of an epoch."""
    script = tmp_path / "train.py"
    script.write_text(f"""
import json, os, pathlib, signal
from sequence_platform import TrainingReader
reader = TrainingReader({str(next_show.folder)!r}, ["show"], shuffle=True, seed=5, batch_size=25)
state, log = pathlib.Path("state.json"), open("rows.txt", "a", buffering=1)
if state.exists():
    reader.load_state_dict(json.loads(state.read_text()))
done = 0
for batch in reader:
    log.write("".join(f"{{row}} {{batch['show'].sum()}}\\n" for row in batch.rows))
    state.write_text(json.dumps(reader.state_dict()))
    done += 1
    if done == 6:
        os.kill(os.getpid(), signal.SIGKILL)
""")
    command = [sys.executable, str(script)]
    codes = [subprocess.run(command, cwd=tmp_path, check=False).returncode for _ in range(3)]
    assert codes == [-9, -9, 0]
    rows = [int(line.split()[0]) for line in (tmp_path / "rows.txt").read_text().splitlines()]
    whole = TrainingReader(next_show, ["show"], shuffle=True, seed=5, batch_size=25)
    assert rows == all_rows(whole)


@pytest.mark.parametrize("prefetch", [0, 1, 4])
def test_reading_ahead_changes_nothing(next_recent: Dataset, prefetch: int) -> None:
    reader = TrainingReader(next_recent, ["show", "minutes"], batch_size=17, prefetch=prefetch)
    plain = TrainingReader(next_recent, ["show", "minutes"], batch_size=17, prefetch=0)
    for found, expected in zip(reader, plain, strict=True):
        assert found.rows.tolist() == expected.rows.tolist()
        assert found["minutes"].tolist() == expected["minutes"].tolist()
        assert found["show"].tolist() == expected["show"].tolist()


def test_a_batch_is_arrow_that_shares_its_offsets(next_show: Dataset) -> None:
    batch: Batch = next(iter(TrainingReader(next_show, VECTORS, batch_size=50)))
    frame = pl.DataFrame(batch.to_arrow())
    assert frame["label_id"].to_list() == list(range(50))
    assert frame["taste"].dtype == pl.List(pl.Array(pl.Float32, 4))
    assert frame["minutes"].list.len().to_list() == batch.lengths.tolist()
    assert frame["minutes"].list.eval(pl.element().is_null()).list.sum().sum() > 0


def test_a_column_of_labels_does_not_vanish_behind_one_of_sequences(next_show: Dataset) -> None:
    batch = next(iter(TrainingReader(next_show, ["show", "minutes"], batch_size=50)))
    named = replace(batch, labels=batch.labels.rename({"label_id": "minutes"}))
    with pytest.raises(FrameSchemaError, match="both have a column 'minutes'"):
        named.to_arrow()


def test_only_some_label_columns_are_read(next_show: Dataset) -> None:
    batch = next(iter(TrainingReader(next_show, ["show"], labels=["liked"])))
    assert batch.labels.columns == ["liked"]
    batch = next(iter(TrainingReader(next_show, ["show"], labels=[])))
    assert batch.labels.columns == []
    assert batch.to_arrow().num_rows == len(batch) == 400


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"columns": ["shows"]}, "has no column 'shows'"),
        ({"columns": ["event_id"]}, "has no column 'event_id'"),
        ({"labels": ["like"]}, "have no column 'like'"),
        ({"batch_size": 0}, "batch_size of a reader"),
        ({"max_length": 0}, "max_length of a reader"),
        ({"shard": (3, 3)}, "shard of a reader"),
        ({"worker": (-1, 2)}, "worker of a reader"),
    ],
)
def test_wrong_options_are_named(next_show: Dataset, options: dict[str, Any], message: str) -> None:
    with pytest.raises(FrameSchemaError, match=message):
        TrainingReader(next_show, **options)


def test_a_state_of_another_order_is_refused(next_show: Dataset, next_recent: Dataset) -> None:
    state = TrainingReader(next_show, ["show"], batch_size=10).state_dict()
    with pytest.raises(StateMismatchError, match="another order"):
        TrainingReader(next_show, ["show"], batch_size=20).load_state_dict(state)
    with pytest.raises(StateMismatchError, match="another dataset"):
        TrainingReader(next_recent, ["show"], batch_size=10).load_state_dict(state)


def test_there_is_no_such_data_set(shows: Shows) -> None:
    with pytest.raises(StoreError, match="no data set 'next_shw'") as caught:
        Dataset.find("next_shw", settings=shows.settings)
    assert "next_show" in caught.value.expected
    with pytest.raises(StoreError, match="no data set"):
        Dataset.find(shows.root / "nothing", settings=shows.settings)
