"""An entity's rows as a page shows them: a table, and a picture with a lane an event type."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import starmap
from typing import Any

import polars as pl

from sequence_platform.engine.account import FATES, KEPT
from sequence_platform.runtimes.serving import Account

SHOWN_ROWS = 500
COLOURS = 6
"""Of event types; then they begin anew."""
LEFT, RIGHT = 160, 1170
"""Of the picture, which is 1200 wide."""
LANE, TOP, FOOT = 28, 18, 14
TICKS = 5
FORMS = (
    (timedelta(days=1), "%d %b %Y"),
    (timedelta(hours=1), "%d %b %H:%M"),
    (timedelta(0), "%H:%M:%S"),
)
SHOWN_ITEMS = 3
SHOWN_TEXT = 60
ENVELOPE = (
    *("event_type", "event_time", "event_id", "arrival_time", "revision", "origin", "fate"),
)

Json = dict[str, Any]


def told(time: datetime | None, *, exact: bool = False) -> str:
    """Return a time for people; exact ones with their microseconds, if they have any."""
    if time is None:
        return "never"
    text = f"{time.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
    return f"{text}.{time.microsecond:06}" if exact and time.microsecond else text


def describe_account(account: Account) -> Json:
    """Return what the timeline's template shows."""
    rows = account.rows
    colours = {event.name: at % COLOURS for at, event in enumerate(account.sequence.events)}
    columns = [name for name in rows.columns if name not in ENVELOPE]
    shown = rows.head(SHOWN_ROWS)
    counts = dict(rows["fate"].value_counts().iter_rows())
    return {
        "kept": counts.get(KEPT, 0),
        "total": rows.height,
        "shown": shown.height,
        "as_of": told(account.as_of, exact=True),
        "cut": [
            (text, counts[fate]) for fate, text in FATES.items() if fate in counts.keys() - {KEPT}
        ],
        "columns": columns,
        "rows": [_row(row, columns, colours) for row in shown.iter_rows(named=True)],
        "picture": _picture(shown, colours),
    }


def _row(row: Mapping[str, Any], columns: Sequence[str], colours: Mapping[str, int]) -> Json:
    return {
        "time": told(row["event_time"], exact=True),
        "type": row["event_type"],
        "colour": colours[row["event_type"]],
        "id": row["event_id"],
        "origin": row["origin"],
        "fate": FATES[row["fate"]],
        "kept": row["fate"] == KEPT,
        "cells": [{"text": cell(row[name]), "title": _title(row[name])} for name in columns],
    }


def cell(value: object) -> str:
    """Return a value as a cell of a table."""
    match value:
        case None:
            return "·"
        case float():
            return f"{value:,.4g}"
        case datetime():
            return told(value, exact=True)
        case list():
            more = f", ... {len(value)}" if len(value) > SHOWN_ITEMS else ""
            return f"[{', '.join(map(cell, value[:SHOWN_ITEMS]))}{more}]"
        case bytes():
            return cell(value.hex())
        case _:
            text = str(value)
            return text if len(text) <= SHOWN_TEXT else f"{text[:SHOWN_TEXT]}..."


def _title(value: object) -> str:
    return value[:2000] if isinstance(value, str) and len(value) > SHOWN_TEXT else ""


@dataclass(frozen=True, slots=True)
class _Scale:
    """Where times stand in the picture."""

    first: datetime
    last: datetime

    def x(self, time: datetime) -> float:
        span = (self.last - self.first).total_seconds()
        part = (time - self.first).total_seconds() / span if span else 0.5
        return round(LEFT + part * (RIGHT - LEFT), 1)

    def ticks(self) -> list[Json]:
        step = (self.last - self.first) / (TICKS - 1)
        if not step:
            return [{"x": self.x(self.first), "label": told(self.first), "anchor": "middle"}]
        times = [self.first + step * n for n in range(TICKS)]
        form = next(form for least, form in FORMS if step >= least)
        anchors = ["start", *["middle"] * (TICKS - 2), "end"]
        return [
            {"x": self.x(time), "label": f"{time.astimezone(UTC):{form}}", "anchor": anchor}
            for time, anchor in zip(times, anchors, strict=True)
        ]


def _picture(rows: pl.DataFrame, colours: Mapping[str, int]) -> Json:
    names = [name for name in colours if name in set(rows["event_type"])]
    height = TOP + LANE * len(names) + FOOT
    if rows.is_empty():
        return {"height": height, "lanes": [], "ticks": []}
    first, last = rows["event_time"].min(), rows["event_time"].max()
    assert isinstance(first, datetime)  # noqa: S101 - of a column of times
    assert isinstance(last, datetime)  # noqa: S101 - likewise
    scale = _Scale(first, last)

    def lane(at: int, name: str) -> Json:
        of_type = rows.filter(pl.col("event_type") == name).sort(pl.col("fate") == KEPT)
        dots = [
            {
                "x": scale.x(row["event_time"]),
                "kind": "kept" if row["fate"] == KEPT else "cut",
                "title": _dot(row),
            }
            for row in of_type.iter_rows(named=True)
        ]
        return {"name": name, "y": TOP + LANE * at, "colour": colours[name], "dots": dots}

    lanes = list(starmap(lane, enumerate(names)))
    return {"height": height, "lanes": lanes, "ticks": scale.ticks()}


def _dot(row: Mapping[str, Any]) -> str:
    return f"{told(row['event_time'], exact=True)} {row['event_id']}: {FATES[row['fate']]}"
