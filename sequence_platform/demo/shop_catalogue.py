"""The shop's products: what they are, what they cost when, and their vectors in two trainings."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

DIMENSIONS = 64
"""Length of a product's vector."""


class Category(NamedTuple):
    """A part of the assortment: how its things are called and what they usually cost."""

    name: str
    nouns: tuple[str, ...]
    price: float


CATEGORIES = (
    Category("shoes", ("sneaker", "running shoes", "boots", "sandals"), 79),
    Category("coffee", ("espresso beans", "café crème", "moka pot", "grinder"), 19),
    Category("books", ("thriller", "cook book", "atlas", "poetry"), 16),
    Category("kitchen", ("pan", "chef's knife", "crêpe maker", "scale"), 45),
    Category("audio", ("headphones", "soundbar", "turntable", "earbuds"), 129),
    Category("toys", ("puzzle", "blocks", "kite", "plush bear"), 24),
    Category("garden", ("hose", "secateurs", "plant pot", "Gießkanne"), 29),
    Category("lamps", ("desk lamp", "floor lamp", "led strip", "lantern"), 59),
    Category("bikes", ("helmet", "bike light", "saddle", "vélo pliant"), 95),
    Category("outdoor", ("tent", "sleeping bag", "head torch", "thermos"), 110),
    Category("beauty", ("face cream", "shampoo", "sunscreen", "crème brûlée soap"), 14),
    Category("pets", ("dog bed", "cat tree", "leash", "aquarium"), 35),
)
BRANDS = (
    "Alba",
    "Borealis",
    "Čapek",
    "Dune",
    "Elm & Oak",
    "Fjord",
    "Granit",
    "Hana",
    "Ibis",
    "Juniper",
    "Kōbo",
    "Lumen",
)
ADJECTIVES = ("cheap", "blue", "small", "best", "gift", "used", "xl", "2026")

_POPULARITY_EXPONENT = (
    1.05  # Zipf: within a category the k-th product draws 1 / k^1.05 of the attention
)
_CATEGORY_EXPONENT = 0.7
_PRICE_CHANGES = 0.6  # per product and month, on average
_ON_SALE = 0.12
_UNTRAINED = 0.03  # products younger than the first training: without a vector until the second
_QUANTUM = 256.0  # vectors are published in steps of 1/256, as a trainer that saves space does


@dataclass(frozen=True, slots=True, eq=False)
class Catalogue:
    """Products, sorted by category and within it from the most to the least popular.

    Attributes:
        ids: Product ids; they say nothing about the order.
        category: Index into CATEGORIES.
        cumulative: Running sum of popularity, for drawing products of a category.
        attributes: product_id, valid_from, category, brand, price, in_stock; a row a change.
        vectors: product_id, published_at, vector; a row a product and training.
    """

    ids: Ints
    category: Ints
    cumulative: Floats
    attributes: pl.DataFrame
    vectors: pl.DataFrame

    def draw(self, category: Ints, rng: np.random.Generator) -> Ints:
        """Return the id of a product for each category asked for, popular ones more often."""
        first = np.searchsorted(self.category, category, side="left")
        last = np.searchsorted(self.category, category, side="right")
        bounds = np.concatenate([[0.0], self.cumulative])
        target = bounds[first] + rng.random(category.size) * (bounds[last] - bounds[first])
        position = np.searchsorted(self.cumulative, target, side="right")
        drawn: Ints = self.ids[np.minimum(position, self.ids.size - 1)]
        return drawn


def make_catalogue(
    products: int, *, start: datetime, days: int, rng: np.random.Generator
) -> Catalogue:
    """Return a catalogue whose prices change, and vectors are trained anew, within the days."""
    share = zipf(len(CATEGORIES), _CATEGORY_EXPONENT)
    category = np.sort(rng.choice(len(CATEGORIES), products, p=share))
    rank = np.arange(products) - np.searchsorted(category, category, side="left")
    weight = share[category] / (1.0 + rank) ** _POPULARITY_EXPONENT
    ids = 1000 + rng.permutation(products)
    return Catalogue(
        ids=ids,
        category=category,
        cumulative=np.cumsum(weight),
        attributes=_attributes(ids, category, start, days, rng),
        vectors=_vectors(ids, category, start, days, rng),
    )


