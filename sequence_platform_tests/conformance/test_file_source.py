"""Files as a source: which rows are of a day, what each format may hold, what is an error."""

from __future__ import annotations

import gzip
import os
import random
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path

import fsspec  # type: ignore[import-untyped]
import polars as pl
import pyarrow as pa
import pytest

from sequence_platform.definition import Files, Vector
from sequence_platform.errors import FrameSchemaError, StoreError
from sequence_platform.sources.files import FileSource
from sequence_platform_tests.backends import file_source, write_rows
from sequence_platform_tests.conformance.source_rows import (
    DAYS,
    ROWS,
    SCHEMA,
    START,
    dead_in,
    event_times,
    ids_in,
    of_day,
)


def rows_at(**times: str) -> pl.DataFrame:
    """Return a row for each id, at a time of March 2026: day, then clock."""
    at = [
        datetime.strptime(f"2026-03-{time} +0000", "%Y-%m-%d %H:%M:%S.%f %z")
        for time in times.values()
    ]
    return pl.DataFrame(
        {"id": list(times), "at": at, "n": [0] * len(at), "price": [0.0] * len(at)}, schema=SCHEMA
    )


def everything(source: FileSource) -> list[str]:
    return ids_in(list(source.read(None)))


def error_of(read: Callable[[], object]) -> StoreError:
    with pytest.raises(StoreError) as raised:
        read()
    assert all(
        (raised.value.where, raised.value.found, raised.value.expected, raised.value.next_step)
    )
    return raised.value


# ---- files of a day


def test_late_rows_are_of_their_own_day_and_others_are_dead_letters_of_the_file(
    tmp_path: Path,
) -> None:
    landed = rows_at(
        too_old="01 17:59:59.999999",
        late="01 18:00:00.0",
        own="02 00:00:00.0",
        last="02 23:59:59.999999",
        too_new="03 00:00:00.0",
    )
    write_rows(landed, tmp_path / "2026-03-02.csv")
    write_rows(rows_at(first="01 12:00:00.0"), tmp_path / "2026-03-01.csv")
    write_rows(rows_at(third="03 12:00:00.0"), tmp_path / "2026-03-03.csv")
    source = file_source(tmp_path, Files("{day}.csv", late=timedelta(hours=6)))
    assert [ids_in(of_day(source, day)) for day in DAYS[:3]] == [
        ["first", "late"],
        ["last", "own"],
        ["third"],
    ]
    assert [dead_in(of_day(source, day)) for day in DAYS[:3]] == [
        [],
        [("2026-03-02.csv", 0, "outside_partition"), ("2026-03-02.csv", 4, "outside_partition")],
        [],
    ]


def test_a_row_may_be_as_late_as_several_days(tmp_path: Path) -> None:
    for day in (1, 2, 3, 4):
        rows = rows_at(**{f"f{day}_{d}": f"0{d} 12:00:00.0" for d in range(1, day + 1)})
        write_rows(rows, tmp_path / f"2026-03-0{day}.parquet")
    source = file_source(tmp_path, Files("{day}.parquet", late=timedelta(days=2)))
    assert ids_in(of_day(source, DAYS[0])) == ["f1_1", "f2_1", "f3_1"]
    assert ids_in(of_day(source, DAYS[1])) == ["f2_2", "f3_2", "f4_2"]
    assert dead_in(of_day(source, DAYS[3])) == [("2026-03-04.parquet", 0, "outside_partition")]


def test_the_file_of_tomorrow_need_not_be_there_yet(tmp_path: Path) -> None:
    write_rows(rows_at(a="01 12:00:00.0"), tmp_path / "2026-03-01.csv")
    source = file_source(tmp_path, Files("{day}.csv", late=timedelta(days=1)))
    assert ids_in(of_day(source, START)) == ["a"]


