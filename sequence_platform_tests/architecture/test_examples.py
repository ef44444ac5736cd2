"""Examples in docstrings are true, and every module can be imported."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import sequence_platform

MODULES = [
    module.name
    for module in pkgutil.walk_packages(sequence_platform.__path__, "sequence_platform.")
    if not module.name.endswith("__main__")
]


NEEDS = {"sequence_platform.training.torch": "torch", "sequence_platform.training.jax": "jax"}
"""Modules of libraries that are not installed with the project."""


@pytest.mark.parametrize("name", MODULES)
def test_examples_of_the_module_hold(name: str) -> None:
    if name in NEEDS:
        pytest.importorskip(NEEDS[name], reason=f"{NEEDS[name]} is not installed")
    assert doctest.testmod(importlib.import_module(name)).failed == 0
