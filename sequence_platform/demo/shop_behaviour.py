"""What the shop's users do: sessions of searches, views, carts and purchases, without a fault."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import numpy as np
import polars as pl

from sequence_platform.demo.shop_catalogue import (
    ADJECTIVES,
    BRANDS,
    CATEGORIES,
    Catalogue,
    Ints,
    zipf,
)

SECOND = 1_000_000
"""Times are in microseconds since the epoch until they become columns."""
HOUR = 3600 * SECOND
DAY = 24 * HOUR

DEVICES = np.array(["phone", "desktop", "tablet", "bot"])
_BOT = 3
SURFACES = np.array(["search", "category", "home", "recommendation", "email"])

_DAY_CYCLE = (
    9,
    5,
    3,
    2,
    2,
    4,
    10,
    22,
    34,
    40,
    44,
    50,
    60,
    54,
    48,
    48,
    54,
    64,
    78,
    96,
    104,
    88,
    54,
    24,
)
"""Sessions by local hour: a hump at noon, a peak in the evening."""
_WEEK_CYCLE = (0.95, 0.9, 0.9, 0.95, 1.05, 1.25, 1.3)
"""Sessions by weekday, from Monday."""
_HOURS_EAST = (-5, 0, 1, 1, 1, 2)
"""Where users live: most of them an hour east of UTC."""

_EVENTS_PER_SESSION = 8.66  # follows from the numbers below; a test holds it
_VIEWS_PER_SESSION = 6
_MAX_VIEWS = 80
_BOT_SESSIONS = 0.002
_BOT_VIEWS = (60, 160)
_STARTS_WITH_SEARCH = 0.55
_SEARCHES_AGAIN = 0.12
_SECOND_FAVOURITE = 0.3
_CURIOUS = 0.15  # sessions about anything
_WANDERS = 0.12  # views of another category than the session's
_GOES_BACK = 0.12  # views of the product before last
_RELOADS = 0.06  # views of the same product again
_LONG_LOOK_MS = 20_000
_CARTS_AFTER_GLANCE, _CARTS_AFTER_LONG_LOOK = 0.06, 0.2
_CHECKS_OUT = 0.4
_STAYS_IN_CART = 0.85  # lines that are not taken out again before the checkout
_COMES_BACK = 0.08  # lines of an abandoned cart that are bought within days
_NOTHING_FOUND = 0.04
_QUERIES_PER_CATEGORY = 64


@dataclass(frozen=True, slots=True, eq=False)
class Behaviour:
    """Clean events, each frame sorted by time. ``at`` is when it happened; ids follow the order."""

    views: pl.DataFrame
    carts: pl.DataFrame
    purchases: pl.DataFrame
    searches: pl.DataFrame


@dataclass(frozen=True, slots=True, eq=False)
class _Sessions:
    user: Ints
    start: Ints
    category: Ints
    device: Ints
    views: Ints


def behave(  # noqa: PLR0913 - the size of a shop
    catalogue: Catalogue,
    *,
    start: datetime,
    days: int,
    events: int,
    users: int,
    rng: np.random.Generator,
) -> Behaviour:
    """Return about ``events`` events of ``users`` users within the days."""
    sessions = _sessions(max(1, round(events / _EVENTS_PER_SESSION)), users, start, days, rng)
    views = _views(sessions, catalogue, rng)
    carts = _carts(views, rng)
    purchases = _purchases(carts, catalogue, rng)
    searches = _searches(views, _microseconds(start), rng)
    end = _microseconds(start) + days * DAY
    return Behaviour(
        views=_finish(views, "v", end, "surface", "device", "product_id", "dwell_ms"),
        carts=_finish(carts, "c", end, "device", "product_id", "quantity"),
        purchases=_finish(purchases, "p", end, "order_id", "product_id", "quantity", "unit_price"),
        searches=_finish(searches, "s", end, "device", "query", "results"),
    )


def _sessions(
    count: int, users: int, start: datetime, days: int, rng: np.random.Generator
) -> _Sessions:
    activity = rng.lognormal(0.0, 1.5, users)
    user = rng.choice(users, count, p=activity / activity.sum())
    east = rng.choice(np.array(_HOURS_EAST), users)[user]
    weekday = (start.weekday() + np.arange(days)) % 7
    per_day = np.array(_WEEK_CYCLE)[weekday] * rng.lognormal(0.0, 0.05, days)
    day = rng.choice(days, count, p=per_day / per_day.sum())
    hours = np.array(_DAY_CYCLE) / sum(_DAY_CYCLE)
    hour = (rng.choice(24, count, p=hours) - east) % 24
    # Everybody has two categories they keep coming back to.
    favourites = rng.choice(len(CATEGORIES), (users, 2), p=zipf(len(CATEGORIES), 0.7))
    favourite = favourites[user, (rng.random(count) < _SECOND_FAVOURITE).astype(int)]
    anything = rng.integers(0, len(CATEGORIES), count)
    is_bot = rng.random(count) < _BOT_SESSIONS
    device = rng.choice(3, users, p=[0.62, 0.3, 0.08])[user]
    views = np.minimum(rng.geometric(1 / _VIEWS_PER_SESSION, count), _MAX_VIEWS)
    return _Sessions(
        user=user + 1,
        start=_microseconds(start) + day * DAY + hour * HOUR + rng.integers(0, HOUR, count),
        category=np.where(rng.random(count) < _CURIOUS, anything, favourite),
        device=np.where(is_bot, _BOT, device),
        views=np.where(is_bot, rng.integers(*_BOT_VIEWS, count), views),
    )


def _views(sessions: _Sessions, catalogue: Catalogue, rng: np.random.Generator) -> pl.DataFrame:
    """Return views with ``session``, its ``category`` and ``step``, the view's number in it."""
    session = np.repeat(np.arange(sessions.user.size), sessions.views)
    first = np.cumsum(sessions.views) - sessions.views
    last = first + sessions.views - 1
    step = np.arange(session.size) - first[session]
    is_bot = sessions.device[session] == _BOT
    pause = np.where(
        is_bot, rng.uniform(0.5, 2.0, session.size), rng.lognormal(3.5, 1.1, session.size)
    )
    elapsed = np.cumsum(pause)
    at = sessions.start[session] + ((elapsed - elapsed[first][session]) * SECOND).astype(np.int64)
    # What follows a session's last view belongs to another session: as good a pause as any.
    until_next = np.roll(pause, -1)
    dwell = np.clip(until_next * rng.uniform(0.3, 0.95, session.size), 0.2, 1200.0)

    wanders = rng.random(session.size) < _WANDERS
    category = np.where(
        wanders, rng.integers(0, len(CATEGORIES), session.size), sessions.category[session]
    )
    product = catalogue.draw(category, rng)
    again = rng.random(session.size)
    back = np.where(again < _RELOADS, 1, np.where(again < _RELOADS + _GOES_BACK, 2, 0))
    product = product[np.arange(session.size) - np.where(back <= step, back, 0)]
    surface = rng.choice(SURFACES.size, session.size, p=[0.38, 0.24, 0.14, 0.18, 0.06])
    return pl.DataFrame(
        {
            "session": session,
            "step": step,
            "category": category,
            "user_id": sessions.user[session],
            "at": at,
            "left": (at + (dwell * SECOND).astype(np.int64))[last[session]],
            "surface": SURFACES[surface],
            "device": DEVICES[sessions.device][session],
            "product_id": product,
            "dwell_ms": (dwell * 1000).astype(np.int32),
        }
    )


