"""What is known of products, and since when: a row counts from its time on."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from sequence_platform import Enrichment, Files, Vector

ATTRIBUTES: Mapping[str, pl.DataType | type[pl.DataType]] = {
    "product_id": pl.Int64,
    "valid_from": pl.Datetime("us", "UTC"),
    "category": pl.String,
    "brand": pl.String,
    "price": pl.Float64,
    "in_stock": pl.Boolean,
}
ATTRIBUTE_FILES = Files("data/shop/product_attributes/*.parquet")
"""A new row whenever one of them changes."""

product_attributes = Enrichment(
    name="product_attributes",
    owner="team:assortment",
    description="Category, brand and price of a product; a new row whenever one of them changes.",
    key="product_id",
    schema=ATTRIBUTES,
    source=ATTRIBUTE_FILES,
    available_time="valid_from",
    columns={
        "category": pl.col("category"),
        "brand": pl.col("brand"),
        "list_price": pl.col("price"),
        "was_in_stock": pl.col("in_stock"),
    },
)

product_now = Enrichment(
    name="product_now",
    owner="team:assortment",
    description="Price and stock of a product at the moment of the request, not of the event.",
    key="product_id",
    schema=ATTRIBUTES,
    source=ATTRIBUTE_FILES,
    available_time="valid_from",
    columns={"price_now": pl.col("price"), "is_in_stock": pl.col("in_stock")},
    resolve="read",
)

product_vectors = Enrichment(
    name="product_vectors",
    owner="team:representation-learning",
    description="A product's vector in each training of the model; products too young have none.",
    key="product_id",
    schema={
        "product_id": pl.Int64,
        "published_at": pl.Datetime("us", "UTC"),
        "vector": Vector(64),
    },
    source=Files("data/shop/product_vectors/*.parquet"),
    available_time="published_at",
    columns=["vector"],
)
