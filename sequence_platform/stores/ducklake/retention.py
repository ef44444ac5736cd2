"""Days that are kept no longer: their rows go, and the ledger remembers that they were there."""

from __future__ import annotations

from datetime import date

from sequence_platform.plan.plan import Window
from sequence_platform.ports import EXPIRED, Expired, TableSpec
from sequence_platform.stores.ducklake.platform_tables import DEAD_LETTERS, LEDGER, corrections_of
from sequence_platform.stores.ducklake.session import Session
from sequence_platform.stores.ducklake.sql import day_literal, table, text, time_literal


def expire_days(session: Session, spec: TableSpec, before: date) -> Expired:
    """Remove the days before one; see ``ports.LakeKeeper.expire``.

    Where there is nothing to remove, nothing is written: it makes no snapshot of the lake.
    """
    doomed = _doomed(spec, before)
    with session.snapshot():
        if not any(_count(session, name, where) for name, where in doomed.items()):
            return Expired(spec.name, before)
    message = f"expire {spec.name} before {before}"
    return session.write(message, lambda: _expire(session, spec, before))


def _doomed(spec: TableSpec, before: date) -> dict[str, str]:
    """Return which rows go, by table; of the ledger, those of days that are not expired yet."""
    older = f"day < {day_literal(before)}"
    own = f"table_name = {text(spec.name)}"
    # A message that could not be read has no day: it goes by when the log took it.
    undated = f"day IS NULL AND appended_at < {time_literal(Window.of_day(before).start)}"
    doomed = {
        spec.name: older,
        DEAD_LETTERS: f"{own} AND ({older} OR {undated})",
        LEDGER: f"{own} AND {older} AND state <> {text(EXPIRED)}",
    }
    return doomed | ({corrections_of(spec).name: older} if spec.corrects else {})


def _expire(session: Session, spec: TableSpec, before: date) -> Expired:
    doomed = _doomed(spec, before)
    days = session.query(
        f"SELECT day FROM {table(spec.name)} WHERE {doomed[spec.name]} "
        f"UNION SELECT day FROM {table(LEDGER)} WHERE {doomed[LEDGER]}"
    )
    rows = _delete(session, spec.name, doomed)
    letters = _delete(session, DEAD_LETTERS, doomed)
    if spec.corrects:
        _delete(session, corrections_of(spec).name, doomed)
    if spec.is_snapshot:
        _delete(session, LEDGER, doomed)  # nothing is computed from snapshots
    else:
        # What was computed from these days is told by their hashes: it has not become stale.
        session.execute(
            f"UPDATE {table(LEDGER)} SET state = {text(EXPIRED)}, rows = 0, bytes = 0, "
            f"version = version + 1 WHERE {doomed[LEDGER]}"
        )
    return Expired(spec.name, before, days.height, rows, letters)


def _delete(session: Session, name: str, doomed: dict[str, str]) -> int:
    return session.execute(f"DELETE FROM {table(name)} WHERE {doomed[name]}")


def _count(session: Session, name: str, where: str) -> int:
    if not session.has_held_rows(name):
        return 0
    return int(session.query(f"SELECT count(*) FROM {table(name)} WHERE {where}").item())
