"""What a source says about itself, without reading anything."""

from __future__ import annotations

from typing import get_args

import polars as pl
import pytest

from sequence_platform import Vector
from sequence_platform.definition.source import FORMAT_OF_SUFFIX, FileFormat, Files
from sequence_platform_tests.unit.plan.examples import pins


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("a/*.parquet", "parquet"),
        ("a/{day}.CSV", "csv"),
        ("a.tsv.gz", "tsv"),
        ("a.ndjson.zst", "ndjson"),
        ("a.jsonl", "ndjson"),
        ("a.txt", None),
        ("parquet", None),
        ("a.gz", None),
    ],
)
def test_the_format_is_told_from_the_suffix(pattern: str, expected: FileFormat | None) -> None:
    assert Files(pattern).file_format == expected


def test_a_format_that_is_given_wins() -> None:
    assert Files("a.parquet", format="csv").file_format == "csv"


def test_every_format_has_a_suffix() -> None:
    assert set(FORMAT_OF_SUFFIX.values()) == set(get_args(FileFormat))


@pytest.mark.parametrize(
    ("pattern", "is_daily"), [("a/{day}.csv", True), ("{day:%Y}/x.csv", True), ("a/day.csv", False)]
)
def test_a_pattern_with_day_is_daily(pattern: str, *, is_daily: bool) -> None:
    assert Files(pattern).is_daily is is_daily


def test_a_vector_is_an_array_of_32_bit_numbers_unless_said_otherwise() -> None:
    assert Vector(3) == pl.Array(pl.Float32, 3)
    assert Vector(3, pl.Float64) == pl.Array(pl.Float64, 3)


def test_an_enrichment_is_looked_up_by_another_column() -> None:
    enrichment = pins()
    lookup = enrichment.by("board_pin")
    assert lookup.enrichment is enrichment
    assert lookup.column == "board_pin"
