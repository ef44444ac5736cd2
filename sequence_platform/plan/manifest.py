"""The plan as an immutable, portable document: canonical JSON, named by the hash of its text."""

from __future__ import annotations

import json
from typing import Any

from sequence_platform.errors import StateMismatchError
from sequence_platform.plan.describe import describe_plan
from sequence_platform.plan.fingerprint import canonical_json, fingerprint
from sequence_platform.plan.plan import Plan

FORMAT = 1
KINDS = ("enrichments", "events", "sequences")
Manifest = dict[str, Any]


def build_manifest(plan: Plan) -> Manifest:
    """Return the manifest of a plan."""
    return {
        "format": FORMAT,
        "plan": plan.fingerprint,
        "enrichments": {name: describe_plan(item) for name, item in plan.enrichments.items()},
        "events": {name: describe_plan(item) for name, item in plan.events.items()},
        "sequences": {name: describe_plan(item) for name, item in plan.sequences.items()},
    }


def dump_manifest(manifest: Manifest) -> str:
    """Return the canonical text."""
    return canonical_json(manifest)


def load_manifest(text: str) -> Manifest:
    """Return a manifest from its text.

    Raises:
        StateMismatchError: it is not a manifest, or one of another format.
    """
    try:
        manifest = json.loads(text)
        found = manifest["format"]
    except (ValueError, KeyError, TypeError) as error:
        msg = "not a manifest"
        raise StateMismatchError(
            msg, found=text[:80], expected="JSON written by 'compile'"
        ) from error
    if found != FORMAT:
        msg = "a manifest of another format"
        raise StateMismatchError(
            msg, found=str(found), expected=str(FORMAT), next_step="use the release that wrote it"
        )
    return dict(manifest)


def manifest_id(manifest: Manifest) -> str:
    """Return the hash of a manifest: two are equal when everything in them is, descriptions too."""
    return fingerprint(manifest)
