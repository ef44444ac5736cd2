"""Messages of a log, judged: rows to keep, or dead letters with the bytes that came."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import polars as pl

from sequence_platform.engine.dead_letters import STREAM_LETTERS
from sequence_platform.engine.decode import Decoded
from sequence_platform.engine.enrich import Enriched, ReadLookup, enrich_by
from sequence_platform.engine.fit import without
from sequence_platform.engine.raw import raw_rows
from sequence_platform.plan.plan import EventPlan, Window
from sequence_platform.plan.tables import raw_table
from sequence_platform.ports import LogBatch

CHUNK_MESSAGES = 50_000
"""Decoded at a time: a million at once takes 1 GB."""


@dataclass(frozen=True, slots=True, eq=False)
class Received:
    """What became of messages.

    Attributes:
        raw: Rows of the raw table: every message with a usable envelope.
        enriched: The same rows enriched or rejected; without dead letters.
        dead: STREAM_LETTERS of all other messages.
    """

    raw: pl.DataFrame
    enriched: Enriched
    dead: pl.DataFrame


Decode = Callable[[Sequence[bytes | None], pl.Schema], Decoded]
"""``ports.MessageDecoder.decode``."""


def receive(
    event: EventPlan,
    batches: Sequence[LogBatch],
    read_lookup: ReadLookup,
    window: Window,
    decode: Decode,
) -> Received:
    """Decode and enrich messages; each is in exactly one of raw and dead.

    Args:
        event: The compiled event type.
        batches: Messages.
        read_lookup: Where enrichment rows come from.
        window: Event times that can be; a message of another is a dead letter.
        decode: What the messages are written in.
    """
    messages = _messages(batches)
    values = list(chain.from_iterable(batch.values for batch in batches))
    parts = [
        _receive(event, messages[at : at + CHUNK_MESSAGES], values[at : at + CHUNK_MESSAGES],
                 read_lookup, window, decode)
        for at in range(0, len(values), CHUNK_MESSAGES)
    ]  # fmt: skip
    return Received(
        pl.concat([pl.DataFrame(schema=raw_table(event).columns), *(part.raw for part in parts)]),
        Enriched.concat([Enriched.empty(event), *(part.enriched for part in parts)]),
        pl.concat([pl.DataFrame(schema=STREAM_LETTERS), *(part.dead for part in parts)]),
    )


def _receive(  # noqa: PLR0913, PLR0917 - as receive, of a chunk
    event: EventPlan,
    messages: pl.DataFrame,
    values: Sequence[bytes | None],
    read_lookup: ReadLookup,
    window: Window,
    decode: Decode,
) -> Received:
    decoded = decode(values, event.raw_schema)
    every = pl.int_range(len(values), eager=True, dtype=pl.Int64).to_frame("at")
    at = without(every, decoded.dead["position"].cast(pl.UInt32))["at"]
    enriched = enrich_by(event, decoded.frame, read_lookup, window=window, positions=at)
    letters = pl.concat([decoded.dead, enriched.dead])
    is_kept = ~at.is_in(enriched.dead["position"].implode())
    raw = raw_rows(event, decoded.frame.filter(is_kept), messages[at.filter(is_kept)])
    dead = _letters(letters, messages, values)
    return Received(raw, Enriched(enriched.rows, enriched.rejected, enriched.dead.clear()), dead)


def _messages(batches: Sequence[LogBatch]) -> pl.DataFrame:
    """Return where each message came from, in the columns that the raw table keeps."""
    lengths = [len(batch.values) for batch in batches]
    topics = pl.Series([batch.at.topic for batch in batches], dtype=pl.String)
    numbers = pl.Series([batch.at.partition for batch in batches], dtype=pl.Int32)
    of = np.repeat(np.arange(len(batches)), lengths)
    empty = np.empty(0, np.int64)
    appended = np.concatenate([empty, *(batch.appended_us for batch in batches)])
    return pl.DataFrame(
        {
            "_topic": topics.gather(of),
            "_partition": numbers.gather(of),
            "_offset": np.concatenate([empty, *(batch.offsets for batch in batches)]),
            "_appended_at": pl.Series(appended).cast(pl.Datetime("us")).dt.replace_time_zone("UTC"),
        }
    )


def _letters(
    letters: pl.DataFrame, messages: pl.DataFrame, values: Sequence[bytes | None]
) -> pl.DataFrame:
    at = letters["position"]
    where = messages[at]
    return letters.with_columns(
        source=where["_topic"] + "/" + where["_partition"].cast(pl.String),
        position=where["_offset"],
        payload=pl.Series([values[i] for i in at], dtype=pl.Binary),
        appended_at=where["_appended_at"],
    ).select(STREAM_LETTERS.names())
