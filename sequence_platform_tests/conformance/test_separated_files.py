"""CSV and TSV: a row with more or fewer fields is a dead letter; never a row too few."""

from __future__ import annotations

import csv
import gzip
import io
from datetime import timedelta
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sequence_platform.definition import Files
from sequence_platform.errors import StoreError
from sequence_platform.sources.files.locate import SourceFile
from sequence_platform.sources.files.separated import Part, read_separated
from sequence_platform_tests.backends import file_source
from sequence_platform_tests.conformance.source_rows import DAYS, dead_in, ids_in, of_day

HEADER = "id,at,n,price\n"
GOOD = "{},2026-03-01T00:00:00Z,1,1\n"


def write(path: Path, text: str) -> None:
    """Write text as the name of its file says: with tabs, compressed."""
    plain = (text.replace(",", "\t") if ".tsv" in path.name else text).encode()
    if path.suffix == ".gz":
        plain = gzip.compress(plain)
    elif path.suffix == ".zst":
        plain = pa.compress(plain, codec="zstd", asbytes=True)
    path.write_bytes(plain)


def read(folder: Path, name: str) -> tuple[list[str], pl.DataFrame]:
    """Return the ids of a file's rows and its dead letters."""
    batches = list(file_source(folder, Files(name)).read(None))
    return ids_in(batches), pl.concat(batch.dead for batch in batches)


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.csv.zst", "a.tsv", "a.tsv.gz"])
def test_ragged_rows_are_dead_letters_and_the_others_are_read(tmp_path: Path, name: str) -> None:
    short, long = "b,2026-03-01,1", "c,2026-03-01,1,1,1"
    text = HEADER + GOOD.format("a") + f"{short}\n" + f"{long}\n" + GOOD.format("d")
    write(tmp_path / name, text)
    ids, dead = read(tmp_path, name)
    assert ids == ["a", "d"]
    shown = [text.replace(",", "\t") if ".tsv" in name else text for text in (short, long)]
    assert dead.rows() == [
        (name, 1, "ragged_row", "line 3: found 3 fields, expected the 4 of the header", shown[0]),
        (name, 2, "ragged_row", "line 4: found 5 fields, expected the 4 of the header", shown[1]),
    ]
    assert not list((tmp_path / "split").rglob("*.csv"))


def test_places_count_rows_and_not_the_lines_within_quotes_nor_blank_ones(tmp_path: Path) -> None:
    write(
        tmp_path / "a.csv",
        HEADER
        + '"a,\r\n""1""\n",2026-03-01T00:00:00Z,1,1\n'
        + "\n"
        + '"two\nlines",2026-03-01\n'
        + "c,2026-03-01T00:00:00Z,many,1\n"
        + " \n"
        + GOOD.format("e")
        + "f,2026-03-01",
    )
    ids, dead = read(tmp_path, "a.csv")
    assert ids == ['a,\r\n"1"\n', "e"]
    assert dead.select("position", "rule", "detail").rows() == [
        (1, "ragged_row", "line 6: found 2 fields, expected the 4 of the header"),
        (2, "wrong_type:n", "found 'many' (String), expected Int64"),
        (3, "ragged_row", "line 9: found 1 fields, expected the 4 of the header"),
        (5, "ragged_row", "line 11: found 2 fields, expected the 4 of the header"),
    ]
    assert dead["row"][0] == '"two\nlines",2026-03-01'


def test_a_ragged_row_far_into_a_large_file_costs_no_other(tmp_path: Path) -> None:
    many = GOOD.format("a") * 250_000
    write(tmp_path / "a.csv", HEADER + many + "b,2026-03-01\n" + GOOD.format("a"))
    batches = list(file_source(tmp_path, Files("a.csv")).read(None))
    assert sum(batch.frame.height for batch in batches) == 250_001
    assert dead_in(batches) == [("a.csv", 250_000, "ragged_row")]


