"""Avro records to rows, by way of the JSON that says the same: both mean the same in every column.

Bytes must be UTF-8 text, and a duration (a fixed of 12 bytes) is not read.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from io import BytesIO
from typing import Any
from uuid import UUID

import polars as pl

from sequence_platform.engine.dead_letters import DEAD_LETTERS
from sequence_platform.engine.decode import Decoded, decode
from sequence_platform.errors import StoreError
from sequence_platform.sources.avro_messages.registry import RegisteredSchema, SchemaRegistry

try:
    import fastavro
except ImportError:
    fastavro = None  # type: ignore[assignment] # an extra: told when a decoder is made

MAGIC = 0
HEADER_BYTES = 5
MAX_SHOWN = 200
"""Characters of the library's reasons."""

Fault = tuple[str, str]
"""Why a message cannot be used (the rule), and what was found and expected."""
Read = Callable[[bytes], object]
"""Reads what follows the header."""


class AvroDecoder:
    """Reads Avro records: ports.MessageDecoder.

    The rules for what it cannot use are not_framed, unknown_schema, not_avro (the schema is of
    another kind, or broken), malformed_avro, and those of ``engine.decode``.
    """

    def __init__(self, registry: SchemaRegistry) -> None:
        if fastavro is None:
            raise StoreError(
                "Avro cannot be read here",
                found="no package fastavro",
                expected="the extra 'avro'",
                next_step="pip install 'sequence-platform[avro]'",
            )
        self._registry = registry
        self._readers: dict[tuple[int, frozenset[str]], Read | Fault] = {}

    def decode(self, messages: Sequence[bytes | None], schema: pl.Schema) -> Decoded:
        """Return a row or a dead letter for each message: ports.MessageDecoder."""
        numbers = frozenset(name for name, dtype in schema.items() if dtype.is_integer())
        texts: list[bytes | None] = []
        places: list[int] = []
        faults: dict[int, Fault] = {}
        for place, message in enumerate(messages):
            text = None if not message else self._text(message, numbers)
            if isinstance(text, tuple):
                faults[place] = text
            else:
                texts.append(text)
                places.append(place)
        decoded = decode(texts, schema)
        positions = pl.Series(places, dtype=pl.Int64).gather(decoded.dead["position"])
        dead = [decoded.dead.with_columns(position=positions)]
        if faults:
            dead.append(pl.DataFrame(_letters(faults, messages), DEAD_LETTERS, orient="row"))
        return Decoded(decoded.frame, pl.concat(dead).sort("position"))

    def _text(self, message: bytes, numbers: frozenset[str]) -> bytes | Fault:
        if message[0] != MAGIC or len(message) < HEADER_BYTES:
            found = f"found {message[:HEADER_BYTES]!r}"
            return "not_framed", f"{found}, expected a zero byte and the number of a schema"
        number = int.from_bytes(message[1:HEADER_BYTES], "big")
        read = self._reader(number, numbers)
        if isinstance(read, tuple):
            return read
        try:
            return _json(read(message[HEADER_BYTES:]))
        except Exception as error:  # noqa: BLE001 - any bytes come, and the library raises anything
            reason = f"{type(error).__name__}: {error}"[:MAX_SHOWN]
            return "malformed_avro", f"found {reason}, expected a record of schema {number}"

    def _reader(self, number: int, numbers: frozenset[str]) -> Read | Fault:
        key = number, numbers
        if key not in self._readers:
            registered = self._registry.schema(number)
            if registered is None:  # asked again later: it may come
                where = self._registry.url
                return "unknown_schema", f"found schema {number}, which {where} does not have"
            self._readers[key] = _reader(registered, number, numbers)
        return self._readers[key]


def _reader(registered: RegisteredSchema, number: int, numbers: frozenset[str]) -> Read | Fault:
    if registered.kind != "AVRO":
        return "not_avro", f"found schema {number} of {registered.kind}, expected one of AVRO"
    try:
        named: dict[str, Any] = {}
        for text in registered.references:
            fastavro.parse_schema(json.loads(text), named)
        parsed = fastavro.parse_schema(_plain(json.loads(registered.text), numbers), named)
    except Exception as error:  # noqa: BLE001 - schemas are anybody's, and the library raises anything
        reason = f"{type(error).__name__}: {error}"[:MAX_SHOWN]
        return "not_avro", f"found schema {number}, of which {reason}, expected one of Avro"

    def read(content: bytes) -> object:
        stream = BytesIO(content)
        value = fastavro.schemaless_reader(stream, parsed, None)
        left = len(content) - stream.tell()
        if left:
            raise ValueError(f"{left} bytes beyond the record")
        return value

    return read


def _plain(schema: Any, numbers: frozenset[str]) -> Any:  # noqa: ANN401 - any JSON
    """Return a schema whose times are numbers in the columns that want numbers."""
    if not isinstance(schema, dict) or not isinstance(schema.get("fields"), list):
        return schema
    fields = [
        {**field, "type": _without_logical_type(field["type"])}
        if field["name"] in numbers
        else field
        for field in schema["fields"]
    ]
    return {**schema, "fields": fields}


def _without_logical_type(kind: Any) -> Any:  # noqa: ANN401 - any JSON
    if isinstance(kind, list):
        return [_without_logical_type(option) for option in kind]
    if isinstance(kind, dict) and kind.get("type") in {"int", "long"}:
        return kind["type"]
    return kind


def _said(value: object) -> object:
    """Return what JSON has no form for as the text that columns read."""
    match value:
        case datetime() | date() | time():
            return value.isoformat()
        case Decimal() | UUID():
            return str(value)
        case bytes():
            return value.decode()
        case _:
            raise TypeError(f"a {type(value).__name__}")


_encode = json.JSONEncoder(default=_said, allow_nan=False).encode


def _json(value: object) -> bytes:
    try:
        return _encode(value).encode()
    except ValueError:
        return _encode(_finite(value)).encode()


def _finite(value: object) -> object:
    """Return a value whose NaN and infinities are text, which JSON numbers cannot say."""
    match value:
        case float() if not math.isfinite(value):
            return str(value)
        case Mapping():
            return {name: _finite(part) for name, part in value.items()}
        case list():
            return [_finite(part) for part in value]
        case _:
            return value


def _letters(
    faults: Mapping[int, Fault], messages: Sequence[bytes | None]
) -> Iterator[tuple[str, int, str, str, str]]:
    for place, (rule, detail) in faults.items():
        row = (messages[place] or b"").decode(errors="backslashreplace")
        yield "", place, rule, detail, row
