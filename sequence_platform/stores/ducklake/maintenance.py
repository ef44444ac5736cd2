"""Maintenance: fewer and fuller files, old snapshots forgotten, files that nobody needs deleted.

Every step is a transaction of its own under the writers' lock, so that commits get their turn in
between.
"""

from __future__ import annotations

from datetime import timedelta

from sequence_platform.ports import Maintenance
from sequence_platform.stores.ducklake.session import Session
from sequence_platform.stores.ducklake.sql import CATALOG, CATALOG_TABLES, interval, quoted, text


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
        _step(session, f"CALL ducklake_rewrite_data_files({at}, delete_threshold => 0)")
        _step(session, f"CALL ducklake_merge_adjacent_files({at})")
    _step(session, f"CALL ducklake_expire_snapshots('{CATALOG}', {_before(keep_snapshots)})")
    for name in _tables_of_inlined_rows(session):
        # DuckLake 1.0 expires files but not rows that it keeps in the catalog; every read of the
        # ledger would pass all versions it ever had.
        oldest = f"SELECT min(snapshot_id) FROM {CATALOG_TABLES}.ducklake_snapshot"
        _step(session, f"DELETE FROM {name} WHERE end_snapshot <= ({oldest})")
    _step(session, f"CALL ducklake_cleanup_old_files('{CATALOG}', {_before(orphans_older_than)})")
    orphans = f"ducklake_delete_orphaned_files('{CATALOG}', {_before(orphans_older_than)})"
    _step(session, f"CALL {orphans}")
    files_after, bytes_after, snapshots_after = _measured(session)
    expired = max(0, snapshots_before - snapshots_after)
    return Maintenance(files_before, files_after, bytes_before, bytes_after, expired)


def _step(session: Session, statement: str) -> None:
    session.write("maintenance", lambda: session.execute(statement))


def _before(age: timedelta) -> str:
    # By the clock that has stamped the snapshots.
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


def _tables_of_inlined_rows(session: Session) -> list[str]:
    named = session.query(f"SELECT table_name FROM {CATALOG_TABLES}.ducklake_inlined_data_tables")
    return [f"{CATALOG_TABLES}.{quoted(name)}" for name in named["table_name"]]


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
