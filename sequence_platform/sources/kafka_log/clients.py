"""Opens the clients of kafka-python, from settings that are text, and translates their errors.

The library has no types: what comes out of it is annotated where it enters ours.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from kafka import (
    KafkaAdminClient,
    KafkaConsumer,
    KafkaProducer,
)
from kafka.errors import (
    AuthorizationError,
    KafkaConfigurationError,
    KafkaError,
    KafkaTimeoutError,
    RequestTimedOutError,
    SaslAuthenticationFailedError,
    UnsupportedSaslMechanismError,
)
from kafka.net.compat import KafkaNetClient

from sequence_platform.errors import StoreError, nearest

BOOTSTRAP_SECONDS = 5
"""To find any broker. A caller that is told so can try again; one that waits cannot be told."""
RECONNECT_SECONDS = 1
"""At most between attempts to reach a broker that is away."""
REFUSED = (AuthorizationError, SaslAuthenticationFailedError, UnsupportedSaslMechanismError)
"""What trying again does not mend."""
TIMEOUTS = (KafkaTimeoutError, RequestTimedOutError)
"""Say less than what went before them."""
HUNG_UP = "socket disconnected"
"""All that kafka-python 3.0.12 tells of a wrong password: the answer goes down with the socket."""
SECRET = re.compile(r"(?i)(password|secret|token)")

WHOLE = {
    "connections_max_idle_ms",
    "receive_buffer_bytes",
    "send_buffer_bytes",
}
"""Whole numbers that the library gives no default that tells."""
OURS = {
    "allow_auto_create_topics",
    "auto_offset_reset",
    "bootstrap_servers",
    "enable_auto_commit",
    "group_id",
    "group_instance_id",
    "isolation_level",
    "transactional_id",
}
"""What the log's promises rest on."""

DEFAULTS: dict[str, object] = {
    **KafkaAdminClient.DEFAULT_CONFIG,
    **KafkaProducer.DEFAULT_CONFIG,
    **KafkaConsumer.DEFAULT_CONFIG,
}

Client = Any
"""A consumer, producer or admin client."""


def typed(given: Mapping[str, str]) -> dict[str, object]:
    """Return settings of clients as the library takes them.

    Raises:
        StoreError: the library does not have one, or cannot take its value, or we decide on it.
    """
    return {name: _typed(name, value) for name, value in given.items()}


def open_client(make: Callable[..., Client], servers: str, **settings: object) -> Client:
    """Open a consumer, producer or admin client; settings of the others are left out.

    Raises:
        StoreError: no broker answers, or the settings do not fit.
    """
    opened: list[Client] = []

    def remembered(**config: object) -> Client:
        opened.append(KafkaNetClient(**config))
        return opened[0]

    every = {
        "bootstrap_timeout_ms": BOOTSTRAP_SECONDS * 1000,
        "reconnect_backoff_max_ms": RECONNECT_SECONDS * 1000,
        "allow_auto_create_topics": False,
        "metrics_enabled": False,
        **settings,
    }
    known = {name: value for name, value in every.items() if name in make.DEFAULT_CONFIG}  # type: ignore[attr-defined] # the class of a client
    with translated("Kafka cannot be reached", servers), _reasons() as reasons:
        try:
            return make(bootstrap_servers=servers.split(","), kafka_client=remembered, **known)
        except Exception as error:
            told = [reason for reason in reasons if not isinstance(reason, TIMEOUTS)]
            reason = told[-1] if told else None
            for client in opened:  # kafka-python 3.0.12 leaves its thread running
                with suppress(KafkaError, OSError, RuntimeError):
                    client.close()
                    client._manager._net.stop()  # noqa: SLF001 - as KafkaAdminClient.close does
            if reason is None:
                raise
            raise reason from error


class _Reasons(logging.Handler):
    """Keeps the errors that the library only logs: why no broker could be reached."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.found: list[Exception] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the errors of a message."""
        given = record.args if isinstance(record.args, tuple) else ()
        self.found += [fact for fact in given if isinstance(fact, Exception)]


@contextmanager
def _reasons() -> Iterator[list[Exception]]:
    library = logging.getLogger("kafka")
    if all(isinstance(handler, logging.NullHandler | _Reasons) for handler in library.handlers):
        # It logs every attempt to reach a broker that is away, with tracebacks; we raise it once.
        # Whoever wants to read it gives the logger 'kafka' a handler; at DEBUG it has passwords.
        library.propagate = False
    listener = _Reasons()
    library.addHandler(listener)
    try:
        yield listener.found
    finally:
        library.removeHandler(listener)


@contextmanager
def translated(what: str, servers: str) -> Iterator[None]:
    """Raise StoreError for what the library raises inside."""
    try:
        yield
    except (KafkaError, OSError, AssertionError, ValueError, TypeError) as error:
        name = type(error).__name__
        is_refused = isinstance(error, REFUSED)
        is_wrong = isinstance(
            error, KafkaConfigurationError | AssertionError | ValueError | TypeError
        )
        if is_refused:
            next_step = "check the user, its password and its rights on the topic"
        elif is_wrong:
            next_step = "check SEQUENCE_PLATFORM_KAFKA__..."
        elif HUNG_UP in str(error):
            next_step = (
                "check security_protocol, user and password: brokers may hang up on clients "
            )
            next_step += "that they do not let in; or it goes on by itself once they answer"
        else:
            next_step = "check the address and the brokers; it goes on by itself once they answer"
        raise StoreError(
            what,
            where=servers,
            found=" ".join(f"{name}: {str(error).removeprefix(f'{name}: ')}".split()),
            expected="brokers of Kafka 2.8 or newer that let this client in",
            next_step=next_step,
            retryable=not (is_refused or is_wrong),
        ) from error


def _typed(name: str, value: str) -> object:
    where = f"SEQUENCE_PLATFORM_KAFKA__{name.upper()}"
    default = DEFAULTS.get(name)
    if name not in DEFAULTS or callable(default) or name in OURS:
        free = [known for known in DEFAULTS if known not in OURS]
        raise StoreError(
            "a setting of Kafka clients cannot be given",
            where=where,
            found="one that the log's promises rest on" if name in OURS else nearest(name, free),
            expected="a setting of kafka-python that says where and how to connect",
            next_step="take it away, or correct its name",
        )
    wants = int if name in WHOLE else type(default)
    try:
        if wants is bool:
            return {"true": True, "false": False}[value.lower()]
        if wants in {int, float}:
            return int(value) if value.lstrip("-").isdecimal() else float(value)
    except (LookupError, ValueError) as error:
        raise StoreError(
            "a setting of Kafka clients has a wrong value",
            where=where,
            found="a secret" if SECRET.search(name) else repr(value),
            expected=wants.__name__,
            next_step="correct it",
        ) from error
    return value
