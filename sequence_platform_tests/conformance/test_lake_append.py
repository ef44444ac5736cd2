"""Every promise of ports.LakeAppender, kept by every lake in the register."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from sequence_platform.definition import Log
from sequence_platform.engine.dead_letters import MESSAGE
from sequence_platform.engine.raw import raw_rows, received_rows
from sequence_platform.errors import ConflictError, FencedError, FrameSchemaError
from sequence_platform.plan.tables import raw_table
from sequence_platform.ports import Counts, Lake, PartitionState
from sequence_platform_tests.backends import LakePlace
from sequence_platform_tests.conformance.appends import (
    RAW,
    Stream,
    dead,
    letter,
    move,
    raw_of,
)
from sequence_platform_tests.conformance.lakes import (
    CLICKS,
    COMMITTED_AT,
    DAY,
    NEXT_DAY,
    NOON,
    TOMORROW,
    build,
    click,
    clicks,
    correction,
    corrections,
    day_after,
    ids,
    letters,
    read_all,
)
from sequence_platform_tests.unit.plan.examples import click as click_type
from sequence_platform_tests.unit.plan.examples import event_plan

HOUR = timedelta(hours=1)
BERLIN = pl.Datetime("ms", "Europe/Berlin")
EVERY_TYPE = pl.Schema(
    {
        "id": pl.String(),
        "user": pl.Int64(),
        "at": BERLIN,
        "naive": pl.Datetime("ms"),
        "u64": pl.UInt64(),
        "f32": pl.Float32(),
        "flag": pl.Boolean(),
        "bytes": pl.Binary(),
        "kind": pl.Enum(["a", "b"]),
        "on": pl.Date(),
        "cost": pl.Decimal(18, 4),
        "tags": pl.List(pl.String()),
        "vector": pl.Array(pl.Float32(), 2),
        "times": pl.List(pl.Datetime("ms")),
        "nested": pl.Struct({"a": pl.Int32(), "at": BERLIN}),
        "points": pl.List(pl.Array(pl.Float32(), 2)),
    }
)
EVERY_VALUE = pl.DataFrame(
    {
        "id": ["a", "b"],
        "user": [1, 2],
        "at": [NOON, NOON + HOUR],
        "naive": [datetime(2026, 1, 1), None],  # noqa: DTZ001 - the case
        "u64": [2**64 - 1, None],
        "f32": [-0.0, None],
        "flag": [True, None],
        "bytes": [b"\x00\xff", None],
        "kind": ["b", None],
        "on": [DAY, None],
        "cost": [Decimal("-1.5"), None],
        "tags": [["x", None], None],
        "vector": [[1.0, 2.0], None],
        "times": [[datetime(2026, 1, 1)], None],  # noqa: DTZ001 - the case
        "nested": [{"a": 1, "at": NOON}, None],
        "points": [[[1.0, 2.0]], None],
    },
    schema=EVERY_TYPE,
)
A, B, C = click(1, "a", NOON), click(2, "b", NOON), click(3, "c", TOMORROW)


def ledger_row(stream: Stream, day: date = DAY) -> dict[str, Any]:
    ledger = stream.lake.ledger(stream.enriched.name)
    return ledger.filter(pl.col("day") == day).row(0, named=True)


def state_of(stream: Stream, day: date = DAY) -> tuple[int, int, str]:
    row = ledger_row(stream, day)
    return row["version"], row["rows"], row["state"]


def counts_of(row: dict[str, Any]) -> tuple[int, int, int, int, int]:
    names = ("received", "admitted", "superseded", "deleted", "dead_lettered")
    return tuple(row[name] for name in names)


def rows_of(stream: Stream) -> list[str]:
    return ids(read_all(stream.lake, stream.enriched))


def all_of(stream: Stream) -> list[pl.DataFrame]:
    """Return everything that an append can change."""
    lake = stream.lake
    raws = [lake.read_raw(stream.raw, day) for day in (DAY, NEXT_DAY)]
    tables = [read_all(lake, stream.enriched), lake.ledger(stream.enriched.name)]
    return [*raws, *tables, lake.offsets(stream.raw), lake.dead_letters(stream.raw)]


def files_of(stream: Stream, place: LakePlace) -> set[Path]:
    folders = [
        Path(place.data_path, *spec.name.split(".")) for spec in (stream.raw, stream.enriched)
    ]
    return {file for folder in folders for file in folder.rglob("*.parquet")}


def assert_refused(
    stream: Stream, place: LakePlace, error: type[Exception], act: Callable[[], object]
) -> str:
    """Do what is refused; nothing changes and no file stays; return the error's text."""
    before, files = all_of(stream), files_of(stream, place)
    with pytest.raises(error) as caught:
        act()
    for found, expected in zip(all_of(stream), before, strict=True):
        assert_frame_equal(found, expected)
    assert files_of(stream, place) == files
    return str(caught.value)


