"""Commits and file changes. Work is an event when it was authored, and arrives when committed."""

from __future__ import annotations

from datetime import date, timedelta

import polars as pl

from sequence_platform import EventType, Files

START = date(2023, 1, 1)
"""Older history is in the files and is left out."""

YEARS = timedelta(days=3650)


def iso_time(column: str) -> pl.Expr:
    """Return an ISO 8601 time with an offset as UTC; null (a dead letter) where it is none."""
    form = "%Y-%m-%dT%H:%M:%S%:z"
    return pl.col(column).str.to_datetime(form, time_unit="us", time_zone="UTC", strict=False)


def local_hour(column: str) -> pl.Expr:
    """Return the hour on the author's own clock."""
    return pl.col(column).str.slice(11, 2).cast(pl.Int8, strict=False)


commit = EventType(
    name="commit",
    owner="team:developer-experience",
    description="A commit on a repository's main line, merges included.",
    schema={
        "sha": pl.String,
        "author": pl.Int64,
        "authored_at": pl.String,
        "committed_at": pl.String,
        "repository": pl.String,
        "parents": pl.Int64,
        "subject_length": pl.Int64,
        "kind": pl.String,
        "files": pl.Int64,
        "insertions": pl.Int64,
        "deletions": pl.Int64,
    },
    event_id="sha",
    event_time=iso_time("authored_at"),
    arrival_time=iso_time("committed_at"),
    entity="author",
    batch=Files("data/git/commits*.ndjson.gz"),
    columns={
        "author_hour": local_hour("authored_at"),
        "is_merge": pl.col("parents") > 1,
        "is_fix": (pl.col("kind") == "fix").fill_null(value=False),
        "lines": pl.col("insertions") + pl.col("deletions"),
        "review_h": (iso_time("committed_at") - iso_time("authored_at")).dt.total_hours(),
    },
    start=START,
    allowed_lateness=timedelta(days=90),  # a branch may wait for months
    retention=YEARS,
)

file_change = EventType(
    name="file_change",
    owner="team:developer-experience",
    description="A file that a commit added, changed or removed; binary files have no line counts.",
    schema={
        "sha": pl.String,
        "n": pl.Int64,
        "author": pl.Int64,
        "authored_at": pl.String,
        "committed_at": pl.String,
        "repository": pl.String,
        "path": pl.String,
        "insertions": pl.Int64,
        "deletions": pl.Int64,
    },
    event_id=pl.concat_str("sha", pl.lit(":"), "n"),
    event_time=iso_time("authored_at"),
    arrival_time=iso_time("committed_at"),
    entity="author",
    batch=Files("data/git/file_changes*.ndjson.gz"),
    where={"has_path": pl.col("path").str.len_bytes() > 0},
    columns={
        "folder": pl.col("path").str.extract(r"^(.*)/[^/]*$").fill_null(""),
        "extension": pl.col("path").str.extract(r"[^/.]\.([^/.]+)$").str.to_lowercase(),
        "is_binary": pl.col("insertions").is_null(),
        "lines": pl.col("insertions") + pl.col("deletions"),
    },
    start=START,
    allowed_lateness=timedelta(days=90),
    retention=YEARS,
)