def test_positions_count_rows_that_are_dead_for_other_reasons(tmp_path: Path) -> None:
    (tmp_path / "2026-03-02.csv").write_text(
        "id,at,n,price\n"
        "a,2026-03-02T01:00:00Z,1,1\n"
        "b,2026-03-02T01:00:00Z,many,1\n"
        "c,2026-03-09T01:00:00Z,1,1\n"
        "d,,1,1\n"
    )
    batches = of_day(file_source(tmp_path, Files("{day}.csv")), DAYS[1])
    assert ids_in(batches) == ["a", "d"]
    assert dead_in(batches) == [
        ("2026-03-02.csv", 1, "wrong_type:n"),
        ("2026-03-02.csv", 2, "outside_partition"),
    ]


def test_a_missing_day_is_an_error_that_shows_what_is_there(tmp_path: Path) -> None:
    write_rows(ROWS, tmp_path / "2026-03-01.csv")
    source = file_source(tmp_path, Files("{day}.csv"))
    error = error_of(lambda: of_day(source, DAYS[1]))
    assert error.where == str(tmp_path / "2026-03-02.csv")
    assert "2026-03-01.csv" in error.found


def test_a_missing_day_may_mean_no_events(tmp_path: Path) -> None:
    source = file_source(tmp_path, Files("clicks/{day:%Y}/{day:%m-%d}/*.csv", missing="empty"))
    assert of_day(source, START) == []
    assert everything(source) == []


def test_a_missing_folder_is_told_by_the_nearest_one(tmp_path: Path) -> None:
    (tmp_path / "clicks" / "2025").mkdir(parents=True)
    source = file_source(tmp_path, Files("clicks/{day:%Y/%m/%d}/*.csv"))
    error = error_of(lambda: of_day(source, START))
    assert error.where == str(tmp_path / "clicks/2026/03/01/*.csv")
    assert error.found == f"in {tmp_path / 'clicks'}: 2025/"


def test_all_days_are_read_whole_where_nobody_asks_for_one(tmp_path: Path) -> None:
    for day, name in [(1, "a"), (2, "b")]:
        folder = tmp_path / f"2026/03/{day:02}"
        folder.mkdir(parents=True)
        write_rows(rows_at(**{name: f"0{day} 12:00:00.0"}), folder / "part.csv")
    assert everything(file_source(tmp_path, Files("{day:%Y/%m/%d}/*.csv"))) == ["a", "b"]


def test_a_source_without_times_cannot_be_read_by_day(tmp_path: Path) -> None:
    source = FileSource(Files("*.csv"), SCHEMA, None, tmp_path, tmp_path / "split", "tests")
    with pytest.raises(FrameSchemaError):
        of_day(source, START)


def test_a_pattern_with_other_fields_is_an_error(tmp_path: Path) -> None:
    error = error_of(lambda: of_day(file_source(tmp_path, Files("{day}/{hour}.csv")), START))
    assert error.where == "{day}/{hour}.csv"


# ---- which files


def test_patterns_reach_into_folders_and_pass_over_hidden_files(tmp_path: Path) -> None:
    for name in ("a/b/c/1.csv", "a/2.csv", "a/.3.csv", "4.csv", "a/5.csv.tmp"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"id,at,n,price\n{name},2026-03-01T00:00:00Z,1,1\n")
    (tmp_path / "a/folder.csv").mkdir()
    source = file_source(tmp_path, Files("a/**/*.csv"))
    assert everything(source) == ["a/2.csv", "a/b/c/1.csv"]
    assert [batch.source for batch in source.read(None) if batch.frame.height] == [
        "a/2.csv",
        "a/b/c/1.csv",
    ]


@pytest.mark.parametrize("suffix", ["csv", "parquet", "ndjson"])
def test_a_name_may_look_like_a_pattern(tmp_path: Path, suffix: str) -> None:
    for name in ("a*", "ab", "c[1]", "c1"):
        write_rows(rows_at(**{name: "01 12:00:00.0"}), tmp_path / f"{name}.{suffix}")
    assert everything(file_source(tmp_path, Files(f"a*.{suffix}"))) == ["a*"]
    assert everything(file_source(tmp_path, Files(f"c[1].{suffix}"))) == ["c[1]"]
    assert not list((tmp_path / "split").rglob("*.csv"))