# One transaction


def test_append_adds_rows_messages_letters_counts_and_offsets(stream: Stream) -> None:
    done = stream.append(
        stream.gain(A, B, arrival_watermark=NOON),
        stream.gain(C, day=NEXT_DAY, first_offset=2),
        moves=[move(None, 4)],
        letters=dead(letter(3)),
    )
    assert done.partitions == {
        DAY: PartitionState(1, 2, "open"),
        NEXT_DAY: PartitionState(1, 1, "open"),
    }
    assert (done.corrected, done.superseded) == ((), 0)
    assert rows_of(stream) == ["a", "b", "c"]
    assert_frame_equal(stream.lake.read_raw(stream.raw, DAY), raw_of([A, B]))
    assert_frame_equal(stream.lake.read_raw(stream.raw, NEXT_DAY), raw_of([C], 2))
    assert stream.offsets() == [("clicks", 0, "x", 4)]
    [stored] = stream.lake.dead_letters(stream.raw).to_dicts()
    assert stored == letter(3) | {"recorded_at": COMMITTED_AT}


def test_ledger_says_what_a_stream_brought(stream: Stream) -> None:
    counts = Counts(received=5, admitted=1, filtered={"b": 1, "a": 1}, superseded=1, deleted=1)
    assert counts.is_conserved
    gained = stream.gain(A, counts=counts, arrival_watermark=NOON + HOUR)
    stream.append(gained)
    row = ledger_row(stream)
    assert row.pop("content_hash")
    assert row == {
        "table_name": stream.enriched.name,
        "day": DAY,
        "state": "open",
        "version": 1,
        "rows": 1,
        "bytes": gained.rows.bytes,
        "received": 5,
        "admitted": 1,
        "filtered": '{"a": 1, "b": 1}',
        "superseded": 1,
        "deleted": 1,
        "dead_lettered": 0,
        "inputs": "",
        "fingerprint": "f1",
        "arrival_watermark": NOON + HOUR,
        "built_at": COMMITTED_AT,
    }


def test_counts_of_appends_add_up(stream: Stream) -> None:
    first = Counts(received=4, admitted=1, filtered={"bot": 2, "old": 1})
    stream.grow(A, counts=first, arrival_watermark=NOON + HOUR)
    # A row wins over what a rule had filtered, and another one is deleted.
    second = Counts(
        received=3, admitted=1, filtered={"bot": -1, "old": -1}, superseded=3, deleted=1
    )
    assert second.is_conserved
    stream.grow(B, counts=second, arrival_watermark=NOON)
    row = ledger_row(stream)
    assert counts_of(row) == (7, 2, 3, 1, 0)
    assert row["filtered"] == '{"bot": 1}'
    assert (row["rows"], row["version"]) == (2, 2)
    assert row["arrival_watermark"] == NOON + HOUR


def test_rows_that_are_replaced_go_and_other_revisions_stay(stream: Stream) -> None:
    new = click(1, "a", NOON, revision=1, surface="home")
    stream.grow(A, B)
    done = stream.grow(new, removed=[A])
    assert done.partitions[DAY] == PartitionState(2, 2, "open")
    found = read_all(stream.lake, stream.enriched).select("event_id", "revision", "surface")
    assert found.rows() == [("a", 1, "home"), ("b", 0, "feed")]
    assert counts_of(ledger_row(stream)) == (3, 2, 1, 0, 0)
    stream.grow(removed=[A])  # it is gone already
    assert rows_of(stream) == ["a", "b"]


