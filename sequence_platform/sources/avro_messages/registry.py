"""Asks a schema registry for schemas by number. A number keeps its schema, so it is asked once."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPException
from time import monotonic
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import ProxyHandler, Request, build_opener

from sequence_platform.errors import StoreError

TIMEOUT_SECONDS = 5.0
UNKNOWN_SECONDS = 30.0
"""A number that the registry did not know is not asked for again so soon."""
LONGEST_BYTES = 16 << 20
"""Of an answer; a schema is far shorter."""
NOT_FOUND = {40401, 40402, 40403}
"""The registry's own codes for what it does not have; another 404 is not the registry's word."""
REFUSED = {400, 401, 403}


@dataclass(frozen=True, slots=True)
class RegisteredSchema:
    """A schema as it was registered.

    Attributes:
        text: The schema.
        kind: AVRO, PROTOBUF or JSON.
        references: Texts of schemas that it names, each after those that it names itself.
    """

    text: str
    kind: str
    references: tuple[str, ...] = ()


class SchemaRegistry:
    """A registry at an address.

    Attributes:
        url: Where it is; ``http://`` or ``https://``.
    """

    def __init__(
        self, url: str, *, user: str = "", timeout_seconds: float = TIMEOUT_SECONDS
    ) -> None:
        """Say where it is.

        Args:
            url: Its address.
            user: ``name:password``, if it wants one.
            timeout_seconds: To answer one question.
        """
        self.url = url.rstrip("/")
        self._user = user
        self._timeout_seconds = timeout_seconds
        self._opener = build_opener(ProxyHandler({}))
        self._known: dict[int, RegisteredSchema] = {}
        self._unknown_until: dict[int, float] = {}

    def schema(self, number: int) -> RegisteredSchema | None:
        """Return the schema of a number; None if the registry does not have it.

        Raises:
            StoreError: the registry cannot be asked.
        """
        if number in self._known:
            return self._known[number]
        if self._unknown_until.get(number, 0.0) > monotonic():
            return None
        answer = self._ask(f"/schemas/ids/{number}")
        if answer is None:
            self._unknown_until[number] = monotonic() + UNKNOWN_SECONDS
            return None
        self._known[number] = RegisteredSchema(
            text=str(answer["schema"]),
            kind=str(answer.get("schemaType", "AVRO")),
            references=tuple(dict.fromkeys(self._references(answer))),
        )
        return self._known[number]

    def _references(self, answer: Mapping[str, Any]) -> list[str]:
        texts: list[str] = []
        for reference in answer.get("references") or ():
            subject = quote(str(reference["subject"]), safe="")
            path = f"/subjects/{subject}/versions/{int(reference['version'])}"
            found = self._ask(path)
            if found is None:
                raise self._failed(f"no {path}", "every schema that another one names")
            texts += [*self._references(found), str(found["schema"])]
        return texts

    def _ask(self, path: str) -> Mapping[str, Any] | None:
        headers = {"Accept": "application/vnd.schemaregistry.v1+json, application/json"}
        if self._user:
            headers["Authorization"] = "Basic " + base64.b64encode(self._user.encode()).decode()
        try:
            request = Request(self.url + path, headers=headers)  # noqa: S310 - the settings' address
            with self._opener.open(request, timeout=self._timeout_seconds) as response:
                content = response.read(LONGEST_BYTES)
            answer = json.loads(content)
            if not isinstance(answer, dict) or "schema" not in answer:
                raise self._failed(f"{content[:200]!r} for {path}", "a schema")
        except HTTPError as error:
            if error.code == 404 and _code(error) in NOT_FOUND:  # noqa: PLR2004 - HTTP's
                return None
            raise self._failed(
                f"HTTP {error.code} for {path}",
                "an answer",
                retryable=error.code not in REFUSED and error.code != 404,  # noqa: PLR2004
            ) from error
        except (OSError, HTTPException, ValueError) as error:
            found = f"{type(error).__name__}: {error}"
            raise self._failed(found, "an answer", retryable=isinstance(error, OSError)) from error
        return answer

    def _failed(self, found: str, expected: str, *, retryable: bool = False) -> StoreError:
        return StoreError(
            "the schema registry does not say how messages are written",
            where=self.url,
            found=found,
            expected=f"{expected}, within {self._timeout_seconds:g} s",
            next_step="it goes on by itself once the registry answers"
            if retryable
            else "check SEQUENCE_PLATFORM_SCHEMA_REGISTRY and its user",
            retryable=retryable,
        )


def _code(error: HTTPError) -> int:
    """Return the registry's own code for an error; 0 if somebody else answered."""
    try:
        return int(json.loads(error.read(LONGEST_BYTES))["error_code"])
    except (OSError, HTTPException, ValueError, LookupError, TypeError):
        return 0