def test_an_absolute_path_or_file_url_does_not_start_at_the_root(tmp_path: Path) -> None:
    write_rows(rows_at(a="01 12:00:00.0"), tmp_path / "a.csv")
    elsewhere = tmp_path / "elsewhere"
    for pattern in (str(tmp_path / "a.csv"), f"file://{tmp_path}/a.csv"):
        assert everything(file_source(elsewhere, Files(pattern))) == ["a"]


def test_a_format_that_nothing_tells_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.dat").write_text("id,at,n,price\na,2026-03-01T00:00:00Z,1,1\n")
    error = error_of(lambda: everything(file_source(tmp_path, Files("a.dat"))))
    assert "format" in error.next_step
    assert everything(file_source(tmp_path, Files("a.dat", format="csv"))) == ["a"]


def test_a_missing_object_is_told_by_what_is_beside_it(tmp_path: Path) -> None:
    url = f"memory://{tmp_path.name}"
    fsspec.filesystem("memory").pipe(f"{url}/2025.csv", b"")
    error = error_of(lambda: everything(file_source(tmp_path, Files(f"{url}/2026*.csv"))))
    assert error.where == f"{url}/2026*.csv"
    assert error.found.endswith(": 2025.csv")
    error = error_of(lambda: everything(file_source(tmp_path, Files(f"{url}/no/folder.csv"))))
    assert "cannot be listed" in error.found


@pytest.mark.parametrize("url", ["nosuch://bucket/a.csv", "gs://bucket/a.csv"])
def test_a_store_that_no_package_knows_is_an_error_that_says_so(tmp_path: Path, url: str) -> None:
    error = error_of(lambda: everything(file_source(tmp_path, Files(url))))
    assert error.where == url
    assert "install" in error.next_step


# ---- what is in them


