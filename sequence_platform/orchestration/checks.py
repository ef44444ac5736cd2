"""The guarantees of each table as Dagster checks, and whether the days just built keep them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import dagster as dg

from sequence_platform.runtimes.batch import Report

CONSERVATION = "conservation"
DAYS_SHOWN = 20
"""Bad days listed with a failed check; the first is where one starts to look."""

PROMISES = {
    "unique_keys": "No key occurs twice in a partition.",
    "null_entity": "No row is without an entity.",
    "in_partition": "Every row lies in the day of its partition.",
    "alignment": "All lists of a row are as long as its length.",
    "order": "Events of a row rise in time.",
    CONSERVATION: "Rows received = admitted + filtered + superseded + deleted + dead-lettered.",
}
ENRICHMENT_CHECKS = (CONSERVATION,)
ENRICHED_CHECKS = ("unique_keys", "null_entity", "in_partition", CONSERVATION)
SEQUENCE_CHECKS = ("unique_keys", "null_entity", "alignment", "order", "in_partition")


def check_specs(key: dg.AssetKey, names: Iterable[str]) -> list[dg.AssetCheckSpec]:
    """Return the checks of an asset; what is built from it in the same run waits for them."""
    # No partitions_def: in a ranged run Dagster plans those per partition and stores one result.
    return [
        dg.AssetCheckSpec(name, asset=key, description=PROMISES[name], blocking=True)
        for name in names
    ]


def check_results(
    key: dg.AssetKey, names: Iterable[str], reports: Iterable[Report]
) -> list[dg.AssetCheckResult]:
    """Return each check over all partitions just built, with the bad days if there are any."""
    built = list(reports)
    return [_result(key, name, built) for name in names]


def _result(key: dg.AssetKey, name: str, reports: list[Report]) -> dg.AssetCheckResult:
    broken = _broken_by(name)
    bad = {str(report.day or report.table): broken(report) for report in reports if broken(report)}
    metadata: dict[str, Any] = {"partitions": len(reports), "bad_partitions": len(bad)}
    if bad:
        metadata["violations"] = sum(bad.values())
        metadata["violations_by_day"] = dict(list(bad.items())[:DAYS_SHOWN])
    return dg.AssetCheckResult(asset_key=key, check_name=name, passed=not bad, metadata=metadata)


def _broken_by(name: str) -> Callable[[Report], int]:
    """Return what counts the violations of a check in a report."""
    if name == CONSERVATION:
        return lambda report: 0 if report.counts.is_conserved else 1
    return lambda report: report.violations[name]
