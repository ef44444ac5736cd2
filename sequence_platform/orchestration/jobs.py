"""Jobs and schedules: for each sequence, over its whole graph, and for the upkeep of the lake."""

from datetime import timedelta

import dagster as dg
from pydantic import Field

from sequence_platform.orchestration.keys import DAY, job_name, read_keys, sequence_key
from sequence_platform.orchestration.specs import settle_time
from sequence_platform.plan.plan import SequencePlan
from sequence_platform.runtimes.retention import expire
from sequence_platform.runtimes.segments import collect, confirm_days
from sequence_platform.wiring import Platform, open_online

WEEKLY = "0 3 * * 0"
"""Sundays at 03:00 UTC, when few build."""


def sequence_definitions(sequence: SequencePlan) -> dg.Definitions:
    """Return the job of a sequence, over all of its asset graph, and its daily schedule.

    The schedule asks for a day once its events had their time to arrive. It starts stopped.
    """
    name = job_name(sequence.table)
    settles = max(settle_time(event) for event in sequence.events)
    job = dg.define_asset_job(
        name,
        selection=dg.AssetSelection.assets(sequence_key(sequence.table)).upstream()
        | dg.AssetSelection.assets(*read_keys(sequence)),
        description=f"Sequence {sequence.name} and everything it is made from and read with.",
    )

    @dg.schedule(
        name=f"{name}_daily",
        job=job,
        cron_schedule=_at(settles % DAY),
        execution_timezone="UTC",
        description=f"Builds each day once its events had {settles} to arrive.",
    )
    def daily(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
        newest = (context.scheduled_execution_time - settles).date() - DAY
        return dg.RunRequest(run_key=newest.isoformat(), partition_key=newest.isoformat())

    return dg.Definitions(jobs=[job], schedules=[daily])


class Upkeep(dg.Config):
    """How much of the past the lake keeps at hand."""

    keep_snapshots_days: float = Field(default=7, description="Time travel reaches this far back.")
    orphans_older_than_hours: float = Field(
        default=24, description="Files of no snapshot are deleted after this; longer than any run."
    )


@dg.op(
    description="Remove days beyond retention, merge small files, expire old snapshots, delete "
    "orphaned files."
)
def maintain(
    context: dg.OpExecutionContext, config: Upkeep, platform: dg.ResourceParam[Platform]
) -> None:
    """Keep the lake healthy and say what that changed."""
    expired = expire(platform.lake, platform.plan, platform.clock)
    done = platform.lake.maintain(
        keep_snapshots=timedelta(days=config.keep_snapshots_days),
        orphans_older_than=timedelta(hours=config.orphans_older_than_hours),
    )
    context.add_output_metadata(
        {
            "files": f"{done.files_before:,} -> {done.files_after:,}",
            "bytes": f"{done.bytes_before:,} -> {done.bytes_after:,}",
            "snapshots_expired": done.snapshots_expired,
            "beyond_retention": {
                each.table: f"{each.days} days before {each.before}, {each.rows:,} rows, "
                f"{each.dead_letters:,} dead letters"
                for each in expired
            },
        }
    )


@dg.job(description="Upkeep of the lake: run it weekly, and after large backfills.")
def maintain_lake() -> None:
    """Run the upkeep as one step."""
    maintain()


class OnlineUpkeep(dg.Config):
    """How much of the past the online store keeps at hand."""

    keep_hours: float = Field(
        default=24, description="Rollbacks and known_at reads reach this far back."
    )


@dg.op(description="Merge segments, drop old manifests and streamed rows that segments hold.")
def collect_online(
    context: dg.OpExecutionContext, config: OnlineUpkeep, platform: dg.ResourceParam[Platform]
) -> None:
    """Keep the online store small and say what that changed."""
    with open_online(platform.settings) as store:
        before = store.tail_size()
        for event in platform.plan.events.values():
            confirm_days(platform.lake, store, event, platform.clock)
            store.compact(event, platform.clock.now())
            collect(store, event, timedelta(hours=config.keep_hours), platform.clock)
        after = store.tail_size()
    context.add_output_metadata(
        {"rows": f"{before.rows:,} -> {after.rows:,}", "bytes_of_tail": after.bytes}
    )


@dg.job(description="Upkeep of the online store: every quarter of an hour while streams run.")
def maintain_online() -> None:
    """Run the upkeep as one step."""
    collect_online()


def maintenance_definitions() -> dg.Definitions:
    """Return the upkeep of lake and online store and their schedules, which start stopped."""
    often = dg.ScheduleDefinition(
        name="maintain_online_often",
        job=maintain_online,
        cron_schedule="*/15 * * * *",
        execution_timezone="UTC",
    )
    weekly = dg.ScheduleDefinition(
        name="maintain_lake_weekly",
        job=maintain_lake,
        cron_schedule=WEEKLY,
        execution_timezone="UTC",
    )
    return dg.Definitions(jobs=[maintain_lake, maintain_online], schedules=[weekly, often])


def _at(time_of_day: timedelta) -> str:
    minutes = -(-time_of_day // timedelta(minutes=1))
    return f"{minutes % 60} {minutes // 60 % 24} * * *"
