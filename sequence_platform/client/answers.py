"""Answers as Polars frames."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx
import polars as pl
import pyarrow as pa

from sequence_platform.errors import StoreError

ARROW = "application/vnd.apache.arrow.stream"
METADATA = b"sequence_platform"


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """A sequence.

    Attributes:
        frame: A row an event, oldest first.
        envelope: What the server says of it: version, as_of, freshness, trimmed...; times are
            microseconds.
    """

    frame: pl.DataFrame
    envelope: Mapping[str, Any]

    @property
    def entity(self) -> object:
        """Whose it is."""
        return self.envelope["entity"]

    @property
    def behind(self) -> tuple[str, ...]:
        """Event types whose stream is behind; none: an empty sequence means a quiet entity."""
        return tuple(self.envelope["behind"])


def _table_of(response: httpx.Response) -> tuple[pl.DataFrame, dict[str, Any]]:
    try:
        table = pa.ipc.open_stream(response.content).read_all()
        envelope = json.loads(table.schema.metadata[METADATA])
    except (pa.ArrowInvalid, KeyError, TypeError, ValueError) as error:
        raise StoreError(
            "the server did not answer as one of ours",
            where=str(response.request.url)[:200],
            found=response.headers.get("content-type", ""),
            expected=ARROW,
        ) from error
    frame = pl.from_arrow(table.replace_schema_metadata(None))
    assert isinstance(frame, pl.DataFrame)  # noqa: S101 - of a table
    return frame, envelope


def answer_of(response: httpx.Response) -> Answer:
    """Return the answer for one entity, whichever way it was asked."""
    frame, envelope = _table_of(response)
    if "answers" in envelope:
        return _split(frame, envelope)[0]
    return Answer(frame, envelope)


def answers_of(response: httpx.Response) -> list[Answer]:
    """Return the answers of a batch."""
    return _split(*_table_of(response))


def _split(frame: pl.DataFrame, envelope: dict[str, Any]) -> list[Answer]:
    """Return the answers of a batch, whose events stand one after the other."""
    shared = {name: value for name, value in envelope.items() if name != "answers"}
    columns = frame.drop("entity")
    answers, start = [], 0
    for own in envelope["answers"]:
        answers.append(Answer(columns.slice(start, own["length"]), shared | own))
        start += own["length"]
    return answers
