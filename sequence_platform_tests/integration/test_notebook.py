from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from sequence_platform.demo import FIRST_DAY
from sequence_platform.demo.shop_events import generate_shop
from sequence_platform.runtimes.batch import build_enrichment, build_events, build_sequence
from sequence_platform.settings import Settings
from sequence_platform.wiring import open_platform

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
DAYS = 4


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A small shop, built."""
    root = tmp_path_factory.mktemp("project")
    last = FIRST_DAY + timedelta(days=DAYS - 1)
    shop = root / "data" / "shop"
    generate_shop(shop, days=DAYS, end=last, events=5_000, users=150, products=120)
    chosen = Settings(home=root / "home", definitions=ROOT / "definitions", source_root=root)
    build_all(chosen, [FIRST_DAY + timedelta(days=n) for n in range(DAYS)])
    return chosen


def build_all(settings: Settings, days: list[date]) -> None:
    with open_platform(settings) as platform:
        plan, lake, clock = platform.plan, platform.lake, platform.clock
        for name, enrichment in plan.enrichments.items():
            build_enrichment(lake, platform.source_of(name), enrichment, clock)
        sequences = [plan.sequences[name] for name in ("shop_activity", "purchase_intent")]
        for event in sequences[0].events:
            for day in days:
                build_events(lake, platform.source_of(event.name), event, day, clock)
        for sequence in sequences:
            for day in days:
                build_sequence(lake, sequence, day, clock)


def read_notebook(path: Path) -> nbformat.NotebookNode:
    notebook: nbformat.NotebookNode = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call] # the vendor's
    return notebook


def outputs(notebook: nbformat.NotebookNode) -> Iterator[dict[str, Any]]:
    for cell in notebook.cells:
        yield from (output.get("data", {}) for output in cell.get("outputs", []))


@pytest.mark.integration
@pytest.mark.parametrize(
    ("name", "images", "words"),
    [
        ("sequences", 3, ("enriched.product_view", "null_entity", "dwell_known", "add_to_cart")),
        ("training", 1, ("unknown_entity", "before_data", "weight from pointers", "next_batch")),
    ],
)
def test_a_notebook_runs_from_top_to_bottom(
    settings: Settings, tmp_path: Path, name: str, images: int, words: Sequence[str]
) -> None:
    notebook = read_notebook(ROOT / "notebooks" / f"{name}.ipynb")
    client = NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}})
    environment = {
        "SEQUENCE_PLATFORM_HOME": str(settings.home),
        "SEQUENCE_PLATFORM_DEFINITIONS": str(settings.definitions),
        "SEQUENCE_PLATFORM_SOURCE_ROOT": str(settings.source_root),
        "PYTHONPATH": str(ROOT),
        "IPYTHONDIR": str(tmp_path / "ipython"),
        "MPLCONFIGDIR": str(tmp_path / "matplotlib"),
    }
    client.execute(env=os.environ | environment)
    shown = list(outputs(notebook))
    assert sum("image/png" in data for data in shown) == images
    texts = " ".join(data.get("text/plain", "") for data in shown)
    assert [word for word in words if word not in texts] == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_kept_without_outputs(path: Path) -> None:
    cells = [cell for cell in read_notebook(path).cells if cell.cell_type == "code"]
    assert cells
    assert not any(cell.outputs or cell.execution_count for cell in cells)
