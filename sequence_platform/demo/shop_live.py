"""What the shop's users do right now: the generated last day again, as messages of a log.

Rows get new ids and the present time. As in any shop, a few come late, come twice or are broken.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

IDS = {
    "product_view": "view_id",
    "add_to_cart": "cart_line_id",
    "purchase": "order_line_id",
    "search": "search_id",
}
TIMES = {
    "product_view": "viewed_at",
    "add_to_cart": "added_at",
    "purchase": "purchased_at",
    "search": "searched_at",
}
ARRIVALS = {"product_view": "received_at", "purchase": "recorded_at"}
TOPICS = {name: f"shop.{name}" for name in IDS}
"""As ``definitions/shop`` says."""

_LATE, _AGAIN, _BROKEN = 0.01, 0.01, 0.002
_WATCHED = 60
"""One event in so many is of the user who is watched."""

Messages = Mapping[str, list[bytes]]
"""By event type."""


@dataclass(slots=True)
class LiveShop:
    """A shop that is open.

    Attributes:
        rows: A day's rows by event type, in the order of their times.
        watched: A user who is busy now.
        label: Begins all ids, so that no two runs share one.
    """

    rows: Mapping[str, list[dict[str, Any]]]
    watched: int
    label: str
    rng: np.random.Generator

    @classmethod
    def open(cls, folder: Path, day: date, *, watched: int, label: str, seed: int) -> LiveShop:
        """Return a shop that goes on as on a day that was generated into a folder."""
        rows = {
            name: pl.read_parquet(folder / name / f"day={day}" / "*.parquet")
            .sort(TIMES[name])
            .to_dicts()
            for name in IDS
        }
        return cls(rows, watched, label, np.random.default_rng(seed))

    def events(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield event types and rows for ever, mixed as often as each happens."""
        names = list(self.rows)
        weights = np.array([len(self.rows[name]) for name in names], dtype=float)
        weights /= weights.sum()
        number = 0
        while True:
            name = names[int(self.rng.choice(len(names), p=weights))]
            row = dict(self.rows[name][number % len(self.rows[name])])
            if number % _WATCHED == 0:
                row["user_id"] = self.watched
            row[IDS[name]] = f"{self.label}-{number}"
            number += 1
            yield name, row

    def messages(
        self, events: Iterator[tuple[str, dict[str, Any]]], count: int, now: datetime
    ) -> Messages:
        """Return about so many messages of this moment."""
        made: dict[str, list[bytes]] = {name: [] for name in IDS}
        for _ in range(count):
            name, row = next(events)
            fate = self.rng.random()
            at = now - timedelta(days=1) if fate < _LATE else now
            row[TIMES[name]] = int(at.timestamp() * 1000) if name == "product_view" else _text(at)
            if name in ARRIVALS:
                row[ARRIVALS[name]] = _text(now)
            value = json.dumps(row, default=str).encode()
            made[name].append(value)
            if fate > 1 - _AGAIN:
                made[name].append(value)
            if fate > 1 - _BROKEN:
                made[name].append(value[: len(value) // 2])
        return made

    def view(self, now: datetime) -> tuple[str, bytes]:
        """Return id and message of a product that the watched user views at this moment."""
        row = dict(self.rows["product_view"][0])
        name = f"{self.label}-watched-{now:%H%M%S%f}"
        row |= {"user_id": self.watched, IDS["product_view"]: name, "received_at": _text(now)}
        row[TIMES["product_view"]] = int(now.timestamp() * 1000)
        return name, json.dumps(row, default=str).encode()


def _text(at: datetime) -> str:
    return at.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"