def _carts(views: pl.DataFrame, rng: np.random.Generator) -> pl.DataFrame:
    is_long = (views["dwell_ms"] > _LONG_LOOK_MS).to_numpy()
    chance = np.where(is_long, _CARTS_AFTER_LONG_LOOK, _CARTS_AFTER_GLANCE)
    chosen = (rng.random(views.height) < chance) & (views["device"] != "bot").to_numpy()
    carts = views.filter(pl.Series(chosen)).select(
        "session", "user_id", "device", "product_id", "at", "left", "dwell_ms"
    )
    return carts.with_columns(
        at=pl.col("at") + pl.col("dwell_ms").cast(pl.Int64) * 1000,
        quantity=pl.Series(1 + rng.poisson(0.2, carts.height), dtype=pl.Int32),
    )


def _purchases(carts: pl.DataFrame, catalogue: Catalogue, rng: np.random.Generator) -> pl.DataFrame:
    """Return order lines: those of one checkout share their time, at the price of that time."""
    sessions, session = np.unique(carts["session"].to_numpy(), return_inverse=True)
    checks_out = (rng.random(sessions.size) < _CHECKS_OUT)[session]
    minutes = rng.uniform(2, 10, sessions.size)[session]
    drawn = rng.random(carts.height)
    now = checks_out & (drawn < _STAYS_IN_CART)
    later = ~checks_out & (drawn < _COMES_BACK)
    hours = np.where(later, rng.uniform(6, 72, carts.height), minutes / 60)
    bought = carts.with_columns(at=pl.col("left") + pl.Series((hours * HOUR).astype(np.int64)))
    bought = bought.filter(pl.Series(now | later)).sort("at", "session", maintain_order=True)
    priced = bought.with_columns(time=_time("at")).join_asof(
        catalogue.attributes.select("product_id", "valid_from", "price").sort("valid_from"),
        left_on="time",
        right_on="valid_from",
        by="product_id",
        check_sortedness=False,  # both are sorted by time; it cannot tell within products
    )
    order = pl.struct("at", "session").rle_id().cast(pl.Int64) + 1
    return priced.with_columns(order_id=order, unit_price="price")


