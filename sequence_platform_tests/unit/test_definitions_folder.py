from __future__ import annotations

import re
from pathlib import Path

import polars as pl
import pytest

from sequence_platform.catalog import load_plan
from sequence_platform.demo import FIRST_DAY
from sequence_platform.demo.shop_events import generate_shop
from sequence_platform.plan.plan import Plan

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def plan() -> Plan:
    return load_plan(ROOT / "definitions")


def test_all_definitions_of_the_project_compile(plan: Plan) -> None:
    assert set(plan.events) == {
        *("product_view", "add_to_cart", "purchase", "search", "commit", "file_change")
    }
    assert set(plan.enrichments) == {"product_attributes", "product_now", "product_vectors"}
    assert set(plan.sequences) == {
        *("shop_activity", "purchase_intent", "author_commits", "author_files")
    }


def test_only_purchases_correct_other_days(plan: Plan) -> None:
    assert [name for name, event in plan.events.items() if event.corrects] == ["purchase"]


def test_vectors_are_late_columns_of_both_shop_sequences(plan: Plan) -> None:
    assert plan.sequences["shop_activity"].late == ("vector",)
    assert plan.sequences["purchase_intent"].late == ("vector",)


def test_generated_files_have_the_columns_that_the_shop_declares(
    plan: Plan, tmp_path: Path
) -> None:
    report = generate_shop(tmp_path, days=1, end=FIRST_DAY, events=500, users=20, products=20)
    schemas = {name: event.raw_schema for name, event in plan.events.items()}
    schemas |= {name: enrichment.raw_schema for name, enrichment in plan.enrichments.items()}
    schemas["recommendations"] = plan.training["next_product"].raw_schema
    for name in report.rows:
        file = next((tmp_path / name).rglob("*.parquet"))
        assert pl.read_parquet_schema(file) == schemas[name], name


def test_the_example_of_the_readme_compiles(tmp_path: Path) -> None:
    text = (ROOT / "definitions" / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    folder = tmp_path / "definitions_of_the_readme"
    folder.mkdir()
    (folder / "plays.py").write_text(code, encoding="utf-8")
    example = load_plan(folder)
    assert list(example.events) == ["play"]
    assert list(example.sequences["recent_plays"].schema) == [
        *("entity", "as_of", "length", "event_type", "event_time", "event_id"),
        *("track", "seconds", "gap_s", "trimmed"),
    ]
