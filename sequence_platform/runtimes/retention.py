"""Retention: what definitions do not keep any longer leaves the lake."""

from __future__ import annotations

from sequence_platform.clock import Clock
from sequence_platform.plan.plan import Plan
from sequence_platform.plan.retention import first_kept, first_kept_snapshot
from sequence_platform.plan.tables import enriched_table, raw_table, sequence_table
from sequence_platform.ports import Expired, LakeKeeper


def expire(lake: LakeKeeper, plan: Plan, clock: Clock) -> list[Expired]:
    """Remove days that are older than retention; return what went, of tables that lost any.

    Each table is a transaction of its own; doing it again goes on from there.
    """
    now = clock.now()
    specs = []
    for event in plan.events.values():
        before = first_kept(event, now)
        if event.definition.log is not None:
            specs.append((raw_table(event), before))
        specs.append((enriched_table(event), before))
    specs += [
        (sequence_table(sequence), first_kept_snapshot(sequence, now))
        for sequence in plan.sequences.values()
    ]
    done = [lake.expire(spec, before) for spec, before in specs]
    return [each for each in done if each.is_any]
