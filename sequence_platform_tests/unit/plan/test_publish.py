"""Publishing: what would break readers is refused, once published nothing happens again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pytest

from sequence_platform.clock import FixedClock
from sequence_platform.errors import StateMismatchError
from sequence_platform.plan.manifest import (
    build_manifest,
    dump_manifest,
    load_manifest,
    manifest_id,
)
from sequence_platform.plan.plan import Plan
from sequence_platform.ports import Expired, Maintenance, TableSpec
from sequence_platform.runtimes.publishing import publish
from sequence_platform.stores.ducklake import DuckLakeLake
from sequence_platform_tests.unit.plan.examples import click, compiled, save

CLOCK = FixedClock(datetime(2026, 3, 1, tzinfo=UTC))
OLD = compiled(click())
BROKEN = compiled(click(where=pl.col("dwell") > 0))


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[DuckLakeLake]:
    with DuckLakeLake(str(tmp_path / "catalog.sqlite"), str(tmp_path / "data")) as opened:
        yield opened


def text_of(plan: Plan) -> str:
    return dump_manifest(build_manifest(plan))


def test_the_first_plan_is_published_as_it_is(lake: DuckLakeLake) -> None:
    assert lake.published() is None
    changes = publish(lake, OLD, CLOCK)
    assert [change.text for change in changes] == ["added"]
    assert lake.published() == text_of(OLD)


def test_publishing_the_same_again_changes_nothing(lake: DuckLakeLake) -> None:
    publish(lake, OLD, CLOCK)
    assert publish(lake, compiled(click()), CLOCK) == []


def test_a_compatible_change_takes_the_place_of_the_old(lake: DuckLakeLake) -> None:
    publish(lake, OLD, CLOCK)
    wider = compiled(click(columns={"x": pl.col("dwell") + 1}))
    assert [change.text for change in publish(lake, wider, CLOCK)] == ["column 'x' added"]
    assert lake.published() == text_of(wider)


def test_a_new_description_is_published_though_no_fingerprint_changes(lake: DuckLakeLake) -> None:
    publish(lake, OLD, CLOCK)
    described = compiled(click(description="Clicks."))
    assert described.fingerprint == OLD.fingerprint
    publish(lake, described, CLOCK)
    assert lake.published() == text_of(described)


def test_a_breaking_change_is_refused_and_says_what_to_do(lake: DuckLakeLake) -> None:
    publish(lake, OLD, CLOCK)
    with pytest.raises(StateMismatchError) as caught:
        publish(lake, BROKEN, CLOCK)
    assert str(caught.value) == (
        "these definitions would break readers of the published ones\n"
        "  found: event type 'click', where: the meaning changed\n"
        "  expected: a raised version= on each definition whose meaning changed, "
        "or the published definitions\n"
        "  next: raise the version; or 'sequence-platform publish --accept-breaking' and backfill;"
        " if another checkout published newer definitions, use that one"
    )
    assert lake.published() == text_of(OLD)


def test_a_breaking_change_is_published_with_a_version_or_when_accepted(
    lake: DuckLakeLake,
) -> None:
    publish(lake, OLD, CLOCK)
    publish(lake, compiled(click(where=pl.col("dwell") > 0, version=2)), CLOCK)
    publish(
        lake, compiled(click(where=pl.col("dwell") > 1, version=2)), CLOCK, accept_breaking=True
    )
    current = lake.published()
    assert current is not None
    assert load_manifest(current)["events"]["click"]["decides"]["version"] == 2


class Overtaken:
    """A lake on which somebody else publishes just before our first publication arrives."""

    def __init__(self, lake: DuckLakeLake, neighbour: Callable[[], object]) -> None:
        self._lake = lake
        self._neighbours = [neighbour]

    def expire(self, spec: TableSpec, before: date) -> Expired:
        raise NotImplementedError

    def maintain(self, **_: object) -> Maintenance:
        raise NotImplementedError

    def published(self) -> str | None:
        return self._lake.published()

    def publish(
        self, manifest: str, fingerprint: str, published_at: datetime, *, replaces: str | None
    ) -> None:
        while self._neighbours:
            self._neighbours.pop()()
        self._lake.publish(manifest, fingerprint, published_at, replaces=replaces)


def test_after_a_publication_by_somebody_else_changes_are_judged_anew(lake: DuckLakeLake) -> None:
    both = compiled(click(), save())
    overtaken = Overtaken(lake, lambda: publish(lake, OLD, CLOCK))
    changes = publish(overtaken, both, CLOCK)
    assert [change.definition for change in changes] == ["event type 'save'"]
    again = Overtaken(
        lake, lambda: publish(lake, compiled(click(), save(), click(name="c")), CLOCK)
    )
    with pytest.raises(StateMismatchError, match="break readers"):
        publish(again, compiled(click(description="Mine."), save()), CLOCK)


def test_manifests_are_files_named_by_their_hash(lake: DuckLakeLake, tmp_path: Path) -> None:
    publish(lake, OLD, CLOCK)
    file = tmp_path / "data" / "manifests" / f"{manifest_id(build_manifest(OLD))}.json"
    assert file.read_text(encoding="utf-8") == text_of(OLD)
