"""What the shop's models read."""

from __future__ import annotations

from datetime import timedelta

import polars as pl

from definitions.shop.events import add_to_cart, product_view, purchase, search
from sequence_platform import Dedupe, Sequence, Sessions

SESSION_GAP = timedelta(minutes=30)

gap = pl.col("event_time").diff()

shop_activity = Sequence(
    name="shop_activity",
    owner="team:home-feed",
    description="All a user did lately, for the ranking of the start page.",
    # The way of a purchase: what happens at the same moment is listed in this order.
    events=[search, product_view, add_to_cart, purchase],
    columns=[
        "product_id",
        "category",
        "brand",
        "list_price",
        "device",
        "dwell_s",
        "is_long",
        "query",
        "quantity",
        "amount",
        "vector",
        "price_now",
        "is_in_stock",
    ],
    max_length=500,
    max_age=timedelta(days=90),
    sessions=Sessions(gap=SESSION_GAP, keep=50),
    # Reloading a page is one view; coming back to it after another is two.
    dedupe=Dedupe(by=["event_type", "product_id"], keep="last", within="consecutive"),
    quotas={"search": 100, "product_view": 400},
    derived={
        "gap_s": gap.dt.total_seconds(),
        "session": (gap > SESSION_GAP).fill_null(value=False).cum_sum().cast(pl.Int32),
        "is_new_brand": pl.col("brand").is_first_distinct() & pl.col("brand").is_not_null(),
    },
    context={"category_shown": pl.String},
    request={
        "age_s": (pl.col("request_time") - pl.col("event_time")).dt.total_seconds(),
        "is_category_shown": pl.col("category") == pl.col("category_shown"),
        "price_change": pl.col("price_now") - pl.col("list_price"),
    },
)

purchase_intent = Sequence(
    name="purchase_intent",
    owner="team:checkout",
    description="What a user put into carts and bought, for the model of the next order.",
    events=[add_to_cart, purchase],
    columns=["product_id", "category", "list_price", "quantity", "amount", "order_id", "vector"],
    max_length=200,
    max_age=timedelta(days=180),
    # Pressing the button again and again is one intent.
    dedupe=Dedupe(by=["event_type", "product_id"], keep="first", within=timedelta(minutes=10)),
    quotas={"add_to_cart": 150},
    derived={
        "gap_s": gap.dt.total_seconds(),
        "spent": pl.col("amount").fill_null(0.0).cum_sum().round(2),
    },
    context={"basket_value": pl.Float64},
    request={
        "age_h": (pl.col("request_time") - pl.col("event_time")).dt.total_hours(),
        "price_to_basket": pl.col("list_price") / pl.col("basket_value"),
    },
    late=["vector"],
)
