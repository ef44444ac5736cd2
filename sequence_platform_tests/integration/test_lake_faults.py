"""The lake under kill -9, rival writers, a full disk, and locked, corrupt or absent catalogs."""

from __future__ import annotations

import os
import random
import resource
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

from sequence_platform.errors import StoreError
from sequence_platform.stores.ducklake import connect_read_only
from sequence_platform.stores.ducklake.connection import LakeAddress, Resources, open_connection
from sequence_platform.stores.ducklake.lock import write_lock
from sequence_platform_tests.backends import LAKES, LakePlace, lake_in_sqlite
from sequence_platform_tests.conformance.appends import RAW, Stream, dead, letter, move
from sequence_platform_tests.conformance.lakes import (
    CLICKS,
    DAY,
    NOON,
    build,
    click,
    clicks,
    ids,
    read_all,
)

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
WRITER = Path(__file__).with_name("lake_writer.py")
APPENDER = Path(__file__).with_name("lake_appender.py")
KILLS = 4
SECONDS = 120.0

TORN = """
SELECT l.day, l.rows, r.rows, l.superseded, l.dead_lettered, d.letters, l.inputs, r.rounds, r.round
FROM platform.partitions l
LEFT JOIN (
    SELECT day, count(*) AS rows, count(DISTINCT surface) AS rounds, any_value(surface) AS round
    FROM enriched.click GROUP BY day
) r USING (day)
LEFT JOIN (SELECT day, count(*) AS letters FROM platform.dead_letters GROUP BY day) d USING (day)
WHERE l.day < DATE '2026-03-05' AND (
    l.rows IS DISTINCT FROM r.rows OR l.admitted <> l.rows OR r.rounds <> 1 OR l.inputs <> r.round
    OR l.dead_lettered <> coalesce(d.letters, 0) OR l.dead_lettered <> l.inputs::INTEGER % 3
    OR l.rows + l.superseded <> 50 + l.inputs::INTEGER % 7
)
"""
"""Partitions whose rows, dead letters and ledger row are not of one and the same build."""

BEATEN = """
SELECT r.day, r.event_id FROM enriched.click r
SEMI JOIN corrections.click c ON r.entity = c.entity AND r.event_id = c.event_id AND r.day <> c.day
"""
"""Rows that a correction should have removed: the corrections of these tests beat any row."""


TORN_STREAM = """
SELECT * FROM (
    SELECT
        (SELECT coalesce(sum(next_offset), 0) FROM platform.offsets) AS messages,
        (SELECT count(*) FROM platform.dead_letters) AS letters,
        (SELECT count(*) FROM raw.click) AS raw_rows,
        (SELECT count(*) FROM enriched.click) AS rows,
        (SELECT count(DISTINCT event_id) FROM enriched.click) AS ids,
        (SELECT coalesce(sum(rows), 0) FROM platform.partitions) AS counted,
        (SELECT coalesce(sum(received), 0) FROM platform.partitions) AS received,
        (SELECT coalesce(sum(version), 0) FROM platform.partitions) AS appends
)
WHERE letters * 3 <> messages OR raw_rows * 3 <> messages * 2 OR rows <> raw_rows
OR ids <> rows OR counted <> rows OR received <> rows OR appends <> letters
"""
"""What a lake holds if an append of the appenders is there in part, or twice."""


@pytest.fixture(params=sorted(LAKES))
def place(request: pytest.FixtureRequest, tmp_path: Path) -> LakePlace:
    place = LAKES[request.param](tmp_path)
    with place.open() as lake:
        lake.ensure_tables([CLICKS, RAW])
    return place


@pytest.fixture
def sqlite_place(tmp_path: Path) -> LakePlace:
    place = lake_in_sqlite(tmp_path / "lake")
    with place.open() as lake:
        lake.ensure_tables([CLICKS, RAW])
        build(lake, CLICKS, DAY, clicks(click(1, "a", NOON)))
    return place


