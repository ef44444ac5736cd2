"""Dead letters: rows that cannot be used, kept with the reason.

Sources, engine and lake share this form.
"""

from __future__ import annotations

import polars as pl

DEAD_LETTERS = pl.Schema(
    {
        "source": pl.String,  # file or table the row came from
        "position": pl.Int64,  # row or line within it, from 0; null where the source has no order
        "rule": pl.String,  # why it cannot be used: null_entity, wrong_type:<column>, ...
        "detail": pl.String,  # found and expected, for people
        "row": pl.String,  # the row as JSON, or the bytes of the line as text
    }
)
"""As sources and engine report rows that cannot be used; the lake adds table, day and time."""

STREAM_LETTERS = pl.Schema(
    dict(DEAD_LETTERS)
    | {
        "payload": pl.Binary,  # the message as it came; null for a tombstone
        "appended_at": pl.Datetime("us", "UTC"),  # when the log took it
    }
)
"""Dead letters of a log: source is ``topic/partition``, position the offset; they can be replayed.
"""

MESSAGE = ("source", "position", "appended_at")
"""What tells the message of a dead letter from others, also of a topic that was made anew."""

EXPECTED = {
    "null_entity": "an entity",
    "null_event_id": "an event id",
    "null_event_time": "a time",
    "impossible_event_time": "a time between the event type's earliest and latest",
    "unknown_operation": "'upsert' or 'delete'",
    "outside_partition": "a time within the file's or partition's days",
    "null_key": "a key",
    "null_available_time": "a time",
}


def dead_letters(
    rows: pl.DataFrame,
    rules: pl.Series,
    *,
    source: str,
    details: pl.Series | None = None,
    positions: pl.Series | None = None,
) -> pl.DataFrame:
    """Return the dead letters of raw rows.

    Args:
        rows: Raw rows, all dead.
        rules: Why, one a row.
        source: Where they came from.
        details: Found and expected; told from the rules unless given.
        positions: Where they stood there, if that is known.
    """
    if rows.is_empty():
        return pl.DataFrame(schema=DEAD_LETTERS)
    return pl.DataFrame(
        {
            "source": pl.repeat(source, rows.height, dtype=pl.String, eager=True),
            "position": pl.repeat(None, rows.height, dtype=pl.Int64, eager=True)
            if positions is None
            else positions,
            "rule": rules,
            "detail": "expected " + rules.replace_strict(EXPECTED, default="another value")
            if details is None
            else details,
            "row": rows.select(row=pl.struct(pl.all()).struct.json_encode())["row"],
        },
        schema=DEAD_LETTERS,
    )
