"""The folder where Dagster keeps runs and events, with the instance settings that were measured."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from sequence_platform.settings import Settings

CONFIG = "dagster.yaml"
CONFIG_IN_PROCESS = "in_process.yaml"

NO_CAPTURE = """
# Written anew from dagster.yaml for runs inside the command line, which needs its terminal.
compute_logs:
  module: dagster._core.storage.noop_compute_log_manager
  class: NoOpComputeLogManager
"""


def ensure_dagster_home(settings: Settings) -> Path:
    """Return the DAGSTER_HOME of these settings, made if absent.

    A dagster.yaml that is there already stays: it may hold the operator's own instance.
    """
    home = settings.home.absolute() / "dagster"
    home.mkdir(parents=True, exist_ok=True)
    config = home / CONFIG
    if not config.exists():
        shipped = files("sequence_platform.orchestration").joinpath(CONFIG)
        config.write_text(shipped.read_text(encoding="utf-8"), encoding="utf-8")
    return home


def ensure_in_process_config(home: Path) -> str:
    """Return the file name of the same instance's settings for runs inside this process.

    Dagster captures the standard output of a run by redirecting that of the whole process, which
    would take the terminal away from a process that shows progress on it.
    """
    text = (home / CONFIG).read_text(encoding="utf-8")
    if "\ncompute_logs:" not in text:
        text += NO_CAPTURE
    (home / CONFIG_IN_PROCESS).write_text(text, encoding="utf-8")
    return CONFIG_IN_PROCESS
