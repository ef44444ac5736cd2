"""The only reader of definitions: imports every file of a folder and collects what it defines."""

from __future__ import annotations

import ast
import importlib
import sys
import traceback
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

from sequence_platform.definition import Definition
from sequence_platform.errors import DefinitionError, Problem
from sequence_platform.plan.compile import Located, compile_plan
from sequence_platform.plan.plan import Plan


def load_plan(folder: Path) -> Plan:
    """Return the compiled definitions of a folder.

    Files are imported as modules of a package named like the folder, so that they can import each
    other (``from definitions.shop.events import product_view``, or relative to their own).

    Raises:
        DefinitionError: carries every problem of every file, those that do not import among them.
    """
    problems: list[Problem] = []
    located: list[Located] = []
    for file, module in _modules(folder.absolute(), problems):
        located.extend(Located(file, value) for value in _own_values(module))
    if not located and not problems:
        expected = "EventType, Enrichment, Sequence or TrainingSet values at module level"
        problems.append(
            Problem(
                str(folder),
                "folder",
                "",
                "no definitions",
                expected,
                "see SEQUENCE_PLATFORM_DEFINITIONS",
            )
        )
    return compile_plan(located, problems)


def _modules(folder: Path, problems: list[Problem]) -> Iterator[tuple[str, ModuleType]]:
    if not folder.is_dir():
        found = f"no folder {folder}"
        raise DefinitionError(
            [
                Problem(
                    str(folder),
                    "folder",
                    "",
                    found,
                    "a folder of Python files",
                    "see SEQUENCE_PLATFORM_DEFINITIONS",
                )
            ]
        )
    try:
        _make_importable(folder)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a file raises is reported
        init = folder / "__init__.py"
        problems.append(_import_problem(folder, init, folder.name, error))
        return
    for path in sorted(folder.rglob("*.py")):
        inner = path.relative_to(folder)
        if any(part.startswith((".", "__pycache__")) for part in inner.parts):
            continue
        file = str(Path(folder.name) / inner)
        parts = [folder.name, *inner.with_suffix("").parts]
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        try:
            yield file, importlib.import_module(name)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a file raises is reported
            problems.append(_import_problem(folder, path, name, error))


def _make_importable(folder: Path) -> None:
    """Let ``import <folder name>`` mean this folder and no other; forget another of that name.

    Python would merge all folders of one name on its path into one package; here the first that
    was loaded would then answer for files of the second.
    """
    known = sys.modules.get(folder.name)
    if known is not None and list(getattr(known, "__path__", [])) == [str(folder)]:
        return
    inner = f"{folder.name}."
    for name in [name for name in sys.modules if f"{name}.".startswith(inner)]:
        del sys.modules[name]
    init = folder / "__init__.py"
    spec = (
        spec_from_file_location(folder.name, init, submodule_search_locations=[str(folder)])
        if init.exists()
        else ModuleSpec(folder.name, None, is_package=True)
    )
    assert spec is not None  # noqa: S101 - a .py file always has a loader
    spec.submodule_search_locations = [str(folder)]
    package = module_from_spec(spec)
    sys.modules[folder.name] = package
    # Files beside the folder, a team's library say, can be imported too.
    if str(folder.parent) not in sys.path:
        sys.path.append(str(folder.parent))
    importlib.invalidate_caches()
    if spec.loader is not None:
        try:
            spec.loader.exec_module(package)
        except BaseException:
            del sys.modules[folder.name]
            raise


def _import_problem(folder: Path, path: Path, module: str, error: BaseException) -> Problem:
    frames = [
        frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename) == path
    ]
    line = frames[-1].lineno if frames else getattr(error, "lineno", None)
    # A SyntaxError's own text names the line too.
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    found = f"{type(error).__name__}: {text}" + (f" (line {line})" if line else "")
    return Problem(
        str(path.relative_to(folder.parent)),
        "file",
        "",
        found,
        "a file that imports",
        f"python -c 'import {module}' in {folder.parent} shows the whole traceback",
    )


def _own_values(module: ModuleType) -> Iterator[Definition]:
    """Yield the definitions at module level, in lists too; not those that the file imports."""
    imported = {
        alias.asname or alias.name
        for node in ast.walk(ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    for name, value in vars(module).items():
        if name not in imported:
            items = (
                value
                if isinstance(value, list | tuple)
                else value.values()
                if isinstance(value, dict)
                else [value]
            )
            yield from (item for item in items if isinstance(item, Definition))
