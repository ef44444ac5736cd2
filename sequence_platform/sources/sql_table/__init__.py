"""A table or view of a SQL database as a batch source: DuckDB files and PostgreSQL, read only.

DuckDB reads both. Columns and windows are pushed down, so that the database sends no more.
"""

from sequence_platform.sources.sql_table.table_source import TableSource

__all__ = ["TableSource"]