def test_a_row_can_be_replaced_by_one_that_differs_in_its_payload_only(stream: Stream) -> None:
    stream.grow(A)
    stream.grow(A | {"surface": "home"}, removed=[A])
    assert read_all(stream.lake, stream.enriched)["surface"].to_list() == ["home"]


def test_a_day_that_loses_all_its_rows_stays_with_its_counts(stream: Stream) -> None:
    stream.grow(A)
    done = stream.grow(removed=[A], counts=Counts(1, -1, {}, 1, 1))
    assert done.partitions[DAY] == PartitionState(2, 0, "open")
    assert rows_of(stream) == []
    assert counts_of(ledger_row(stream)) == (2, 0, 1, 1, 0)


def test_appending_offsets_and_letters_alone_touches_no_partition(stream: Stream) -> None:
    assert not stream.append(moves=[move(None, 1)], letters=dead(letter(0))).partitions
    assert stream.offsets() == [("clicks", 0, "x", 1)]
    assert stream.lake.dead_letters(stream.raw).height == 1
    assert stream.lake.ledger(stream.enriched.name).is_empty()


def test_a_table_that_does_not_correct_takes_appends(lake: Lake, stream: Stream) -> None:
    plain = replace(stream.enriched, name=f"{stream.enriched.name}_plain", corrects=False)
    lake.ensure_tables([plain])
    quiet = Stream(lake, stream.raw, plain)
    quiet.grow(A)
    quiet.grow(B)
    assert rows_of(quiet) == ["a", "b"]


# Offsets


@pytest.mark.parametrize(
    "wrong",
    [move(None, 9), move(4, 9), move(6, 9), move(5, 9, identity="y"), move(5, 9, partition=1)],
)
def test_an_append_that_does_not_start_where_the_log_was_read_to_changes_nothing(
    stream: Stream, shared_place: LakePlace, wrong: Any
) -> None:
    stream.append(stream.gain(A), moves=[move(None, 5)], letters=dead(letter(4)))
    text = assert_refused(
        stream,
        shared_place,
        FencedError,
        lambda: stream.append(
            stream.gain(B), moves=[move(None, 1, partition=7), wrong], letters=dead(letter(8))
        ),
    )
    assert "topic clicks" in text
    assert "nothing is lost and nothing twice" in text


def test_offsets_are_kept_by_partition_and_move_on(stream: Stream) -> None:
    stream.append(moves=[move(None, 5, 1), move(None, 3, 0)])
    stream.append(moves=[move(5, 8, 1)])
    assert stream.offsets() == [("clicks", 0, "x", 3), ("clicks", 1, "x", 8)]
    assert stream.lake.offsets(stream.raw)["committed_at"].to_list() == [COMMITTED_AT] * 2


def test_offsets_of_one_table_do_not_fence_another(lake: Lake, stream: Stream) -> None:
    other = replace(stream.raw, name=f"{stream.raw.name}_other")
    lake.ensure_tables([other])
    stream.append(moves=[move(None, 5)])
    Stream(lake, other, stream.enriched).append(moves=[move(None, 2)])
    assert stream.offsets() == [("clicks", 0, "x", 5)]
    assert lake.offsets(other)["next_offset"].to_list() == [2]


def test_offsets_are_reset_to_what_an_operator_decided(stream: Stream) -> None:
    stream.append(moves=[move(None, 5), move(None, 6, 1)])
    later = COMMITTED_AT + HOUR
    decided = [move(None, 2, 0, "y"), move(99, 7, 2, "y")]
    stream.lake.reset_offsets(stream.raw, decided, later)
    assert stream.offsets() == [("clicks", 0, "y", 2), ("clicks", 1, "x", 6), ("clicks", 2, "y", 7)]
    assert stream.lake.offsets(stream.raw)["committed_at"].to_list() == [later, COMMITTED_AT, later]
    stream.append(moves=[move(2, 3, 0, "y")])
    stream.lake.reset_offsets(stream.raw, [], later)
    assert stream.offsets()[0] == ("clicks", 0, "y", 3)


# Versions


