"""A server: several worker processes on one port, over one store.

Granian speaks HTTP and TLS; each worker compiles the definitions and opens the store by itself.
SIGTERM ends it once what is being answered is answered; SIGHUP replaces the workers one by one,
which then run the definitions of now; a worker that dies is replaced.
"""

from __future__ import annotations

import multiprocessing
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from time import sleep
from typing import Any

from granian.constants import HTTPModes, Interfaces
from granian.log import LogLevels
from granian.server import Server

from sequence_platform.api.access import is_loopback
from sequence_platform.api.app import load_application
from sequence_platform.api.keys import KeyRing
from sequence_platform.api.service import Options
from sequence_platform.catalog import load_plan
from sequence_platform.errors import StateMismatchError, StoreError
from sequence_platform.settings import Settings, share_metrics
from sequence_platform.wiring import open_online

KILL_SECONDS = 25
"""A worker that has not ended so long after SIGTERM is killed, before a supervisor kills all.

One that is told to end while it starts may miss it.
"""
BACKLOG = 2048


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server listens, and with what it proves who it is.

    Attributes:
        port: 0: one that the system has free.
        certificate: Of TLS, PEM; None: plain HTTP.
    """

    host: str = "127.0.0.1"
    port: int = 0
    certificate: Path | None = None
    key: Path | None = None

    @property
    def url(self) -> str:
        """What a client is given."""
        scheme = "https" if self.certificate else "http"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{scheme}://{host}:{self.port}"


def serve(
    settings: Settings,
    address: Address,
    options: Options,
    *,
    workers: int = 1,
    tell: Callable[[str], None] = lambda _: None,
) -> None:
    """Serve until SIGTERM or SIGINT.

    Args:
        settings: Where everything is.
        address: Where to listen.
        options: For the workers; ``metrics`` and ``is_secure`` are filled in.
        workers: Processes.
        tell: Takes the URL once it is known.

    Raises:
        DefinitionError: the definitions are broken.
        StateMismatchError: it would listen beyond this machine without keys.
        StoreError: the store or the port cannot be used.
    """
    ensure_closed(settings, address.host)
    ensure_pair(address)
    load_plan(settings.definitions)  # what is broken is said once, not by every worker
    with open_online(settings):
        pass
    with _held(address) as held, TemporaryDirectory(prefix="sequence-platform-") as folder:
        share_metrics(Path(folder))
        # Forks would share the threads and LMDB locks of this process: workers start afresh.
        multiprocessing.set_start_method("spawn", force=True)
        chosen = replace(options, metrics=Path(folder), is_secure=address.certificate is not None)
        server = Server(
            "sequence_platform",
            address=held.host,
            port=held.port,
            interface=Interfaces.ASGI,
            http=HTTPModes.auto,
            workers=workers,
            websockets=False,
            backlog=BACKLOG,
            log_level=LogLevels.warning,
            ssl_cert=address.certificate,
            ssl_key=address.key,
            respawn_failed_workers=True,
            workers_kill_timeout=KILL_SECONDS,
        )
        server.on_startup(
            lambda: Thread(target=_tell_when_up, args=(held, tell), daemon=True).start()
        )
        server.serve(target_loader=partial(load_application, settings, chosen), wrap_loader=False)


def _tell_when_up(address: Address, tell: Callable[[str], None]) -> None:
    """Tell the URL once a worker listens: until then connections are refused."""
    while True:
        try:
            socket.create_connection((address.host, address.port), timeout=1).close()
        except OSError:
            sleep(0.05)
            continue
        tell(address.url)
        return


def ensure_closed(settings: Settings, host: str) -> None:
    """Raise unless there are keys, or only this machine can ask."""
    if KeyRing.of(settings).is_required or is_loopback(host):
        return
    raise StateMismatchError(
        "without API keys a server answers this machine only",
        found=f"host {host}, and no keys",
        expected="127.0.0.1, ::1 or localhost, or keys",
        next_step="sequence-platform keys create NAME",
    )


def ensure_pair(address: Address) -> None:
    """Raise unless certificate and key are both given, or neither."""
    if (address.certificate is None) != (address.key is None):
        raise StateMismatchError(
            "TLS needs a certificate and its key",
            found="one of them",
            next_step="give both --tls-cert and --tls-key",
        )


@contextmanager
def _held(address: Address) -> Iterator[Address]:
    """Yield the address with a port that is ours until the end.

    Workers bind it anew each, which the system lets anybody of this user do: so it is first bound
    in the way that fails where somebody listens.
    """
    family, place = _resolved(address)
    with _bound(address, family, place) as probe:
        port = probe.getsockname()[1]
    with socket.socket(family) as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        holder.bind((place[0], port))
        yield replace(address, host=str(place[0]), port=port)


Place = tuple[Any, ...]


def _resolved(address: Address) -> tuple[socket.AddressFamily, Place]:
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise StoreError(
            "there is no such host", where=address.host, found=str(error), next_step="see --host"
        ) from error
    return found[0], found[4]


def _bound(address: Address, family: socket.AddressFamily, place: Place) -> socket.socket:
    probe = socket.socket(family)
    try:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(place)
    except OSError as error:
        probe.close()
        raise StoreError(
            "the port cannot be used",
            where=f"{address.host}:{address.port}",
            found=str(error),
            next_step="choose another --port; 0 takes one that is free",
        ) from error
    return probe
