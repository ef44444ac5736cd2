"""What goes wrong between a user and a file: rows late, sent again, corrected, deleted, useless.

Every frame that is delivered has, beside its columns, ``landed`` (when the row reached the export)
and ``folder`` (the day whose file it is in).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, timedelta

import numpy as np
import numpy.typing as npt
import polars as pl

from sequence_platform.demo.shop_behaviour import Behaviour

Flags = npt.NDArray[np.bool_]

COLUMNS = {
    "product_view": (
        *("view_id", "user_id", "viewed_at", "received_at"),
        *("product_id", "surface", "device", "dwell_ms"),
    ),
    "add_to_cart": ("cart_line_id", "user_id", "added_at", "product_id", "quantity", "device"),
    "purchase": (
        *("order_line_id", "user_id", "purchased_at", "recorded_at", "revision", "operation"),
        *("order_id", "product_id", "quantity", "unit_price"),
    ),
    "search": ("search_id", "user_id", "searched_at", "query", "results", "device"),
}
"""The columns of each event type's files, in order."""

_LATE_VIEWS = 0.012  # phones that were offline
_LATE_OTHERS = 0.005
_REDELIVERED = 0.008
_REDELIVERED_NEXT_DAY = 0.5
_CORRECTED = 0.04
_CORRECTED_AGAIN = 0.2
_MOVED_TO_ANOTHER_DAY = 0.1
_DELETED = 0.03
_NULL_USER = 0.0005
_IMPOSSIBLE_TIME = 0.0002
_NEGATIVE_DWELL = 0.0015
_EMPTY_QUERY = 0.003
_NO_QUANTITY = 0.001


def deliver(clean: Behaviour, deliveries: Deliveries) -> dict[str, pl.DataFrame]:
    """Return what is delivered of each event type, by its name, in the columns of its files."""
    rows = {
        "product_view": deliveries.views(clean.views),
        "add_to_cart": deliveries.carts(clean.carts),
        "purchase": deliveries.purchases(clean.purchases),
        "search": deliveries.searches(clean.searches),
    }
    return {name: frame.select(*COLUMNS[name], "landed", "folder") for name, frame in rows.items()}


