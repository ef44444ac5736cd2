"""What users of the shop do: four event types."""

from __future__ import annotations

from datetime import timedelta

import polars as pl

from definitions.shop.enrichments import product_attributes, product_now, product_vectors
from sequence_platform import EventType, Files, Log
from sequence_platform.demo import FIRST_DAY

TEN_YEARS = timedelta(days=3650)
"""The days of the shop stand still while the calendar goes on: they must not expire."""

NEXT_DAY = timedelta(days=1)
"""A row is filed under the day on which it arrived: late and repeated rows lie a day further on."""

product_view = EventType(
    name="product_view",
    owner="team:storefront",
    description="A product page was open; one row a view, sent when the user leaves the page.",
    schema={
        "view_id": pl.String,
        "user_id": pl.Int64,
        "viewed_at": pl.Int64,  # milliseconds since the epoch
        "received_at": pl.Datetime("us", "UTC"),
        "product_id": pl.Int64,
        "surface": pl.String,  # what led to the page: search, category, home, recommendation, email
        "device": pl.String,
        "dwell_ms": pl.Int32,
    },
    event_id="view_id",
    event_time=pl.from_epoch("viewed_at", time_unit="ms"),
    entity="user_id",
    arrival_time="received_at",
    log=Log("shop.product_view"),
    batch=Files("data/shop/product_view/day={day}/*.parquet", late=NEXT_DAY, missing="empty"),
    where={
        "human": pl.col("device") != "bot",
        "dwell_known": pl.col("dwell_ms") >= 0,  # a clock set back while the page was open
    },
    columns={
        "dwell_s": (pl.col("dwell_ms") / 1000).cast(pl.Float32),
        "is_long": pl.col("dwell_ms") >= 20_000,  # noqa: PLR2004 - what the ranking team calls long
    },
    enrich=[product_attributes, product_vectors, product_now],
    start=FIRST_DAY,
    retention=TEN_YEARS,
    allowed_lateness=timedelta(days=1),
)

add_to_cart = EventType(
    name="add_to_cart",
    owner="team:checkout",
    description="A product was put into the cart.",
    schema={
        "cart_line_id": pl.String,
        "user_id": pl.Int64,
        "added_at": pl.Datetime("us", "UTC"),
        "product_id": pl.Int64,
        "quantity": pl.Int32,
        "device": pl.String,
    },
    event_id="cart_line_id",
    event_time="added_at",
    entity="user_id",
    log=Log("shop.add_to_cart"),
    batch=Files("data/shop/add_to_cart/day={day}/*.parquet", late=NEXT_DAY, missing="empty"),
    where={"has_quantity": pl.col("quantity") > 0},
    enrich=[product_attributes, product_vectors, product_now],
    start=FIRST_DAY,
    retention=TEN_YEARS,
    allowed_lateness=timedelta(days=1),
)

purchase = EventType(
    name="purchase",
    owner="team:checkout",
    description="A line of an order. A correction is a higher revision, a cancellation deletes.",
    schema={
        "order_line_id": pl.String,
        "user_id": pl.Int64,
        "purchased_at": pl.Datetime("us", "UTC"),
        "recorded_at": pl.Datetime("us", "UTC"),
        "revision": pl.Int32,
        "operation": pl.String,
        "order_id": pl.Int64,
        "product_id": pl.Int64,
        "quantity": pl.Int32,
        "unit_price": pl.Float64,
    },
    event_id="order_line_id",
    event_time="purchased_at",
    entity="user_id",
    arrival_time="recorded_at",
    revision="revision",
    operation="operation",
    log=Log("shop.purchase"),
    batch=Files("data/shop/purchase/day={day}/*.parquet", late=NEXT_DAY, missing="empty"),
    columns={"amount": (pl.col("quantity") * pl.col("unit_price")).round(2)},
    enrich=[product_attributes, product_vectors, product_now],
    start=FIRST_DAY,
    retention=TEN_YEARS,
    allowed_lateness=timedelta(days=6),  # orders are corrected and cancelled for days
)


def normalise_query(searches: pl.LazyFrame) -> pl.LazyFrame:
    """Make queries that mean the same equal, and drop those with nothing in them."""
    typed = pl.col("query").str.to_lowercase().str.replace_all(r"\s+", " ").str.strip_chars()
    return searches.with_columns(query=typed).filter(pl.col("query") != "")


search = EventType(
    name="search",
    owner="team:search",
    description="A query was sent and answered. It has no product: what was clicked is a view.",
    schema={
        "search_id": pl.String,
        "user_id": pl.Int64,
        "searched_at": pl.Datetime("ms"),  # without a zone: UTC
        "query": pl.String,
        "results": pl.Int32,
        "device": pl.String,
    },
    event_id="search_id",
    event_time="searched_at",
    entity="user_id",
    log=Log("shop.search"),
    batch=Files("data/shop/search/day={day}/*.parquet", late=NEXT_DAY, missing="empty"),
    executor=normalise_query,
    columns={
        "words": pl.col("query").str.split(" ").list.len().cast(pl.Int16),
        "found_nothing": pl.col("results") == 0,
    },
    start=FIRST_DAY,
    retention=TEN_YEARS,
    allowed_lateness=timedelta(days=1),
)
