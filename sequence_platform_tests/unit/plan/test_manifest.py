"""The manifest is the plan as a portable document."""

from __future__ import annotations

import json

import polars as pl
import pytest

from sequence_platform.errors import StateMismatchError
from sequence_platform.plan.manifest import (
    build_manifest,
    dump_manifest,
    load_manifest,
    manifest_id,
)
from sequence_platform_tests.unit.plan.examples import click, compiled, feed, pins, save


def test_a_manifest_survives_its_text() -> None:
    manifest = build_manifest(compiled(feed(), pins()))
    text = dump_manifest(manifest)
    assert load_manifest(text) == manifest
    assert dump_manifest(load_manifest(text)) == text
    assert json.loads(text) == manifest


def test_the_text_is_canonical() -> None:
    text = dump_manifest(build_manifest(compiled(feed())))
    assert "\n" not in text
    assert text == json.dumps(
        json.loads(text), sort_keys=True, separators=(",", ":"), ensure_ascii=False
    )


def test_a_manifest_says_what_people_and_runtimes_ask() -> None:
    event = click(where={"long": pl.col("dwell") >= 10}, enrich=[pins()], description="Clicks.")
    plan = compiled(feed(events=[event, save()], columns=["topic"]))
    manifest = build_manifest(plan)
    assert (manifest["format"], manifest["plan"]) == (1, plan.fingerprint)
    described = manifest["events"]["click"]
    assert (described["owner"], described["description"]) == ("team:feed", "Clicks.")
    assert described["table"] == "click"
    assert described["fingerprint"] == plan.events["click"].fingerprint
    assert described["arrival"] == "assumed on time"
    assert described["text"]["where"] == {"long": "[(dwell) >= (10)]"}
    assert described["enrich"] == {"pins": "pin_id"}
    assert described["decides"]["source"]["pattern"] == "clicks/{day}.parquet"
    assert manifest["enrichments"]["pins"]["available"] == "from available_time"
    sequence = manifest["sequences"]["feed"]
    assert sequence["decides"]["trim"]["max_age"] == 30 * 86_400
    assert ["topic", "List(String)"] in sequence["schema"]


def test_the_id_follows_everything_descriptions_too() -> None:
    one = manifest_id(build_manifest(compiled(click())))
    assert manifest_id(build_manifest(compiled(click()))) == one
    assert manifest_id(build_manifest(compiled(click(description="More.")))) != one


@pytest.mark.parametrize("text", ["", "no", "[]", "3", "{}"])
def test_something_else_is_refused(text: str) -> None:
    with pytest.raises(StateMismatchError, match="not a manifest"):
        load_manifest(text)


def test_another_format_is_refused() -> None:
    with pytest.raises(StateMismatchError, match="another format") as caught:
        load_manifest('{"format":99}')
    assert (caught.value.found, caught.value.expected) == ("99", "1")
    assert caught.value.next_step == "use the release that wrote it"