@contextmanager
def python(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run Python, past its first line of output; kill it at the end."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, *arguments], stdout=subprocess.PIPE, text=True, env=environment
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline(), "the process ended without a word"
        yield process
    finally:
        process.kill()
        process.communicate()


def writer(place: LakePlace, seed: int, rounds: int, *offsets: int) -> Any:
    return python(
        str(WRITER), place.catalog, place.data_path, str(seed), str(rounds), *map(str, offsets)
    )


def changes(process: subprocess.Popen[str]) -> list[int]:
    """Return the days that a writer changed, one by one, once it has ended."""
    output, _ = process.communicate(timeout=SECONDS)
    assert process.returncode == 0
    days: list[int] = []
    for line in output.splitlines():
        offset, changed, corrected = line.split(" ")
        days += [int(offset)] if changed == "True" else []
        days += [int(day) for day in corrected.split(",") if day]
    return days


def torn(connection: duckdb.DuckDBPyConnection) -> list[tuple[Any, ...]]:
    return connection.execute(TORN).fetchall() + connection.execute(BEATEN).fetchall()


# kill -9


def test_killed_writers_leave_whole_partitions_and_the_next_run_completes(
    place: LakePlace,
) -> None:
    moments = random.Random(7)
    for kill in range(KILLS):
        with (
            writer(place, kill, 1000, 0, 1, 4),
            writer(place, 100 + kill, 1000, 1, 2, 3, 4) as other,
        ):
            assert other.stdout is not None
            other.stdout.readline()
            time.sleep(moments.uniform(0, 0.5))
        with place.connect() as connection:
            assert torn(connection) == []
    with writer(place, 999, 1, 0, 1, 2, 3, 4) as last:
        changes(last)
    with place.open() as lake, place.connect() as connection:
        assert torn(connection) == []
        assert connection.execute("SELECT count(*) FROM platform.partitions").fetchall() == [(5,)]
        assert lake.violations(CLICKS, DAY) == {
            "unique_keys": 0,
            "null_entity": 0,
            "in_partition": 0,
        }
        before = read_all(lake)
        done = lake.maintain(keep_snapshots=timedelta(0), orphans_older_than=timedelta(0))
        assert read_all(lake).equals(before)
        assert torn(connection) == []
    assert len(list(Path(place.data_path).rglob("*.parquet"))) == done.files_after


def appender(place: LakePlace, partition: int, appends: int) -> Any:
    return python(str(APPENDER), place.catalog, place.data_path, str(partition), str(appends))


def test_killed_appenders_leave_whole_appends_and_the_next_ones_go_on(place: LakePlace) -> None:
    moments = random.Random(11)
    for _ in range(KILLS):
        with appender(place, 0, 1000) as one, appender(place, 1, 1000) as other:
            assert one.stdout is not None
            assert other.stdout is not None
            one.stdout.readline()
            other.stdout.readline()
            time.sleep(moments.uniform(0, 0.5))
        with place.connect() as connection:
            assert connection.execute(TORN_STREAM).fetchall() == []
    with place.open() as lake:
        before = dict(lake.offsets(RAW).select("log_partition", "next_offset").iter_rows())
    with appender(place, 0, 1) as last:
        output, _ = last.communicate(timeout=SECONDS)
        assert int(output) == before[0] + 3
    with place.open() as lake, place.connect() as connection:
        assert connection.execute(TORN_STREAM).fetchall() == []
        assert before[0] >= 3 * KILLS
        done = lake.maintain(keep_snapshots=timedelta(0), orphans_older_than=timedelta(0))
        assert connection.execute(TORN_STREAM).fetchall() == []
    assert len(list(Path(place.data_path).rglob("*.parquet"))) == done.files_after


def test_killed_holder_of_the_lock_frees_it(place: LakePlace) -> None:
    code = (
        "import sys, time\n"
        "from sequence_platform.stores.ducklake.connection import *\n"
        "from sequence_platform.stores.ducklake.lock import write_lock\n"
        "address = LakeAddress.of(sys.argv[1], sys.argv[2])\n"
        "connection = open_connection(address, Resources(), read_only=False)\n"
        "with write_lock(address, connection).hold(10):\n"
        "    print('held', flush=True)\n"
        "    time.sleep(1000)\n"
    )
    address = LakeAddress.of(place.catalog, place.data_path)
    with open_connection(address, Resources(), read_only=False) as connection:
        lock = write_lock(address, connection)
        with python("-c", code, place.catalog, place.data_path) as holder:
            with pytest.raises(StoreError, match="another writer") as caught, lock.hold(0.2):
                pass
            assert caught.value.retryable
            holder.send_signal(signal.SIGKILL)
            holder.wait()
            with lock.hold(5):
                pass


# Rivals


def test_rival_writers_and_a_reader_see_only_whole_partitions(place: LakePlace) -> None:
    with ExitStack() as stack:
        offsets = [(0, 1), (1, 2, 4), (0, 1, 2), (3, 4)]
        writers = [
            stack.enter_context(writer(place, seed, 4, *days)) for seed, days in enumerate(offsets)
        ]
        connection = stack.enter_context(place.connect())
        reads = 0
        while any(process.poll() is None for process in writers):
            assert torn(connection) == []
            reads += 1
        committed = [offset for process in writers for offset in changes(process)]
        assert reads > 3
        assert torn(connection) == []
        versions = connection.execute("SELECT version FROM platform.partitions ORDER BY day")
        # Every change that a writer was told of is one version: none was lost, none counted twice.
        assert [version for (version,) in versions.fetchall()] == [
            committed.count(offset) for offset in range(5)
        ]


# A full disk


@contextmanager
def files_limited_to(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond a size, as on a disk without room."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)


def many_clicks(count: int) -> Any:
    letters = random.Random(1)
    names = [f"{n:08}-{letters.getrandbits(256):x}" for n in range(count)]
    return clicks(*(click(n, name, NOON) for n, name in enumerate(names)))


def assert_unchanged(place: LakePlace) -> None:
    with place.open() as lake:
        assert ids(read_all(lake)) == ["a"]
        assert lake.ledger()["version"].to_list() == [1]
        assert len(list(Path(place.data_path).rglob("*.parquet"))) == 1
        build(lake, CLICKS, DAY, clicks(click(1, "b", NOON)))
        assert ids(read_all(lake)) == ["b"]


def test_disk_that_is_full_while_staging_changes_nothing(sqlite_place: LakePlace) -> None:
    rows = many_clicks(5000)
    with sqlite_place.open() as lake:
        with files_limited_to(50_000), pytest.raises(StoreError) as caught:
            lake.stage(CLICKS, DAY, [rows])
        assert "enriched.click" in caught.value.what
        assert "free space" in caught.value.next_step
    assert_unchanged(sqlite_place)


def test_disk_that_is_full_while_committing_changes_nothing(sqlite_place: LakePlace) -> None:
    with sqlite_place.open() as lake:
        # Room for the staged file, not for the catalog's journal.
        with files_limited_to(40_000), pytest.raises(StoreError) as caught:
            build(lake, CLICKS, DAY, clicks(click(1, "b", NOON)))
        assert "free space" in caught.value.next_step
        assert not caught.value.retryable
    assert_unchanged(sqlite_place)


def test_disk_that_is_full_while_appending_changes_nothing_and_appending_again_helps(
    sqlite_place: LakePlace,
) -> None:
    rows = [click(2, "b", NOON)]
    with sqlite_place.open() as lake:
        stream = Stream(lake, RAW, CLICKS)

        def append() -> None:
            letters = dead(letter(1))
            stream.append(stream.gain(*rows), moves=[move(None, 2)], letters=letters)

        # Room for the staged files, not for the catalog's journal.
        with files_limited_to(40_000), pytest.raises(StoreError) as caught:
            append()
        assert "free space" in caught.value.next_step
        assert not caught.value.retryable
        assert ids(read_all(lake)) == ["a"]
        assert lake.read_raw(RAW, DAY).is_empty()
        assert lake.dead_letters(RAW).is_empty()
        assert stream.offsets() == []
        assert len(list(Path(sqlite_place.data_path).rglob("*.parquet"))) == 1
        append()
        assert ids(read_all(lake)) == ["a", "b"]
        assert stream.offsets() == [("clicks", 0, "x", 2)]
        assert lake.ledger()["version"].to_list() == [2]


@pytest.fixture
def small_disk() -> Iterator[Path]:
    # Not in pytest's folder, which it could not clean up after a run that was killed.
    disk = Path(tempfile.mkdtemp(prefix="small-disk-"))
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)]
    mounted = subprocess.run(command, check=False, capture_output=True, text=True)
    if mounted.returncode == 0:
        yield disk
        subprocess.run(["umount", "--lazy", str(disk)], check=True)
    shutil.rmtree(disk, ignore_errors=True)
    if mounted.returncode != 0:
        pytest.skip(f"cannot mount a small disk here: {mounted.stderr.strip()}")


