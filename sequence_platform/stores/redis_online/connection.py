"""The connection to Redis: time limits, and its errors as ours. Refuses a server that forgets."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import redis
from redis import exceptions
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from sequence_platform.errors import StoreError

Client = Any
"""Redis': what its commands return has no types worth the name."""

CONNECT_SECONDS = 2.0
ANSWER_SECONDS = 5.0
RETRIES = 2
"""After a connection is lost. Everything that is sent may be sent twice without harm."""
IDLE_SECONDS = 30


def connect(url: str) -> Client:
    """Return a client for ``redis://host:port/db``, or ``rediss://`` for TLS.

    Queries such as ``?socket_timeout=1`` replace the time limits.

    Raises:
        StoreError: nothing answers there, or the server drops keys when its memory is full.
    """
    address = address_of(url)
    with translated(address):
        try:
            client: Client = redis.Redis.from_url(
                url,
                socket_connect_timeout=CONNECT_SECONDS,
                socket_timeout=ANSWER_SECONDS,
                socket_keepalive=True,
                health_check_interval=IDLE_SECONDS,
                retry=Retry(ExponentialBackoff(cap=0.2, base=0.02), RETRIES),
                protocol=2,
            )
        except ValueError as error:
            raise StoreError(
                "the address of the online store cannot be read",
                where=address,
                found=str(error),
                expected="redis://host:port/0",
                next_step="mend SEQUENCE_PLATFORM_ONLINE",
            ) from error
        _ensure_keeps_keys(client, address)
    return client


def address_of(url: str) -> str:
    """Return where a URL leads, without its password."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


@contextmanager
def translated(address: str) -> Iterator[None]:
    """Turn errors of Redis into ours."""
    try:
        yield
    except (exceptions.AuthenticationError, exceptions.NoPermissionError) as error:
        raise StoreError(
            "the online store does not let us in",
            where=address,
            found=str(error),
            expected="a user that may read, write and run scripts",
            next_step="put name and password into SEQUENCE_PLATFORM_ONLINE: "
            "redis://name:password@host:port/0",
        ) from error
    except exceptions.OutOfMemoryError as error:
        raise StoreError(
            "the online store is full",
            where=address,
            found=str(error),
            expected="room for streamed rows and for days to publish",
            next_step="raise maxmemory of the server, or drop what is old "
            "(sequence-platform online collect)",
            retryable=True,
        ) from error
    except (
        exceptions.ConnectionError,
        exceptions.TimeoutError,
        exceptions.ReadOnlyError,
        exceptions.MasterDownError,
        OSError,
    ) as error:
        raise StoreError(
            "the online store does not answer",
            where=address,
            found=f"{type(error).__name__}: {error}",
            expected="a Redis or Valkey server that takes writes",
            next_step="start it, or mend the network; what was acknowledged is kept",
            retryable=True,
        ) from error
    except exceptions.RedisError as error:
        raise StoreError(
            "the online store refused a command",
            where=address,
            found=f"{type(error).__name__}: {error}",
            expected="Redis 6.2 or newer, or Valkey, not the proxy of a cluster",
            next_step="look into the server's log",
        ) from error


def _ensure_keeps_keys(client: Client, address: str) -> None:
    found = client.info("memory")
    policy = found.get("maxmemory_policy", "noeviction")
    if found.get("maxmemory") and policy.startswith("allkeys"):
        raise StoreError(
            "the server of the online store drops keys when its memory is full",
            where=address,
            found=f"maxmemory-policy {policy}",
            expected="noeviction: a sequence with events missing looks like any other",
            next_step="redis-cli config set maxmemory-policy noeviction",
        )
