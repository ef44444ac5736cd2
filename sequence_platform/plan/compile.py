"""Definitions to plan. Pure: no files, no clock. All problems are reported at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from sequence_platform.definition import (
    Definition,
    Enrichment,
    EventType,
    Lookup,
    Sequence,
    TrainingSet,
)
from sequence_platform.definition.check import check_definition, check_types
from sequence_platform.errors import DefinitionError, Problem
from sequence_platform.plan.compile_enrichment import compile_enrichment
from sequence_platform.plan.compile_event import compile_event
from sequence_platform.plan.compile_sequence import compile_sequence
from sequence_platform.plan.compile_training import compile_training
from sequence_platform.plan.fingerprint import fingerprint
from sequence_platform.plan.plan import EnrichmentPlan, EventPlan, Plan, SequencePlan, TrainingPlan
from sequence_platform.plan.report import Report

KIND = {
    EventType: "event type",
    Enrichment: "enrichment",
    Sequence: "sequence",
    TrainingSet: "training set",
}


@dataclass(frozen=True, slots=True, eq=False)
class Located:
    """A definition and where it was found."""

    file: str
    value: Definition


def compile_plan(definitions: Iterable[Located], problems: Iterable[Problem] = ()) -> Plan:
    """Check and compile definitions.

    Definitions that others refer to need not be listed themselves; they are reported under the
    file of the definition that refers to them.

    Args:
        definitions: What was found, in any order; the same value may be found several times.
        problems: Problems found before (files that do not import), reported together with the rest.

    Raises:
        DefinitionError: carries every problem.
    """
    found: list[Problem] = list(problems)
    unique = _with_references(definitions)
    _check_names(unique, found)
    reports = {id(item.value): _report(item, found) for item in unique}
    sound = [item for item in unique if _is_sound(item.value, reports[id(item.value)])]
    enrichments: dict[int, EnrichmentPlan] = {}
    events: dict[int, EventPlan] = {}
    sequences: dict[int, SequencePlan] = {}
    for item in sound:
        if isinstance(item.value, Enrichment) and (
            e := compile_enrichment(item.value, reports[id(item.value)])
        ):
            enrichments[id(item.value)] = e
    for item in sound:
        if isinstance(item.value, EventType) and (
            t := compile_event(item.value, enrichments, reports[id(item.value)])
        ):
            events[id(item.value)] = t
    for item in sound:
        if isinstance(item.value, Sequence) and (
            s := compile_sequence(item.value, events, reports[id(item.value)])
        ):
            sequences[id(item.value)] = s
    compiled = [
        compile_training(item.value, sequences, reports[id(item.value)])
        for item in sound
        if isinstance(item.value, TrainingSet)
    ]
    if found:
        raise DefinitionError(found)
    return _plan(enrichments.values(), events.values(), sequences.values(), filter(None, compiled))


def _plan(
    enrichments: Iterable[EnrichmentPlan],
    events: Iterable[EventPlan],
    sequences: Iterable[SequencePlan],
    training: Iterable[TrainingPlan],
) -> Plan:
    plan = Plan(
        events={event.name: event for event in sorted(events, key=_name)},
        enrichments={enrichment.name: enrichment for enrichment in sorted(enrichments, key=_name)},
        sequences={sequence.name: sequence for sequence in sorted(sequences, key=_name)},
        fingerprint="",
        training={item.name: item for item in sorted(training, key=_name)},
    )
    parts = [[item.name, item.fingerprint] for item in plan.enrichments.values()]
    parts += [[item.name, item.fingerprint] for item in plan.events.values()]
    parts += [
        [item.name, item.fingerprint, item.request_fingerprint] for item in plan.sequences.values()
    ]
    return replace(plan, fingerprint=fingerprint(parts))


def _name(item: EnrichmentPlan | EventPlan | SequencePlan | TrainingPlan) -> str:
    return item.name


def _with_references(definitions: Iterable[Located]) -> list[Located]:
    """Return every definition once, with those that are only referred to."""
    unique: dict[int, Located] = {}
    found = list(definitions)
    while found:
        for item in found:
            unique.setdefault(id(item.value), item)
        found = [
            Located(item.file, value)
            for item in found
            for value in _references(item.value)
            if id(value) not in unique
        ]
    return sorted(
        unique.values(), key=lambda item: (KIND[type(item.value)], str(item.value.name), item.file)
    )


def _references(value: Definition) -> Iterator[Definition]:
    if check_types(value):
        return
    match value:
        case Sequence():
            yield from value.events
        case EventType():
            for lookup in value.enrich:
                yield lookup.enrichment if isinstance(lookup, Lookup) else lookup
        case TrainingSet():
            yield value.sequence
        case Enrichment():
            return


def _check_names(items: list[Located], found: list[Problem]) -> None:
    first: dict[tuple[str, str], Located] = {}
    for item in items:
        key = (KIND[type(item.value)], str(item.value.name))
        if key in first:
            expected = f"a name of its own; '{item.value.name}' is defined in {first[key].file} too"
            _report(item, found).add(
                "name", repr(item.value.name), expected, "rename one, or import the other"
            )
        first.setdefault(key, item)


def _is_sound(value: Definition, report: Report) -> bool:
    """Note what is wrong with a definition by itself; tell whether it can be compiled."""
    wrong = check_types(value)
    for fault in wrong or check_definition(value):
        report.add(*fault)
    return not wrong


def _report(item: Located, found: list[Problem]) -> Report:
    return Report(item.file, f"{KIND[type(item.value)]} '{item.value.name}'", found)
