"""Which definitions the lake belongs to: nothing writes under a plan that is not published."""

from __future__ import annotations

from sequence_platform.clock import Clock
from sequence_platform.errors import ConflictError, StateMismatchError, listed
from sequence_platform.plan.diff import Change, Impact, diff
from sequence_platform.plan.manifest import (
    build_manifest,
    dump_manifest,
    load_manifest,
    manifest_id,
)
from sequence_platform.plan.plan import Plan
from sequence_platform.ports import LakeKeeper


def publish(
    lake: LakeKeeper, plan: Plan, clock: Clock, *, accept_breaking: bool = False
) -> list[Change]:
    """Make a plan the published one and return what changed; nothing if it is published already.

    Raises:
        StateMismatchError: a change would break readers and no version says so.
    """
    manifest = build_manifest(plan)
    text = dump_manifest(manifest)
    current = lake.published()
    if current == text:
        return []
    published = None if current is None else load_manifest(current)
    changes = diff(published, manifest)
    breaking = [change for change in changes if change.impact is Impact.BREAKING]
    if breaking and not accept_breaking:
        raise StateMismatchError(
            "these definitions would break readers of the published ones",
            found=listed(
                f"{change.definition}, {change.field}: {change.text}" for change in breaking
            ),
            expected="a raised version= on each definition whose meaning changed, "
            "or the published definitions",
            next_step="raise the version; or 'sequence-platform publish --accept-breaking' and "
            "backfill; if another checkout published newer definitions, use that one",
        )
    replaces = None if published is None else manifest_id(published)
    try:
        lake.publish(text, manifest_id(manifest), clock.now(), replaces=replaces)
    except ConflictError:
        # Somebody published meanwhile: judge anew.
        return publish(lake, plan, clock, accept_breaking=accept_breaking)
    return changes


def ensure_published(lake: LakeKeeper, plan: Plan) -> None:
    """Raise unless a plan is the published one: who runs for long asks now and then.

    Raises:
        StateMismatchError: other definitions were published meanwhile.
    """
    current = lake.published()
    mine = dump_manifest(build_manifest(plan))
    if current != mine:
        raise StateMismatchError(
            "other definitions were published meanwhile",
            found="none" if current is None else manifest_id(load_manifest(current)),
            expected=manifest_id(load_manifest(mine)),
            next_step="start again: it then works by the definitions of now",
        )
