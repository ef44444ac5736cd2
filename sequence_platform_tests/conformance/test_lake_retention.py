"""Days that are kept no longer leave a lake whole, and the ledger remembers what they held."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from sequence_platform.ports import Expired, TableSpec
from sequence_platform.stores.ducklake import DuckLakeLake
from sequence_platform_tests.backends import LakePlace
from sequence_platform_tests.conformance.appends import Stream, dead, letter, move
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
    ids,
    letters,
    read_all,
    snapshot,
    snapshots,
    version_of,
)


def fill(lake: DuckLakeLake, table: TableSpec) -> None:
    """Build two days: of the first, a row, a dead letter, and a correction that removes."""
    row, other = click(1, "a", NOON), click(1, "gone", NOON)
    removal = corrections(correction(other, removes=True))
    build(lake, table, DAY, clicks(row), dead=letters("x"), corrected_by=removal)
    build(lake, table, NEXT_DAY, clicks(click(1, "b", TOMORROW)), dead=letters("y", "z"))


def versions(place: LakePlace) -> int:
    """Return how many snapshots the lake has."""
    with place.connect() as connection:
        [(count,)] = connection.execute("SELECT count(*) FROM lake.snapshots()").fetchall()
    return int(count)


def dead_in(place: LakePlace, table: TableSpec) -> list[str]:
    with place.connect() as connection:
        found = connection.execute(
            "SELECT rule FROM platform.dead_letters WHERE table_name = ? ORDER BY rule",
            [table.name],
        )
        return [rule for (rule,) in found.fetchall()]


def test_days_before_one_go_with_all_that_belongs_to_them(
    lake: DuckLakeLake, shared_place: LakePlace, table: TableSpec
) -> None:
    fill(lake, table)
    assert lake.expire(table, NEXT_DAY) == Expired(table.name, NEXT_DAY, 1, 1, 1)
    assert ids(read_all(lake, table)) == ["b"]
    assert dead_in(shared_place, table) == ["y", "z"]
    assert lake.read_corrections(table, DAY).is_empty()
    assert set(lake.violations(table, DAY).values()) == {0}


def test_the_ledger_keeps_what_a_day_held_so_that_nothing_looks_stale(
    lake: DuckLakeLake, table: TableSpec
) -> None:
    fill(lake, table)
    facts = ["day", "content_hash", "inputs", "fingerprint", "received", "admitted"]
    before = lake.ledger(table.name)
    lake.expire(table, NEXT_DAY)
    after = lake.ledger(table.name)
    assert after.select(facts).equals(before.select(facts))
    assert after.select("state", "rows", "bytes").row(0) == ("expired", 0, 0)
    assert after["state"][1] == "built"
    assert version_of(lake, table, DAY) == 2


def test_expiring_again_changes_nothing(
    lake: DuckLakeLake, shared_place: LakePlace, table: TableSpec
) -> None:
    fill(lake, table)
    lake.expire(table, NEXT_DAY)
    ledger, count = lake.ledger(table.name), versions(shared_place)
    assert not lake.expire(table, NEXT_DAY).is_any
    assert not lake.expire(table, DAY).is_any
    assert lake.ledger(table.name).equals(ledger)
    assert versions(shared_place) == count


def test_a_day_that_is_kept_again_is_built_or_streamed_anew(
    lake: DuckLakeLake, stream: Stream
) -> None:
    table = stream.enriched
    fill(lake, table)
    lake.expire(table, NEXT_DAY + timedelta(days=1))
    build(lake, table, DAY, clicks(click(1, "c", NOON)))
    stream.append(stream.gain(click(1, "d", TOMORROW), day=NEXT_DAY), moves=[move(None, 1)])
    assert ids(read_all(lake, table)) == ["c", "d"]
    columns = ["state", "version", "rows", "received", "admitted", "dead_lettered"]
    assert lake.ledger(table.name).select(columns).rows() == [
        ("built", 3, 1, 1, 1, 0),
        ("open", 3, 1, 1, 1, 0),
    ]


def test_snapshots_go_with_their_ledger_rows(lake: DuckLakeLake, home: TableSpec) -> None:
    build(lake, home, DAY, snapshots(snapshot(1, DAY, NOON)))
    build(lake, home, NEXT_DAY, snapshots(snapshot(1, NEXT_DAY, NOON, TOMORROW)))
    assert lake.expire(home, NEXT_DAY) == Expired(home.name, NEXT_DAY, 1, 1, 0)
    assert lake.ledger(home.name)["day"].to_list() == [NEXT_DAY]
    assert lake.read_snapshots(home, ["entity"], DAY).is_empty()


def test_messages_go_by_their_day_and_unreadable_ones_by_when_the_log_took_them(
    lake: DuckLakeLake, stream: Stream
) -> None:
    stream.append(
        stream.gain(click(1, "a", NOON)),
        stream.gain(click(1, "b", TOMORROW), day=NEXT_DAY, first_offset=1),
        moves=[move(None, 3)],
        letters=dead(letter(2)),
    )
    assert lake.expire(stream.raw, NEXT_DAY) == Expired(stream.raw.name, NEXT_DAY, 1, 1, 0)
    assert [len(lake.read_raw(stream.raw, day)) for day in (DAY, NEXT_DAY)] == [0, 1]
    later = COMMITTED_AT.date() + timedelta(days=1)
    assert lake.expire(stream.raw, later) == Expired(stream.raw.name, later, 1, 1, 1)
    assert lake.dead_letters(stream.raw).is_empty()
    assert lake.offsets(stream.raw)["next_offset"].to_list() == [3]


def test_maintenance_removes_the_files_of_days_that_went(
    own_lake: DuckLakeLake, place: LakePlace
) -> None:
    own_lake.ensure_tables([CLICKS])
    fill(own_lake, CLICKS)
    own_lake.expire(CLICKS, NEXT_DAY)
    own_lake.maintain(keep_snapshots=timedelta(0), orphans_older_than=timedelta(0))
    files = [path for path in Path(place.data_path).rglob("*.parquet") if "enriched" in str(path)]
    assert [f"day={NEXT_DAY}" in str(path) for path in files] == [True]
