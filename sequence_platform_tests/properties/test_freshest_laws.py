"""What is looked up when a sequence is read equals the oracle, at any time and for any keys."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given

from sequence_platform.engine.freshest import freshest_of
from sequence_platform_tests.read_lookups import Asked, asked, listed


@given(wanted=asked())
def test_the_newest_row_available_counts(wanted: Asked) -> None:
    found = freshest_of(wanted.enrichment, wanted.frame, wanted.column, wanted.at)
    assert listed(found) == wanted.expected()


@given(wanted=asked())
def test_rows_of_other_keys_change_nothing(wanted: Asked) -> None:
    frame = wanted.frame
    only = frame.filter(frame["key"].is_in([key for key in wanted.keys if key is not None]))
    found = freshest_of(wanted.enrichment, only, wanted.column, wanted.at)
    assert listed(found) == wanted.expected()


@given(wanted=asked())
def test_what_becomes_available_later_changes_nothing(wanted: Asked) -> None:
    if not wanted.enrichment.is_versioned:
        return
    past = wanted.frame.filter(wanted.frame["available_time"] <= wanted.at)
    later = wanted.frame.with_columns(
        available_time=wanted.frame["available_time"] + timedelta(days=1)
    )
    for more in (past, past.vstack(later).sort("key", "available_time")):
        found = freshest_of(wanted.enrichment, more, wanted.column, wanted.at)
        assert listed(found) == wanted.expected()
