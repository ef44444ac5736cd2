"""API keys: made once, shown once, kept as hashes in a file.

A key is 32 random bytes. Nobody can guess or enumerate those, so a fast hash keeps them as well as
a slow one, which is for passwords that people choose; and a slow one would cost each request more
than its answer.
"""

from __future__ import annotations

import hmac
import json
import os
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from hashlib import sha256
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from sequence_platform.errors import RequestError, StateMismatchError, nearest
from sequence_platform.settings import Settings

PREFIX = "sp_"
KEY_BYTES = 32
MAX_KEY = 200
"""Characters of a key that is looked at."""


class ApiKey(BaseModel):
    """A key as it is kept.

    Attributes:
        name: Of the key; what logs say.
        tenant: Who shares a rate.
        hash: ``hash_of`` the key.
        sequences: Patterns of names that may be read: ``*``, ``shop_*``.
        requests_per_second: Of the tenant, at each worker; None: unlimited.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")
    tenant: str = Field(min_length=1, max_length=64)
    hash: str = Field(pattern=r"^[0-9a-f]{64}$")
    sequences: tuple[str, ...] = ("*",)
    requests_per_second: float | None = Field(None, gt=0)

    def may_read(self, sequence: str) -> bool:
        """Return whether it opens a sequence."""
        return any(fnmatchcase(sequence, pattern) for pattern in self.sequences)


KEYS = TypeAdapter(tuple[ApiKey, ...])


def hash_of(key: str) -> str:
    """Return what is kept of a key."""
    return sha256(key.encode(errors="surrogatepass")).hexdigest()


def find_key(keys: Iterable[ApiKey], given: str) -> ApiKey | None:
    """Return the key that is given, comparing so that time tells nothing of how near it was."""
    digest = hash_of(given[:MAX_KEY])
    found = None
    for key in keys:
        if hmac.compare_digest(key.hash, digest):
            found = key
    return found


@dataclass(slots=True)
class KeyRing:
    """The keys of a server; a changed file is read anew, so that a revoked key ends at once.

    Attributes:
        file: Where keys are kept.
        fixed: Keys that a setting gives; then there is no file.
    """

    file: Path
    fixed: tuple[ApiKey, ...] | None = None
    _read: tuple[ApiKey, ...] = ()
    _state: tuple[int, int, int] | None = field(default=None)

    @classmethod
    def of(cls, settings: Settings) -> KeyRing:
        """Return the key ring of these settings."""
        given = settings.api_keys.get_secret_value()
        fixed = _parsed(given, "SEQUENCE_PLATFORM_API_KEYS") if given else None
        return cls(settings.home.absolute() / "keys.json", fixed)

    @property
    def is_required(self) -> bool:
        """Whether there are keys, so that every request needs one."""
        return self.fixed is not None or self.file.exists()

    def known(self) -> tuple[ApiKey, ...]:
        """Return all keys.

        Raises:
            StateMismatchError: the file is none of keys.
        """
        if self.fixed is not None:
            return self.fixed
        try:
            stat = self.file.stat()
        except FileNotFoundError:
            self._read, self._state = (), None
            return ()
        state = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        if state != self._state:
            self._read = _parsed(self.file.read_text(encoding="utf-8"), str(self.file))
            self._state = state
        return self._read

    def create(
        self,
        name: str,
        tenant: str,
        sequences: tuple[str, ...],
        requests_per_second: float | None,
    ) -> str:
        """Add a key and return it: it is never shown again.

        Raises:
            RequestError: a key of that name exists, or the name is none.
        """
        keys = self._own()
        if any(key.name == name for key in keys):
            raise RequestError(
                f"there is a key '{name}' already", expected="a new name", next_step="or revoke it"
            )
        secret = PREFIX + secrets.token_urlsafe(KEY_BYTES)
        try:
            new = ApiKey(
                name=name,
                tenant=tenant,
                hash=hash_of(secret),
                sequences=sequences,
                requests_per_second=requests_per_second,
            )
        except ValidationError as error:
            raise _refused(error, "a new key") from error
        self._write((*keys, new))
        return secret

    def revoke(self, name: str) -> None:
        """Remove a key; servers stop taking it with their next request.

        Raises:
            RequestError: there is none of that name.
        """
        keys = self._own()
        left = tuple(key for key in keys if key.name != name)
        if len(left) == len(keys):
            raise RequestError(
                f"there is no key '{name}'", expected=nearest(name, (key.name for key in keys))
            )
        self._write(left)

    def _own(self) -> tuple[ApiKey, ...]:
        if self.fixed is not None:
            raise RequestError(
                "keys are given by a setting, not kept in a file",
                found="SEQUENCE_PLATFORM_API_KEYS",
                next_step="change it there, or unset it",
            )
        return self.known()

    def _write(self, keys: tuple[ApiKey, ...]) -> None:
        """Replace the file at once, readable by its owner only."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps([key.model_dump() for key in keys], indent=2)
        new = self.file.with_suffix(f".{os.getpid()}.new")
        handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(f"{text}\n")
            file.flush()
            os.fsync(file.fileno())
        new.replace(self.file)


def _parsed(text: str, where: str) -> tuple[ApiKey, ...]:
    try:
        return KEYS.validate_json(text)
    except ValidationError as error:
        raise StateMismatchError(
            "the API keys cannot be read",
            where=where,
            found=_first(error),
            expected="a JSON list of name, tenant, hash, sequences, requests_per_second",
            next_step="mend it, or make keys by 'sequence-platform keys create'",
        ) from error


def _refused(error: ValidationError, where: str) -> RequestError:
    return RequestError("that is no key", where=where, found=_first(error))


def _first(error: ValidationError) -> str:
    problem = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}"
