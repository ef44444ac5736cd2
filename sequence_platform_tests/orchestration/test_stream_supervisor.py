"""The supervisor keeps one run a shard alive: it asks, waits, hands over, buries and pauses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import dagster as dg
import pytest

from sequence_platform.orchestration.definitions import build_definitions
from sequence_platform.orchestration.streams import (
    JOB,
    LOOKED_BACK_RUNS,
    OVERLAP_SECONDS,
    PREDECESSOR,
    SHARD,
    SILENCE_SECONDS,
)
from sequence_platform.settings import Settings
from sequence_platform_tests.orchestration.project import Project

STARTED, SUCCESS = dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.SUCCESS
FAILURE, CANCELED = dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED
QUEUED, CANCELING = dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.CANCELING
LEASE_SECONDS = 600.0


@dataclass
class Supervisor:
    """Ticks the sensor over runs that are made as a daemon and workers would leave them."""

    definitions: dg.Definitions
    instance: dg.DagsterInstance

    def tick(self) -> tuple[Sequence[dg.RunRequest], str]:
        """Return what is asked for, and what is said otherwise."""
        sensor = self.definitions.resolve_sensor_def("stream_supervisor")
        context = dg.build_sensor_context(instance=self.instance, definitions=self.definitions)
        evaluated = sensor.evaluate_tick(context)
        return evaluated.run_requests or (), evaluated.skip_message or ""

    def run(
        self,
        shard: str,
        status: dg.DagsterRunStatus = STARTED,
        *,
        age: float = 0,
        ended: float | None = None,
    ) -> dg.DagsterRun:
        """Leave a run that started so many seconds ago."""
        job = self.definitions.resolve_job_def(JOB)
        run = self.instance.create_run_for_job(
            job, tags={SHARD: shard}, status=dg.DagsterRunStatus.NOT_STARTED
        )
        if status == QUEUED:
            return run
        now = datetime.now(UTC).timestamp()  # as the sensor, which lives by the machine's clock
        self._happened(run, dg.DagsterEventType.PIPELINE_START, now - age)
        done = {
            SUCCESS: dg.DagsterEventType.PIPELINE_SUCCESS,
            FAILURE: dg.DagsterEventType.PIPELINE_FAILURE,
            CANCELED: dg.DagsterEventType.PIPELINE_CANCELED,
            CANCELING: dg.DagsterEventType.PIPELINE_CANCELING,
        }
        if status != STARTED:
            self._happened(run, done[status], now - (age if ended is None else ended))
        return run

    def spoke(self, run: dg.DagsterRun, seconds_ago: float = 0) -> None:
        """Leave a sign of life."""
        at = datetime.now(UTC).timestamp() - seconds_ago
        self._happened(run, None, at)

    def status_of(self, run: dg.DagsterRun) -> dg.DagsterRunStatus:
        found = self.instance.get_run_by_id(run.run_id)
        assert found is not None
        return found.status

    def _happened(self, run: dg.DagsterRun, kind: dg.DagsterEventType | None, at: float) -> None:
        event = None if kind is None else dg.DagsterEvent(kind.value, JOB)
        entry = dg.EventLogEntry(  # type: ignore[no-untyped-call]  # Dagster's
            error_info=None,
            level="debug",
            user_message="",
            run_id=run.run_id,
            timestamp=at,
            job_name=JOB,
            dagster_event=event,
        )
        self.instance.handle_new_event(entry)


def supervisor_of(settings: Settings, instance: dg.DagsterInstance) -> Supervisor:
    return Supervisor(build_definitions(settings), instance)


def with_logs(project: Project, shards: int) -> Settings:
    file = project.root / "definitions" / "feed.py"
    text = file.read_text().replace(
        "import Enrichment, EventType,", "import Enrichment, EventType, Log,"
    )
    file.write_text(text.replace('batch=Files("clicks', 'log=Log("clicks"), batch=Files("clicks'))
    return project.settings.model_copy(
        update={"stream_shards": shards, "stream_lease_minutes": LEASE_SECONDS / 60}
    )


@pytest.fixture
def supervisor(project: Project, instance: dg.DagsterInstance) -> Supervisor:
    return supervisor_of(with_logs(project, 1), instance)


@pytest.fixture
def two(project: Project, instance: dg.DagsterInstance) -> Supervisor:
    """A supervisor of two shards."""
    return supervisor_of(with_logs(project, 2), instance)


def lease_of(request: dg.RunRequest) -> dict[str, object]:
    return dict(request.run_config["ops"]["stream_shard"]["config"])


def test_without_a_log_there_is_no_supervisor(
    project: Project, instance: dg.DagsterInstance
) -> None:
    definitions = build_definitions(project.settings)
    assert not [s for s in definitions.sensors or [] if s.name == "stream_supervisor"]


def test_the_supervisor_does_nothing_until_somebody_starts_it(supervisor: Supervisor) -> None:
    sensor = supervisor.definitions.resolve_sensor_def("stream_supervisor")
    assert sensor.default_status == dg.DefaultSensorStatus.STOPPED


def test_one_run_is_asked_for_a_shard(two: Supervisor) -> None:
    requests, _ = two.tick()
    assert [lease_of(request) for request in requests] == [
        {"shard": shard, "shards": 2, "seconds": LEASE_SECONDS, "predecessor": ""}
        for shard in range(2)
    ]
    assert [request.run_key for request in requests] == ["0/2-after-nothing", "1/2-after-nothing"]
    assert [request.tags[SHARD] for request in requests] == ["0/2", "1/2"]
    assert [request.tags[PREDECESSOR] for request in requests] == ["none", "none"]


def test_what_is_asked_for_is_a_run_of_the_job(supervisor: Supervisor) -> None:
    [request], _ = supervisor.tick()
    job = supervisor.definitions.resolve_job_def(JOB)
    run = supervisor.instance.create_run_for_job(job, run_config=request.run_config)
    assert run.job_name == "stream_events"


@pytest.mark.parametrize("status", [STARTED, QUEUED, CANCELING])
def test_nothing_is_asked_for_while_a_run_is_alive(
    supervisor: Supervisor, status: dg.DagsterRunStatus
) -> None:
    supervisor.run("0/1", status)
    requests, said = supervisor.tick()
    assert not requests
    assert said.startswith("shard 0/1: runs for another ")


def test_only_the_shard_without_a_run_gets_one(two: Supervisor) -> None:
    two.run("1/2")
    requests, _ = two.tick()
    assert [request.tags[SHARD] for request in requests] == ["0/2"]


@pytest.mark.parametrize("status", [SUCCESS, FAILURE, CANCELED])
def test_a_run_that_ended_is_followed_at_once(
    supervisor: Supervisor, status: dg.DagsterRunStatus
) -> None:
    last = supervisor.run("0/1", status)
    [request], _ = supervisor.tick()
    assert request.run_key == f"0/1-after-{last.run_id}"
    assert lease_of(request)["predecessor"] == ""  # there is nothing to wait for


def test_near_the_end_of_a_lease_its_successor_is_asked_for_once(supervisor: Supervisor) -> None:
    living = supervisor.run("0/1", age=LEASE_SECONDS - OVERLAP_SECONDS + 5)
    supervisor.spoke(living)
    [request], _ = supervisor.tick()
    assert lease_of(request)["predecessor"] == living.run_id
    assert request.run_key == f"0/1-after-{living.run_id}"
    assert request.tags[PREDECESSOR] == living.run_id
    [again], _ = supervisor.tick()
    assert again.run_key == request.run_key  # Dagster makes one run of it
    supervisor.run("0/1")
    assert supervisor.tick() == ((), "shard 0/1: its successor waits")


def test_a_lease_is_not_followed_before_its_end_is_near(supervisor: Supervisor) -> None:
    living = supervisor.run("0/1", age=LEASE_SECONDS - OVERLAP_SECONDS - 30)
    supervisor.spoke(living)
    requests, said = supervisor.tick()
    assert not requests
    assert "runs for another 5" in said  # 55 seconds, or a little less


def test_a_silent_run_is_buried_and_replaced(supervisor: Supervisor) -> None:
    silent = supervisor.run("0/1", age=SILENCE_SECONDS + 20)
    [request], _ = supervisor.tick()
    assert supervisor.status_of(silent) == FAILURE
    assert request.run_key == f"0/1-after-{silent.run_id}"
    assert lease_of(request)["predecessor"] == ""


def test_a_run_that_gave_a_sign_of_life_is_not_buried(supervisor: Supervisor) -> None:
    living = supervisor.run("0/1", age=SILENCE_SECONDS + 20)
    supervisor.spoke(living, SILENCE_SECONDS - 20)
    requests, _ = supervisor.tick()
    assert not requests
    assert supervisor.status_of(living) == STARTED


def test_a_run_that_waits_in_the_queue_is_not_buried(supervisor: Supervisor) -> None:
    waiting = supervisor.run("0/1", QUEUED)
    supervisor.tick()
    assert supervisor.status_of(waiting) == dg.DagsterRunStatus.NOT_STARTED


@pytest.mark.parametrize(("failures", "pause"), [(2, 10), (3, 20), (4, 40), (9, 300)])
def test_failures_in_a_row_are_followed_after_pauses_that_grow(
    supervisor: Supervisor, failures: int, pause: int
) -> None:
    for _ in range(failures - 1):
        supervisor.run("0/1", FAILURE, age=9000)
    supervisor.run("0/1", FAILURE, age=9000, ended=pause - 5)
    requests, said = supervisor.tick()
    assert not requests
    assert said in {f"shard 0/1: failed; the next run comes in {left} s" for left in (3, 4, 5)}


def test_after_the_pause_a_failed_run_is_followed(supervisor: Supervisor) -> None:
    supervisor.run("0/1", FAILURE, age=9000)
    last = supervisor.run("0/1", FAILURE, age=9000, ended=11)
    [request], _ = supervisor.tick()
    assert request.run_key == f"0/1-after-{last.run_id}"


def test_a_success_ends_the_row_of_failures(supervisor: Supervisor) -> None:
    for status in (FAILURE, FAILURE, SUCCESS, FAILURE):
        supervisor.run("0/1", status)
    requests, _ = supervisor.tick()
    assert len(requests) == 1


def test_runs_of_another_number_of_shards_have_to_end_first(two: Supervisor) -> None:
    old = two.run("0/1")
    assert two.tick() == ((), "1 runs of another number of shards have to end first")
    two.instance.report_run_canceled(old)
    requests, _ = two.tick()
    assert [request.tags[SHARD] for request in requests] == ["0/2", "1/2"]


def test_a_shard_that_fails_and_fails_does_not_hide_the_run_of_another(two: Supervisor) -> None:
    living = two.run("1/2", age=300)
    two.spoke(living)
    for _ in range(2 * LOOKED_BACK_RUNS + 1):
        two.run("0/2", FAILURE)
    requests, said = two.tick()
    assert not requests
    assert "shard 1/2: runs for another 3" in said or "shard 1/2: runs for another 2" in said
    two.instance.report_run_canceled(living)
    [request], _ = two.tick()
    assert request.run_key == f"1/2-after-{living.run_id}"