def _searches(views: pl.DataFrame, start: int, rng: np.random.Generator) -> pl.DataFrame:
    """Return searches: before a session's first view, and now and then before a later one."""
    chance = np.where(views["step"].to_numpy() == 0, _STARTS_WITH_SEARCH, _SEARCHES_AGAIN)
    chosen = (rng.random(views.height) < chance) & (views["device"] != "bot").to_numpy()
    searches = views.filter(pl.Series(chosen)).select(
        "session", "user_id", "device", "category", "at"
    )
    count = searches.height
    which = rng.choice(_QUERIES_PER_CATEGORY, count, p=zipf(_QUERIES_PER_CATEGORY, 0.8))
    queries = _queries(rng)
    results = np.where(rng.random(count) < _NOTHING_FOUND, 0, rng.poisson(40, count))
    ahead = (rng.uniform(3, 20, count) * SECOND).astype(np.int64)
    return searches.with_columns(
        at=pl.Series(np.maximum(searches["at"].to_numpy() - ahead, start)),
        query=pl.Series(queries[searches["category"].to_numpy(), which]),
        results=pl.Series(results, dtype=pl.Int32),
    )


def _queries(rng: np.random.Generator) -> np.ndarray[tuple[int, ...], np.dtype[np.object_]]:
    """Return the queries of each category, the most frequent first; some are typed carelessly."""
    rows = []
    for category in CATEGORIES:
        nouns = list(category.nouns)
        by_brand = [f"{brand} {noun}" for noun in nouns for brand in BRANDS]
        by_adjective = [f"{adjective} {noun}" for noun in nouns for adjective in ADJECTIVES]
        careless = [noun.upper() for noun in nouns] + [f"  {noun}  " for noun in nouns]
        mixed = [str(query) for query in rng.permutation(by_brand + by_adjective + careless)]
        rows.append((nouns + mixed)[:_QUERIES_PER_CATEGORY])
    return np.array(rows, dtype=object)


def _finish(events: pl.DataFrame, letter: str, end: int, *columns: str) -> pl.DataFrame:
    """Return events before ``end``, in order, named by their number, with ``at`` as a time."""
    kept = events.filter(pl.col("at") < end).sort("at", maintain_order=True)
    number = pl.int_range(1, pl.len() + 1).cast(pl.String).str.zfill(8)
    return kept.select(
        pl.concat_str(pl.lit(letter), number).alias("id"), "user_id", _time("at"), *columns
    )


def _time(column: str) -> pl.Expr:
    return pl.col(column).cast(pl.Datetime("us")).dt.replace_time_zone("UTC")


def _microseconds(moment: datetime) -> int:
    return int(moment.timestamp()) * SECOND
