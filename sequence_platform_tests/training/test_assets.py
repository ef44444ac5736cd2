"""Training sets in Dagster and on the command line, on the project of shows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest
from click.testing import CliRunner

from sequence_platform.cli import main
from sequence_platform.orchestration.definitions import build_definitions
from sequence_platform.orchestration.keys import enriched_key, training_key
from sequence_platform.stores.local_training.version import Version
from sequence_platform.training import Dataset
from sequence_platform_tests.training.shows import Shows

KEY = training_key("next_show")


def values(found: dg.AssetCheckEvaluation | dg.AssetMaterialization) -> dict[str, Any]:
    return {name: value.value for name, value in found.metadata.items()}


def run(shows: Shows, **config: int) -> dg.ExecuteInProcessResult:
    job = build_definitions(shows.settings).resolve_job_def("train_next_show")
    ops = {"training__next_show": {"config": config}}
    with dg.DagsterInstance.ephemeral() as instance:
        return job.execute_in_process(
            instance=instance, run_config={"ops": ops}, raise_on_error=False
        )


def checks(result: dg.ExecuteInProcessResult) -> dict[str, dg.AssetCheckEvaluation]:
    return {each.check_name: each for each in result.get_asset_check_evaluations()}


def test_a_training_set_depends_on_its_events(shows: Shows) -> None:
    graph = build_definitions(shows.settings).resolve_asset_graph()
    node = graph.get(KEY)
    assert node.parent_keys == {enriched_key("play"), enriched_key("like")}
    assert node.group_name == "training"
    assert node.owners == ["team:shows"]


def test_a_run_makes_a_data_set_and_checks_it(aside: Shows) -> None:
    result = run(aside, verify_labels=30)
    assert result.success
    made = Dataset.find("next_show", settings=aside.settings)
    [event] = result.get_asset_materialization_events()
    metadata = values(event.materialization)
    assert metadata["dagster/row_count"] == len(aside.labels)
    assert metadata["dataset"] == made.info.id
    assert metadata["store_version"] == made.info.store_version
    found = checks(result)
    assert found["no_leaks"].passed
    assert values(found["no_leaks"])["checked"] == 30
    # Users 25 and 26 never watched anything: told, and no reason to stop.
    answered = found["all_labels_answered"]
    assert not answered.passed
    assert answered.severity == dg.AssetCheckSeverity.WARN
    assert values(answered)["unknown_entity"] > 0
    [again] = run(aside).get_asset_materialization_events()
    assert values(again.materialization)["changed"] is False


def test_a_leak_stops_the_run(aside: Shows, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that finds events at the very time of a request to be before it."""
    honest = Version.before
    monkeypatch.setattr(
        Version, "before", lambda self, slots, time_us: honest(self, slots, time_us + 3_600_000_000)
    )
    result = run(aside, verify_labels=60)
    assert not result.success
    found = checks(result)["no_leaks"]
    assert not found.passed
    assert values(found)["leaks"] > 0


def invoke(shows: Shows, *arguments: str) -> tuple[int, str]:
    settings = shows.settings
    environment = {
        "SEQUENCE_PLATFORM_HOME": str(settings.home),
        "SEQUENCE_PLATFORM_DEFINITIONS": str(settings.definitions),
        "SEQUENCE_PLATFORM_SOURCE_ROOT": str(settings.source_root),
        "SEQUENCE_PLATFORM_TRAINING": settings.training,
        "COLUMNS": "250",
    }
    result = CliRunner(env=environment).invoke(main, ["training", *arguments])
    return result.exit_code, result.output


def test_commands_build_list_verify_and_collect(aside: Shows) -> None:
    assert invoke(aside, "list") == (0, "no data set yet: sequence-platform training build\n")
    code, text = invoke(aside, "build")
    assert code == 0, text
    assert "next_recent: 400 labels" in text
    assert "like does not record arrival: assumed on time" in text
    code, text = invoke(aside, "list")
    made = Dataset.find("next_show", settings=aside.settings)
    assert made.info.id in text
    code, text = invoke(aside, "verify", "next_show", "--sample", "20", "--seed", "4")
    assert (code, text.splitlines()[0].startswith("20 of 20 labels computed again")) == (0, True)
    assert "0 differ, 0 leak" in text
    code, text = invoke(aside, "collect", "--keep", "1", "--keep-days", "0")
    assert (code, text) == (0, "removed 0 data sets and 0.0 MB of stores\n")


def test_commands_name_what_is_not_there(aside: Shows) -> None:
    code, text = invoke(aside, "build", "next_shw")
    assert code == 1
    assert "no training set is called 'next_shw'" in text
    assert "next_show" in text
    code, text = invoke(aside, "verify", "next_show")
    assert code == 1
    assert "sequence-platform training build next_show" in text


def test_labels_that_do_not_fit_are_kept_and_counted(aside: Shows, tmp_path: Path) -> None:
    """A label whose user is no number is a dead letter; the others keep their order."""
    root = tmp_path / "sources"
    root.mkdir()
    rows = pl.DataFrame(aside.labels[:5]).cast({"user_id": pl.String})
    rows = rows.with_columns(
        user_id=pl.when(pl.col("label_id") == 2).then(pl.lit("bob")).otherwise("user_id")
    )
    rows.write_parquet(root / "labels.parquet")
    moved = replace(aside, settings=aside.settings.model_copy(update={"source_root": root}))
    code, text = invoke(moved, "build", "next_show")
    assert code == 0, text
    made = Dataset.find("next_show", settings=moved.settings)
    assert made.info.outcomes["dead"] == 1
    assert made.scan_pointers().collect()["label_id"].to_list() == [0, 1, 3, 4]
    dead = pl.read_parquet(made.folder / "dead.parquet")
    assert "bob" in str(dead.to_dicts())
