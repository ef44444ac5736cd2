"""What an event type with a log asks of its raw columns: the raw table must give them back."""

from __future__ import annotations

from collections import Counter

import polars as pl

from sequence_platform.plan.report import Report
from sequence_platform.plan.storage import instance, storage_fault
from sequence_platform.plan.tables import RAW_ENVELOPE

_TAKEN = {*RAW_ENVELOPE, "day"}
"""Columns of every raw table. In SQL, names that differ by case alone are the same."""


def check_raw_columns(raw: pl.Schema, report: Report) -> None:
    """Note raw columns that a raw table cannot hold and give back as they came."""
    alike = Counter(name.lower() for name in raw)
    for name, dtype in raw.items():
        if name.lower() in _TAKEN or alike[name.lower()] > 1:
            expected = "a name that raw tables do not use themselves, whatever its case"
            report.add(f"schema.{name}", f"'{name}'", expected, "rename it at the source")
        if fault := storage_fault(dtype) or _lost(dtype):
            expected = "a type that the table of what the log brings can hold"
            report.add(f"schema.{name}", f"type {dtype}", expected, fault)


def _lost(dtype: pl.DataType) -> str:
    match dtype:
        case pl.Datetime(time_unit="ns"):
            return "say pl.Datetime('us'): nanoseconds would be cut"
        case pl.List() | pl.Array():
            return _lost(instance(dtype.inner))
        case pl.Struct():
            return next(filter(None, (_lost(instance(field.dtype)) for field in dtype.fields)), "")
        case _:
            return ""
