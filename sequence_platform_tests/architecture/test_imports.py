"""The shape of the house: import contracts hold, and importing the package stays light."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from importlinter.cli import lint_imports

ROOT = Path(__file__).parents[2]
HEAVY = ("dagster", "duckdb", "granian", "httpx", "kafka", "pyarrow", "starlette")


def test_import_contracts_hold() -> None:
    assert lint_imports(config_filename=str(ROOT / "setup.cfg"), no_cache=True, no_logo=True) == 0


def test_importing_the_package_loads_no_vendor_but_polars() -> None:
    program = "import sequence_platform, sys; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True, cwd=ROOT
    )
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert "sequence_platform" in loaded
    assert loaded.isdisjoint(HEAVY)