def zipf(count: int, exponent: float) -> Floats:
    """Return shares that fall with rank and add up to one."""
    weight = 1.0 / np.arange(1, count + 1) ** exponent
    shares: Floats = weight / weight.sum()
    return shares


def _attributes(
    ids: Ints, category: Ints, start: datetime, days: int, rng: np.random.Generator
) -> pl.DataFrame:
    usual = np.array([item.price for item in CATEGORIES])[category]
    price = usual * rng.lognormal(0.0, 0.5, ids.size)
    brand = rng.choice(np.array(BRANDS), ids.size, p=zipf(len(BRANDS), 0.5))
    known = (
        -rng.integers(1, 400, ids.size) * 24
    )  # hours since start: every product is older than the demo

    changed = np.repeat(np.arange(ids.size), rng.poisson(_PRICE_CHANGES * days / 30, ids.size))
    sold_off = np.flatnonzero(rng.random(ids.size) < _ON_SALE)
    sale = days * 24 * 2 // 3  # it lasts three days and ends at the old price
    which = np.concatenate([np.arange(ids.size), changed, sold_off, sold_off])
    hours = np.concatenate(
        [
            known,
            rng.integers(0, days * 24, changed.size),
            np.full(sold_off.size, sale),
            np.full(sold_off.size, sale + 72),
        ]
    )
    factor = np.concatenate(
        [
            np.ones(ids.size),
            rng.lognormal(0.0, 0.12, changed.size),
            np.full(sold_off.size, 0.7),
            np.ones(sold_off.size),
        ]
    )
    names = np.array([item.name for item in CATEGORIES])
    rows = pl.DataFrame(
        {
            "product_id": ids[which],
            "valid_from": start + pl.Series(hours * 3_600_000_000).cast(pl.Duration("us")),
            "category": names[category[which]],
            "brand": brand[which],
            "price": np.round(price[which] * factor, 2),
            "in_stock": rng.random(which.size) > 0.04,  # noqa: PLR2004 - one in 25 is out of stock
        },
        schema_overrides={"valid_from": pl.Datetime("us", "UTC")},
    )
    return rows.unique(["product_id", "valid_from"], keep="last").sort("product_id", "valid_from")


def _vectors(
    ids: Ints, category: Ints, start: datetime, days: int, rng: np.random.Generator
) -> pl.DataFrame:
    """Return vectors that lie near those of their category; the second training moves them all."""
    centres = rng.normal(size=(len(CATEGORIES), DIMENSIONS))
    own = rng.normal(size=(ids.size, DIMENSIONS))
    first = centres[category] + 0.6 * own
    moved = centres + 0.5 * rng.normal(size=centres.shape)
    second = moved[category] + 0.6 * own + 0.1 * rng.normal(size=own.shape)
    trained = rng.random(ids.size) >= _UNTRAINED
    middle = datetime(start.year, start.month, start.day, 3, tzinfo=UTC) + timedelta(days=days // 2)
    return pl.concat(
        [
            _published(ids[trained], first[trained], start - timedelta(days=2)),
            _published(ids, second, middle),
        ]
    ).sort("product_id", "published_at")


def _published(ids: Ints, vectors: Floats, at: datetime) -> pl.DataFrame:
    published_at = pl.Series([at], dtype=pl.Datetime("us", "UTC"))
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    rounded = (np.round(unit * _QUANTUM) / _QUANTUM).astype(np.float32)
    return pl.DataFrame(
        {
            "product_id": ids,
            "published_at": published_at.new_from_index(0, ids.size),
            "vector": pl.Series(rounded, dtype=pl.Array(pl.Float32, DIMENSIONS)),
        }
    )