def test_an_append_to_a_partition_that_moved_on_changes_nothing(
    stream: Stream, shared_place: LakePlace
) -> None:
    stream.append(stream.gain(A), moves=[move(None, 1)])
    text = assert_refused(
        stream,
        shared_place,
        ConflictError,
        lambda: stream.append(
            stream.gain(C, day=NEXT_DAY),
            stream.gain(B, expected_version=0),
            moves=[move(1, 2)],
            letters=dead(letter(1)),
        ),
    )
    assert "version 1" in text
    assert "append again" in text


def test_an_append_to_a_partition_that_is_gone_changes_nothing(
    stream: Stream, shared_place: LakePlace
) -> None:
    act = lambda: stream.grow(A, expected_version=3)  # noqa: E731 - what is refused
    assert "version 0" in assert_refused(stream, shared_place, ConflictError, act)


def test_letters_of_other_columns_are_refused_and_no_file_stays(
    stream: Stream, shared_place: LakePlace
) -> None:
    wrong = dead(letter(0)).drop("payload")
    act = lambda: stream.append(stream.gain(A), letters=wrong)  # noqa: E731 - what is refused
    assert "payload" in assert_refused(stream, shared_place, FrameSchemaError, act)


# States and staleness


def test_states_follow_what_is_done_to_a_partition(stream: Stream) -> None:
    lake, spec = stream.lake, stream.enriched
    rows = clicks(A, B)
    stream.grow(A)
    stream.grow(B)
    assert state_of(stream) == (2, 2, "open")
    build(lake, spec, DAY, rows, fingerprint="f2")
    assert state_of(stream) == (3, 2, "built")
    stream.grow(click(3, "c", NOON))
    assert state_of(stream) == (4, 3, "corrected")
    build(lake, spec, DAY, rows, is_sealed=True)
    assert state_of(stream) == (5, 2, "sealed")
    stream.grow(click(3, "c", NOON))
    stream.grow(click(4, "d", NOON))
    assert state_of(stream) == (7, 4, "corrected")
    build(lake, spec, DAY, rows, is_sealed=True)
    assert state_of(stream) == (8, 2, "sealed")


def test_sealing_exactly_what_streams_brought_changes_nothing_but_the_state(stream: Stream) -> None:
    stream.grow(A)
    stream.grow(B)
    before = ledger_row(stream)
    done = build(stream.lake, stream.enriched, DAY, clicks(A, B), is_sealed=True)
    assert (done.version, done.changed, done.rows) == (2, False, 2)
    assert ledger_row(stream) == before | {"state": "sealed"}


def hash_of_a_build(stream: Stream, *rows: dict[str, Any]) -> str:
    """Return the hash that a batch commit of these rows has, on a day that nothing else uses."""
    build(stream.lake, stream.enriched, day_after(5), clicks(*rows))
    return str(ledger_row(stream, day_after(5))["content_hash"])


def test_content_hash_is_that_of_a_batch_commit_of_the_same_rows(stream: Stream) -> None:
    new = click(1, "a", NOON, revision=1)
    stream.grow(A)
    stream.grow(B)
    assert ledger_row(stream)["content_hash"] == hash_of_a_build(stream, B, A)
    stream.grow(new, removed=[A])
    assert ledger_row(stream)["content_hash"] == hash_of_a_build(stream, new, B)
    stream.grow(removed=[new, B])
    assert ledger_row(stream)["content_hash"] == hash_of_a_build(stream)


def test_content_hash_of_a_built_day_that_grew_is_that_of_building_all_at_once(
    stream: Stream,
) -> None:
    build(stream.lake, stream.enriched, DAY, clicks(B))
    stream.grow(A)
    assert ledger_row(stream)["content_hash"] == hash_of_a_build(stream, A, B)


# Corrections


