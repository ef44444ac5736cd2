"""What a part, a version or a data set says of itself: JSON with a checksum of its own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sequence_platform.plan.fingerprint import fingerprint

CHECKSUM = "checksum"


def write_description(path: Path, described: Mapping[str, Any]) -> None:
    """Write a description."""
    whole = {**described, CHECKSUM: _checksum(described)}
    path.write_text(json.dumps(whole, indent=1), encoding="utf-8")


def read_description(path: Path) -> dict[str, Any]:
    """Return a description as it was written.

    Raises:
        OSError: it is not there.
        ValueError: it is not as it was written.
    """
    read = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(read, dict) or read.pop(CHECKSUM, None) != _checksum(read):
        msg = "a description that does not fit its checksum"
        raise ValueError(msg)
    return read


def _checksum(described: Mapping[str, Any]) -> str:
    # As it is read again: tuples are lists, keys are text.
    return fingerprint(json.loads(json.dumps(described)))
