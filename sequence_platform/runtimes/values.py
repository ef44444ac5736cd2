"""Publishing values: the table of an enrichment into the store that requests look it up in."""

from __future__ import annotations

from dataclasses import dataclass

from sequence_platform.clock import Clock
from sequence_platform.plan.plan import EnrichmentPlan
from sequence_platform.plan.tables import enrichment_table
from sequence_platform.ports import LakeReader
from sequence_platform.ports.values import ValuePublisher, ValuesVersion


@dataclass(frozen=True, slots=True)
class PublishedValues:
    """What publishing an enrichment did.

    Attributes:
        changed: False when the store held exactly this.
        version: What counts since; None if the enrichment has never been built.
    """

    changed: bool
    version: ValuesVersion | None


def publish_values(
    lake: LakeReader, store: ValuePublisher, enrichment: EnrichmentPlan, clock: Clock
) -> PublishedValues:
    """Publish an enrichment as the lake holds it; all of it passes through memory.

    Content is looked at before the rows: what is built in between is published as the older
    content, and so again the next time.
    """
    spec = enrichment_table(enrichment)
    before = store.version(enrichment)
    built = lake.ledger(spec.name)
    if built.is_empty():
        return PublishedValues(changed=False, version=before)
    content = f"{built['content_hash'].item()} by {enrichment.fingerprint}"
    if before is not None and before.content == content:
        return PublishedValues(changed=False, version=before)
    version = store.publish(enrichment, lake.read_whole(spec), content, clock.now())
    return PublishedValues(changed=True, version=version)