def test_csv_has_quotes_line_breaks_blank_lines_and_other_columns(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(
        b'\xef\xbb\xbfother,"price",n,at,id\r\n'
        b'x,1.5,1,2026-03-01T00:00:00Z,"a ""quoted"", \r\nname"\r\n'
        b"\r\n"
        b'"",,,2026-03-01 00:00:00+01:00,\xc3\xa9\r\n'
        b",1e3,7.0,2026-03-01,last"
    )
    source = file_source(tmp_path, Files("a.csv"))
    [batch] = [batch for batch in source.read(None) if batch.frame.height]
    assert batch.frame.rows() == [
        ('a "quoted", \r\nname', datetime(2026, 3, 1, tzinfo=UTC), 1, 1.5),
        ("é", datetime(2026, 2, 28, 23, tzinfo=UTC), None, None),
        ("last", datetime(2026, 3, 1, tzinfo=UTC), 7, 1000.0),
    ]


def test_ndjson_lines_are_rows_blank_lines_are_not_and_bad_ones_are_dead_letters(
    tmp_path: Path,
) -> None:
    (tmp_path / "a.ndjson").write_bytes(
        b'\xef\xbb\xbf{"id":"a","at":"2026-03-01T00:00:00Z"}\r\n'
        b"\n"
        b'{"id":"b","at":"soon"}\n'
        b"   \n"
        b'{"id":"c"\n'
        b'{"id":"d","at":"2026-03-02T00:00:00Z"}'
    )
    source = file_source(tmp_path, Files("a.ndjson"))
    assert everything(source) == ["a", "d"]
    assert dead_in(list(source.read(None))) == [
        ("a.ndjson", 2, "wrong_type:at"),
        ("a.ndjson", 4, "malformed_json"),
    ]
    assert [len(dead_in(of_day(source, day))) for day in DAYS[:2]] == [2, 0]


def test_an_empty_ndjson_file_has_no_rows(tmp_path: Path) -> None:
    (tmp_path / "a.ndjson").touch()
    source = file_source(tmp_path, Files("a.ndjson"))
    assert everything(source) == []
    assert of_day(source, START) == []


def test_lines_longer_than_a_block_are_whole(tmp_path: Path) -> None:
    name = "x" * 20_000_000
    (tmp_path / "a.ndjson").write_text(f'{{"id":"{name}"}}\n{{"id":"b"}}\n')
    assert everything(file_source(tmp_path, Files("a.ndjson"))) == ["b", name]


@pytest.mark.parametrize("suffix", ["csv.gz", "csv.zst", "ndjson.gz", "ndjson.zst", "parquet"])
@pytest.mark.parametrize("kept", ["nothing", "start", "half", "all but the end"])
def test_a_truncated_file_is_an_error_and_never_fewer_rows(
    tmp_path: Path, suffix: str, kept: str
) -> None:
    path = tmp_path / f"a.{suffix}"
    write_rows(pl.concat([ROWS] * 5000), path)
    size = {"nothing": 0, "start": 5, "half": path.stat().st_size // 2}
    os.truncate(path, size.get(kept, path.stat().st_size - 4))
    source = file_source(tmp_path, Files(f"a.{suffix}"))
    for read in (lambda: everything(source), lambda: of_day(source, START)):
        assert error_of(read).where == f"a.{suffix}"


def test_a_damaged_file_is_an_error(tmp_path: Path) -> None:
    for suffix in ("csv.gz", "ndjson.zst"):
        path = tmp_path / f"a.{suffix}"
        write_rows(pl.concat([ROWS] * 500), path)
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 0xFF
        path.write_bytes(content)
        error_of(partial(everything, file_source(tmp_path, Files(f"a.{suffix}"))))
    (tmp_path / "a.parquet").write_bytes(b"no parquet at all")
    error_of(lambda: everything(file_source(tmp_path, Files("a.parquet"))))


def test_compressed_files_may_have_several_members(tmp_path: Path) -> None:
    head, tail = b'{"id":"a"}\n', b'{"id":"b"}\n'
    (tmp_path / "a.ndjson.gz").write_bytes(gzip.compress(head) + gzip.compress(tail))
    frames = [pa.compress(part, codec="zstd", asbytes=True) for part in (head, tail)]
    (tmp_path / "b.ndjson.zst").write_bytes(b"".join(frames))
    for name in ("a.ndjson.gz", "b.ndjson.zst"):
        assert everything(file_source(tmp_path, Files(name))) == ["a", "b"]


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_column_that_old_files_lack_may_be_null(tmp_path: Path, suffix: str) -> None:
    write_rows(ROWS.drop("price"), tmp_path / f"2025.{suffix}")
    write_rows(ROWS, tmp_path / f"2026.{suffix}")
    files = Files(f"*.{suffix}", missing_columns="null")
    frames = [batch.frame for batch in file_source(tmp_path, files).read(None)]
    assert sum(frame.height for frame in frames) == 2 * ROWS.height
    assert sum(frame["price"].null_count() for frame in frames) == ROWS.height + 1
    error = error_of(lambda: everything(file_source(tmp_path, Files(f"*.{suffix}"))))
    assert error.where == f"2025.{suffix}"


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_file_with_none_of_the_columns_is_always_an_error(tmp_path: Path, suffix: str) -> None:
    write_rows(pl.DataFrame({"x": ["1"], "y": ["2"]}), tmp_path / f"a.{suffix}")
    files = Files(f"a.{suffix}", missing_columns="null")
    assert "present: x, y" in error_of(lambda: everything(file_source(tmp_path, files))).found


def test_vectors_of_another_length_are_dead_letters_and_others_become_arrays(
    tmp_path: Path,
) -> None:
    schema = pl.Schema({"id": pl.String(), "vector": Vector(2)})
    vectors = [[1.0, 2.0], [1.0], None, [1.0, 2.0, 3.0], [0.5, None]]
    rows = pl.DataFrame({"id": list("abcde"), "vector": vectors})
    for suffix in ("parquet", "ndjson"):
        write_rows(rows, tmp_path / f"a.{suffix}")
        batches = list(file_source(tmp_path, Files(f"a.{suffix}"), schema).read(None))
        frame = pl.concat(batch.frame for batch in batches)
        assert frame.schema == schema
        assert frame["vector"].to_list() == [[1.0, 2.0], None, [0.5, None]]
        assert dead_in(batches) == [
            (f"a.{suffix}", 1, "wrong_length:vector"),
            (f"a.{suffix}", 3, "wrong_length:vector"),
        ]


# ---- files of any days: split once


def entries(folder: Path) -> dict[str, int]:
    """Return what files are split into, and when that was made."""
    return {
        entry.name: entry.stat().st_mtime_ns
        for entry in (folder / "split" / "tests").glob("*")
        if entry.is_dir()
    }


def test_a_file_is_split_once_and_not_read_again(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    write_rows(rows_at(a="01 12:00:00.0", b="02 12:00:00.0"), path)
    source = file_source(tmp_path, Files("*.csv"))
    assert ids_in(of_day(source, DAYS[0])) == ["a"]
    made, facts = entries(tmp_path), path.stat()
    path.write_bytes(b"#" * facts.st_size)  # whoever reads it now fails
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert ids_in(of_day(source, DAYS[1])) == ["b"]
    assert entries(tmp_path) == made


def test_new_files_are_split_changed_ones_again_and_gone_ones_forgotten(tmp_path: Path) -> None:
    write_rows(rows_at(a="01 12:00:00.0"), tmp_path / "a.csv")
    write_rows(rows_at(b="01 12:00:00.0"), tmp_path / "b.csv")
    source = file_source(tmp_path, Files("*.csv"))
    assert ids_in(of_day(source, START)) == ["a", "b"]
    before = entries(tmp_path)
    write_rows(rows_at(c="01 12:00:00.0"), tmp_path / "c.csv")
    assert ids_in(of_day(source, START)) == ["a", "b", "c"]
    assert before.items() <= entries(tmp_path).items()
    write_rows(rows_at(bb="01 12:00:00.0"), tmp_path / "b.csv")
    (tmp_path / "a.csv").unlink()
    assert ids_in(of_day(source, START)) == ["bb", "c"]
    assert len(entries(tmp_path)) == 2


def test_another_meaning_of_time_or_schema_splits_again(tmp_path: Path) -> None:
    write_rows(rows_at(a="01 23:00:00.0"), tmp_path / "a.csv")

    def later(frame: pl.DataFrame) -> pl.Series:
        return event_times(frame).dt.offset_by("2h")

    files, split = Files("*.csv"), tmp_path / "split"
    first = FileSource(files, SCHEMA, event_times, tmp_path, split, "tests", identity="at")
    second = FileSource(files, SCHEMA, later, tmp_path, split, "tests", identity="at + 2h")
    assert [ids_in(of_day(first, day)) for day in DAYS[:2]] == [["a"], []]
    assert [ids_in(of_day(second, day)) for day in DAYS[:2]] == [[], ["a"]]
    narrow = pl.Schema({"id": pl.String(), "at": SCHEMA["at"]})
    third = FileSource(files, narrow, later, tmp_path, split, "tests", identity="at + 2h")
    assert [batch.frame.schema for batch in of_day(third, DAYS[1])] == [narrow]


def test_rows_without_a_day_are_of_the_first_day_in_their_file(tmp_path: Path) -> None:
    head = "id,at,n,price\n"
    (tmp_path / "a.csv").write_text(head + "a1,,1,1\na2,2026-03-02T00:00:00Z,1,1\na3,soon,1,1\n")
    (tmp_path / "b.csv").write_text(head + "b1,2026-03-03T00:00:00Z,1,1\nb2,,1,1\n")
    source = file_source(tmp_path, Files("*.csv"))
    assert [ids_in(of_day(source, day)) for day in DAYS] == [[], ["a1", "a2"], ["b1", "b2"], []]
    assert [dead_in(of_day(source, day)) for day in DAYS] == [
        [],
        [("a.csv", 2, "wrong_type:at")],
        [],
        [],
    ]


def test_rows_without_a_day_are_not_before_the_first_day_that_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,at,n,price\na,,1,1\nold,2020-01-01T00:00:00Z,1,1\n")
    (tmp_path / "b.csv").write_text("id,at,n,price\nb,,1,1\n")
    assert ids_in(of_day(file_source(tmp_path, Files("*.csv")), START)) == ["a", "b"]


def test_a_file_without_any_day_is_an_error_where_no_first_day_is_known(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,at,n,price\na,,1,1\n")
    source = FileSource(Files("a.csv"), SCHEMA, event_times, tmp_path, tmp_path / "split", "tests")
    assert error_of(lambda: of_day(source, START)).where == "a.csv"


def test_rows_of_a_day_come_in_the_order_of_files_and_lines(tmp_path: Path) -> None:
    numbers = list(range(1000))
    random.Random(1).shuffle(numbers)
    for name, part in [("a", numbers[:500]), ("b", numbers[500:])]:
        lines = "".join(f"{n:04},2026-03-0{n % 3 + 1}T00:00:00Z,{n},1\n" for n in part)
        (tmp_path / f"{name}.csv").write_text("id,at,n,price\n" + lines)
    batches = of_day(file_source(tmp_path, Files("*.csv")), START)
    assert [n for batch in batches for n in batch.frame["n"]] == [n for n in numbers if n % 3 == 0]


def test_rows_of_a_day_keep_their_order_over_several_runs(tmp_path: Path) -> None:
    count = 150_000  # more than fits one run
    rows = pl.select(
        id=pl.int_range(count).cast(pl.String).str.zfill(1000),
        at=datetime(2026, 3, 1, tzinfo=UTC) + pl.duration(days=pl.int_range(count) % 3),
        n=pl.int_range(count),
        price=pl.lit(1.0),
    )
    rows.write_parquet(tmp_path / "a.parquet", row_group_size=20_000)
    batches = of_day(file_source(tmp_path, Files("*.parquet")), DAYS[1])
    assert [n for batch in batches for n in batch.frame["n"]] == list(range(1, count, 3))
    assert len(list((tmp_path / "split").rglob("rows-*.arrow"))) > 1


def test_every_type_survives_the_split(tmp_path: Path) -> None:
    schema = pl.Schema(
        {
            "at": SCHEMA["at"],
            "vector": Vector(2),
            "kind": pl.Enum(["x", "y"]),
            "place": pl.Struct({"lat": pl.Float64(), "tags": pl.List(pl.String())}),
            "day": pl.Date(),
            "small": pl.Int8(),
            "clock": pl.Time(),
            "price": pl.Decimal(10, 2),
        }
    )
    line = (
        '{"at":"2026-03-01T00:00:00Z","vector":[1,2],"kind":"y","place":{"lat":1,"tags":["a"]},'
        '"day":"2026-03-01","small":-5,"clock":"12:30","price":1.25}\n'
    )
    (tmp_path / "a.ndjson").write_text(line + "{}\n")
    source = file_source(tmp_path, Files("*.ndjson"), schema)
    whole = pl.concat(batch.frame for batch in source.read(None))
    split = pl.concat(batch.frame for batch in of_day(source, START))
    assert split.schema == schema
    assert split.sort("small").equals(whole.sort("small"))


def test_a_split_that_is_damaged_says_what_to_remove(tmp_path: Path) -> None:
    write_rows(ROWS, tmp_path / "a.csv")
    source = file_source(tmp_path, Files("*.csv"))
    of_day(source, START)
    [entry] = entries(tmp_path)
    (tmp_path / "split/tests" / entry / "rows-00000.arrow").write_bytes(b"")
    assert "remove" in error_of(lambda: of_day(source, START)).next_step


def test_a_file_that_changes_while_it_is_read_is_an_error_that_a_retry_helps(
    tmp_path: Path,
) -> None:
    path = tmp_path / "a.csv"
    write_rows(pl.concat([ROWS] * 20_000), path)
    batches = file_source(tmp_path, Files("*.csv")).read(None)
    next(batches)
    os.utime(path, (1, 1))
    assert error_of(lambda: list(batches)).retryable


# ---- several processes

PROGRAM = """
import sys
from datetime import date
from pathlib import Path
from sequence_platform.definition import Files
from sequence_platform_tests.backends import file_source
from sequence_platform_tests.conformance.source_rows import ids_in, of_day
folder = Path(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
print(len(ids_in(of_day(file_source(folder, Files("*.csv")), date(2026, 3, 2)))), flush=True)
"""


def start_reader(folder: Path) -> subprocess.Popen[str]:
    root = Path(__file__).parents[2]
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(PROGRAM), str(folder)],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def many_days(folder: Path, count: int) -> None:
    at = datetime(2026, 3, 1, tzinfo=UTC) + pl.duration(hours=pl.int_range(count) % (24 * 5))
    rows = pl.select(id=pl.int_range(count).cast(pl.String), at=at, n=pl.lit(1), price=pl.lit(1.0))
    write_rows(rows, folder / "a.csv")


@pytest.mark.integration
def test_processes_that_meet_a_new_file_split_it_once(tmp_path: Path) -> None:
    many_days(tmp_path, 240_000)
    readers = [start_reader(tmp_path) for _ in range(3)]
    outputs = [reader.communicate("go\n", timeout=120)[0] for reader in readers]
    assert outputs == ["48000\n"] * 3
    assert len(entries(tmp_path)) == 1
    assert not list((tmp_path / "split").rglob("*.part"))


@pytest.mark.integration
def test_a_killed_split_leaves_nothing_that_is_taken_for_whole(tmp_path: Path) -> None:
    many_days(tmp_path, 480_000)
    delays = random.Random(7)
    for _ in range(8):
        reader = start_reader(tmp_path)
        assert reader.stdin is not None
        reader.stdin.write("go\n")
        reader.stdin.flush()
        time.sleep(delays.uniform(0.0, 0.6))
        reader.kill()
        reader.communicate()
        source = tmp_path / "split" / "tests"
        whole = [entry for entry in source.glob("*") if entry.is_dir() and entry.suffix != ".part"]
        assert all((entry / "index.json").exists() for entry in whole)
        if whole:
            whole[0].rename(tmp_path / f"done-{time.monotonic_ns()}")
    source_days = file_source(tmp_path, Files("*.csv"))
    counts = [
        sum(batch.frame.height for batch in of_day(source_days, date(2026, 3, day)))
        for day in range(1, 6)
    ]
    assert counts == [96_000] * 5
    assert not list((tmp_path / "split").rglob("*.part"))


@pytest.mark.integration
def test_a_full_disk_is_an_error_and_leaves_nothing_half_written(tmp_path: Path) -> None:
    many_days(tmp_path, 240_000)
    program = f"""
import resource
from datetime import date
from pathlib import Path
from sequence_platform.definition import Files
from sequence_platform.errors import FrameSchemaError, StoreError
from sequence_platform_tests.backends import file_source
from sequence_platform_tests.conformance.source_rows import of_day
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    of_day(file_source(Path({str(tmp_path)!r}), Files("*.csv")), date(2026, 3, 1))
except StoreError as error:
    print(error.what)
"""
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "a source cannot be split by day\n", done.stderr
    assert entries(tmp_path) == {}


def test_a_copy_that_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    scratch = tmp_path / "split" / "scratch"
    scratch.mkdir(parents=True)
    (scratch / "0123.csv").write_text("left by a process that was killed")
    write_rows(ROWS, tmp_path / "a.csv.gz")
    everything(file_source(tmp_path, Files("a.csv.gz")))
    assert list(scratch.iterdir()) == []