@pytest.mark.parametrize("left", [0, 20_000, 57_000])
def test_partition_that_does_not_fit_on_the_disk_changes_nothing(
    small_disk: Path, left: int
) -> None:
    place = lake_in_sqlite(small_disk)
    with place.open() as lake:
        lake.ensure_tables([CLICKS])
        build(lake, CLICKS, DAY, clicks(click(1, "a", NOON)))
        ballast = small_disk / "ballast"
        ballast.write_bytes(bytes(shutil.disk_usage(small_disk).free - left))
        with pytest.raises(StoreError) as caught:
            build(lake, CLICKS, DAY, clicks(click(1, "b", NOON)), expected_version=1)
        assert "free space" in caught.value.next_step
        ballast.unlink()
    assert_unchanged(place)


# Catalogs that cannot be used


def opened(place: LakePlace) -> StoreError:
    """Return the error of opening a lake, which must come at once and say what to do."""
    began = time.monotonic()
    with pytest.raises(StoreError) as caught:
        place.open()
    assert time.monotonic() - began < 10
    error = caught.value
    assert all((error.where, error.found, error.expected, error.next_step))
    return error


def test_catalog_locked_by_another_program_fails_the_commit_within_seconds(
    sqlite_place: LakePlace,
) -> None:
    code = (
        "import sqlite3, sys, time\n"
        "connection = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "connection.execute('BEGIN IMMEDIATE')\n"
        "print('locked', flush=True)\n"
        "time.sleep(1000)\n"
    )
    with sqlite_place.open() as lake, python("-c", code, sqlite_place.catalog):
        assert ids(read_all(lake)) == ["a"]
        with pytest.raises(StoreError, match="locked") as caught:
            build(lake, CLICKS, DAY, clicks(click(1, "b", NOON)))
        assert caught.value.retryable
        assert "end the process" in caught.value.next_step
    assert_unchanged(sqlite_place)


