"""Prompts that are code."""

import pytest
from rewardkit_code.program.prompts import is_code, with_prompt

HEAD = 'import math\n\ndef add(a, b):\n    """The sum."""\n'


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        (HEAD, True),
        ("import math\n", True),
        ("class A:\n    pass\n", True),
        ("p", False),
        ("add(a, b)", False),
        ("'Write add.'", False),
        ("", False),
        ("Write add, which adds.", False),
        ("import os\nos.remove('x')", False),
    ],
)
def test_only_definitions_and_imports_are_code(prompt, expected):
    """A prompt that happens to parse, or that would run something, is not put before a program."""
    assert is_code(prompt) is expected


def test_a_body_continues_the_prompt():
    """An indented completion comes right behind the prompt."""
    whole = with_prompt(HEAD, "    return a + b\n", "add")
    assert (whole.source, whole.lines_before) == (HEAD + "    return a + b\n", HEAD.count("\n"))


def test_a_whole_function_follows_the_prompt():
    """A completion that defines the function again gets the prompt's imports before it."""
    whole = with_prompt(HEAD, "def add(a, b):\n    return a + b\n", "add")
    assert whole.source.startswith(HEAD)
    assert whole.source.splitlines()[whole.lines_before] == "def add(a, b):"


def test_other_prompts_are_left_out():
    """A program without the function is not glued to prose or to a prompt that lacks the function, too."""
    for prompt in ("Write add.", "add(a, b)", "import math\n"):
        assert with_prompt(prompt, "x = 1\n", "add").source.endswith("x = 1\n")
        assert "Write" not in with_prompt(prompt, "x = 1\n", "add").source
