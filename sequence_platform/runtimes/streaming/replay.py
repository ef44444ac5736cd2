"""Dead letters of a log, tried again after their cause was mended: each exactly once."""

from __future__ import annotations

import numpy as np
import polars as pl

from sequence_platform.clock import Clock
from sequence_platform.engine.dead_letters import MESSAGE
from sequence_platform.engine.decode import decode as decode_json
from sequence_platform.plan.plan import EventPlan
from sequence_platform.ports import Lake, LogBatch, LogPartition
from sequence_platform.runtimes.streaming.lake_sink import LakeSink
from sequence_platform.runtimes.streaming.received import Decode
from sequence_platform.runtimes.streaming.sink import Flushed


def replay(
    lake: Lake, event: EventPlan, letters: pl.DataFrame, clock: Clock, decode: Decode = decode_json
) -> Flushed:
    """Feed dead letters through the stream's way again, in one transaction.

    A letter that can be used becomes rows and is gone; another stays, with its reason of now.

    Args:
        lake: Where they are and where rows go.
        event: Their event type, as compiled now.
        letters: Of ``Lake.dead_letters``, as many as wanted.
        clock: For when.
        decode: What the messages are written in: JSON unless given.

    Raises:
        FencedError: another replay has used some of them meanwhile; nothing changed.
    """
    used = letters.select(MESSAGE)
    return LakeSink(lake, event, clock, decode).flush(_batches(letters), (), used)


def _batches(letters: pl.DataFrame) -> list[LogBatch]:
    batches = []
    for source in letters["source"].unique().sort():
        topic, _, partition = source.rpartition("/")
        part = letters.filter(pl.col("source") == source).sort("position")
        offsets = part["position"].to_numpy().astype(np.int64)
        batches.append(
            LogBatch(
                at=LogPartition(topic, int(partition)),
                values=part["payload"].to_list(),
                offsets=offsets,
                appended_us=part["appended_at"].to_physical().to_numpy().astype(np.int64),
                next_offset=int(offsets[-1]) + 1,
            )
        )
    return batches
