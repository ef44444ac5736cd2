"""What commands print as tables."""

from __future__ import annotations

from datetime import UTC, date, datetime

import polars as pl
from rich.console import Console
from rich.table import Table

from sequence_platform.cli.tables import partitions_table, sequence_table
from sequence_platform.ports import Counts
from sequence_platform.runtimes.batch import Report

DAY = date(2026, 3, 1)


def printed(table: Table) -> list[list[str]]:
    """Return the cells of a table as printed, a list a row."""
    console = Console(width=200)
    with console.capture() as capture:
        console.print(table)
    return [
        [cell.strip() for cell in line.replace("┃", "│").strip("│").split("│")]
        for line in capture.get().splitlines()
        if line.startswith(("│", "┃"))
    ]


def report(table: str, rows: int, **outcome: int) -> Report:
    counts = Counts(received=rows, admitted=rows, filtered={"a": 2, "b": 1}, **outcome)
    return Report(table, DAY, 1, True, counts, rows, 1_500_000, 0.25, {})


def test_partitions_are_added_up_by_table() -> None:
    reports = [
        report("enriched.click", 1000, superseded=1, deleted=2, dead_lettered=3),
        report("enriched.click", 500),
        report("sequences.feed", 7),
    ]
    assert printed(partitions_table(reports))[1:] == [
        ["enriched.click", "2", "1,500", "3.0", "0.5", "6", "1", "2", "3"],
        ["sequences.feed", "1", "7", "1.5", "0.2", "3", "0", "0", "0"],
    ]


def test_values_of_any_kind_fit_a_cell() -> None:
    at = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)
    frame = pl.DataFrame(
        {
            "entity": [7],
            "event_time": [[at]],
            "event_type": [["click"]],
            "event_id": [["a"]],
            "price": [[1234.5]],
            "vector": [[[0.5, 1.0, 2.0, 3.0]]],
            "pair": [[[1, 2]]],
            "nothing": [[None]],
        }
    )
    (head, row) = printed(sequence_table(frame, limit=5))
    assert head == ["event_time", "event_type", "price", "vector", "pair", "nothing"]
    assert row[1:] == ["click", "1,234.50", "[0.50, 1.00, ... 4]", "[1, 2]", "·"]
    assert row[0].endswith("03-01 09:30:00")