def test_damaged_catalog_is_named_with_what_to_do(sqlite_place: LakePlace) -> None:
    catalog = Path(sqlite_place.catalog)
    whole = catalog.read_bytes()
    for damage in (whole[: len(whole) // 2], b"not a database" * 999, whole[:100] + whole[4096:]):
        catalog.write_bytes(damage)
        error = opened(sqlite_place)
        assert error.where == sqlite_place.catalog
        assert "restore" in error.next_step


def test_catalog_of_another_program_is_not_taken_for_a_lake(tmp_path: Path) -> None:
    catalog = tmp_path / "other.sqlite"
    with sqlite3.connect(catalog) as connection:
        connection.execute("CREATE TABLE t (a)")
    connection.close()
    with pytest.raises(StoreError) as caught:
        connect_read_only(str(catalog), str(tmp_path))
    assert "build a partition first" in caught.value.next_step


def test_absent_lake_is_not_made_by_reading_it(tmp_path: Path) -> None:
    place = lake_in_sqlite(tmp_path / "lake")
    with pytest.raises(StoreError, match="no lake to read"):
        place.connect()
    with pytest.raises(StoreError, match="no lake to read"):
        place.open(read_only=True)
    assert not (tmp_path / "lake").exists()


def test_server_that_does_not_answer_is_named_without_its_password(tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"postgresql://someone:secret@127.0.0.1:{closed.getsockname()[1]}/lake"
        error = opened(LakePlace(address, str(tmp_path)))
    assert "start PostgreSQL" in error.next_step
    assert "secret" not in str(error)
    assert error.retryable


def test_catalog_of_other_data_is_refused(sqlite_place: LakePlace, tmp_path: Path) -> None:
    error = opened(LakePlace(sqlite_place.catalog, str(tmp_path / "elsewhere")))
    assert "data path" in error.next_step


def test_lake_that_was_moved_with_its_data_is_opened(
    sqlite_place: LakePlace, tmp_path: Path
) -> None:
    Path(sqlite_place.catalog).parent.rename(tmp_path / "moved")
    moved = lake_in_sqlite(tmp_path / "moved")
    with moved.open() as lake:
        build(lake, CLICKS, DAY, clicks(click(1, "b", NOON)))
    with moved.connect() as connection:
        found = connection.execute("SELECT event_id FROM enriched.click").fetchall()
        assert found == [("b",)]
    assert len(list((tmp_path / "moved").rglob("*.parquet"))) == 2


def test_data_that_is_gone_is_named(sqlite_place: LakePlace) -> None:
    shutil.rmtree(sqlite_place.data_path)
    with sqlite_place.open() as lake, pytest.raises(StoreError) as caught:
        read_all(lake)
    assert "check the path" in caught.value.next_step


@contextmanager
def silent_proxy() -> Iterator[str]:
    """Yield the address of a proxy that takes connections and never answers."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


def test_absent_extension_is_an_error_within_seconds_that_says_what_to_install(
    tmp_path: Path,
) -> None:
    installed = tmp_path / "installed"
    installed.mkdir()
    for entry in Path(sysconfig.get_paths()["purelib"]).iterdir():
        if not entry.name.startswith("duckdb_extension_ducklake"):
            (installed / entry.name).symlink_to(entry)
    code = (
        "import sys\n"
        "from sequence_platform.errors import StoreError\n"
        "from sequence_platform.stores.ducklake import DuckLakeLake\n"
        "try:\n"
        "    DuckLakeLake(sys.argv[1], sys.argv[2])\n"
        "except StoreError as error:\n"
        "    print(error)\n"
    )
    with silent_proxy() as proxy:
        environment = {"PYTHONPATH": f"{ROOT}:{installed}", "HOME": str(tmp_path)}
        environment |= {"HTTP_PROXY": proxy, "HTTPS_PROXY": proxy, "http_proxy": proxy}
        done = subprocess.run(
            [sys.executable, "-S", "-c", code, str(tmp_path / "c.sqlite"), str(tmp_path / "data")],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
    assert "the DuckDB extension 'ducklake' is not installed" in done.stdout
    assert f"pip install duckdb-extension-ducklake=={duckdb.__version__}" in done.stdout
    assert not (tmp_path / "c.sqlite").exists()
