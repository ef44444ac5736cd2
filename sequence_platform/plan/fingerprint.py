"""Hashes of what decides results: equal in every process, changed only when results can change."""

from __future__ import annotations

import ast
import hashlib
import inspect
import json
import re
import textwrap
import types
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from datetime import date, time, timedelta, tzinfo
from decimal import Decimal
from enum import Enum
from functools import partial
from typing import Any

import polars as pl

from sequence_platform.plan.expressions import canonical_tree

DIGEST_BYTES = 16
Json = Any


def canonical_json(value: object) -> str:
    """Return JSON with sorted keys and no spaces, the one form of a value.

    >>> canonical_json({"b": 1, "a": [True, None]})
    '{"a":[true,null],"b":1}'
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def fingerprint(value: object) -> str:
    """Return the hash of a JSON value."""
    return hashlib.blake2b(canonical_json(value).encode(), digest_size=DIGEST_BYTES).hexdigest()


def code_fingerprint(function: Callable[..., object]) -> str:
    """Return the hash of a function's code and of what it names.

    That is functions, classes, expressions and constants, followed through the package it is part
    of. Comments, docstrings and layout do not count. A library function counts by its name.

    Raises:
        ValueError: it names a value of a kind that has no stable form.
    """
    return fingerprint(_describe_value(function, _package(function), set()))


def _describe_value(value: object, package: str, seen: set[int]) -> Json:  # noqa: C901, PLR0911 - one case a kind
    """Return a value that a function names as JSON."""
    match value:
        case types.FunctionType() if _package(value) == package:
            return _describe_function(value, package, seen)
        case type() if _package(value) == package:
            members = {k: v for k, v in vars(value).items() if isinstance(v, types.FunctionType)}
            return [_source(value, package, seen), _describe_value(members, package, seen)]
        case partial():
            return _describe_value([value.func, value.args, value.keywords], package, seen)
        case types.MethodType():
            return _describe_value([value.__func__, value.__self__], package, seen)
        case types.ModuleType():
            return value.__name__
        case _ if callable(value) and (inner := inspect.unwrap(value)) is not value:
            return _describe_value(inner, package, seen)
        case _ if callable(value) and hasattr(value, "__qualname__"):
            return f"{value.__module__}.{value.__qualname__}"
        case list() | tuple():
            return [_describe_value(item, package, seen) for item in value]
        case set() | frozenset():
            return sorted(canonical_json(_describe_value(item, package, seen)) for item in value)
        case Mapping():
            return {str(key): _describe_value(item, package, seen) for key, item in value.items()}
        case _ if is_dataclass(value):
            held = {field.name: getattr(value, field.name) for field in fields(value)}
            return _describe_value([type(value), held], package, seen)
        case _:
            return _describe_constant(value)


def _describe_constant(value: object) -> Json:  # noqa: PLR0911 - likewise
    match value:
        case pl.Expr():
            return canonical_tree(value)
        case pl.DataFrame():
            return [str(value.schema), value.write_json()]
        case pl.Series():
            return _describe_constant(value.to_frame())
        case re.Pattern():
            return [repr(value.pattern), value.flags]
        case Enum():
            return str(value)
        case bool() | int() | float() | complex() | str() | bytes() | Decimal():
            return repr(value)
        case None | types.EllipsisType() | date() | time() | timedelta() | tzinfo() | pl.DataType():
            return repr(value)
        case _:
            msg = f"a value of type {type(value).__qualname__}, which cannot be fingerprinted"
            raise ValueError(msg)


def _describe_function(function: types.FunctionType, package: str, seen: set[int]) -> Json:
    if id(function) in seen:
        return {"seen": function.__qualname__}
    seen.add(id(function))
    cells = [cell.cell_contents for cell in function.__closure__ or ()]
    values = {
        "globals": _used(function.__globals__, _names_used(function.__code__)),
        "closure": dict(zip(function.__code__.co_freevars, cells, strict=True)),
        "defaults": function.__defaults__,
        "keywords": function.__kwdefaults__,
    }
    described = {key: _describe_value(value, package, seen) for key, value in values.items()}
    return {"source": _source(function, package, seen)} | described


def _used(scope: Mapping[str, object], names: set[str]) -> dict[str, object]:
    """Return what of a scope a function names; of a module of ours what it may name there."""
    used: dict[str, object] = {}
    for name in sorted(names & scope.keys()):
        value = scope[name]
        if isinstance(value, types.ModuleType) and _package(value) == _first(scope["__name__"]):
            used |= {f"{name}.{k}": v for k, v in _used(vars(value), names).items()}
        else:
            used[name] = value
    return used


def _package(value: object) -> str:
    """Return the top-level package of a module, or of that in which something was written."""
    match value:
        case partial():
            return _package(value.func)
        case types.ModuleType():
            return _first(value.__name__)
        case types.FunctionType():  # what wraps another function bears that one's __module__
            return _first(value.__globals__["__name__"])
        case _:
            return _first(getattr(value, "__module__", ""))


def _first(dotted: object) -> str:
    return str(dotted).split(".", maxsplit=1)[0]


def _names_used(code: types.CodeType) -> set[str]:
    inner = [
        _names_used(constant) for constant in code.co_consts if isinstance(constant, types.CodeType)
    ]
    return set(code.co_names).union(*inner)


def _source(item: types.FunctionType | type, package: str, seen: set[int]) -> Json:
    """Return the source without comments, docstrings and layout; the bytecode if there is none."""
    code = item.__code__ if isinstance(item, types.FunctionType) else None
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(code or item)))
    except (OSError, SyntaxError):  # a lambda within a call, code typed at a prompt
        return item.__qualname__ if code is None else _bytecode(code, package, seen)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree)


def _bytecode(code: types.CodeType, package: str, seen: set[int]) -> Json:
    constants = [
        _bytecode(item, package, seen)
        if isinstance(item, types.CodeType)
        else _describe_value(item, package, seen)
        for item in code.co_consts
    ]
    return [code.co_code.hex(), list(code.co_names), list(code.co_varnames), constants]
