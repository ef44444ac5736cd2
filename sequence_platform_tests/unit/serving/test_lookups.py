"""Lookups wait until their deadline and no longer, side by side, and tell what became of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from threading import Event
from time import monotonic

import polars as pl
import pytest

from sequence_platform.engine.columns import Column
from sequence_platform.errors import StoreError
from sequence_platform.plan.plan import EnrichmentPlan
from sequence_platform.ports.values import Found
from sequence_platform.runtimes.serving import Lookups, Outcome
from sequence_platform.runtimes.serving.lookups import LookedUp, Wanted
from sequence_platform_tests.read_lookups import ENRICHMENTS, T0, listed

KEYS = Column.of(pl.Series("key", [1, 2], dtype=pl.Int64))
FOREVER = 60.0


def enrichment(name: str, deadline: float, on_timeout: str | None = None) -> EnrichmentPlan:
    plain = ENRICHMENTS["numbers", False]
    definition = replace(
        plain.definition,
        deadline=timedelta(seconds=deadline),
        on_timeout=on_timeout,  # type: ignore[arg-type] # one of the two
    )
    return replace(plain, name=name, definition=definition)


@dataclass(slots=True)
class Store:
    """Answers with the price 1.0, after some seconds."""

    seconds: dict[str, float] = field(default_factory=dict)
    is_near: bool = False
    ends: Event = field(default_factory=Event)

    def look_up(
        self, enrichment: EnrichmentPlan, keys: Column, at: datetime, columns: Sequence[str]
    ) -> Found:
        self.ends.wait(self.seconds.get(enrichment.name, 0.0))
        prices = Column.of(pl.Series("price", [1.0] * len(keys)))
        return Found(dict.fromkeys(columns, prices), at)


@pytest.fixture
def store() -> Iterator[Store]:
    made = Store()
    yield made
    made.ends.set()


def look_up(lookups: Lookups, *enrichments: EnrichmentPlan) -> list[LookedUp]:
    pending = lookups.start([Wanted(each, KEYS, T0, ("price",)) for each in enrichments])
    lookups.wait(pending)
    return lookups.end(pending)


@pytest.mark.parametrize("is_near", [True, False])
def test_what_is_answered_in_time_is_there(store: Store, *, is_near: bool) -> None:
    store.is_near = is_near
    with closing(Lookups(store)) as lookups:
        (found,) = look_up(lookups, enrichment("a", FOREVER))
    assert listed(found.columns) == {"price": [1.0, 1.0]}
    assert (found.outcome, found.published_at) == ("answered", T0)


def test_all_wait_side_by_side(store: Store) -> None:
    store.seconds = {"a": FOREVER, "b": FOREVER, "c": FOREVER}
    began = monotonic()
    with closing(Lookups(store)) as lookups:
        found = look_up(lookups, *(enrichment(name, 0.3) for name in "abcd"))
    assert monotonic() - began < 0.3 * 3
    assert [each.outcome for each in found] == [*["timed_out"] * 3, "answered"]
    assert listed(found[0].columns) == {"price": [None, None]}
    assert found[0].columns["price"].dtype == pl.Float64()


def test_where_all_threads_hang_others_are_late_too_and_are_not_begun_later(store: Store) -> None:
    store.seconds = {"a": FOREVER}
    with closing(Lookups(store, threads=1)) as lookups:
        look_up(lookups, enrichment("a", 0.05))
        pending = lookups.start([Wanted(enrichment("b", 0.05), KEYS, T0, ("price",))])
        lookups.wait(pending)
        assert [each.outcome for each in lookups.end(pending)] == ["timed_out"]
        assert pending[0].result.cancelled()


def test_somebody_is_told_of_each_before_one_fails_the_request(store: Store) -> None:
    told: list[tuple[str, Outcome]] = []
    store.seconds = {"a": FOREVER, "b": FOREVER}

    def tell(name: str, outcome: Outcome, _: float) -> None:
        told.append((name, outcome))

    with closing(Lookups(store, tell=tell)) as lookups:
        with pytest.raises(StoreError, match="'a' was not looked up in time") as caught:
            look_up(
                lookups,
                enrichment("a", 0.05, "fail"),
                enrichment("b", 0.05),
                enrichment("c", FOREVER),
            )
        assert caught.value.retryable
    assert told == [("a", "timed_out"), ("b", "timed_out"), ("c", "answered")]


def test_an_error_that_nobody_foresaw_is_not_swallowed(store: Store) -> None:
    class Broken(Store):
        def look_up(self, *_: object) -> Found:
            raise ZeroDivisionError

    with closing(Lookups(Broken())) as lookups, pytest.raises(ZeroDivisionError):
        look_up(lookups, enrichment("a", FOREVER))
