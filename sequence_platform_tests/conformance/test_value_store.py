"""What the port of values by key promises, over every adapter."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event, Thread
from time import monotonic

import numpy as np
import polars as pl
import pytest
from hypothesis import given

from sequence_platform.engine.columns import Column
from sequence_platform.errors import StoreError
from sequence_platform.plan.plan import EnrichmentPlan
from sequence_platform.ports.values import ValueStore
from sequence_platform.stores.local_online import LocalValueStore, arrow_files, mapped_values
from sequence_platform.stores.redis_online import RedisValueStore
from sequence_platform_tests.backends import VALUE_STORES, MakeValues
from sequence_platform_tests.read_lookups import ENRICHMENTS, T0, Asked, asked, listed
from sequence_platform_tests.redis_server import RedisServer

VERSIONED, PLAIN = ENRICHMENTS["numbers", True], ENRICHMENTS["numbers", False]


@pytest.fixture(params=sorted(VALUE_STORES))
def opens(request: pytest.FixtureRequest) -> Iterator[MakeValues]:
    with VALUE_STORES[request.param]() as make:
        yield make


@pytest.fixture
def store(opens: MakeValues) -> Iterator[ValueStore]:
    with closing(opens()) as opened:
        yield opened


def rows(*prices: tuple[int, int, float | None]) -> pl.DataFrame:
    """Return rows of key, hours and price, in table order."""
    found = [
        {"key": key, "available_time": T0 + timedelta(hours=hours), "price": price}
        for key, hours, price in sorted(prices, key=lambda row: row[:2])
    ]
    return pl.DataFrame(found, schema=VERSIONED.schema)


def prices(
    store: ValueStore,
    keys: list[int | None],
    at: datetime = T0,
    enrichment: EnrichmentPlan = VERSIONED,
) -> list[object]:
    column = Column.of(pl.Series("key", keys, dtype=pl.Int64))
    found = store.look_up(enrichment, column, at, ["price"])
    return listed(found.columns)["price"]


@pytest.mark.parametrize("kind", sorted(VALUE_STORES))
@given(wanted=asked())
def test_lookups_equal_the_oracle(kind: str, wanted: Asked) -> None:
    check_lookups(kind, wanted)


def check_lookups(kind: str, wanted: Asked) -> None:
    with VALUE_STORES[kind]() as make, closing(make()) as store:
        store.publish(wanted.enrichment, wanted.frame, repr(wanted.rows), T0)
        columns = wanted.enrichment.columns
        found = store.look_up(wanted.enrichment, wanted.column, wanted.at, columns)
        assert listed(found.columns) == wanted.expected()
        assert {name: column.dtype for name, column in found.columns.items()} == {
            name: wanted.enrichment.schema[name] for name in columns
        }


def test_only_what_is_asked_for_is_returned(store: ValueStore) -> None:
    store.publish(VERSIONED, rows((1, 0, 2.0)), "a", T0)
    keys = Column.of(pl.Series("key", [1], dtype=pl.Int64))
    assert list(store.look_up(VERSIONED, keys, T0, ["label", "price"]).columns) == [
        "label",
        "price",
    ]


def test_many_keys_are_looked_up_at_once(store: ValueStore) -> None:
    store.publish(VERSIONED, rows(*((key, 0, float(key)) for key in range(0, 30_000, 2))), "a", T0)
    keys = list(range(30_000))
    assert prices(store, [*keys]) == [None if key % 2 else float(key) for key in keys]


def test_no_keys_have_no_values(store: ValueStore) -> None:
    store.publish(VERSIONED, rows((1, 0, 2.0)), "a", T0)
    assert prices(store, []) == []


def test_before_anything_is_published_a_lookup_says_what_to_do(store: ValueStore) -> None:
    assert store.version(VERSIONED) is None
    with pytest.raises(StoreError, match="nothing is published") as caught:
        prices(store, [1])
    assert caught.value.next_step == "sequence-platform online publish numbers_versioned"


def test_a_publication_replaces_all_that_was_there(store: ValueStore, opens: MakeValues) -> None:
    with closing(opens()) as elsewhere:
        store.publish(VERSIONED, rows((1, 0, 1.0), (2, 0, 2.0)), "a", T0)
        assert prices(elsewhere, [1, 2]) == [1.0, 2.0]
        later = T0 + timedelta(minutes=1)
        version = store.publish(VERSIONED, rows((2, 0, 3.0)), "b", later)
        assert (version.number, version.content, version.rows) == (2, "b", 1)
        assert elsewhere.version(VERSIONED) == version
        assert prices(elsewhere, [1, 2]) == [None, 3.0]
        keys = Column.of(pl.Series("key", [2], dtype=pl.Int64))
        assert elsewhere.look_up(VERSIONED, keys, T0, ["price"]).published_at == later


def test_publishing_what_is_there_changes_nothing(store: ValueStore) -> None:
    first = store.publish(VERSIONED, rows((1, 0, 1.0)), "a", T0)
    again = store.publish(VERSIONED, rows((1, 0, 1.0)), "a", T0 + timedelta(hours=1))
    assert again == first


def test_enrichments_do_not_see_each_other(store: ValueStore) -> None:
    store.publish(VERSIONED, rows((1, 0, 1.0)), "a", T0)
    plain = rows((1, 0, 5.0)).drop("available_time")
    store.publish(PLAIN, plain, "a", T0)
    assert prices(store, [1]) == [1.0]
    assert prices(store, [1], enrichment=PLAIN) == [5.0]


def test_a_column_that_was_not_published_is_null(store: ValueStore) -> None:
    store.publish(VERSIONED, rows((1, 0, 1.0)), "a", T0)
    wider = replace(VERSIONED, schema=pl.Schema({**VERSIONED.schema, "stock": pl.Int32()}))
    keys = Column.of(pl.Series("key", [1], dtype=pl.Int64))
    found = store.look_up(wider, keys, T0, ["stock", "price"])
    assert listed(found.columns) == {"stock": [None], "price": [1.0]}


def test_a_lookup_sees_one_version_while_others_are_published(opens: MakeValues) -> None:
    keys = list(range(200))
    ends = Event()
    with ExitStack() as stack:
        reader, writer = (stack.enter_context(closing(opens())) for _ in range(2))
        writer.publish(VERSIONED, rows(*((key, 0, 0.0) for key in keys)), "0", T0)

        def publish() -> None:
            for number in range(1, 30):
                version = rows(*((key, 0, float(number)) for key in keys))
                writer.publish(VERSIONED, version, str(number), T0)
            ends.set()

        thread = Thread(target=publish)
        thread.start()
        seen: list[object] = []
        while not ends.is_set():
            found = set(prices(reader, [*keys]))
            assert len(found) == 1
            seen += found
        thread.join()
        numbers = [float(str(each)) for each in seen]
        assert numbers == sorted(numbers)
        assert prices(reader, [0]) == [29.0]


# ---- what only the store on Redis has to fear


def test_a_server_that_is_gone_is_an_error_until_it_is_back(tmp_path: Path) -> None:
    server = RedisServer(tmp_path, keeps=True)
    server.start()
    try:
        with closing(RedisValueStore(server.url)) as store:
            store.publish(VERSIONED, rows((1, 0, 1.0)), "a", T0)
            assert prices(store, [1]) == [1.0]
            server.kill()
            with pytest.raises(StoreError, match="does not answer") as caught:
                prices(store, [1])
            assert caught.value.retryable
            server.start()
            assert prices(store, [1]) == [1.0]
    finally:
        server.kill()


# ---- what only the store in a folder has to fear


@given(wanted=asked())
def test_keys_whose_numbers_collide_are_told_apart(wanted: Asked) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mapped_values, "hash_ids", lambda keys: np.zeros(len(keys), np.uint64))
        check_lookups("local", wanted)


@given(wanted=asked())
def test_files_of_another_polars_are_numbered_anew(wanted: Asked) -> None:
    with TemporaryDirectory() as folder, closing(LocalValueStore(Path(folder))) as store:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(arrow_files, "HASHER", "polars of old")
            patch.setattr(mapped_values, "hash_ids", lambda keys: np.arange(len(keys), dtype="u8"))
            store.publish(wanted.enrichment, wanted.frame, "a", T0)
        found = store.look_up(
            wanted.enrichment, wanted.column, wanted.at, wanted.enrichment.columns
        )
        assert listed(found.columns) == wanted.expected()


def test_a_damaged_version_is_an_error_that_names_it(tmp_path: Path) -> None:
    with closing(LocalValueStore(tmp_path)) as store:
        store.publish(VERSIONED, rows((1, 0, 1.0)), "a", T0)
    (file,) = tmp_path.rglob("rows.arrow")
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    with closing(LocalValueStore(tmp_path)) as store:
        with pytest.raises(StoreError, match="damaged or gone") as caught:
            prices(store, [1])
        assert caught.value.where == str(file.parent)
        file.unlink()
        with pytest.raises(StoreError, match="damaged or gone"):
            prices(store, [1])


def test_a_large_version_is_opened_beside_lookups(tmp_path: Path) -> None:
    with closing(LocalValueStore(tmp_path, open_at_once_bytes=0)) as store:
        for number in range(1, 4):
            store.publish(VERSIONED, rows((1, 0, float(number))), str(number), T0)
            deadline = monotonic() + 20
            while prices(store, [1]) != [float(number)]:
                assert prices(store, [1]) in [[float(number - 1)], [float(number)]]
                assert monotonic() < deadline
        store.publish(VERSIONED, rows((1, 0, 4.0)), "4", T0)
        pointer = json.loads((tmp_path / VERSIONED.table / "current.json").read_text())
        (tmp_path / VERSIONED.table / pointer["folder"] / "rows.arrow").unlink()

        def look_until(late: float) -> None:
            while monotonic() < late:
                assert prices(store, [1]) == [3.0]

        with pytest.raises(StoreError, match="damaged or gone"):  # not the one before for ever
            look_until(monotonic() + 20)


def test_what_a_killed_publisher_left_is_ignored_and_goes(tmp_path: Path) -> None:
    half = tmp_path / VERSIONED.table / "half"
    half.mkdir(parents=True)
    with closing(LocalValueStore(tmp_path)) as store:
        now = datetime.now(UTC)
        store.publish(VERSIONED, rows((1, 0, 1.0)), "a", now)
        assert half.exists()  # somebody may be writing it
        store.publish(VERSIONED, rows((1, 0, 2.0)), "b", now + timedelta(hours=2))
        assert not half.exists()
        store.publish(VERSIONED, rows((1, 0, 3.0)), "c", now + timedelta(hours=4))
        assert prices(store, [1]) == [3.0]
        assert len([path for path in half.parent.iterdir() if path.is_dir()]) == 2
