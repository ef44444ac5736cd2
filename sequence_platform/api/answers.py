"""Answers as bytes: JSON with a list a column, or an Arrow stream with the envelope as metadata."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import orjson
import pyarrow as pa

from sequence_platform.engine.columns import arrow_type, concat
from sequence_platform.engine.point import EPOCH, US
from sequence_platform.ports.online import Freshness
from sequence_platform.runtimes.serving import Answer

ARROW = b"application/vnd.apache.arrow.stream"
METADATA = b"sequence_platform"
"""Where the schema of an Arrow stream has the envelope."""
OPTIONS = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS


def to_us(time: datetime | None) -> int | None:
    """Return microseconds since 1970, UTC."""
    return None if time is None else (time - EPOCH) // US


def dump(value: object) -> bytes:
    """Return JSON; NaN and infinity are null."""
    return orjson.dumps(value, default=_other, option=OPTIONS)


def _other(value: object) -> object:
    match value:
        case bytes():
            return value.hex()
        case timedelta():
            return value // US
        case Decimal():
            return str(value)
        case _:
            raise TypeError


@dataclass(frozen=True, slots=True)
class Lateness:
    """From when on a stream counts as behind.

    Attributes:
        streamed: Event types that have a log.
        after: How far.
    """

    streamed: frozenset[str]
    after: timedelta

    def lag_of(self, name: str, freshness: Freshness, moment: datetime) -> timedelta | None:
        """Return how much of the time before a moment has not been streamed.

        None for event types without a log, and where nothing was ever streamed.
        """
        until = freshness.streamed_until
        return None if name not in self.streamed or until is None else max(moment - until, NONE)

    def behind(self, freshness: Mapping[str, Freshness], moment: datetime) -> list[str]:
        """Return the event types whose streams are behind, or never began."""
        lags = {n: self.lag_of(n, f, moment) for n, f in freshness.items() if n in self.streamed}
        return [name for name, lag in lags.items() if lag is None or lag > self.after]

    def describe(self, freshness: Mapping[str, Freshness], moment: datetime) -> dict[str, Any]:
        """Return how far the store is, by event type, and who is behind, for an envelope."""
        lags = {name: self.lag_of(name, each, moment) for name, each in freshness.items()}
        return {
            "freshness": {
                name: {
                    "manifest": each.manifest,
                    "settled_until": to_us(each.settled_until),
                    "streamed_until": to_us(each.streamed_until),
                    "lag_seconds": None if (lag := lags[name]) is None else lag.total_seconds(),
                }
                for name, each in freshness.items()
            },
            "behind": self.behind(freshness, moment),
        }


NONE = timedelta(0)


def envelope(answer: Answer, lateness: Lateness, served_at: datetime) -> dict[str, Any]:
    """Return all of an answer but its columns."""
    sequence = answer.sequence
    return {
        "sequence": sequence.name,
        "version": sequence.definition.version,
        "fingerprint": sequence.fingerprint,
        "entity": answer.entity,
        "as_of": to_us(answer.as_of),
        "length": answer.length,
        "trimmed": answer.trimmed,
        **lateness.describe(answer.freshness, min(answer.as_of, served_at)),
        "served_at": to_us(served_at),
        **({"lookups": _lookups(answer)} if answer.lookups else {}),
    }


def _lookups(answer: Answer) -> dict[str, Any]:
    """Return what became of what was looked up by key, by enrichment."""
    return {
        name: {"outcome": each.outcome, "published_at": to_us(each.published_at)}
        for name, each in answer.lookups.items()
    }


def answer_json(answer: Answer, lateness: Lateness, served_at: datetime) -> bytes:
    """Return an answer as JSON."""
    columns = {name: column.to_json() for name, column in answer.columns.items()}
    return dump(envelope(answer, lateness, served_at) | {"columns": columns})


def answer_arrow(answer: Answer, lateness: Lateness, served_at: datetime) -> bytes:
    """Return an answer as an Arrow stream of one batch."""
    arrays = [column.to_arrow() for column in answer.columns.values()]
    about = envelope(answer, lateness, served_at)
    return _stream(list(answer.columns), arrays, about)


def batch_envelope(answer: Answer, lateness: Lateness, served_at: datetime) -> dict[str, Any]:
    """Return what all answers of a batch share, from any of them."""
    about = envelope(answer, lateness, served_at)
    for name in OWN:
        del about[name]
    return about


def own_json(answer: Answer) -> bytes:
    """Return what an answer of a batch has of its own, columns too, as JSON."""
    columns = {name: column.to_json() for name, column in answer.columns.items()}
    return dump({**_own(answer), "columns": columns})


def batch_json(about: dict[str, Any], answers: Iterable[bytes]) -> bytes:
    """Return a batch as JSON, from its envelope and ``own_json`` of each answer."""
    return dump(about | {"answers": [orjson.Fragment(each) for each in answers]})


OWN = ("entity", "length", "trimmed")


def _own(answer: Answer) -> dict[str, Any]:
    return {name: getattr(answer, name) for name in OWN}


def batch_arrow(answers: Sequence[Answer], lateness: Lateness, served_at: datetime) -> bytes:
    """Return answers as an Arrow stream of one batch: a row an event, its entity in front.

    The lengths in the envelope say where each entity's events begin.
    """
    names = list(answers[0].columns)
    entities = [answer.entity for answer in answers]
    owners = pa.array(entities, arrow_type(answers[0].sequence.entity_type))
    lengths = [answer.length for answer in answers]
    at = [number for number, length in enumerate(lengths) for _ in range(length)]
    arrays = [owners.take(pa.array(at, pa.int32()))]
    for name in names:
        parts = [answer.columns[name] for answer in answers]
        arrays.append(concat(parts[0].dtype, parts).to_arrow())
    about = batch_envelope(answers[0], lateness, served_at)
    about["answers"] = [_own(answer) for answer in answers]
    return _stream(["entity", *names], arrays, about)


def _stream(names: Iterable[str], arrays: list[pa.Array], about: Mapping[str, Any]) -> bytes:
    fields = [pa.field(name, array.type) for name, array in zip(names, arrays, strict=True)]
    schema = pa.schema(fields, metadata={METADATA: dump(about)})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as writer:
        writer.write_batch(pa.record_batch(arrays, schema=schema))
    return bytes(sink.getvalue())