@dataclass(slots=True)
class Deliveries:
    """Draws what goes wrong, and counts it by name.

    Attributes:
        rng: Decides what happens to which row.
        first_day: No row moves to a day before it.
        counts: How many rows each defect touched.
    """

    rng: np.random.Generator
    first_day: date
    counts: dict[str, int] = field(default_factory=dict)

    def views(self, clean: pl.DataFrame) -> pl.DataFrame:
        """Deliver views; they say when they were received, and land in that day's file."""
        name = "product_view"
        late = self._some(clean.height, _LATE_VIEWS, f"{name} late")
        hours = self.rng.lognormal(np.log(2.0), 1.2, clean.height)
        seconds = self.rng.lognormal(-0.5, 1.0, clean.height)
        rows = clean.with_columns(
            received_at=pl.col("at") + _seconds(np.where(late, hours * 3600, seconds))
        )
        rows = rows.with_columns(landed="received_at", folder=pl.col("received_at").dt.date())
        rows = self._null_users(rows, name)
        negative = self._some(rows.height, _NEGATIVE_DWELL, f"{name} negative dwell")
        zero = self._some(rows.height, _IMPOSSIBLE_TIME, f"{name} impossible time")
        rows = rows.select(
            pl.exclude("id", "at", "dwell_ms"),
            view_id="id",
            # A device that lost its clock starts at the epoch.
            viewed_at=pl.when(pl.Series(zero)).then(0).otherwise(pl.col("at").dt.epoch("ms")),
            dwell_ms=pl.col("dwell_ms") * pl.when(pl.Series(negative)).then(-1).otherwise(1),
        )
        return self._redelivered(rows, name)

    def carts(self, clean: pl.DataFrame) -> pl.DataFrame:
        """Deliver carts, whose source does not record arrival."""
        name = "add_to_cart"
        rows = self._null_users(self._landed(clean, name), name)
        none = self._some(rows.height, _NO_QUANTITY, f"{name} no quantity")
        zero = self._some(rows.height, _IMPOSSIBLE_TIME, f"{name} impossible time")
        epoch = pl.lit(0).cast(pl.Datetime("us", "UTC"))
        rows = rows.select(
            pl.exclude("id", "at", "quantity"),
            cart_line_id="id",
            added_at=pl.when(pl.Series(zero)).then(epoch).otherwise("at"),
            quantity=pl.col("quantity") * pl.when(pl.Series(none)).then(0).otherwise(1),
        )
        return self._redelivered(rows, name)

    def searches(self, clean: pl.DataFrame) -> pl.DataFrame:
        """Deliver searches; their source writes times without a zone, in milliseconds."""
        name = "search"
        rows = self._null_users(self._landed(clean, name), name)
        empty = self._some(rows.height, _EMPTY_QUERY, f"{name} empty query")
        rows = rows.select(
            pl.exclude("id", "at", "query"),
            search_id="id",
            searched_at=pl.col("at").dt.replace_time_zone(None).dt.cast_time_unit("ms"),
            query=pl.when(pl.Series(empty)).then(pl.lit(" ")).otherwise("query"),
        )
        return self._redelivered(rows, name)

    def purchases(self, clean: pl.DataFrame) -> pl.DataFrame:
        """Deliver order lines: every state of a line is a row, in the file of its purchase day."""
        lag = _seconds(self.rng.lognormal(2.0, 0.8, clean.height))
        placed = clean.with_columns(
            revision=pl.lit(0, pl.Int32), operation=pl.lit("upsert"), recorded_at=pl.col("at") + lag
        )
        corrected = self._moved(self._corrected(placed, _CORRECTED))
        again = self._corrected(corrected, _CORRECTED_AGAIN)
        states = pl.concat([placed, corrected, again])
        newest = states.unique("id", keep="last", maintain_order=True)
        deleted = self._later(newest, _DELETED, "purchase deleted")
        rows = pl.concat([states, deleted.with_columns(operation=pl.lit("delete"))])
        rows = rows.with_columns(landed="recorded_at", folder=pl.col("at").dt.date())
        rows = self._redelivered(self._null_users(rows, "purchase"), "purchase")
        return rows.rename({"id": "order_line_id", "at": "purchased_at"})

    def _some(self, count: int, share: float, name: str, *, among: Flags | bool = True) -> Flags:
        """Return a mask of about ``share`` of ``count`` rows, and count them."""
        chosen = (self.rng.random(count) < share) & among
        self.counts[name] = self.counts.get(name, 0) + int(chosen.sum())
        return chosen

    def _landed(self, clean: pl.DataFrame, name: str) -> pl.DataFrame:
        late = self._some(clean.height, _LATE_OTHERS, f"{name} late")
        hours = self.rng.uniform(3, 20, clean.height)
        rows = clean.with_columns(landed=pl.col("at") + _seconds(np.where(late, hours * 3600, 0)))
        return rows.with_columns(folder=pl.col("landed").dt.date())

    def _redelivered(self, rows: pl.DataFrame, name: str) -> pl.DataFrame:
        """Append exact copies of some rows, half of them in the next day's file."""
        chosen = self._some(rows.height, _REDELIVERED, f"{name} redelivered")
        copies = rows.filter(pl.Series(chosen))
        next_day = self._some(copies.height, _REDELIVERED_NEXT_DAY, f"{name} redelivered next day")
        later = _seconds(np.where(next_day, 86_400, 0))
        moved = copies.with_columns(
            landed=pl.col("landed") + later, folder=pl.col("folder") + later
        )
        return pl.concat([rows, moved])

    def _null_users(self, rows: pl.DataFrame, name: str) -> pl.DataFrame:
        lost = self._some(rows.height, _NULL_USER, f"{name} null user")
        return rows.with_columns(user_id=pl.when(pl.Series(~lost)).then("user_id"))

    def _later(self, rows: pl.DataFrame, share: float, name: str) -> pl.DataFrame:
        """Return the next revision of some rows, recorded hours to days later."""
        chosen = rows.filter(pl.Series(self._some(rows.height, share, name)))
        delay = _seconds(self.rng.uniform(1, 144, chosen.height) * 3600)
        return chosen.with_columns(
            revision=pl.col("revision") + 1, recorded_at=pl.col("recorded_at") + delay
        )

    def _corrected(self, rows: pl.DataFrame, share: float) -> pl.DataFrame:
        """Return corrections: another quantity, or a price that was agreed on afterwards."""
        later = self._later(rows, share, "purchase corrected")
        by_quantity = pl.Series(self.rng.random(later.height) < 0.5)  # noqa: PLR2004 - half and half
        price = (pl.col("unit_price") * 0.9).round(2)
        return later.with_columns(
            quantity=pl.when(by_quantity).then(pl.col("quantity") + 1).otherwise("quantity"),
            unit_price=pl.when(by_quantity).then("unit_price").otherwise(price),
        )

    def _moved(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Date some rows a day back: sold before midnight, by a till whose clock was wrong."""
        movable = (rows["at"].dt.date() > self.first_day).to_numpy()
        name = "purchase moved to another day"
        moved = self._some(rows.height, _MOVED_TO_ANOTHER_DAY, name, among=movable)
        earlier = pl.col("at") - timedelta(days=1)
        return rows.with_columns(at=pl.when(pl.Series(moved)).then(earlier).otherwise("at"))


def _seconds(values: npt.NDArray[np.float64] | npt.NDArray[np.int64]) -> pl.Series:
    """Return durations, rounded to milliseconds."""
    milliseconds = np.round(values * 1000).astype(np.int64)
    return pl.Series(milliseconds * 1000).cast(pl.Duration("us"))
