"""Published manifests.

An immutable file and row each, and the one row that says which is in force.
"""

from __future__ import annotations

import uuid
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from sequence_platform.errors import ConflictError
from sequence_platform.stores.ducklake.failures import translated
from sequence_platform.stores.ducklake.platform_tables import CURRENT, MANIFESTS
from sequence_platform.stores.ducklake.session import Session
from sequence_platform.stores.ducklake.sql import table, text


def published(session: Session) -> str | None:
    """Return the manifest in force, or None."""
    found = session.query(
        f"SELECT manifest FROM {table(MANIFESTS)} SEMI JOIN {table(CURRENT)} USING (fingerprint)"
    )
    return str(found.item()) if found.height else None


def publish(
    session: Session, manifest: str, fingerprint: str, at: datetime, *, replaces: str | None
) -> None:
    """Store a manifest and put it in force; see ``ports.LakeKeeper.publish``."""
    _write_once(session, f"{session.address.data_path}manifests/{fingerprint}.json", manifest)
    session.write(
        f"publish {fingerprint}", lambda: _switch(session, manifest, fingerprint, at, replaces)
    )


def _switch(
    session: Session, manifest: str, fingerprint: str, at: datetime, replaces: str | None
) -> None:
    current = session.query(f"SELECT fingerprint FROM {table(CURRENT)}")
    found = str(current.item()) if current.height else None
    if found != replaces:
        raise ConflictError(
            "another manifest was published meanwhile",
            where="platform.current",
            found=found or "none",
            expected=replaces or "none",
            next_step="compare with the manifest that is in force now, then publish again",
            retryable=True,
        )
    known = (
        session.query(
            f"SELECT 1 FROM {table(MANIFESTS)} WHERE fingerprint = {text(fingerprint)}"
        ).height
        > 0
    )
    if not known:
        session.execute(
            f"INSERT INTO {table(MANIFESTS)} VALUES (?, ?, ?)", (fingerprint, manifest, at)
        )
    session.execute(f"DELETE FROM {table(CURRENT)}")
    session.execute(f"INSERT INTO {table(CURRENT)} VALUES (?, ?)", (fingerprint, at))


def _write_once(session: Session, path: str, manifest: str) -> None:
    with translated("write a manifest", path):
        if not session.address.is_local:
            session.execute(
                f"COPY (SELECT ?::BLOB) TO {text(path)} (FORMAT blob)", (manifest.encode(),)
            )
            return
        file = Path(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_name(f"{uuid.uuid4().hex}.partial")
        try:
            partial.write_text(manifest, encoding="utf-8")
            partial.replace(file)
        finally:
            with suppress(FileNotFoundError):
                partial.unlink()
