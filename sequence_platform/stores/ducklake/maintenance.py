"""Maintenance: fewer and fuller files, old snapshots forgotten, files that nobody needs deleted.

Every step is a transaction of its own under the writers' lock, so that commits get their turn in
between.
"""

from __future__ import annotations

from datetime import timedelta

from sequence_platform.ports import Maintenance
from sequence_platform.stores.ducklake.session import Session
from sequence_platform.stores.ducklake.sql import CATALOG, CATALOG_TABLES, interval, text


def maintain(
    session: Session, *, keep_snapshots: timedelta, orphans_older_than: timedelta
) -> Maintenance:
    """Merge, rewrite, expire and clean; see ``ports.LakeKeeper.maintain``.

    Files are deleted only when they have been useless for ``orphans_older_than``: a reader may
    still be at them, and a file that a running writer has staged belongs to no snapshot yet.
    """
    files_before, bytes_before, snapshots_before = _measured(session)
    for schema, plain in _tables_with_files(session):
        at = f"'{CATALOG}', {text(plain)}, schema => {text(schema)}"
        _step(
            session,
            f"rewrite {schema}.{plain}",
            f"ducklake_rewrite_data_files({at}, delete_threshold => 0)",
        )
        _step(session, f"merge {schema}.{plain}", f"ducklake_merge_adjacent_files({at})")
    _step(
        session,
        "expire snapshots",
        f"ducklake_expire_snapshots('{CATALOG}', {_before(keep_snapshots)})",
    )
    _step(
        session,
        "clean up",
        f"ducklake_cleanup_old_files('{CATALOG}', {_before(orphans_older_than)})",
    )
    _step(
        session,
        "delete orphans",
        f"ducklake_delete_orphaned_files('{CATALOG}', {_before(orphans_older_than)})",
    )
    files_after, bytes_after, snapshots_after = _measured(session)
    expired = max(0, snapshots_before - snapshots_after)
    return Maintenance(files_before, files_after, bytes_before, bytes_after, expired)


def _step(session: Session, message: str, call: str) -> None:
    session.write(message, lambda: session.execute(f"CALL {call}"))


def _before(age: timedelta) -> str:
    # The catalog's own clock: it has stamped the snapshots, and the plan has no say in
    # housekeeping.
    return f"older_than => now() - {interval(age)}"


def _tables_with_files(session: Session) -> list[tuple[str, str]]:
    found = session.query(
        f"SELECT DISTINCT s.schema_name, t.table_name FROM {CATALOG_TABLES}.ducklake_table t "
        f"JOIN {CATALOG_TABLES}.ducklake_schema s USING (schema_id) JOIN "
        f"{CATALOG_TABLES}.ducklake_data_file f USING (table_id) "
        "WHERE t.end_snapshot IS NULL AND s.end_snapshot IS NULL AND f.end_snapshot IS NULL ORDER "
        "BY ALL"
    )
    return [(str(schema), str(plain)) for schema, plain in found.rows()]


def _measured(session: Session) -> tuple[int, int, int]:
    files = " UNION ALL ".join(
        f"SELECT file_size_bytes FROM {CATALOG_TABLES}.{name}"
        for name in ("ducklake_data_file", "ducklake_delete_file")
    )
    snapshots = f"(SELECT count(*) FROM {CATALOG_TABLES}.ducklake_snapshot)"
    found = session.query(
        f"SELECT count(*), coalesce(sum(file_size_bytes), 0)::BIGINT, {snapshots} FROM ({files})"
    )
    files_count, size, count = found.row(0)
    return int(files_count), int(size), int(count)
