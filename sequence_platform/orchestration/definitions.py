"""What Dagster loads: the code location, from settings. Nothing is read at import."""

import dagster as dg

from sequence_platform.catalog import load_plan
from sequence_platform.orchestration.days import Progress
from sequence_platform.orchestration.factory import build_assets
from sequence_platform.orchestration.jobs import maintenance_definitions, sequence_definitions
from sequence_platform.orchestration.resources import lake_duckdb, platform_resource
from sequence_platform.orchestration.sensors import (
    stale_sensor,
    unpublished_sensor,
    unsealed_sensor,
)
from sequence_platform.orchestration.streams import stream_definitions
from sequence_platform.orchestration.training import training_definitions
from sequence_platform.runtimes.batch import Report
from sequence_platform.settings import Settings


def build_definitions(settings: Settings, progress: Progress | None = None) -> dg.Definitions:
    """Return assets, checks, jobs, schedules and sensor of all definitions.

    Args:
        settings: Where definitions, sources and the lake are.
        progress: Is told of every partition as it is committed, in the process that builds it.

    Raises:
        DefinitionError: the definitions are broken; carries every problem.
    """
    plan = load_plan(settings.definitions)
    days_per_run = settings.partitions_per_run
    again = {"days_per_run": days_per_run, "settle_seconds": settings.settle_seconds}
    graph = dg.Definitions(
        assets=build_assets(plan, days_per_run=days_per_run, progress=progress or _ignore),
        sensors=[
            stale_sensor(plan.sequences, **again),
            *unsealed_sensor(plan, **again),
            unpublished_sensor(plan, **again),
        ],
        resources={"platform": platform_resource(settings), "duckdb": lake_duckdb(settings)},
        # A process per step would cost 1.5 s each; one process also opens the lake once.
        executor=dg.in_process_executor,
    )
    jobs = [sequence_definitions(sequence) for sequence in plan.sequences.values()]
    streams = stream_definitions(plan, settings)
    others = (streams, training_definitions(plan), maintenance_definitions())
    return dg.Definitions.merge(graph, *jobs, *others)


@dg.definitions
def definitions() -> dg.Definitions:
    """Return the code location of the settings in the environment."""
    return build_definitions(Settings())


def _ignore(_: Report) -> None:
    """Tell nobody."""
