"""A folder of definitions is imported file by file; all of its problems come at once."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from sequence_platform.catalog import load_plan
from sequence_platform.errors import DefinitionError, Problem

EVENT = """
import polars as pl
from sequence_platform import EventType, Files, Sequence

{variable} = EventType(
    name="{name}", owner="team:a",
    schema={{"id": pl.Int64, "at": pl.Datetime("us"), "x": pl.Int64}},
    event_id="id", event_time="at", entity="id", batch=Files("{name}.csv"))
"""
SEQUENCE = """
{imports}
from sequence_platform import Sequence

feed = Sequence(name="feed", owner="team:a", events=[click], columns=["{column}"])
"""


def event(name: str, variable: str = "") -> str:
    return EVENT.format(name=name, variable=variable or name)


def sequence(imports: str, column: str = "x") -> str:
    return SEQUENCE.format(imports=imports, column=column)


Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Iterator[Write]:
    """Return what writes a folder of definitions; forget at the end what was imported."""
    before, modules = list(sys.path), set(sys.modules)

    def write_files(files: Mapping[str, str], folder: str = "project/definitions") -> Path:
        for name, text in files.items():
            path = tmp_path / folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        return tmp_path / folder

    yield write_files
    sys.path[:] = before
    for name in set(sys.modules) - modules:
        del sys.modules[name]


def problems(folder: Path) -> tuple[Problem, ...]:
    with pytest.raises(DefinitionError) as caught:
        load_plan(folder)
    return caught.value.problems


@pytest.mark.parametrize(
    "imports",
    [
        "from definitions.feed.events import click",
        "from .events import click",
        "from definitions.feed import events; click = events.click",
        "import definitions.feed.events as e; click = e.click",
    ],
)
def test_files_import_each_other_absolutely_and_relatively(write: Write, imports: str) -> None:
    folder = write({"feed/events.py": event("click"), "feed/a.py": sequence(imports)})
    plan = load_plan(folder)
    assert (list(plan.events), list(plan.sequences)) == (["click"], ["feed"])


def test_packages_and_loose_files_both_work(write: Write) -> None:
    folder = write(
        {
            "feed/__init__.py": event("view"),
            "feed/events.py": event("click"),
            "loose.py": "from .feed import view, events\n" + event("save"),
        }
    )
    assert list(load_plan(folder).events) == ["click", "save", "view"]


def test_definitions_stand_in_lists_tuples_and_mappings_too(write: Write) -> None:
    text = event("click") + "".join(
        f"\n{name} = EventType(name='{name}', owner='team:a', schema=click.schema, event_id='id',"
        " event_time='at', entity='id', batch=Files('x.csv'))"
        for name in ("a", "b", "c")
    )
    text += "\nLIST, PAIR, BY_NAME = [a, 3], (b,), {'c': c}\ndel a, b, c\n"
    assert list(load_plan(write({"all.py": text})).events) == ["a", "b", "c", "click"]


def test_hidden_folders_and_caches_are_passed_over(write: Write) -> None:
    files = {"events.py": event("click"), ".git/x.py": "no", "__pycache__/y.py": "no"}
    assert list(load_plan(write(files)).events) == ["click"]


def test_a_problem_is_attributed_to_the_file_that_defines(write: Write) -> None:
    folder = write(
        {
            "a/sequences.py": sequence("from definitions.b.events import click", column="y"),
            "b/events.py": event("click").replace("team:a", "nobody"),
            "c/again.py": "from definitions.b.events import click",
        }
    )
    found = problems(folder)
    assert [(p.file, p.definition, p.field) for p in found] == [
        ("definitions/b/events.py", "event type 'click'", "owner")
    ]
    folder = write({"b/events.py": event("click")}, "second/definitions")
    write({"a/s.py": sequence("from ..b.events import click", column="y")}, "second/definitions")
    (only,) = problems(folder)
    assert (only.file, only.definition) == ("definitions/a/s.py", "sequence 'feed'")


def test_one_name_in_two_files_is_reported_with_both(write: Write) -> None:
    (found,) = problems(write({"a.py": event("click"), "b.py": event("click", "other")}))
    assert (found.file, found.field) == ("definitions/b.py", "name")
    assert "defined in definitions/a.py too" in found.expected


def test_files_that_do_not_import_are_reported_with_line_beside_all_other_problems(
    write: Write,
) -> None:
    folder = write(
        {
            "a.py": "import polars\n\nx = 1 / 0\n",
            "b.py": "def broken(:\n    pass\n",
            "c.py": "\nfrom definitions.missing import click\n",
            "d.py": event("click").replace("team:a", ""),
            "e.py": "from definitions.a import x\n",
        }
    )
    found = {p.file: p for p in problems(folder)}
    assert found["definitions/a.py"].found == "ZeroDivisionError: division by zero (line 3)"
    assert found["definitions/b.py"].found == "SyntaxError: invalid syntax (line 1)"
    assert found["definitions/c.py"].found == (
        "ModuleNotFoundError: No module named 'definitions.missing' (line 2)"
    )
    assert found["definitions/d.py"].field == "owner"
    assert found["definitions/e.py"].found == "ZeroDivisionError: division by zero (line 1)"
    broken = found["definitions/a.py"]
    assert (broken.definition, broken.expected) == ("file", "a file that imports")
    step = f"python -c 'import definitions.a' in {folder.parent} shows the whole traceback"
    assert broken.next_step == step


def test_a_file_that_exits_is_a_file_that_does_not_import(write: Write) -> None:
    (found,) = problems(write({"a.py": "import sys\nsys.exit(3)\n"}))
    assert found.found == "SystemExit: 3 (line 2)"


def test_a_folder_without_definitions_says_what_is_missing(write: Write) -> None:
    (found,) = problems(write({"a.py": "x = 3\n"}))
    assert found.found == "no definitions"
    assert found.expected == "EventType, Enrichment, Sequence or TrainingSet values at module level"
    assert found.next_step == "see SEQUENCE_PLATFORM_DEFINITIONS"


def test_a_folder_that_does_not_exist_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "nowhere"
    (found,) = problems(missing)
    assert found.found == f"no folder {missing}"
    assert found.expected == "a folder of Python files"


@pytest.mark.parametrize("marker", [{}, {"__init__.py": "", "feed/__init__.py": ""}])
def test_folders_of_one_name_follow_each_other_in_one_process(
    write: Write, marker: dict[str, str]
) -> None:
    one = write({"feed/events.py": event("click"), **marker}, "one/definitions")
    two = write(
        {
            "feed/events.py": event("save", "click"),
            "feed/s.py": sequence("from .events import click"),
        }
        | marker,
        "two/definitions",
    )
    for _ in range(2):
        assert list(load_plan(one).events) == ["click"]
        assert list(load_plan(two).events) == ["save"]
        assert list(load_plan(two).sequences) == ["feed"]


def test_a_folder_is_loaded_from_wherever_it_is_named(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write({"events.py": event("click")})
    monkeypatch.chdir(folder.parent)
    assert list(load_plan(Path("definitions")).events) == ["click"]
    assert list(load_plan(Path("definitions")).events) == ["click"]