@pytest.mark.parametrize(
    ("is_sealed", "state"), [(None, "open"), (False, "corrected"), (True, "corrected")]
)
def test_a_correction_removes_rows_of_other_days(
    stream: Stream, is_sealed: bool | None, state: str
) -> None:
    if is_sealed is None:
        stream.grow(A, B)
    else:
        build(stream.lake, stream.enriched, DAY, clicks(A, B), is_sealed=is_sealed)
    moved = click(1, "a", TOMORROW, revision=1)
    done = stream.grow(moved, day=NEXT_DAY, corrected_by=corrections(correction(moved)))
    assert done.partitions == {NEXT_DAY: PartitionState(1, 1, "open")}
    assert (done.corrected, done.superseded) == ((DAY,), 0)
    assert read_all(stream.lake, stream.enriched).select("event_id", "revision").rows() == [
        ("a", 1),
        ("b", 0),
    ]
    assert state_of(stream) == (2, 1, state)
    assert counts_of(ledger_row(stream)) == (2, 1, 1, 0, 0)
    assert ledger_row(stream)["content_hash"] == hash_of_a_build(stream, B)


def test_a_row_that_a_correction_of_another_day_beats_does_not_come_in(stream: Stream) -> None:
    moved = click(1, "a", TOMORROW, revision=1)
    stream.grow(moved, day=NEXT_DAY, corrected_by=corrections(correction(moved)))
    done = stream.grow(A, B)
    assert done.partitions[DAY] == PartitionState(1, 1, "open")
    assert (done.corrected, done.superseded) == ((), 1)
    assert rows_of(stream) == ["a", "b"]
    assert counts_of(ledger_row(stream)) == (2, 1, 1, 0, 0)
    assert ledger_row(stream)["content_hash"] == hash_of_a_build(stream, B)


def test_a_tombstone_of_the_same_day_keeps_older_rows_out_and_lets_newer_in(
    stream: Stream,
) -> None:
    gone = corrections(correction(A, arrival_time=NOON + HOUR, removes=True))
    stream.grow(removed=[], counts=Counts(1, 0, {}, 0, 1), corrected_by=gone)
    late = stream.grow(A)
    assert (late.partitions[DAY], late.superseded) == (PartitionState(2, 0, "open"), 1)
    assert counts_of(ledger_row(stream)) == (2, 0, 1, 1, 0)
    newer = click(1, "a", NOON, arrival_time=NOON + 2 * HOUR)
    assert stream.grow(newer).partitions[DAY] == PartitionState(3, 1, "open")


def test_corrections_work_between_the_days_of_one_append(stream: Stream) -> None:
    moved = click(1, "a", TOMORROW, revision=1)
    fix = corrections(correction(moved))
    done = stream.append(
        stream.gain(A, B), stream.gain(moved, day=NEXT_DAY, corrected_by=fix, first_offset=2)
    )
    found = read_all(stream.lake, stream.enriched).select("event_id", "revision").rows()
    assert found == [("a", 1), ("b", 0)]
    assert {day: state.rows for day, state in done.partitions.items()} == {DAY: 1, NEXT_DAY: 1}
    assert (state_of(stream)[1], state_of(stream, NEXT_DAY)[1]) == (1, 1)
    assert counts_of(ledger_row(stream)) == (2, 1, 1, 0, 0)
    assert done.corrected == ()


def test_a_correction_that_comes_again_is_held_once_and_does_no_more_harm(stream: Stream) -> None:
    moved = click(1, "a", TOMORROW, revision=1)
    fix = corrections(correction(moved))
    stream.grow(A)
    stream.grow(moved, day=NEXT_DAY, corrected_by=fix)
    again = stream.grow(day=NEXT_DAY, corrected_by=fix, counts=Counts(1, 0, {}, 1))
    assert (again.corrected, again.superseded) == ((), 0)
    assert rows_of(stream) == ["a"]
    # Held once: a batch commit with the same rows and the same correction finds nothing new.
    row = ledger_row(stream, NEXT_DAY)
    counts = Counts(row["received"], row["admitted"], {}, row["superseded"])
    done = build(
        stream.lake, stream.enriched, NEXT_DAY, clicks(moved), counts=counts, corrected_by=fix
    )
    assert (done.changed, done.version) == (False, 2)


def test_rows_of_a_batch_commit_are_beaten_by_corrections_that_a_stream_brought(
    stream: Stream,
) -> None:
    moved = click(1, "a", TOMORROW, revision=1)
    stream.grow(moved, day=NEXT_DAY, corrected_by=corrections(correction(moved)))
    done = build(stream.lake, stream.enriched, DAY, clicks(A, B))
    assert (done.rows, done.superseded) == (1, 1)
    assert rows_of(stream) == ["a", "b"]


