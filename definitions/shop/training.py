"""What the shop's models are trained on."""

from __future__ import annotations

from datetime import timedelta

import polars as pl

from definitions.shop.sequences import shop_activity
from sequence_platform import Files, TrainingSet

next_product = TrainingSet(
    name="next_product",
    owner="team:home-feed",
    description="Recommendations that were shown, whether they were clicked, and what the user had "
    "done until then.",
    sequence=shop_activity,
    labels=Files("data/shop/recommendations/*.parquet"),
    schema={
        "impression_id": pl.Int64,
        "user_id": pl.Int64,
        "shown_at": pl.Datetime("us", "UTC"),
        "product_id": pl.Int64,
        "is_clicked": pl.Boolean,
    },
    request_time="shown_at",
    # Events can be read online within a quarter of a second.
    delay=timedelta(milliseconds=250),
    columns=["product_id", "category", "brand", "device", "dwell_s", "amount", "vector"],
)
