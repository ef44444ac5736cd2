"""The platform's own tables in the lake.

The ledger, dead letters, manifests, and what views were made from.
"""

from __future__ import annotations

import polars as pl

from sequence_platform.engine.dead_letters import DEAD_LETTERS as LETTER
from sequence_platform.engine.dead_letters import STREAM_LETTERS
from sequence_platform.plan.plan import TIME
from sequence_platform.ports import CORRECTION_COLUMNS, TableSpec
from sequence_platform.stores.ducklake.sql import split_name

LEDGER = "platform.partitions"
DEAD_LETTERS = "platform.dead_letters"
OFFSETS = "platform.offsets"
MANIFESTS = "platform.manifests"
CURRENT = "platform.current"
VIEWS = "platform.views"

SCHEMAS = ("raw", "enriched", "sequences", "enrichments", "corrections", "platform")

LEDGER_COLUMNS = pl.Schema(
    {
        "table_name": pl.String(),
        "day": pl.Date(),
        "state": pl.String(),
        "version": pl.Int64(),
        "rows": pl.Int64(),
        "bytes": pl.Int64(),
        "received": pl.Int64(),
        "admitted": pl.Int64(),
        "filtered": pl.String(),
        "superseded": pl.Int64(),
        "deleted": pl.Int64(),
        "dead_lettered": pl.Int64(),
        "content_hash": pl.String(),
        "inputs": pl.String(),
        "fingerprint": pl.String(),
        "arrival_watermark": TIME,
        "built_at": TIME,
    }
)

PLATFORM_TABLES = (
    TableSpec(
        LEDGER,
        LEDGER_COLUMNS,
        is_daily=False,
        comment="One row per partition: what it was built from and holds",
    ),
    TableSpec(
        DEAD_LETTERS,
        pl.Schema(
            {"table_name": pl.String(), "day": pl.Date()}
            | dict(LETTER)
            | {"recorded_at": TIME}
            # Last, since lakes older than streams gain them.
            | {name: STREAM_LETTERS[name] for name in STREAM_LETTERS if name not in LETTER}
        ),
        is_daily=False,
        comment="Rows that could not be used, with the reason",
    ),
    TableSpec(
        OFFSETS,
        pl.Schema(
            {
                "table_name": pl.String(),
                "topic": pl.String(),
                "log_partition": pl.Int32(),
                "identity": pl.String(),
                "next_offset": pl.Int64(),
                "committed_at": TIME,
            }
        ),
        is_daily=False,
        comment="How far each partition of a log was read into a raw table",
    ),
    TableSpec(
        MANIFESTS,
        pl.Schema({"fingerprint": pl.String(), "manifest": pl.String(), "published_at": TIME}),
        is_daily=False,
        comment="Every manifest ever published; immutable",
    ),
    TableSpec(
        CURRENT,
        pl.Schema({"fingerprint": pl.String(), "published_at": TIME}),
        is_daily=False,
        comment="The one row that says which manifest is in force",
    ),
    TableSpec(
        VIEWS,
        pl.Schema({"name": pl.String(), "sql": pl.String()}),
        is_daily=False,
        comment="The text each view and macro was made from",
    ),
)


def corrections_of(spec: TableSpec) -> TableSpec:
    """Return the table of the corrections of an enriched table.

    ``day`` is the partition that brought them.
    """
    columns = {"day": pl.Date()} | {
        name: spec.columns.get(name, pl.Boolean()) for name in CORRECTION_COLUMNS
    }
    return TableSpec(
        f"corrections.{split_name(spec.name)[1]}",
        pl.Schema(columns),
        is_daily=False,
        comment=f"Winners with a revision and deletes, which beat rows of other partitions of "
        f"{spec.name}",
    )
