"""What an event type with a log asks of its raw columns: the raw table must give them back."""

from __future__ import annotations

import polars as pl

from sequence_platform.plan.report import Report
from sequence_platform.plan.storage import storage_fault
from sequence_platform.plan.tables import RAW_ENVELOPE


def check_raw_columns(raw: pl.Schema, report: Report) -> None:
    """Note raw columns that a raw table cannot hold and give back as they came."""
    for name, dtype in raw.items():
        if name in RAW_ENVELOPE:
            expected = "a name that raw tables do not use themselves"
            report.add(f"schema.{name}", f"'{name}'", expected, "rename it at the source")
        if fault := storage_fault(dtype) or _lost(dtype):
            expected = "a type that the table of what the log brings can hold"
            report.add(f"schema.{name}", f"type {dtype}", expected, fault)


def _lost(dtype: pl.DataType) -> str:
    if isinstance(dtype, pl.Datetime) and dtype.time_unit == "ns":
        return "say pl.Datetime('us'): nanoseconds would be cut"
    return ""
