"""What a change of definitions means for those who read the tables, and what it makes necessary."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sequence_platform.errors import listed
from sequence_platform.plan.manifest import KINDS, Manifest

Json = dict[str, Any]
SCHEMA_OF = {"enrichments": "enrichments", "events": "enriched", "sequences": "sequences"}
ONE = {"enrichments": "enrichment", "events": "event type", "sequences": "sequence"}


class Impact(StrEnum):
    """How much a change matters to readers."""

    METADATA = "metadata"
    COMPATIBLE = "compatible"
    BREAKING = "breaking"


@dataclass(frozen=True, slots=True, order=True)
class Change:
    """One change of one definition.

    Attributes:
        backfill: The table whose days must be built again for the change to take effect, or ''.
    """

    definition: str
    field: str
    impact: Impact
    text: str
    backfill: str = ""

    def __str__(self) -> str:
        backfill = f"; backfill {self.backfill}" if self.backfill else ""
        return f"{self.impact:<10} {self.definition}, {self.field}: {self.text}{backfill}"


def diff(old: Manifest | None, new: Manifest) -> list[Change]:
    """Return every change from one manifest to another, sorted; none if nothing changed."""
    before: Manifest = old or {kind: {} for kind in KINDS}
    return sorted(change for kind in KINDS for change in _diff_kind(kind, before[kind], new[kind]))


def _diff_kind(kind: str, old: Mapping[str, Json], new: Mapping[str, Json]) -> Iterator[Change]:
    for name in old.keys() | new.keys():
        label = f"{ONE[kind]} '{name}'"
        table = f"{SCHEMA_OF[kind]}.{(new.get(name) or old[name])['table']}"
        if name not in old:
            yield Change(label, "definition", Impact.COMPATIBLE, "added", table)
        elif name not in new:
            yield Change(label, "definition", Impact.BREAKING, "removed")
        elif old[name]["decides"]["version"] != new[name]["decides"]["version"]:
            versions = f"{old[name]['decides']['version']} -> {new[name]['decides']['version']}"
            yield Change(
                label, "version", Impact.COMPATIBLE, f"{versions}: a table of its own", table
            )
        else:
            yield from _diff_definition(label, table, old[name], new[name])


def _diff_definition(label: str, table: str, old: Json, new: Json) -> Iterator[Change]:
    plain = sorted(
        (old.keys() | new.keys())
        - {"decides", "serves", "fingerprint", "table", "text", "schema", "start"}
    )
    for field in plain:
        if old.get(field) != new.get(field) and field not in {"enrich", "on_missing"}:
            yield Change(label, field, Impact.METADATA, f"{old.get(field)!r} -> {new.get(field)!r}")
    if old.get("start") != new.get("start"):
        backfill = table if str(new.get("start")) < str(old.get("start")) else ""
        yield Change(
            label, "start", Impact.METADATA, f"{old.get('start')} -> {new.get('start')}", backfill
        )
    for field in sorted(old["decides"].keys() | new["decides"].keys()):
        before, after = old["decides"].get(field), new["decides"].get(field)
        if before != after:
            for impact, text in _decided(field, before, after):
                yield Change(label, field, impact, text, table)
    if old.get("serves") != new.get("serves"):
        for field, impact, text in _served(old["serves"], new["serves"]):
            yield Change(label, field, impact, text)


def _served(old: Json, new: Json) -> Iterator[tuple[str, Impact, str]]:
    """Yield what changed of what no table holds, by field."""
    for impact, text in _named("request", old["request"], new["request"]):
        yield "request", impact, text
    for impact, text in _columns(old["context"], new["context"]):
        yield "context", impact, text
    for impact, text in _read(old.get("read", {}), new.get("read", {})):
        yield "read", impact, text


def _decided(field: str, old: Any, new: Any) -> Iterator[tuple[Impact, str]]:  # noqa: ANN401 - JSON
    """Yield what a change of a field that decides results means."""
    match field:
        case "schema" | "derived_schema":
            yield from _columns(old, new)
        case "columns" if isinstance(new, list):  # of a sequence: names and types
            yield from _columns(old, new)
        case "columns" | "derived" | "envelope":
            yield from _named(field, old, new)
        case "trim":
            yield from _trim(old, new)
        case "late":
            yield from _late(old, new)
        case "events":
            yield from _events(old, new)
        case "enrich":
            yield from _lookups(old, new)
        case "source" | "raw_schema":
            yield Impact.COMPATIBLE, "the source changed"
        case _:
            yield Impact.BREAKING, "the meaning changed"


def _late(old: list[str], new: list[str]) -> Iterator[tuple[Impact, str]]:
    for name in sorted(set(new) - set(old)):
        yield Impact.BREAKING, f"'{name}' leaves the snapshots"
    for name in sorted(set(old) - set(new)):
        yield Impact.COMPATIBLE, f"'{name}' joins the snapshots"


def _events(old: list[list[str]], new: list[list[str]]) -> Iterator[tuple[Impact, str]]:
    before, after = dict(_pairs(old)), dict(_pairs(new))
    if list(before) != list(after):
        yield Impact.BREAKING, f"{listed(before)} -> {listed(after)}"
    for name in sorted(before.keys() & after.keys()):
        if before[name] != after[name]:
            yield Impact.COMPATIBLE, f"follows the change of '{name}'"


def _pairs(items: list[list[str]]) -> Iterator[tuple[str, str]]:
    return ((name, value) for name, value in items)


def _columns(old: list[list[str]], new: list[list[str]]) -> Iterator[tuple[Impact, str]]:
    before, after = dict(_pairs(old)), dict(_pairs(new))
    for name in sorted(before.keys() | after.keys()):
        if name not in after:
            yield Impact.BREAKING, f"column '{name}' removed"
        elif name not in before:
            yield Impact.COMPATIBLE, f"column '{name}' added"
        elif before[name] != after[name]:
            yield Impact.BREAKING, f"column '{name}' is {after[name]}, was {before[name]}"


def _read(old: Mapping[str, Json], new: Mapping[str, Json]) -> Iterator[tuple[Impact, str]]:
    """Yield what changed of what is looked up when a sequence is read, by enrichment."""

    def columns(found: Mapping[str, Json]) -> list[list[str]]:
        return [column for each in found.values() for column in each["columns"]]

    yield from _columns(columns(old), columns(new))
    for name in sorted(old.keys() & new.keys()):
        before, after = old[name], new[name]
        if before["by"] != after["by"]:
            yield Impact.BREAKING, f"'{name}' is looked up by {after['by']}, was by {before['by']}"
        if before["enrichment"] != after["enrichment"]:
            yield Impact.COMPATIBLE, f"follows the change of '{name}'"
        for field in ("deadline_s", "on_timeout"):
            if before[field] != after[field]:
                text = f"{field} of '{name}' is {after[field]}, was {before[field]}"
                yield Impact.COMPATIBLE, text


def _named(field: str, old: Json, new: Json) -> Iterator[tuple[Impact, str]]:
    for name in sorted(old.keys() | new.keys()):
        if name not in new:
            yield Impact.BREAKING, f"'{name}' removed"
        elif name not in old:
            if field == "request":  # elsewhere the schema says so
                yield Impact.COMPATIBLE, f"'{name}' added"
        elif old[name] != new[name]:
            yield (
                Impact.BREAKING,
                f"'{name}' means something else" if field != "envelope" else f"'{name}' changed",
            )


def _trim(old: Json, new: Json) -> Iterator[tuple[Impact, str]]:
    for rule in sorted(old.keys() | new.keys()):
        if old.get(rule) == new.get(rule):
            continue
        longer = rule in {"max_length", "max_age"} and new[rule] > old[rule]
        yield (
            Impact.COMPATIBLE if longer else Impact.BREAKING,
            f"{rule} {old.get(rule)} -> {new.get(rule)}",
        )


def _lookups(old: list[list[str]], new: list[list[str]]) -> Iterator[tuple[Impact, str]]:
    before, after = {tuple(item[1:]) for item in old}, {tuple(item[1:]) for item in new}
    if before - after:
        yield (
            Impact.BREAKING,
            "a lookup was removed, or looks up or treats missing rows in another way",
        )
    elif after - before:
        yield Impact.COMPATIBLE, "a lookup was added"
    else:
        yield Impact.COMPATIBLE, "follows the change of an enrichment"
