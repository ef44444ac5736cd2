"""How far logs were read, as the online stores keep it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

import polars as pl

from sequence_platform.errors import FencedError, StateMismatchError
from sequence_platform.online_format.manifests import time_of, to_us
from sequence_platform.plan.plan import EventPlan
from sequence_platform.ports.lake import OffsetMove

COLUMNS = {
    "topic": pl.String(),
    "log_partition": pl.Int32(),
    "identity": pl.String(),
    "next_offset": pl.Int64(),
    "committed_at": pl.Datetime("us", "UTC"),
}


def place_of(move: OffsetMove) -> bytes:
    """Return topic and partition as bytes that no other has."""
    return f"{move.at.topic}\0{move.at.partition}".encode()


def stored_offset(move: OffsetMove, committed_at: datetime) -> dict[str, Any]:
    """Return what is stored of a move."""
    return {
        "topic": move.at.topic,
        "partition": move.at.partition,
        "identity": move.identity,
        "next": move.next,
        "committed": to_us(committed_at),
    }


def offset_frame(stored: Iterable[bytes | Mapping[str, Any]]) -> pl.DataFrame:
    """Return offsets that were stored, in the columns of ``OnlineAppender.offsets``."""
    said = [json.loads(each) if isinstance(each, bytes) else each for each in stored]
    rows = [
        (e["topic"], e["partition"], e["identity"], e["next"], time_of(e["committed"]))
        for e in said
    ]
    return pl.DataFrame(rows, schema=COLUMNS, orient="row").sort("topic", "log_partition")


def fenced(event: EventPlan, move: OffsetMove, found: int | None) -> FencedError:
    """Return the error of a worker that another has overtaken."""
    return FencedError(
        "another worker has read on from where this one started",
        where=f"event type '{event.name}', {move.at.topic}/{move.at.partition}",
        found=f"offset {found} in the online store",
        expected=f"offset {move.start}, where this worker began",
        next_step="none: what it had in hand is in the store already",
    )


def forgotten(event: EventPlan, at: datetime, floor_us: int) -> StateMismatchError:
    """Return the error of a reader that asks for a time whose manifest was dropped."""
    return StateMismatchError(
        f"the online store does not know any more what it held at {at.isoformat()}",
        where=f"event type '{event.name}'",
        expected=f"known_at from {time_of(floor_us).isoformat()} on",
        next_step="ask for a later time, or read the lake in a notebook",
    )
