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
    text = str(_expression(canonical_tree(expr)))
    return re.sub(r'col\("(\w+)"\)', r"\1", re.sub(r"dyn (?:int|float|str): ", "", text))


def output_type(expr: pl.Expr, schema: Mapping[str, pl.DataType]) -> pl.DataType:
    """Return the type of an expression over a schema, without data.

    Raises:
        ValueError: it does not resolve; the text says why.
    """
    try:
        dtype = pl.LazyFrame(schema=schema).select(expr.alias("x")).collect_schema()["x"]
    except (pl.exceptions.PolarsError, TypeError) as error:
        raise ValueError(f"{type(error).__name__}: {_first_line(error)}") from error
    if dtype.base_type() in {pl.Null, pl.Unknown, pl.Object}:
        msg = f"an expression of type {dtype}; cast it to the type meant"
        raise ValueError(msg)
    if reason := _reason_to_fail(expr, schema):
        raise ValueError(reason)
    return dtype


def row_level_fault(expr: pl.Expr, schema: Mapping[str, pl.DataType]) -> str:
    """Return why an expression is not row by row (one value per row, from that row alone), or ''.

    A window or an aggregate over the batch would give a stream and a backfill different answers.
    """
    try:
        tree = canonical_tree(expr)
    except ValueError as error:
        return str(error)
    parts = [_expression(part) for part in _over_rows(tree)]
    if any(_mixes_rows(part) for part in parts):
        return "an expression over several rows (window, aggregate, order or position)"
    outer = parts[0].meta
    if outer.is_scalar():
        return ""
    return _sample_fault(expr, schema, must_evaluate=not outer.is_length_preserving())


def _over_rows(tree: object) -> list[object]:
    """Return a tree and what it holds as parts of their own, without what works within one row.

    What ``list.eval`` evaluates sees the elements of one list. The fields of ``struct.with_fields``
    are columns.
    """
    apart: list[object] = []

    def plain(node: object) -> object:
        match node:
            case {"Eval": {"expr": over}}:
                return plain(over)
            case {"StructEval": {"expr": over, "evaluation": [*fields]}}:
                apart.extend(plain(field) for field in fields)
                return plain(over)
            case {"Field": [name]}:
                return {"Column": name}
            case dict():
                return {key: plain(value) for key, value in node.items()}
            case list():
                return [plain(item) for item in node]
            case _:
                return node

    return [plain(tree), *apart]


def _mixes_rows(expr: pl.Expr) -> bool:
    """Ask at every node: Polars answers for the outermost, and calls ``a - a.mean()`` separable."""
    separable = expr.meta.is_literal() or expr.meta.is_row_separable()
    return not separable or any(_mixes_rows(part) for part in expr.meta.pop())


def _sample_fault(expr: pl.Expr, schema: Mapping[str, pl.DataType], *, must_evaluate: bool) -> str:
    """Evaluate on a sample, whole and row by row, and compare.

    An expression may refuse the sample's values (a strict cast) unless only they can tell how many
    rows it makes.
    """
    sample = sample_frame(schema)
    try:
        whole = sample.select(x=expr)
        rows = [sample.slice(i, 1).select(x=expr) for i in range(sample.height)]
    except pl.exceptions.PolarsError as error:
        return f"an expression that fails on a sample: {_first_line(error)}" * must_evaluate
    if whole.height != sample.height or any(row.height != 1 for row in rows):
        return "an expression that changes the number of rows"
    return "" if whole.equals(pl.concat(rows)) else "an expression over several rows"


def _reason_to_fail(expr: pl.Expr, schema: Mapping[str, pl.DataType]) -> str:
    """Return why an expression fails whatever the values, which types do not always tell, or ''."""
    sample = sample_frame(schema)
    reasons = []
    for frame in (sample.clear(), *sample.iter_slices(1), sample):
        try:
            frame.select(x=expr)
        except pl.exceptions.PolarsError as error:
            reasons.append(_first_line(error))
        else:
            return ""
    return reasons[0]


def _first_line(error: Exception) -> str:
    return str(error).split("\n", maxsplit=1)[0]


def _expression(tree: object) -> pl.Expr:
    return pl.Expr.deserialize(io.StringIO(json.dumps(tree)), format="json")


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
