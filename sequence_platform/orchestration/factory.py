"""A plan to Dagster assets: a body takes ports, calls one runtime function and reports."""

import warnings
from collections.abc import Callable
from datetime import date
from functools import partial

import dagster as dg

from sequence_platform.orchestration.checks import (
    ENRICHED_CHECKS,
    ENRICHMENT_CHECKS,
    SEQUENCE_CHECKS,
    check_specs,
)
from sequence_platform.orchestration.days import (
    Events,
    Progress,
    materialize_days,
    materialize_whole,
)
from sequence_platform.orchestration.keys import daily_partitions, step_name
from sequence_platform.orchestration.specs import (
    enriched_spec,
    enrichment_spec,
    online_spec,
    raw_spec,
    sequence_spec,
)
from sequence_platform.plan.plan import EnrichmentPlan, EventPlan, Plan, SequencePlan
from sequence_platform.ports import Counts
from sequence_platform.runtimes.batch import Report, build_enrichment, build_events, build_sequence
from sequence_platform.runtimes.segments import publish_day
from sequence_platform.runtimes.values import publish_values
from sequence_platform.wiring import Platform, open_online, open_values

Assets = list[dg.AssetsDefinition | dg.AssetSpec]
BuildDay = Callable[[Platform, date], Report]
Days = dg.PartitionsDefinition[str]


def build_assets(plan: Plan, *, days_per_run: int, progress: Progress) -> Assets:
    """Return the asset graph of a plan.

    Args:
        plan: What definitions compiled to.
        days_per_run: A backfill is cut into runs of at most this many days.
        progress: Is told of every partition as it is committed.
    """
    with warnings.catch_warnings():
        # Two parts are beta and without alternative: backfill policies, and looking back past the
        # first partition.
        warnings.simplefilter("ignore", dg.BetaWarning)
        policy = dg.BackfillPolicy.multi_run(days_per_run)

        def days(item: EventPlan | SequencePlan) -> Days:
            return daily_partitions(plan.start_of(item))

        return [
            *(raw_spec(event, days(event)) for event in plan.events.values()),
            *(_enrichment(item, progress) for item in plan.enrichments.values()),
            *(_enriched(item, days(item), policy, progress) for item in plan.events.values()),
            *(_sequence(item, days(item), policy, progress) for item in plan.sequences.values()),
            *(_online(item, days(item), policy, progress) for item in plan.events.values()),
        ]


def _enrichment(enrichment: EnrichmentPlan, progress: Progress) -> dg.AssetsDefinition:
    spec = enrichment_spec(enrichment)

    @dg.multi_asset(
        name=step_name(spec.key), specs=[spec], check_specs=check_specs(spec.key, ENRICHMENT_CHECKS)
    )
    def whole(context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]) -> Events:
        build = partial(_build_enrichment, platform, enrichment)
        yield from materialize_whole(context, build, checks=ENRICHMENT_CHECKS, progress=progress)

    return whole


def _build_enrichment(platform: Platform, enrichment: EnrichmentPlan) -> Report:
    """Build its table; what requests look up is published with it: it is to be as fresh."""
    source = platform.source_of(enrichment.name)
    report = build_enrichment(platform.lake, source, enrichment, platform.clock)
    if enrichment.is_read:
        with open_values(platform.settings) as store:
            publish_values(platform.lake, store, enrichment, platform.clock)
    return report


def _enriched(
    event: EventPlan, days: Days, policy: dg.BackfillPolicy, progress: Progress
) -> dg.AssetsDefinition | dg.AssetSpec:
    spec = enriched_spec(event, days)
    if event.definition.batch is None and event.definition.log is None:
        return spec

    def build(platform: Platform, day: date) -> Report:
        source = platform.history_of(event.name)
        return build_events(platform.lake, source, event, day, platform.clock)

    return _daily(spec, ENRICHED_CHECKS, policy, build, progress)


def _sequence(
    sequence: SequencePlan, days: Days, policy: dg.BackfillPolicy, progress: Progress
) -> dg.AssetsDefinition:
    def build(platform: Platform, day: date) -> Report:
        bucket_rows = platform.settings.bucket_rows
        return build_sequence(platform.lake, sequence, day, platform.clock, bucket_rows=bucket_rows)

    return _daily(sequence_spec(sequence, days), SEQUENCE_CHECKS, policy, build, progress)


def _online(
    event: EventPlan, days: Days, policy: dg.BackfillPolicy, progress: Progress
) -> dg.AssetsDefinition:
    def build(platform: Platform, day: date) -> Report:
        with open_online(platform.settings) as store:
            done = publish_day(platform.lake, store, event, day, platform.clock)
        return Report(
            table=f"online.{event.table}",
            day=day,
            version=done.manifest,
            changed=done.changed,
            counts=Counts(done.rows, done.rows),
            rows=done.rows,
            bytes=done.bytes,
            seconds=done.seconds,
            violations={},
            newest_event_time=done.newest_event_time,
        )

    return _daily(online_spec(event, days), (), policy, build, progress)


def _daily(
    spec: dg.AssetSpec,
    checks: tuple[str, ...],
    policy: dg.BackfillPolicy,
    build: BuildDay,
    progress: Progress,
) -> dg.AssetsDefinition:
    @dg.multi_asset(
        name=step_name(spec.key),
        specs=[spec],
        check_specs=check_specs(spec.key, checks),
        backfill_policy=policy,
    )
    def days(context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]) -> Events:
        build_day = partial(build, platform)
        yield from materialize_days(context, build_day, checks=checks, progress=progress)

    return days
