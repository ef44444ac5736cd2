"""Who may ask, and how often."""

from __future__ import annotations

import base64
import binascii
import ipaddress
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from time import monotonic

from sequence_platform.api.keys import ApiKey, KeyRing, find_key
from sequence_platform.api.problems import Refused
from sequence_platform.errors import StateMismatchError

LOGGER = logging.getLogger(__name__)

COOKIE = b"sequence_platform_key"
BURST_SECONDS = 1.0
"""A tenant that was quiet may ask at once what it may ask in so long."""
LOOK_SECONDS = 1.0
"""How often the file of keys is looked at: a revoked key ends within that time."""
ANYBODY = ApiKey(name="none", tenant="anybody", hash="0" * 64)
"""Who asks where no keys are needed."""


@dataclass(slots=True)
class Bucket:
    """Tokens that come back with time; a request takes one."""

    rate: float
    tokens: float
    at: float

    def take(self, now: float) -> float:
        """Take a token; return 0, or the seconds until there is one."""
        most = max(1.0, self.rate * BURST_SECONDS)
        self.tokens = min(most, self.tokens + (now - self.at) * self.rate)
        self.at = now
        if self.tokens < 1:
            return (1 - self.tokens) / self.rate
        self.tokens -= 1
        return 0.0


class Access:
    """Admits requests by their keys. A worker counts for itself."""

    def __init__(self, ring: KeyRing, clock: Callable[[], float] = monotonic) -> None:
        self._ring = ring
        self._clock = clock
        self._buckets: dict[str, Bucket] = {}
        self._looked = -LOOK_SECONDS
        self._keys = ring.known()
        # Decided once: a file that is removed must not open a server that was closed.
        self.is_required = ring.is_required

    def admit(self, headers: Iterable[tuple[bytes, bytes]], sequence: str | None = None) -> ApiKey:
        """Return whose request it is.

        Raises:
            Refused: 401 without a valid key, 403 for a sequence that is not its, 429 too often.
        """
        key = self.identify(headers)
        if sequence is not None and not key.may_read(sequence):
            raise Refused(
                403,
                f"key '{key.name}' does not open sequence '{sequence[:100]}'",
                expected=", ".join(key.sequences),
                next_step="ask for another key",
            )
        self._spend(key)
        return key

    def identify(self, headers: Iterable[tuple[bytes, bytes]]) -> ApiKey:
        """Return the key of a request; it spends nothing."""
        if not self.is_required:
            ensure_local(_host(headers))
            return ANYBODY
        given = given_key(headers)
        key = find_key(self._current(), given) if given else None
        if key is None:
            raise Refused(
                401,
                "this server needs a key",
                found="none, or one that is not known" if given else "none",
                expected="Authorization: Bearer KEY",
                next_step="make one by 'sequence-platform keys create'",
                headers=[(b"www-authenticate", b'Bearer realm="sequence-platform"')],
            )
        return key

    def _current(self) -> tuple[ApiKey, ...]:
        now = self._clock()
        if now - self._looked >= LOOK_SECONDS:
            self._looked = now
            try:
                self._keys = self._ring.known()
            except (StateMismatchError, OSError):
                LOGGER.exception("the keys of before stay valid")
        return self._keys

    def _spend(self, key: ApiKey) -> None:
        if key.requests_per_second is None:
            return
        now = self._clock()
        bucket = self._buckets.get(key.tenant)
        rate = key.requests_per_second
        if bucket is None:
            bucket = Bucket(rate, max(1.0, rate * BURST_SECONDS), now)
            self._buckets[key.tenant] = bucket
        bucket.rate = rate
        wait = bucket.take(now)
        if wait:
            raise Refused(
                429,
                f"tenant '{key.tenant}' asks too often",
                expected=f"{key.requests_per_second:g} requests a second at most",
                next_step="wait, or ask for many entities at once by batchGet",
                retry_after=wait,
            )


def _host(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    return next((value for name, value in headers if name == b"host"), b"")


@lru_cache(maxsize=64)
def ensure_local(host: bytes) -> None:
    """Raise Refused, 403, unless a request names this machine as it names itself.

    A page of somebody else can have its name resolve to this machine, and then ask as its visitor;
    but it cannot change the name that the browser sends.
    """
    name = host.decode("latin-1").lower()
    bare = (
        name.partition("]")[0].removeprefix("[") if name.startswith("[") else name.partition(":")[0]
    )
    if name and not is_loopback(bare):
        raise Refused(
            403,
            "without API keys a server answers this machine only",
            found=f"a request to {name[:100]}",
            expected="one to 127.0.0.1, ::1 or localhost",
            next_step="sequence-platform keys create NAME, or have the proxy send such a Host",
        )


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine by its own name."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def given_key(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """Return the key that a request brings: as a bearer, as a password, or in the page's cookie."""
    cookie = ""
    for name, value in headers:
        if name == b"authorization":
            scheme, _, rest = value.partition(b" ")
            if scheme.lower() == b"bearer":
                return rest.strip().decode("latin-1")
            if scheme.lower() == b"basic":
                return _password(rest)
        elif name == b"cookie":
            for part in value.split(b";"):
                label, _, content = part.strip().partition(b"=")
                if label == COOKIE:
                    cookie = content.decode("latin-1")
    return cookie


def _password(credentials: bytes) -> str:
    try:
        return base64.b64decode(credentials.strip()).partition(b":")[2].decode("latin-1")
    except binascii.Error:
        return ""