# Dead letters


def test_a_dead_letter_is_used_up_by_its_replay_exactly_once(
    stream: Stream, shared_place: LakePlace
) -> None:
    stream.append(letters=dead(letter(1), letter(2), letter(2, partition=1)))
    replayed = dead(letter(2)).select(MESSAGE)
    stream.append(stream.gain(A), replayed=replayed)
    left = stream.lake.dead_letters(stream.raw).select("source", "position").rows()
    assert left == [("clicks/0", 1), ("clicks/1", 2)]
    again = dead(letter(1), letter(2)).select(MESSAGE)
    text = assert_refused(
        stream,
        shared_place,
        FencedError,
        lambda: stream.append(stream.gain(B), letters=dead(letter(9)), replayed=again),
    )
    assert "replay what is left" in text


def test_a_message_that_is_read_again_has_one_letter_with_its_reason_of_now(
    stream: Stream,
) -> None:
    stream.append(letters=dead(letter(1), letter(2)))
    stream.append(letters=dead(letter(2, "null_entity")))
    found = stream.lake.dead_letters(stream.raw).select("position", "rule").rows()
    assert found == [(1, "malformed_json"), (2, "null_entity")]


def test_letters_of_a_topic_made_anew_are_others_than_those_at_the_same_offsets(
    stream: Stream,
) -> None:
    anew = letter(1) | {"appended_at": COMMITTED_AT + HOUR}
    stream.append(letters=dead(letter(1)))
    stream.append(letters=dead(anew))
    stream.append(replayed=dead(anew).select(MESSAGE))
    [left] = stream.lake.dead_letters(stream.raw)["appended_at"]
    assert left == COMMITTED_AT


def test_a_dead_letter_that_stays_dead_gets_its_reason_of_now(stream: Stream) -> None:
    stream.append(letters=dead(letter(1, "null_entity")))
    used = dead(letter(1)).select(MESSAGE)
    stream.append(letters=dead(letter(1, "null_event_id")), replayed=used)
    found = stream.lake.dead_letters(stream.raw).select("position", "rule").rows()
    assert found == [(1, "null_event_id")]


def test_dead_letters_of_a_table_are_its_own_and_in_order(lake: Lake, stream: Stream) -> None:
    other = replace(stream.raw, name=f"{stream.raw.name}_other")
    lake.ensure_tables([other])
    Stream(lake, other, stream.enriched).append(letters=dead(letter(7)))
    build(lake, stream.enriched, DAY, clicks(A), dead=letters("x"))
    stream.append(letters=dead(letter(5), letter(3, partition=1), letter(11)))
    assert stream.lake.dead_letters(stream.raw).select("source", "position").rows() == [
        ("clicks/0", 5),
        ("clicks/0", 11),
        ("clicks/1", 3),
    ]
    tombstone = letter(1) | {"payload": None, "row": None}
    stream.append(letters=dead(tombstone))
    assert stream.lake.dead_letters(stream.raw)["payload"].to_list()[0] is None


# Reading


def test_keys_are_looked_up_in_the_days_named_and_no_others(stream: Stream) -> None:
    elsewhere = click(1, "a", TOMORROW)
    stream.append(stream.gain(A, B), stream.gain(elsewhere, C, day=NEXT_DAY, first_offset=2))
    wanted = pl.DataFrame({"entity": [1, 2, 1], "event_id": ["a", "x", "c"]})
    found = stream.lake.read_keys(stream.enriched, [DAY], wanted)
    assert found.columns == ["day", *stream.enriched.columns.names()]
    assert_frame_equal(found.drop("day"), clicks(A))
    assert found["day"].to_list() == [DAY]
    both = stream.lake.read_keys(stream.enriched, [DAY, NEXT_DAY], wanted)
    assert sorted(both["day"]) == [DAY, NEXT_DAY]
    raw = stream.lake.read_keys(stream.raw, [NEXT_DAY], wanted)
    assert_frame_equal(raw.drop("day"), raw_of([elsewhere], 2))


