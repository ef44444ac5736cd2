"""What only the store on Redis does: keys, errors, memory, and what a lost answer does."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import redis

from sequence_platform.errors import StoreError
from sequence_platform.settings import Settings
from sequence_platform.stores.redis_online import RedisOnlineStore
from sequence_platform.wiring import open_online
from sequence_platform_tests.online_events import at, day_rows, event_plan, ids, streamed
from sequence_platform_tests.redis_server import RedisServer, redis_url

EVENT = event_plan()
HOUR = 3600.0


@pytest.fixture
def url() -> str:
    return redis_url()


@pytest.fixture
def store(url: str) -> Iterator[RedisOnlineStore]:
    opened = RedisOnlineStore(url)
    yield opened
    opened.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    own = RedisServer(tmp_path, keeps=True)
    own.start()
    yield own
    own.kill()


def test_a_flush_that_is_sent_twice_counts_once(store: RedisOnlineStore, url: str) -> None:
    store.publish(EVENT, [], at(0))
    append = streamed(EVENT, [1, 2], None, 0)
    moves: list[object] = [7, 1, b"place", "", 2, "{}", ""]
    assert store._appended(append, 7, moves) == []
    assert store._appended(append, 7, moves) == []
    assert store.tail_size().rows == 2


def test_all_keys_of_an_event_type_are_in_one_slot(store: RedisOnlineStore, url: str) -> None:
    store.append(streamed(EVENT, [1, 2], None, 0))
    store.publish(EVENT, [day_rows(EVENT, [1], 0, version="a")], at(0))
    with redis.Redis.from_url(url) as client:
        names = list(client.scan_iter())
    tag = f"{{{EVENT.table}}}".encode()
    assert [name for name in names if tag not in name] == [b"sequence_platform:tables"]


def test_segments_that_no_manifest_names_leave_nothing(store: RedisOnlineStore, url: str) -> None:
    store.publish(EVENT, [day_rows(EVENT, [1], 0, version="a")], at(0))
    store.publish(EVENT, [day_rows(EVENT, [2], 0, version="b")], at(3 * HOUR))
    with redis.Redis.from_url(url) as client:
        [key] = client.keys("*}:s:*")
        before = client.hlen(key)
        store.collect(EVENT, keep=timedelta(0), at=at(4 * HOUR))
        assert client.hlen(key) == before // 2
        assert len(client.keys("*}:m:*")) == 1
        assert client.hlen(f"sequence_platform:{{{EVENT.table}}}:segments") == 1
    assert ids(store, EVENT) == ["0-2"]


def test_another_process_sees_a_switch_at_once(store: RedisOnlineStore, url: str) -> None:
    reader = RedisOnlineStore(url)
    assert ids(reader, EVENT) == []
    store.publish(EVENT, [day_rows(EVENT, [1], 0, version="a")], at(0))
    assert ids(reader, EVENT) == ["0-1"]
    store.publish(EVENT, [day_rows(EVENT, [2], 0, version="b")], at(1))
    assert ids(reader, EVENT) == ["0-2"]
    reader.close()


def test_rows_that_are_dropped_between_two_looks_are_told_of(
    store: RedisOnlineStore, url: str
) -> None:
    store.publish(EVENT, [day_rows(EVENT, [1], 0, version="a")], at(0))
    with store.view() as view:
        rows = view.candidates(EVENT, "ann").settled
    with redis.Redis.from_url(url) as client:
        client.delete(*client.keys("*}:s:*"))
    with pytest.raises(StoreError, match="dropped while it was read") as raised:
        rows.column("text", 0, 1)
    assert raised.value.retryable


def test_what_was_acknowledged_outlives_a_killed_server(server: RedisServer) -> None:
    store = RedisOnlineStore(server.url)
    store.publish(EVENT, [day_rows(EVENT, [1000], 0, version="a")], at(0))
    for flush in range(20):
        store.append(streamed(EVENT, [2 * flush, 2 * flush + 1], 2 * flush or None, flush))
    server.kill()
    with pytest.raises(StoreError, match="does not answer") as raised:
        store.append(streamed(EVENT, [40], 40, 20))
    assert raised.value.retryable
    server.start()
    assert store.offsets(EVENT)["next_offset"].to_list() == [40]
    assert store.tail_size().rows == 40
    store.append(streamed(EVENT, [40], 40, 20))
    assert len(ids(store, EVENT)) == 42
    store.close()


def test_an_address_where_nothing_answers_is_named_without_its_password() -> None:
    with pytest.raises(StoreError, match="does not answer") as raised:
        RedisOnlineStore("redis://me:secret@127.0.0.1:1/0")
    assert raised.value.where == "redis://127.0.0.1:1/0"
    assert raised.value.retryable
    assert "secret" not in str(raised.value)


def test_a_server_that_drops_keys_is_refused(server: RedisServer) -> None:
    with redis.Redis.from_url(server.url) as client:
        client.config_set("maxmemory", "100mb")
        client.config_set("maxmemory-policy", "allkeys-lru")
    with pytest.raises(StoreError, match="drops keys") as raised:
        RedisOnlineStore(server.url)
    assert not raised.value.retryable


def test_a_full_server_is_told_of(server: RedisServer) -> None:
    store = RedisOnlineStore(server.url)
    with redis.Redis.from_url(server.url) as client:
        client.config_set("maxmemory", "1")
    with pytest.raises(StoreError, match="is full") as raised:
        store.append(streamed(EVENT, [1], None, 0))
    assert raised.value.retryable
    with redis.Redis.from_url(server.url) as client:
        client.config_set("maxmemory", "0")
    store.append(streamed(EVENT, [1], None, 0))
    store.close()


def test_a_wrong_password_is_told_of(server: RedisServer) -> None:
    with redis.Redis.from_url(server.url) as client:
        client.config_set("requirepass", "right")
    with pytest.raises(StoreError, match="does not let us in"):
        RedisOnlineStore(server.url.replace("redis://", "redis://:wrong@"))


def test_the_setting_chooses_the_store(tmp_path: Path, url: str) -> None:
    settings = Settings(home=tmp_path, online=url)
    with open_online(settings) as opened:
        assert isinstance(opened, RedisOnlineStore)


def test_a_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [name for name in sys.modules if "redis_online" in name or name == "redis"]
    for name in names:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "redis", None)
    settings = Settings(home=tmp_path, online="redis://127.0.0.1:1/0")
    with pytest.raises(StoreError, match="extra 'redis'"), open_online(settings):
        pass
