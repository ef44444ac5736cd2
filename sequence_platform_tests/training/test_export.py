"""Data sets: what becomes of every label, of changed days, and of the same input again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from sequence_platform import TrainingReader, training_set
from sequence_platform.catalog import load_plan
from sequence_platform.clock import FixedClock
from sequence_platform.errors import (
    DefinitionError,
    FrameSchemaError,
    StateMismatchError,
    StoreError,
)
from sequence_platform.runtimes.segments import publish_days
from sequence_platform.runtimes.serving import Query, SequenceReader
from sequence_platform.runtimes.training import collect
from sequence_platform.settings import Settings
from sequence_platform.training import Dataset
from sequence_platform.wiring import open_lake, open_online, open_platform, open_training
from sequence_platform_tests.training.shows import DAY, DAYS, START, Shows, make_shows, seen_by

NOON = datetime(2026, 3, 6, 12, tzinfo=UTC)


def asked(*rows: tuple[Any, Any]) -> pl.DataFrame:
    schema = {"user_id": pl.Int64(), "request_time": pl.Datetime("us", "UTC")}
    return pl.DataFrame(rows, schema=schema, orient="row")


def lengths(dataset: Dataset) -> list[int]:
    reader = TrainingReader(dataset, ["event_time"], batch_size=10_000)
    return [int(length) for batch in reader for length in batch.lengths]


def times_of(dataset: Dataset) -> list[list[int]]:
    [batch] = TrainingReader(dataset, ["event_time"], batch_size=10_000)
    bounds = zip(batch.offsets[:-1], batch.offsets[1:], strict=True)
    return [batch["event_time"][start:stop].tolist() for start, stop in bounds]


def expected_times(shows: Shows, labels: pl.DataFrame, delay: timedelta, *, now: bool) -> list[Any]:
    found = []
    for user, time in labels.iter_rows():
        as_of = time - delay
        rows = seen_by(shows, user, as_of, None if now else as_of)
        found.append([int(row["at"].timestamp() * 1_000_000) for row in rows])
    return found


def test_every_label_says_what_became_of_it(shows: Shows) -> None:
    labels = asked(
        (1, NOON),
        (999, NOON),
        (None, NOON),
        (1, None),
        (1, NOON - 300 * DAY),
        (1, NOON + 9000 * DAY),
        (1, NOON),
    )
    made = training_set("watched", labels, name="outcomes", settings=shows.settings)
    pointers = made.scan_pointers().collect()
    outcomes = ["ok", "unknown_entity", "null_entity", "null_time", "before_data", "after_data"]
    assert pointers["outcome"].to_list() == [*outcomes, "ok"]
    assert pointers.select("user_id", "request_time").equals(labels)
    assert made.info.outcomes == dict.fromkeys(sorted(outcomes), 1) | {"ok": 2}
    assert made.info.duplicates == 1
    first, *empty, last = lengths(made)
    assert first == last == len(seen_by(shows, 1, NOON, NOON)) > 0
    assert empty == [0] * 5


@pytest.mark.parametrize("known", ["at_request", "now"])
@pytest.mark.parametrize("minutes", [0, 45])
def test_delay_and_what_is_known_equal_plain_loops(shows: Shows, known: Any, minutes: int) -> None:
    labels = pl.DataFrame(shows.labels).select(
        "user_id", request_time=pl.col("asked_at").cast(pl.Datetime("us", "UTC"))
    )
    delay = timedelta(minutes=minutes)
    made = training_set(
        "watched", labels, delay=delay, known=known, name="delays", settings=shows.settings
    )
    assert times_of(made) == expected_times(shows, labels, delay, now=known == "now")


@pytest.mark.parametrize(
    "time",
    [
        pl.col("request_time").dt.convert_time_zone("America/New_York"),
        pl.col("request_time").dt.replace_time_zone(None),
        pl.col("request_time").dt.cast_time_unit("ns"),
        pl.col("request_time").dt.cast_time_unit("ms"),
    ],
    ids=["zone", "no zone", "ns", "ms"],
)
def test_times_of_any_zone_and_unit_are_the_same_moments(shows: Shows, time: pl.Expr) -> None:
    labels = asked((1, NOON), (2, NOON + DAY))
    plain = training_set("watched", labels, name="zones", settings=shows.settings)
    other = training_set(
        "watched", labels.with_columns(request_time=time), name="zones", settings=shows.settings
    )
    assert times_of(other) == times_of(plain)


def test_times_as_text_are_read_by_an_expression(shows: Shows) -> None:
    labels = pl.DataFrame({"user_id": [1, 1, 1], "ts": ["2026-03-06T12:00:00Z", "soon", None]})
    with pytest.raises(DefinitionError) as caught:
        training_set("watched", labels, request_time="ts", settings=shows.settings)
    assert "str.to_datetime" in str(caught.value)
    time = pl.col("ts").str.to_datetime("%Y-%m-%dT%H:%M:%S%#z", strict=False)
    made = training_set("watched", labels, request_time=time, name="texts", settings=shows.settings)
    assert made.info.outcomes == {"null_time": 2, "ok": 1}
    assert lengths(made)[0] == len(seen_by(shows, 1, NOON, NOON))


def test_wrong_labels_are_told_all_at_once(shows: Shows) -> None:
    labels = pl.DataFrame({"user": ["a"], "when": [NOON], "slot": [1]})
    with pytest.raises(DefinitionError) as caught:
        training_set(
            "watched",
            labels,
            request_time="wen",
            columns=["show", "minuets"],
            settings=shows.settings,
        )
    text = str(caught.value)
    for part in ("column 'user_id'", "column 'wen'", "'minuets'", "'slot'"):
        assert part in text, part
    with pytest.raises(DefinitionError, match="String"):
        training_set(
            "watched",
            labels.drop("slot"),
            entity="user",
            request_time="when",
            settings=shows.settings,
        )
    with pytest.raises(FrameSchemaError, match="no sequence is called 'watchd'"):
        training_set("watchd", labels, settings=shows.settings)


def test_no_labels_make_an_empty_data_set(shows: Shows) -> None:
    made = training_set("watched", asked(), name="none", settings=shows.settings)
    assert made.info.rows == 0
    assert list(TrainingReader(made, ["show"])) == []


def test_a_lake_without_events_is_an_error(tmp_path: Path) -> None:
    project = make_shows(tmp_path / "project")
    with open_platform(project.settings):
        pass
    with pytest.raises(StateMismatchError, match="no day of the events of 'watched'"):
        training_set("watched", asked((1, NOON)), settings=project.settings)


def test_the_same_input_is_the_same_data_set_bit_for_bit(own_shows: Shows, tmp_path: Path) -> None:
    """In the same folder nothing is written; in another folder every byte is equal."""
    labels = pl.DataFrame(own_shows.labels).select("user_id", request_time="asked_at")
    first = training_set("watched", labels, lists=True, settings=own_shows.settings)
    before = {path: path.stat().st_mtime_ns for path in first.folder.iterdir()}
    again = training_set("watched", labels, lists=True, settings=own_shows.settings)
    assert again.info.id == first.info.id
    assert {path: path.stat().st_mtime_ns for path in again.folder.iterdir()} == before
    elsewhere = Settings(
        home=own_shows.settings.home,
        definitions=own_shows.settings.definitions,
        source_root=own_shows.root,
        training=str(tmp_path / "elsewhere"),
    )
    other = training_set("watched", labels, lists=True, settings=elsewhere)
    assert other.folder != first.folder
    assert other.info.id == first.info.id
    for name in ("pointers.parquet", "lists.parquet"):
        assert (other.folder / name).read_bytes() == (first.folder / name).read_bytes()


def test_a_changed_day_makes_a_version_and_old_data_sets_stay_readable(own_shows: Shows) -> None:
    labels = pl.DataFrame(own_shows.labels).select("user_id", request_time="asked_at")
    first = training_set("watched", labels, settings=own_shows.settings)
    before = times_of(first)
    day = START + 4 * DAY
    own_shows.plays[:] = [
        row for row in own_shows.plays if row["at"].date() != day or row["user_id"] != 1
    ]
    own_shows.write("plays", day)
    own_shows.build([day])
    second = training_set("watched", labels, settings=own_shows.settings)
    assert second.info.store_version != first.info.store_version
    assert times_of(second) == expected_times(own_shows, labels, timedelta(0), now=False)
    assert times_of(first) == before != times_of(second)


def test_a_new_day_leaves_most_of_the_store_as_it_is(tmp_path: Path) -> None:
    project = make_shows(tmp_path / "project")
    days = [START + n * DAY for n in range(DAYS)]
    labels = pl.DataFrame(project.labels).select("user_id", request_time="asked_at")
    written = 0
    parts: set[str] = set()
    for count in range(6, DAYS + 1):
        project.build(days[count - 1 : count] if parts else days[:count])
        made = training_set("watched", labels, settings=project.settings)
        info = open_training(project.settings)[0].open("watched", made.info.store_version).info
        new = [part for part in info.parts if part.name not in parts]
        written += sum(part.rows for part in new)
        parts |= {part.name for part in info.parts}
        assert len(info.parts) <= 4
    total = len(project.plays) + len(project.likes)
    assert written < 3 * total  # building all anew each time would be about 5 times
    assert times_of(made) == expected_times(project, labels, timedelta(0), now=False)


def test_texts_that_are_gone_are_not_kept_and_codes_are_those_of_a_store_written_anew(
    own_shows: Shows, tmp_path: Path
) -> None:
    labels = pl.DataFrame(own_shows.labels).select("user_id", request_time="asked_at")
    training_set("watched", labels, settings=own_shows.settings)
    day = START + 4 * DAY
    for number, show in enumerate(("a secret", "zebras")):
        own_shows.plays[:] = [
            row | ({"show": show} if row["at"].date() == day else {}) for row in own_shows.plays
        ]
        own_shows.write("plays", day)
        own_shows.build([day])
        made = training_set("watched", labels, settings=own_shows.settings)
        # A day more, so that parts of both stay.
        last = START + (DAYS - 2 + number) * DAY
        own_shows.write("plays", last)
        own_shows.build([last])
    elsewhere = own_shows.settings.model_copy(update={"training": str(tmp_path / "elsewhere")})
    anew = training_set("watched", labels, settings=elsewhere)
    assert anew.info.id == made.info.id
    readers = [TrainingReader(each, ["show"], batch_size=1000) for each in (made, anew)]
    assert readers[0].vocabulary == readers[1].vocabulary
    assert "zebras" in readers[0].vocabulary["show"]
    assert "a secret" not in readers[0].vocabulary["show"]
    [mine], [theirs] = readers
    assert mine["show"].tolist() == theirs["show"].tolist()
    version = own_shows.settings.training_folder / "stores" / "watched" / "versions"
    newest = version / made.info.store_version
    assert b"zebras" in b"".join(path.read_bytes() for path in newest.glob("vocabulary_*"))
    assert b"a secret" not in b"".join(path.read_bytes() for path in newest.glob("vocabulary_*"))


def test_collecting_keeps_what_newest_data_sets_need(own_shows: Shows) -> None:
    labels = pl.DataFrame(own_shows.labels).select("user_id", request_time="asked_at")
    made = []
    for minutes in (0, 1):
        day = START + 4 * DAY
        own_shows.plays[:] = [
            row | ({"minutes": minutes} if row["at"].date() == day else {})
            for row in own_shows.plays
        ]
        own_shows.write("plays", day)
        own_shows.build([day])
        made.append(training_set("watched", labels, settings=own_shows.settings))
    clock = FixedClock(datetime.now(UTC))
    places = open_training(own_shows.settings)
    kept = collect(*places, clock, keep=1, younger_than=timedelta(hours=1))
    assert (kept.datasets, kept.bytes) == (0, 0)
    removed = collect(*places, clock, keep=1, younger_than=timedelta(0))
    assert removed.datasets == 1
    assert removed.bytes > 0
    assert lengths(made[1])
    with pytest.raises(StoreError, match="no data set"):
        Dataset.find(made[0].folder, settings=own_shows.settings).open_version()


def test_a_collected_version_of_the_store_is_named(own_shows: Shows) -> None:
    labels = asked((1, NOON))
    made = training_set("watched", labels, settings=own_shows.settings)
    store, _ = open_training(own_shows.settings)
    store.collect("watched", ())
    with pytest.raises(StoreError, match=f"version {made.info.store_version}") as caught:
        TrainingReader(made, ["show"])
    assert "training build" in caught.value.next_step


def test_what_serving_answers_as_of_then_is_what_training_sees(
    own_shows: Shows,
) -> None:
    labels = pl.DataFrame(own_shows.labels).select("user_id", request_time="asked_at").head(60)
    plan = load_plan(own_shows.settings.definitions)
    days = [START + n * DAY for n in range(DAYS)]
    with open_lake(own_shows.settings) as lake, open_online(own_shows.settings) as store:
        clock = FixedClock(datetime(2026, 3, 20, tzinfo=UTC))
        for event in plan.events.values():
            publish_days(lake, store, event, days, clock)
        served = SequenceReader(plan, store, clock)
        for name in ("watched", "recent"):
            made = training_set(
                name, labels, known="now", name="served", settings=own_shows.settings
            )
            for (user, time), seen in zip(labels.iter_rows(), times_of(made), strict=True):
                answer = served.read(name, user, Query(as_of=time, columns=("event_time",)))
                assert answer.columns["event_time"].values.tolist() == seen
