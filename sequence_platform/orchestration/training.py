"""Training sets as assets: a data set a run, checked for leaks before anybody trains with it."""

from collections.abc import Iterator
from typing import Any

import dagster as dg
from pydantic import Field

from sequence_platform.orchestration import columns
from sequence_platform.orchestration.keys import (
    enriched_key,
    step_name,
    training_job_name,
    training_key,
)
from sequence_platform.plan.plan import Plan, TrainingPlan
from sequence_platform.runtimes.training import Exported, Verification, verify
from sequence_platform.wiring import Platform, open_training

NO_LEAKS = "no_leaks"
COMPLETE = "all_labels_answered"
DIFFERENCES_SHOWN = 10
MONDAYS = "0 4 * * 1"
"""Mondays at 04:00 UTC."""


class TrainingRun(dg.Config):
    """How a data set is made."""

    verify_labels: int = Field(
        default=50, description="Labels that the leakage check computes again from the lake."
    )
    seed: int = Field(default=0, description="Which labels those are.")


def training_definitions(plan: Plan) -> dg.Definitions:
    """Return an asset, a job and a schedule per training set."""
    parts = [_definitions(training) for training in plan.training.values()]
    return dg.Definitions.merge(*parts) if parts else dg.Definitions()


def training_spec(training: TrainingPlan) -> dg.AssetSpec:
    """Return a training set: it depends on all days of its events."""
    definition, sequence = training.definition, training.sequence
    tables = dict.fromkeys(event.table for event in sequence.events)
    known = "and had arrived by then" if definition.known == "at_request" else "late ones too"
    return dg.AssetSpec(
        training_key(training.table),
        description=f"{definition.description}\n\nFor each label the sequence {sequence.name} of "
        f"events before its request time, {known}: pointers into the training store. "
        "Every run makes a data set of what the lake holds; an equal lake gives an equal one.",
        group_name="training",
        code_version=training.fingerprint,
        deps=[enriched_key(table) for table in tables],
        metadata={"dagster/column_schema": columns.raw_columns(training.raw_schema)},
        kinds={"numpy", "parquet"},
        owners=[definition.owner],
        tags={"definition": training.name, "version": str(definition.version)},
    )


def _definitions(training: TrainingPlan) -> dg.Definitions:
    spec = training_spec(training)

    @dg.multi_asset(name=step_name(spec.key), specs=[spec], check_specs=_checks(spec.key))
    def dataset(
        context: dg.AssetExecutionContext,
        config: TrainingRun,
        platform: dg.ResourceParam[Platform],
    ) -> Iterator[dg.MaterializeResult[None]]:
        made = platform.build_training_set(training)
        context.log.info("data set %s: %s labels", made.dataset.id, made.dataset.rows)
        store, datasets = open_training(platform.settings)
        verified = verify(
            platform.lake,
            store,
            datasets,
            training,
            made.dataset,
            config.verify_labels,
            config.seed,
        )
        yield dg.MaterializeResult(
            asset_key=spec.key,
            metadata=_metadata(made, str(datasets.folder_of(made.dataset))),
            check_results=[_leaks(spec.key, verified), _answered(spec.key, made)],
        )

    name = training_job_name(training.table)
    job = dg.define_asset_job(
        name,
        selection=dg.AssetSelection.assets(spec.key),
        description=f"The data set of training set {training.name}, from what the lake holds.",
    )
    weekly = dg.ScheduleDefinition(
        name=f"{name}_weekly", job=job, cron_schedule=MONDAYS, execution_timezone="UTC"
    )
    return dg.Definitions(assets=[dataset], jobs=[job], schedules=[weekly])


def _checks(key: dg.AssetKey) -> list[dg.AssetCheckSpec]:
    return [
        dg.AssetCheckSpec(
            NO_LEAKS,
            asset=key,
            description="Sampled labels, computed again from the lake without what happened or "
            "arrived after their request, and with more of it planted, come out the same.",
            blocking=True,
        ),
        dg.AssetCheckSpec(
            COMPLETE,
            asset=key,
            description="Every label says whose sequence and as of when, of days that are built.",
        ),
    ]


def _leaks(key: dg.AssetKey, found: Verification) -> dg.AssetCheckResult:
    metadata: dict[str, Any] = {
        "checked": found.checked,
        "left_out": found.changed,
        "planted": found.planted,
        "leaks": found.leaks,
    }
    if found.differences:
        metadata["differences"] = [
            f"label {each.row}: {each.what}" for each in found.differences[:DIFFERENCES_SHOWN]
        ]
    return dg.AssetCheckResult(
        asset_key=key, check_name=NO_LEAKS, passed=not found.differences, metadata=metadata
    )


def _answered(key: dg.AssetKey, made: Exported) -> dg.AssetCheckResult:
    others = {name: count for name, count in made.dataset.outcomes.items() if name != "ok"}
    return dg.AssetCheckResult(
        asset_key=key,
        check_name=COMPLETE,
        passed=not others,
        # A label of a user who never did anything is nothing to stop for.
        severity=dg.AssetCheckSeverity.WARN,
        metadata=dict(others),
    )


def _metadata(made: Exported, folder: str) -> dict[str, Any]:
    info, version = made.dataset, made.version
    return {
        "dagster/row_count": info.rows,
        "outcomes": dict(info.outcomes),
        "duplicates": info.duplicates,
        "dataset": info.id,
        "folder": dg.MetadataValue.path(folder),
        "store_version": version.id,
        "store_events": version.rows,
        "store_bytes": version.bytes,
        "lake_snapshot": version.lake_snapshot,
        "seconds": round(made.seconds, 3),
        "changed": made.changed,
        "notes": list(info.notes),
        "fingerprint": info.fingerprint,
    }
