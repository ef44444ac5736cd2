"""What models of developers' work read."""

from __future__ import annotations

from datetime import timedelta

import polars as pl

from definitions.git_activity.events import commit, file_change
from sequence_platform import Dedupe, Sequence, Sessions

gap = pl.col("event_time").diff()

author_commits = Sequence(
    name="author_commits",
    owner="team:developer-experience",
    description="An author's commits of a year, in all repositories.",
    events=[commit],
    columns=[
        "repository",
        "kind",
        "files",
        "lines",
        "author_hour",
        "is_merge",
        "is_fix",
        "review_h",
    ],
    max_length=500,
    max_age=timedelta(days=365),
    sessions=Sessions(gap=timedelta(hours=12), keep=200),  # working days
    derived={
        "gap_h": gap.dt.total_minutes() / 60,
        "changes_repository": pl.col("repository").ne_missing(pl.col("repository").shift()),
        "lines_so_far": pl.col("lines").cum_sum(),
    },
    context={"candidate_repository": pl.String},
    request={
        "age_days": (pl.col("request_time") - pl.col("event_time")).dt.total_days(),
        "is_candidate": pl.col("repository") == pl.col("candidate_repository"),
    },
)

author_files = Sequence(
    name="author_files",
    owner="team:developer-experience",
    description="The files an author touched in half a year, each commit after its files.",
    # Files and their commit are of the same second: the commit closes them.
    events=[file_change, commit],
    columns=[
        "repository",
        "path",
        "folder",
        "extension",
        "is_binary",
        "lines",
        "kind",
        "subject_length",
    ],
    max_length=1000,
    max_age=timedelta(days=180),
    # A file changed again within an hour is one piece of work; commits have no path and all stay.
    dedupe=Dedupe(by=["repository", "path"], keep="last", within=timedelta(hours=1)),
    quotas={"commit": 200},
    derived={
        "gap_s": gap.dt.total_seconds(),
        "is_first_touch": pl.col("path").is_first_distinct() & pl.col("path").is_not_null(),
        "same_folder": pl.col("folder") == pl.col("folder").shift(),
    },
    context={"candidate_path": pl.String},
    request={
        "age_s": (pl.col("request_time") - pl.col("event_time")).dt.total_seconds(),
        "is_candidate": pl.col("path") == pl.col("candidate_path"),
    },
)
