"""Errors say what, where, found, expected and next, in bounded text, and survive pickling."""

from __future__ import annotations

import pickle

import pytest

from sequence_platform.errors import (
    MAX_ITEMS,
    MAX_TEXT,
    ConflictError,
    DefinitionError,
    FrameSchemaError,
    PartitionsFailedError,
    Problem,
    SequencePlatformError,
    StateMismatchError,
    StoreError,
    listed,
    nearest,
)

FACTS = {"where": "a.py", "found": "b", "expected": "c", "next_step": "d"}


def test_a_message_tells_the_five_facts_in_order() -> None:
    error = FrameSchemaError("no column", **FACTS)
    assert str(error) == "no column\n  where: a.py\n  found: b\n  expected: c\n  next: d"


def test_facts_that_are_not_known_are_left_out() -> None:
    assert str(StoreError("disk full", found="0 bytes")) == "disk full\n  found: 0 bytes"


@pytest.mark.parametrize(
    "kind",
    [SequencePlatformError, FrameSchemaError, StateMismatchError, PartitionsFailedError],
)
def test_errors_survive_pickling(kind: type[SequencePlatformError]) -> None:
    error = kind("what", **FACTS)
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert (str(again), again.args) == (str(error), ("what",))


@pytest.mark.parametrize("kind", [StoreError, ConflictError])
def test_whether_trying_again_can_help_survives_too(kind: type[StoreError]) -> None:
    again = pickle.loads(pickle.dumps(kind("what", retryable=True, **FACTS)))
    assert (type(again), again.retryable, again.where) == (kind, True, "a.py")


def test_problems_are_sorted_and_told_once() -> None:
    one, two = Problem("b.py", "x", "f", "1", "2"), Problem("a.py", "x", "", "1", "2", "do")
    error = DefinitionError([one, two, one])
    assert error.problems == (two, one)
    assert str(error) == (
        "2 problems in the definitions:\n\n"
        "a.py: x\n  found: 1\n  expected: 2\n  next: do\n\n"
        "b.py: x, field 'f'\n  found: 1\n  expected: 2"
    )
    assert str(DefinitionError([one])).startswith("1 problem in the definitions:")
    assert pickle.loads(pickle.dumps(error)).problems == error.problems


def test_long_facts_are_cut_and_say_how_much_is_missing() -> None:
    error = StoreError("what", found="x" * (MAX_TEXT + 7))
    assert str(error).endswith("x... (+7 characters)")
    problem = Problem("f", "d", "", "y" * (MAX_TEXT + 1), "e")
    assert "y... (+1 characters)" in str(problem)


def test_long_lists_are_counted() -> None:
    assert listed([]) == "none"
    assert listed([1, "b"]) == "1, b"
    assert listed(range(MAX_ITEMS + 2)).endswith("10, 11 (+2 more)")


def test_the_nearest_name_leads() -> None:
    assert nearest("pni", ["pin", "user"]) == "close: 'pin'; present: pin, user"
    assert nearest("zzz", ["pin", "user"]) == "present: pin, user"
