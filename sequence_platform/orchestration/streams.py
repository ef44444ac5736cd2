"""Streaming in Dagster: a sensor keeps one run a shard alive, each for the time of its lease.

A run is a lease: it reads its shard for some minutes and ends. Shortly before, its successor is
asked for, which waits until it ended and goes on from its offsets. A run that died, or that gives
no sign of life, is replaced. What a run that was thought dead may still write, the lake's offsets
fence.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from threading import Event, Timer

import dagster as dg
from pydantic import Field

from sequence_platform.clock import SystemClock
from sequence_platform.errors import LogPositionError, StateMismatchError
from sequence_platform.orchestration.keys import daily_partitions
from sequence_platform.orchestration.sensors import IN_FLIGHT
from sequence_platform.orchestration.stream_reports import StreamReporter, warn_of_trouble
from sequence_platform.plan.plan import EventPlan, Plan
from sequence_platform.runtimes.streaming import Shard, Tell, run_side_by_side
from sequence_platform.settings import Settings
from sequence_platform.wiring import Platform, StreamTo, open_workers, streamed_events

JOB = "stream_events"
SHARD = "sequence_platform/shard"
PREDECESSOR = "sequence_platform/predecessor"

OVERLAP_SECONDS = 25.0
"""A successor is asked for so long before a lease ends: the time a run takes to be there."""

SILENCE_SECONDS = 180.0
"""A run without a sign of life for so long is dead: an idle one gives one every minute."""

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 10.0, 300.0
"""Between a failed run and the next; doubled with every failure in a row."""

LOOKED_BACK_RUNS = 8
ENDED = (dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)


class Lease(dg.Config):
    """What a streaming run reads, and for how long."""

    shard: int = Field(default=0, description="Which share of every topic, counted from 0.")
    shards: int = Field(default=1, description="How many shares there are.")
    seconds: float = Field(default=600.0, description="How long the run reads before it ends.")
    predecessor: str = Field(default="", description="Run that is waited for before reading.")


def stream_definitions(plan: Plan, settings: Settings) -> dg.Definitions:
    """Return the streaming job and the sensor that keeps it running; the sensor starts stopped.

    Nothing if no event type has a log.
    """
    if not streamed_events(plan):
        return dg.Definitions()
    return dg.Definitions(jobs=[_job(plan, settings)], sensors=[_supervisor(settings)])


def _job(plan: Plan, settings: Settings) -> dg.JobDefinition:
    partitions = {
        name: daily_partitions(plan.start_of(event)) for name, event in plan.events.items()
    }

    @dg.op(
        description="Read a share of the log for the time of a lease, into lake and online store."
    )
    def stream_shard(
        context: dg.OpExecutionContext, config: Lease, platform: dg.ResourceParam[Platform]
    ) -> None:
        _wait_for(context, config.predecessor)
        events = streamed_events(platform.plan)
        reporter = StreamReporter(
            events,
            partitions,
            shard=str(Shard(config.shard, config.shards)),
            log=context.log_event,
            warn=context.log.warning,
            say=context.log.info,
        )
        try:
            _read(platform, events, config, reporter.tell, context.log.warning)
        except LogPositionError:
            raise
        except StateMismatchError as error:
            context.log.info("a successor goes on by other definitions: %s", error)
        finally:
            reporter.finish()

    @dg.job(
        name=JOB,
        description="Streams every event type that has a log into raw/, enriched/ and online. "
        "Kept running by the sensor stream_supervisor; terminate a run to end it at once.",
        tags={"dagster/max_runtime": str(int(60 * settings.stream_lease_minutes + 300))},
        executor_def=dg.in_process_executor,
    )
    def stream_events() -> None:
        stream_shard()

    return stream_events


def _read(
    platform: Platform,
    events: Mapping[str, EventPlan],
    lease: Lease,
    tell: Tell,
    warn: Callable[[str], None],
) -> None:
    """Read a share of the log into lake and online store for the time of a lease."""
    stop = Event()
    timer = Timer(lease.seconds, stop.set)
    timer.daemon = True
    timer.start()
    try:
        shard = Shard(lease.shard, lease.shards)
        tells: dict[StreamTo, Tell] = {"lake": tell, "online": warn_of_trouble(warn)}
        with open_workers(platform, events.values(), tells, shard=shard) as workers:
            run_side_by_side(workers, stop)
    finally:
        timer.cancel()


def _wait_for(context: dg.OpExecutionContext, run_id: str) -> None:
    """Wait until a run has ended; one that does not end in time is fenced anyway."""
    deadline = time.monotonic() + OVERLAP_SECONDS + SILENCE_SECONDS
    while run_id and time.monotonic() < deadline:
        run = context.instance.get_run_by_id(run_id)
        if run is None or run.status in ENDED:
            return
        time.sleep(0.2)


def _supervisor(settings: Settings) -> dg.SensorDefinition:
    shards, seconds = settings.stream_shards, 60 * settings.stream_lease_minutes

    @dg.sensor(
        name="stream_supervisor",
        job_name=JOB,  # not the job itself: Dagster would copy the sensor, and warn of its own beta
        minimum_interval_seconds=4,
        description="Keeps a streaming run alive for every shard. To stop streaming, stop it, then "
        "terminate its runs.",
    )
    def stream_supervisor(
        context: dg.SensorEvaluationContext,
    ) -> dg.SensorResult | dg.SkipReason:
        now = SystemClock().now()
        asked: list[dg.RunRequest] = []
        notes: list[str] = []
        living = context.instance.get_run_records(
            dg.RunsFilter(job_name=JOB, statuses=IN_FLIGHT), order_by="id"
        )
        buried = _bury(context.instance, living, now)
        alive = [record for record in living if record not in buried]
        others = [r for r in alive if not _shard_of(r).endswith(f"/{shards}")]
        if others:
            return dg.SkipReason(
                f"{len(others)} runs of another number of shards have to end first"
            )
        for shard in (Shard(index, shards) for index in range(shards)):
            # Asked for by shard: one that fails and fails must not hide the runs of the others.
            own = context.instance.get_run_records(
                dg.RunsFilter(job_name=JOB, tags={SHARD: str(shard)}),
                limit=LOOKED_BACK_RUNS,
                order_by="id",
            )
            its_living = [record for record in alive if _shard_of(record) == str(shard)]
            request, note = _next(shard, own, its_living, now, seconds)
            asked += [request] if request is not None else []
            notes.append(f"shard {shard}: {note}")
        return dg.SensorResult(run_requests=asked) if asked else dg.SkipReason("; ".join(notes))

    return stream_supervisor


def _next(
    shard: Shard,
    own: Sequence[dg.RunRecord],
    alive: Sequence[dg.RunRecord],
    now: datetime,
    seconds: float,
) -> tuple[dg.RunRequest | None, str]:
    """Return the run to ask for, or None and why not. ``own`` is newest first."""
    if len(alive) > 1:
        return None, "its successor waits"
    if alive:
        [living] = alive
        left = seconds - _age(living, now)
        if left > OVERLAP_SECONDS:
            return None, f"runs for another {left:.0f} s"
        return _request(shard, seconds, living.dagster_run.run_id, waits=True), ""
    last = own[0] if own else None
    pause = _pause(own, now)
    if pause > 0:
        return None, f"failed; the next run comes in {pause:.0f} s"
    return _request(shard, seconds, last.dagster_run.run_id if last else "", waits=False), ""


def _request(shard: Shard, seconds: float, after: str, *, waits: bool) -> dg.RunRequest:
    """Return the request of the run after another; asking for it again does nothing."""
    lease = Lease(
        shard=shard.index, shards=shard.count, seconds=seconds, predecessor=after if waits else ""
    )
    return dg.RunRequest(
        run_key=f"{shard}-after-{after or 'nothing'}",
        run_config=dg.RunConfig(ops={"stream_shard": lease}),
        tags={SHARD: str(shard), PREDECESSOR: after or "none"},
    )


def _bury(
    instance: dg.DagsterInstance, runs: Iterable[dg.RunRecord], now: datetime
) -> list[dg.RunRecord]:
    """Mark runs failed that give no sign of life, and return them."""
    dead = []
    for record in runs:
        run = record.dagster_run
        if run.status != dg.DagsterRunStatus.STARTED:
            continue
        events = instance.get_records_for_run(run.run_id, limit=1, ascending=False).records
        seen = datetime.fromtimestamp(events[0].timestamp, UTC) if events else None
        silent = _age(record, now) if seen is None else (now - seen).total_seconds()
        if silent > SILENCE_SECONDS:
            instance.report_run_failed(run, f"no sign of life for {silent:.0f} s")
            dead.append(record)
    return dead


def _pause(own: Sequence[dg.RunRecord], now: datetime) -> float:
    """Return the seconds to wait before another run, after failures in a row."""
    failures = 0
    for record in own:
        if record.dagster_run.status != dg.DagsterRunStatus.FAILURE:
            break
        failures += 1
    # The first failure may be a kill: what replaces it comes at once.
    if failures < 2 or own[0].end_time is None:  # noqa: PLR2004 - the second in a row
        return 0.0
    pause = min(FIRST_PAUSE_SECONDS * 2 ** (failures - 2), LONGEST_PAUSE_SECONDS)
    return float(pause - (now.timestamp() - own[0].end_time))


def _age(record: dg.RunRecord, now: datetime) -> float:
    """Return the seconds since a run started; a started run may not have its start noted yet."""
    start = record.start_time or record.create_timestamp.timestamp()
    return now.timestamp() - start


def _shard_of(record: dg.RunRecord) -> str:
    return record.dagster_run.tags.get(SHARD, "")
