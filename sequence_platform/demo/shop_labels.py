"""What the shop recommended, and whether it was clicked: labels for a model of the next product."""

from __future__ import annotations

import numpy as np
import polars as pl

SECOND = 1_000_000
LONGEST_LOOK = 20 * SECOND
"""From a recommendation being shown to the click."""


def recommendations(views: pl.DataFrame, seed: int) -> pl.DataFrame:
    """Return impressions by the time at which they were shown.

    A view that a recommendation led to was shown some seconds before; with each, another product
    was shown that was not clicked.

    Args:
        views: ``Behaviour.views``.
        seed: Of the shop; what else is drawn from it stays as it is.
    """
    rng = np.random.default_rng([seed, 1])
    clicked = views.filter(pl.col("surface") == "recommendation", pl.col("device") != "bot")
    shown = clicked["at"].to_physical().to_numpy() - rng.integers(
        SECOND, LONGEST_LOOK, clicked.height
    )
    shown_at = pl.Series("shown_at", shown).cast(pl.Datetime("us", "UTC"))
    mine = clicked.select("user_id", shown_at, "product_id", is_clicked=pl.lit(value=True))
    # Of the products that are viewed: popular ones are recommended more often, too.
    others = views["product_id"].gather(rng.integers(0, max(1, views.height), mine.height))
    both = pl.concat([mine, mine.with_columns(others, is_clicked=pl.lit(value=False))])
    both = both.sort("shown_at", "user_id", "is_clicked", maintain_order=True)
    return both.with_row_index("impression_id").cast({"impression_id": pl.Int64})
