"""What can be said of a Polars expression without data.

Its canonical form, its type, and whether it works row by row.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping
from typing import Any, cast

import polars as pl

from sequence_platform.plan.samples import sample_frame

_SETLIKE = {"IsIn"}
"""Their literal argument is a set: its order says nothing, and a Python set's varies by process."""

PYTHON_FUNCTION = "a Python function, which cannot be fingerprinted or checked"


def canonical_tree(expr: pl.Expr) -> Any:  # noqa: ANN401 - JSON
    """Return Polars' own serialised form as JSON values, equal in every process.

    Raises:
        ValueError: the expression holds a Python function.
    """
    try:
        tree = json.loads(expr.meta.serialize(format="json"))
    except pl.exceptions.ComputeError as error:
        raise ValueError(PYTHON_FUNCTION) from error
    if _holds_python(tree):
        raise ValueError(PYTHON_FUNCTION)
    return _canonical(tree)


def readable(expr: pl.Expr) -> str:
    """Return the expression as text for people; equal in every process, not always complete."""
    text = str(pl.Expr.deserialize(io.StringIO(json.dumps(canonical_tree(expr))), format="json"))
    return re.sub(r'col\("(\w+)"\)', r"\1", re.sub(r"dyn (?:int|float|str): ", "", text))


def output_type(expr: pl.Expr, schema: Mapping[str, pl.DataType]) -> pl.DataType:
    """Return the type of an expression over a schema, without data.

    Raises:
        ValueError: it does not resolve; the text says why.
    """
    try:
        dtype = pl.LazyFrame(schema=schema).select(expr.alias("x")).collect_schema()["x"]
    except (pl.exceptions.PolarsError, TypeError) as error:
        raise ValueError(str(error).split("\n\n")[0]) from error
    if dtype.base_type() in {pl.Null, pl.Unknown, pl.Object}:
        msg = f"an expression of type {dtype}; cast it to the type meant"
        raise ValueError(msg)
    return dtype


def row_level_fault(expr: pl.Expr, schema: Mapping[str, pl.DataType]) -> str:
    """Return why an expression is not row by row (one value per row, from that row alone), or ''.

    A window or an aggregate over the batch would give a stream and a backfill different answers.
    """
    try:
        canonical_tree(expr)
    except ValueError as error:
        return str(error)
    try:
        if not expr.meta.is_row_separable():
            return "an expression over several rows (window, aggregate, order or position)"
    except pl.exceptions.PolarsError:
        # Some expressions (list.eval) are refused an answer without a schema: ask the data instead.
        return _split_fault(expr, schema)
    if not (expr.meta.is_length_preserving() or expr.meta.is_scalar()):
        return _split_fault(expr, schema)
    return ""


def _split_fault(expr: pl.Expr, schema: Mapping[str, pl.DataType]) -> str:
    """Evaluate on a sample, whole and row by row, and compare."""
    sample = sample_frame(schema)
    try:
        whole = sample.select(x=expr)
        rows = [sample.slice(i, 1).select(x=expr) for i in range(sample.height)]
    except pl.exceptions.PolarsError as error:
        return f"an expression that fails on a sample: {str(error).split(chr(10))[0]}"
    if whole.height != sample.height or any(row.height != 1 for row in rows):
        return "an expression that changes the number of rows"
    return "" if whole.equals(pl.concat(rows)) else "an expression over several rows"


def _holds_python(tree: object) -> bool:
    match tree:
        case dict():
            return any(
                "Python" in key or "Anonymous" in key or _holds_python(value)
                for key, value in tree.items()
            )
        case list():
            return any(_holds_python(item) for item in tree)
        case _:
            return False


def _canonical(tree: object) -> object:
    match tree:
        case {
            "Function": {"input": [first, {"Literal": literal}], "function": {"Boolean": boolean}}
        } if isinstance(boolean, dict) and _SETLIKE & boolean.keys():
            inner = {
                "input": [_canonical(first), {"Literal": _sorted_literal(literal)}],
                "function": {"Boolean": boolean},
            }
            return {"Function": inner}
        case dict():
            return {key: _canonical(value) for key, value in tree.items()}
        case list():
            return [_canonical(item) for item in tree]
        case _:
            return tree


def _sorted_literal(literal: object) -> object:
    """Sort the values of a list literal, which Polars serialises as an Arrow stream's bytes."""
    match literal:
        case {"Scalar": {"List": [*data]}}:
            frame = pl.read_ipc_stream(io.BytesIO(bytes(cast("list[int]", data))))
            out = io.BytesIO()
            frame.select(pl.all().sort()).write_ipc_stream(out)
            return {"Scalar": {"List": list(out.getvalue())}}
        case _:
            return literal
