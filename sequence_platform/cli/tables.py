"""What commands print as tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import polars as pl
from rich.table import Table

from sequence_platform.runtimes.batch import Report

LEAD = ("event_time", "event_type")


def partitions_table(reports: Iterable[Report]) -> Table:
    """Return what was built, a line a table."""
    table = Table(
        "table",
        "days",
        "rows",
        "MB",
        "seconds",
        "filtered",
        "superseded",
        "deleted",
        "dead",
    )
    by_name: dict[str, list[Report]] = {}
    for report in reports:
        by_name.setdefault(report.table, []).append(report)
    for name, group in by_name.items():
        counts = [report.counts for report in group]
        numbers = (
            len(group),
            sum(report.rows for report in group),
            sum(report.bytes for report in group) / 1e6,
            sum(report.seconds for report in group),
            sum(sum(count.filtered.values()) for count in counts),
            sum(count.superseded for count in counts),
            sum(count.deleted for count in counts),
            sum(count.dead_lettered for count in counts),
        )
        table.add_row(name, *(f"{n:,.1f}" if isinstance(n, float) else f"{n:,}" for n in numbers))
    for column in table.columns:
        column.no_wrap = True
    for column in table.columns[1:]:
        column.justify = "right"
    return table


def sequence_table(sequences: pl.DataFrame, limit: int) -> Table:
    """Return one entity's sequence, newest event first."""
    row = sequences.row(0, named=True)
    lists: dict[str, Sequence[object]] = {
        name: value for name, value in row.items() if isinstance(value, list)
    }
    names = [*LEAD, *(name for name in lists if name not in {*LEAD, "event_id"})]
    length = len(lists["event_time"])
    table = Table(
        *names, title=f"entity {row['entity']}: the newest {min(limit, length)} of {length} events"
    )
    for column in table.columns:
        column.no_wrap = True
    for position in reversed(range(max(0, length - limit), length)):
        table.add_row(*(_cell(lists[name][position]) for name in names))
    return table


def _cell(value: object) -> str:
    match value:
        case None:
            return "·"
        case float():
            return f"{value:,.2f}"
        case list() if len(value) > 3:  # noqa: PLR2004 - a vector is told by its first numbers
            return f"[{', '.join(_cell(item) for item in value[:2])}, ... {len(value)}]"
        case _ if hasattr(value, "strftime"):
            return f"{value:%Y-%m-%d %H:%M:%S}"
        case _:
            return str(value)
