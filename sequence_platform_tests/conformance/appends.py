"""What the suites of appending share: an event type's two tables, and growing them by hand."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import polars as pl

from sequence_platform.engine.amend import ROW_KEY
from sequence_platform.engine.dead_letters import MESSAGE, STREAM_LETTERS
from sequence_platform.plan.plan import TIME
from sequence_platform.ports import (
    Append,
    Appended,
    Counts,
    DayAppend,
    Lake,
    LogPartition,
    OffsetMove,
    TableSpec,
)
from sequence_platform_tests.conformance.lakes import COMMITTED_AT, DAY, clicks, version_of

TOPIC = "clicks"
RAW = TableSpec(
    "raw.click",
    pl.Schema(
        {
            "_entity": pl.Int64(),
            "_event_id": pl.String(),
            "_event_time": TIME,
            "_topic": pl.String(),
            "_partition": pl.Int32(),
            "_offset": pl.Int64(),
            "_appended_at": TIME,
            "surface": pl.String(),
        }
    ),
    sort_by=("_entity", "_event_time", "_event_id", "_topic", "_partition", "_offset"),
)
NO_LETTERS = pl.DataFrame(schema=STREAM_LETTERS)
NOTHING_REPLAYED = NO_LETTERS.select(MESSAGE)


def move(start: int | None, following: int, partition: int = 0, identity: str = "x") -> OffsetMove:
    return OffsetMove(LogPartition(TOPIC, partition), identity, start, following)


def letter(position: int, rule: str = "malformed_json", partition: int = 0) -> dict[str, Any]:
    return {
        "source": f"{TOPIC}/{partition}",
        "position": position,
        "rule": rule,
        "detail": "found a tear, expected JSON",
        "row": "{to",
        "payload": b"{to\xff",
        "appended_at": COMMITTED_AT,
    }


def dead(*rows: dict[str, Any]) -> pl.DataFrame:
    return pl.DataFrame(list(rows), schema=STREAM_LETTERS, orient="row")


def raw_of(rows: Iterable[dict[str, Any]], first_offset: int = 0) -> pl.DataFrame:
    """Return the messages that rows came in, one after another from an offset on."""
    messages = [
        (
            *(row["entity"], row["event_id"], row["event_time"]),
            *(TOPIC, 0, offset, COMMITTED_AT, row["surface"]),
        )
        for offset, row in enumerate(rows, first_offset)
    ]
    return pl.DataFrame(messages, schema=RAW.columns, orient="row").sort(RAW.sort_by)


@dataclass(frozen=True, slots=True)
class Stream:
    """Grows a raw and an enriched table as the lake sink does."""

    lake: Lake
    raw: TableSpec
    enriched: TableSpec

    def gain(  # noqa: PLR0913 - what a day may gain
        self,
        *rows: dict[str, Any],
        day: date = DAY,
        first_offset: int = 0,
        removed: Sequence[dict[str, Any]] = (),
        counts: Counts | None = None,
        corrected_by: pl.DataFrame | None = None,
        arrival_watermark: datetime | None = None,
        expected_version: int | None = None,
    ) -> DayAppend:
        """Stage what a day gains; rows that replace others count as received in their stead."""
        version = expected_version
        if version is None:
            version = version_of(self.lake, self.enriched, day)
        known = {name: self.enriched.columns[name] for name in ROW_KEY}
        keys = [{name: row[name] for name in ROW_KEY} for row in removed]
        raw = raw_of(rows, first_offset)
        return DayAppend(
            day=day,
            raw=self.lake.stage(self.raw, day, [raw]),
            rows=self.lake.stage(self.enriched, day, [clicks(*rows, spec=self.enriched)]),
            removed=pl.DataFrame(keys, schema=known, orient="row"),
            counts=counts or Counts(len(rows), len(rows) - len(removed), {}, len(removed)),
            corrections=corrected_by,
            arrival_watermark=arrival_watermark,
            expected_version=version,
        )

    def append(
        self,
        *days: DayAppend,
        moves: Sequence[OffsetMove] = (),
        letters: pl.DataFrame = NO_LETTERS,
        replayed: pl.DataFrame = NOTHING_REPLAYED,
    ) -> Appended:
        return self.lake.append(
            Append(
                raw=self.raw,
                enriched=self.enriched,
                days=days,
                offsets=tuple(moves),
                dead=letters,
                replayed=replayed,
                fingerprint="f1",
                committed_at=COMMITTED_AT,
            )
        )

    def grow(self, *rows: dict[str, Any], **values: Any) -> Appended:
        """Append rows to one day; see ``gain``."""
        return self.append(self.gain(*rows, **values))

    def offsets(self) -> list[tuple[str, int, str, int]]:
        columns = ("topic", "log_partition", "identity", "next_offset")
        return self.lake.offsets(self.raw).select(columns).rows()
