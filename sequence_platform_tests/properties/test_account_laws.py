"""Every row that may count for a sequence is accounted for."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given

from sequence_platform.engine.account import FATES, KEPT, account_for
from sequence_platform.engine.point import read_point
from sequence_platform_tests.backends import ONLINE_STORES
from sequence_platform_tests.conformance.test_online_store import (
    HERE,
    Played,
    Script,
    scripts,
)


@pytest.mark.parametrize("kind", ["local"])
@given(script=scripts())
def test_kept_rows_are_the_sequence_and_cut_ones_are_its_counts(kind: str, script: Script) -> None:
    sequence = script.sequence.plan
    with ONLINE_STORES[kind]() as store:
        played = Played(store, script)
        for step in script.steps:
            played.do(step)
        for entity in HERE.entities:
            with store.view() as view:
                found = [view.candidates(event, entity) for event in sequence.events]
                point = read_point(
                    sequence, found, entity, script.as_of, ["event_type", "event_id"]
                )
                rows = account_for(sequence, found, entity, script.as_of)
            kept = rows.filter(pl.col("fate") == KEPT).select("event_type", "event_id").rows()
            lists = [point.columns[name].to_series(name) for name in ("event_type", "event_id")]
            assert sorted(kept) == sorted(zip(*lists, strict=True))
            fates = dict(rows["fate"].value_counts().iter_rows())
            assert {rule: fates.get(rule, 0) for rule in point.trimmed} == dict(point.trimmed)
            assert fates.keys() <= FATES.keys()
            counted = sum(len(each.settled.time_us) for each in found)
            counted += sum(len(each.fresh.time_us) for each in found if each.fresh is not None)
            assert rows.height == counted