def test_no_keys_or_no_days_find_nothing_with_its_types(stream: Stream) -> None:
    stream.grow(A)
    wanted = pl.DataFrame({"entity": [1], "event_id": ["a"]})
    for days, keys in (([], wanted), ([DAY], wanted.clear()), ([NEXT_DAY], wanted)):
        found = stream.lake.read_keys(stream.enriched, days, keys)
        assert found.schema == pl.Schema({"day": pl.Date(), **stream.enriched.columns})
        assert found.is_empty()


def test_a_day_of_messages_comes_in_the_order_of_its_keys_and_messages(stream: Stream) -> None:
    rows = [
        click(2, "b", NOON),
        click(1, "z", NOON + HOUR),
        click(1, "a", NOON),
        click(1, "a", NOON),
    ]
    stream.grow(*rows[:2])
    stream.grow(*rows[2:], first_offset=2)
    found = stream.lake.read_raw(stream.raw, DAY).select("_entity", "_event_id", "_offset").rows()
    assert found == [(1, "a", 2), (1, "a", 3), (1, "z", 1), (2, "b", 0)]
    assert stream.lake.read_raw(stream.raw, NEXT_DAY).schema == stream.raw.columns


def test_messages_of_every_type_come_back_as_they_were(lake: Lake, stream: Stream) -> None:
    name = stream.raw.name.partition(".")[2]
    keys = {"event_id": "id", "event_time": "at", "entity": "user"}
    event = event_plan(
        click_type(name=name, batch=None, log=Log("clicks"), schema=EVERY_TYPE, **keys)
    )
    spec = raw_table(event)
    wide = replace(spec, name=f"{spec.name}_wide")
    lake.ensure_tables([wide])
    messages = raw_of([A, B]).select("_topic", "_partition", "_offset", "_appended_at")
    rows = raw_rows(event, EVERY_VALUE, messages)
    typed = Stream(lake, wide, stream.enriched)
    gained = replace(stream.gain(A), raw=lake.stage(wide, DAY, [rows]))
    typed.append(gained)
    found = received_rows(event, lake.read_raw(wide, DAY))
    assert_frame_equal(found, EVERY_VALUE)


# Rivals


def test_of_many_that_start_at_one_offset_one_gets_on(place: LakePlace) -> None:
    with place.open() as lake:
        lake.ensure_tables([CLICKS, RAW])
    outcomes: list[str] = []
    ready = threading.Barrier(2)

    def work(number: int) -> None:
        with place.open() as own:
            stream = Stream(own, RAW, CLICKS)
            gained = stream.gain(click(number, f"{number}", NOON), expected_version=0)
            ready.wait()
            try:
                stream.append(gained, moves=[move(None, 1)])
                outcomes.append("done")
            except FencedError:
                outcomes.append("fenced")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["done", "fenced"]
    with place.open() as lake:
        assert read_all(lake).height == lake.read_raw(RAW, DAY).height == 1
    assert len(list(Path(place.data_path).rglob("*.parquet"))) == 2


def test_appenders_of_two_shards_share_a_day_and_lose_nothing(place: LakePlace) -> None:
    rounds = 2
    with place.open() as lake:
        lake.ensure_tables([CLICKS, RAW])

    def work(shard: int) -> None:
        with place.open() as own:
            stream, done = Stream(own, RAW, CLICKS), 0
            while done < rounds:
                try:
                    row = click(shard, f"{shard}-{done}", NOON)
                    moves = [move(done or None, done + 1, shard)]
                    stream.append(stream.gain(row), moves=moves)
                    done += 1
                except ConflictError:
                    continue

    threads = [threading.Thread(target=work, args=(shard,)) for shard in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with place.open() as lake:
        stream = Stream(lake, RAW, CLICKS)
        assert rows_of(stream) == [f"{shard}-{n}" for shard in range(2) for n in range(rounds)]
        assert state_of(stream) == (4, 4, "open")
        assert counts_of(ledger_row(stream)) == (4, 4, 0, 0, 0)
        assert stream.offsets() == [("clicks", 0, "x", 2), ("clicks", 1, "x", 2)]
