"""What can be said of expressions without data."""

from __future__ import annotations

from functools import partial
from threading import Lock
from typing import Any

import polars as pl
import pytest

from sequence_platform.plan.expressions import (
    PYTHON_FUNCTION,
    canonical_tree,
    output_type,
    readable,
    row_level_fault,
)

SCHEMA = {"a": pl.Int64(), "s": pl.String(), "t": pl.List(pl.Int64())}


LOCK = Lock()
"""A value that cannot be serialised."""


def locked(lock: Any, values: pl.Series) -> pl.Series:
    with lock:
        return values


def test_membership_does_not_depend_on_the_order_of_its_values() -> None:
    a = pl.col("a")
    assert canonical_tree(a.is_in([1, 2, 3])) == canonical_tree(a.is_in([3, 1, 2]))
    assert canonical_tree(a.is_in([1, 2, 3])) != canonical_tree(a.is_in([1, 2, 4]))
    nested = pl.when(~a.is_in([2, 1])).then(1)
    assert canonical_tree(nested) == canonical_tree(pl.when(~a.is_in([1, 2])).then(1))


def test_the_order_of_other_lists_counts() -> None:
    s = pl.col("s")
    one = s.replace_strict(["a", "b"], [1, 2])
    assert canonical_tree(one) != canonical_tree(s.replace_strict(["b", "a"], [1, 2]))


def test_membership_in_a_column_is_left_alone() -> None:
    tree = canonical_tree(pl.col("a").is_in(pl.col("t")))
    assert tree["Function"]["input"] == [{"Column": "a"}, {"Column": "t"}]


@pytest.mark.parametrize(
    "expr",
    [
        pl.col("a").map_elements(lambda v: v, return_dtype=pl.Int64),
        pl.col("a").map_batches(lambda v: v, return_dtype=pl.Int64),
        pl.struct("a", "s").map_batches(lambda v: v, return_dtype=pl.Int64),
        pl.when(pl.col("a").map_batches(lambda v: v, return_dtype=pl.Boolean)).then(1),
        pl.fold(pl.lit(0), lambda x, y: x + y, ["a"]),
        pl.col("a").map_batches(partial(locked, LOCK), return_dtype=pl.Int64),
    ],
)
def test_python_functions_are_found_wherever_they_hide(expr: pl.Expr) -> None:
    with pytest.raises(ValueError, match="a Python function"):
        canonical_tree(expr)
    assert row_level_fault(expr, SCHEMA) == PYTHON_FUNCTION


@pytest.mark.parametrize(
    ("expr", "text"),
    [
        (pl.col("a") >= 10, "[(a) >= (10)]"),
        (pl.col("s").str.to_uppercase() == "A", '[(s.str.to_uppercase()) == ("A")]'),
        (pl.col("odd name"), 'col("odd name")'),
    ],
)
def test_readable_text_is_for_people(expr: pl.Expr, text: str) -> None:
    assert readable(expr) == text


def test_the_type_of_an_expression_is_told_without_data() -> None:
    assert output_type(pl.col("a") / 2, SCHEMA) == pl.Float64()
    assert output_type(pl.col("t").list.first(), SCHEMA) == pl.Int64()


@pytest.mark.parametrize(
    ("expr", "reason"),
    [
        (pl.col("s") + pl.col("t"), "add operation not supported"),
        (pl.col("s").dt.year(), "year"),
        (pl.col("s").struct.field("x"), "StructFieldNotFoundError: x"),
        (pl.lit(None), "an expression of type Null; cast it to the type meant"),
    ],
)
def test_what_has_no_type_says_why(expr: pl.Expr, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        output_type(expr, SCHEMA)


def test_an_expression_that_only_some_values_upset_has_a_type() -> None:
    assert output_type(pl.col("s").cast(pl.Int64), SCHEMA) == pl.Int64()
    assert output_type(pl.col("a").get(3), SCHEMA) == pl.Int64()


SEVERAL = "an expression over several rows (window, aggregate, order or position)"


@pytest.mark.parametrize(
    ("expr", "fault"),
    [
        (pl.col("a") + 1, ""),
        (pl.lit(1), ""),
        (pl.col("s").cast(pl.Int64), ""),  # refuses some values: a dead letter then
        (pl.col("t").list.eval(pl.element() - pl.element().mean()), ""),
        (pl.col("a") - pl.col("a").mean(), SEVERAL),
        (pl.col("a").sort(), SEVERAL),
        (pl.col("t").explode(), "an expression that changes the number of rows"),
        (
            pl.col("t").explode() + pl.col("s").cast(pl.Int64),
            "an expression that fails on a sample: conversion from `str` to `i64` failed",
        ),
    ],
)
def test_a_row_level_expression_is_one_value_per_row(expr: pl.Expr, fault: str) -> None:
    assert row_level_fault(expr, SCHEMA).partition(" in column")[0] == fault


def test_nested_types_are_sampled_too() -> None:
    schema: dict[str, Any] = {
        "b": pl.Boolean(),
        "x": pl.Binary(),
        "d": pl.Date(),
        "at": pl.Datetime("us", "UTC"),
        "local": pl.Datetime("us"),
        "span": pl.Duration("us"),
        "clock": pl.Time(),
        "money": pl.Decimal(10, 2),
        "e": pl.Enum(["p", "q"]),
        "list": pl.List(pl.Int8()),
        "vector": pl.Array(pl.Float32(), 2),
        "struct": pl.Struct({"u": pl.UInt8(), "v": pl.List(pl.String())}),
        "n": pl.Null(),
    }
    for name in schema:
        assert row_level_fault(pl.col(name).is_null(), schema) == "", name
        assert row_level_fault(pl.col(name).is_null().any(), schema) == SEVERAL, name
