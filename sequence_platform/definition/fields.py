"""Checks that the fields of a definition hold values of the types they are annotated with.

A value of a wrong type would otherwise fail deep in the compiler, in words about something else.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import date, datetime
from typing import Any, Literal

import polars as pl

READABLE = {
    pl.Expr: "Polars expression",
    str: "text",
    int: "whole number",
    types.NoneType: "None",
}


def wrong_types(value: object) -> Iterator[tuple[str, str, str]]:
    """Yield (field, found, expected) for every field of a dataclass that holds something else."""
    for name, hint in _hints(type(value)).items():
        held = getattr(value, name)
        if not _conforms(held, hint):
            yield name, f"{_shown(held)} ({type(held).__name__})", _readable(hint)
        elif is_dataclass(held):  # sources and rules of trimming; definitions stand in lists
            for field, found, expected in wrong_types(held):
                yield f"{name}.{field}", found, expected


def _hints(kind: type) -> dict[str, Any]:
    hints = typing.get_type_hints(kind)
    return {field.name: hints[field.name] for field in fields(kind)}


def _conforms(value: object, hint: Any) -> bool:  # noqa: ANN401, PLR0911 - one case a kind of annotation
    """Tell whether a value is of an annotated type, as far down as definitions go."""
    kind, parts = typing.get_origin(hint) or hint, typing.get_args(hint)
    if kind in {typing.Union, types.UnionType}:
        return any(_conforms(value, part) for part in parts)
    if kind is Literal:
        return any(type(value) is type(part) and value == part for part in parts)
    if kind is Callable:
        return callable(value)
    if kind is Mapping:
        return isinstance(value, Mapping) and all(
            _conforms(key, parts[0]) and _conforms(item, parts[1]) for key, item in value.items()
        )
    if kind is Sequence:  # text is one too, of its letters, which nobody means
        return isinstance(value, list | tuple) and all(_conforms(item, parts[0]) for item in value)
    if kind is pl.DataType:  # the compiler asks Polars, which knows more: int is Int64
        return True
    mistaken = {int: bool, date: datetime}.get(kind)  # subclasses that mean something else
    return isinstance(value, kind) and not (mistaken and isinstance(value, mistaken))


def _readable(hint: Any) -> str:  # noqa: ANN401 - an annotation
    kind, parts = typing.get_origin(hint) or hint, typing.get_args(hint)
    if kind in {typing.Union, types.UnionType}:
        return " or ".join(_readable(part) for part in parts)
    if kind is Literal:
        return " or ".join(repr(part) for part in parts)
    if kind is Callable:
        return "function"
    if kind is Mapping:
        return f"mapping of {_readable(parts[0])} to {_readable(parts[1])}"
    if kind is Sequence:
        return f"list of {_readable(parts[0])}"
    return READABLE.get(kind, str(kind.__name__))


def _shown(value: object) -> str:
    """Return a value for a message; a definition by its name, as its repr is a page."""
    match value:
        case list() | tuple():
            return f"[{', '.join(_shown(item) for item in value)}]"
        case pl.Expr():
            return str(value)
        case _ if is_dataclass(value):
            return repr(getattr(value, "name", value))
        case _:
            return repr(value)
