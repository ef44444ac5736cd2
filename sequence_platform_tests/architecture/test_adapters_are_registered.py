"""Every adapter stands in the register, so that no conformance suite can overlook one."""

from __future__ import annotations

import ast
import pkgutil
from pathlib import Path

import pytest

from sequence_platform import sources, stores

REGISTER = Path(__file__).parents[1] / "backends.py"
ADAPTERS = [
    f"{ring.__name__}.{module.name}"
    for ring in (sources, stores)
    for module in pkgutil.iter_modules(ring.__path__)
]


def imported_by(file: Path) -> set[str]:
    """Return the modules that a file imports, and what it imports from them, as dotted names."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return names


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_adapter_is_in_the_register(adapter: str) -> None:
    names = imported_by(REGISTER)
    assert any(name == adapter or name.startswith(f"{adapter}.") for name in names)
