"""Tables of the lake: created, given new columns, and their views kept up.

Never drops or retypes a column.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import chain

from sequence_platform.errors import StateMismatchError, listed
from sequence_platform.ports import TableSpec
from sequence_platform.stores.ducklake.platform_tables import (
    LEDGER,
    PLATFORM_TABLES,
    SCHEMAS,
    VIEWS,
    corrections_of,
)
from sequence_platform.stores.ducklake.session import Session
from sequence_platform.stores.ducklake.sql import CATALOG, columns_of, quoted, table, text
from sequence_platform.stores.ducklake.types import lake_type
from sequence_platform.stores.ducklake.views import View, views_of


def ensure_tables(session: Session, specs: Iterable[TableSpec]) -> None:
    """Create what is absent, in one transaction; do nothing if all is there.

    Raises:
        StateMismatchError: an existing column has another type.
    """
    wanted = {
        spec.name: spec for spec in chain.from_iterable(_with_corrections(spec) for spec in specs)
    }
    wanted = {spec.name: spec for spec in PLATFORM_TABLES} | wanted
    with session.snapshot():
        is_complete = not _statements(session, wanted)
    if not is_complete:
        session.write("ensure tables", lambda: _apply(session, wanted))


def _with_corrections(spec: TableSpec) -> tuple[TableSpec, ...]:
    return (spec, corrections_of(spec)) if spec.corrects else (spec,)


def _apply(session: Session, wanted: Mapping[str, TableSpec]) -> None:
    # Computed again under the lock: another process may have made them meanwhile.
    for statement in _statements(session, wanted):
        session.execute(statement)


def _statements(session: Session, wanted: Mapping[str, TableSpec]) -> list[str]:
    present = _present(session)
    made = _made_views(session) if VIEWS in present else {}
    schemas = [f"CREATE SCHEMA IF NOT EXISTS {CATALOG}.{quoted(name)}" for name in SCHEMAS]
    statements = [] if LEDGER in present else schemas
    canonical = _canonical(session, wanted.values())
    for spec in wanted.values():
        columns = {name: canonical[kind] for name, kind in _column_types(spec).items()}
        if spec.name not in present:
            statements += _create(spec, columns)
        else:
            _ensure_same_types(spec.name, present[spec.name], columns)
            statements += _add_columns(spec.name, present[spec.name], columns)
    views = chain.from_iterable(views_of(spec) for spec in wanted.values())
    return [*statements, *chain.from_iterable(_view_statements(view, made) for view in views)]


def _ensure_same_types(name: str, present: Mapping[str, str], wanted: Mapping[str, str]) -> None:
    retyped = [
        f"{column}: {present[column]} -> {kind}"
        for column, kind in wanted.items()
        if present.get(column, kind) != kind
    ]
    if retyped:
        raise StateMismatchError(
            "a stored table has columns of other types",
            where=name,
            found=listed(retyped),
            expected="columns keep their type",
            next_step="give the definition a new version, which gets a table of its own",
        )


def _add_columns(name: str, present: Mapping[str, str], wanted: Mapping[str, str]) -> list[str]:
    added = [(column, kind) for column, kind in wanted.items() if column not in present]
    return [
        f"ALTER TABLE {table(name)} ADD COLUMN {quoted(column)} {kind}" for column, kind in added
    ]


def _canonical(session: Session, specs: Iterable[TableSpec]) -> dict[str, str]:
    """Return types as DuckDB writes them, which quotes only the names that need it."""
    kinds = sorted({kind for spec in specs for kind in _column_types(spec).values()})
    written = session.query(f"SELECT {', '.join(f'typeof(NULL::{kind})' for kind in kinds)}")
    return dict(zip(kinds, written.row(0), strict=True))


def _column_types(spec: TableSpec) -> dict[str, str]:
    types = {name: lake_type(dtype, f"{spec.name}.{name}") for name, dtype in spec.columns.items()}
    return {"day": "DATE"} | types if spec.is_daily else types


def _create(spec: TableSpec, columns: Mapping[str, str]) -> list[str]:
    name = table(spec.name)
    statements = [
        f"CREATE TABLE {name} ({', '.join(f'{quoted(n)} {kind}' for n, kind in columns.items())})"
    ]
    if spec.is_daily:
        statements.append(f"ALTER TABLE {name} SET PARTITIONED BY (day)")
    if spec.sort_by:
        # So that merged files are sorted, too.
        statements.append(f"ALTER TABLE {name} SET SORTED BY ({columns_of(spec.sort_by)})")
    if spec.comment:
        statements.append(f"COMMENT ON TABLE {name} IS {text(spec.comment)}")
    return statements


def _view_statements(view: View, made: Mapping[str, str]) -> list[str]:
    if made.get(view.name) == view.sql:
        return []
    record = f"INSERT INTO {table(VIEWS)} VALUES ({text(view.name)}, {text(view.sql)})"
    return [view.sql, f"DELETE FROM {table(VIEWS)} WHERE name = {text(view.name)}", record]


def _present(session: Session) -> dict[str, dict[str, str]]:
    rows = session.query(
        "SELECT schema_name || '.' || table_name AS name, column_name, data_type FROM "
        "duckdb_columns() "
        f"WHERE database_name = '{CATALOG}' ORDER BY name, column_index"
    ).rows()
    tables: dict[str, dict[str, str]] = {}
    for name, column, kind in rows:
        tables.setdefault(name, {})[column] = kind
    return tables


def _made_views(session: Session) -> dict[str, str]:
    return dict(session.query(f"SELECT name, sql FROM {table(VIEWS)}").rows())