def test_separators_at_the_end_of_a_row_are_no_fields(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", HEADER + "a,2026-03-01T00:00:00Z,1,1,,\nb\n" + GOOD.format("c"))
    ids, dead = read(tmp_path, "a.csv")
    assert (ids, dead["position"].to_list()) == (["a", "c"], [1])


def test_a_file_of_nothing_but_ragged_rows_has_no_others(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", HEADER + "a\nb,2026-03-01\n")
    ids, dead = read(tmp_path, "a.csv")
    assert (ids, dead["position"].to_list()) == ([], [0, 1])


def test_rows_of_one_field_may_be_blank_and_not_two(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", "id\na\n\nb,c\nd\n")
    source = file_source(tmp_path, Files("a.csv", missing_columns="null"))
    batches = list(source.read(None))
    assert [value for batch in batches for value in batch.frame["id"]] == ["a", None, "d"]
    assert dead_in(batches) == [("a.csv", 2, "ragged_row")]


def test_ragged_rows_belong_to_the_day_of_their_file_or_its_first(tmp_path: Path) -> None:
    text = HEADER + GOOD.format("a") + "b\n" + GOOD.format("c").replace("03-01", "03-02")
    write(tmp_path / "2026-03-02.csv", text)
    write(tmp_path / "2026-03-01.csv", HEADER)
    daily = file_source(tmp_path, Files("{day}.csv", late=timedelta(days=1)))
    assert [len(dead_in(of_day(daily, day))) for day in DAYS[:2]] == [0, 1]
    assert [ids_in(of_day(daily, day)) for day in DAYS[:2]] == [["a"], ["c"]]
    whole = file_source(tmp_path, Files("*-02.csv"))
    assert [len(dead_in(of_day(whole, day))) for day in DAYS[:2]] == [1, 0]
    assert [ids_in(of_day(whole, day)) for day in DAYS[:2]] == [["a"], ["c"]]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b'id,at,n,price\n"a,2026-03-01,1,1\nb,2026-03-01,1,1\n', "quote"),
        (b'id,at,n,price\n"a,2026-03-01,1,1\nb",2026-03-01,1,"1\n', "quote"),
        # A short row besides; and an open quote that another one, rows later, seems to end.
        (b'id,at,n,price\nz\n"a,2026-03-01,1,1\nb",2026-03-01,1,"1\n', "quote"),
        (b'id,at,n,price\n"a,2026-03-01,1,1\nb,2026-03-01,1,1\n"c",2026-03-01,1,1\n', "quote"),
        (b'id,at,n,price\n"a,1,1,1\nb,1,1,1\nc",1,1,1,1\n', "line 2: a quote that does not end"),
        (b"id,at,n,price\n\xff,2026-03-01,1,1\n", "Line: 2"),
        (b"id,at,n,price\nz\n\xff,2026-03-01,1,1\n", "line 2 on"),
        (b"id,at,n,price,id\na,2026-03-01,1,1,a\n", "twice"),
        (b"\nid,at,n,price\n", "header"),
        (b"", "no bytes"),
    ],
)
def test_a_file_whose_rows_cannot_be_told_apart_is_an_error(
    tmp_path: Path, content: bytes, told: str
) -> None:
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(StoreError) as raised:
        read(tmp_path, "a.csv")
    assert raised.value.where == "a.csv"
    assert told in raised.value.found


FIELDS = st.sampled_from(["", "x", " x ", "a,b", "two\nlines", "\r\n", 'say ""', '"', "é😀", "1"])
RECORDS = st.lists(st.lists(FIELDS, min_size=1, max_size=5), max_size=8)


@given(records=RECORDS, quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]))
def test_rows_beside_ragged_ones_are_read_as_without_them(
    tmp_path_factory: pytest.TempPathFactory, records: list[list[str]], quoting: int
) -> None:
    folder = tmp_path_factory.mktemp("rows")

    def parts(some: list[list[str]]) -> list[Part]:
        text = io.StringIO()
        writer = csv.writer(text, quoting=quoting, lineterminator="\n")  # type: ignore[arg-type]  # one of csv's own
        writer.writerows([["p", "q", "r"], *some])
        path = folder / "a.csv"
        path.write_text(text.getvalue(), newline="")
        found = read_separated(SourceFile("a.csv", str(path), 1, ""), ["r", "p"], ",", folder)
        return list(found)

    def fits(record: list[str]) -> bool:
        return len(record) >= 3 and not any(record[3:])

    fitting = [record for record in records if fits(record)]
    read_all, read_fitting = parts(records), parts(fitting)
    whole = pl.concat(part.frame.select("p", "r") for part in read_all)
    assert whole.equals(pl.concat(part.frame.select("p", "r") for part in read_fitting))
    assert whole.rows() == [(record[0] or None, record[2] or None) for record in fitting]
    ragged = [at for part in read_all for at in part.ragged]
    assert ragged == [at for at, record in enumerate(records) if not fits(record)]
