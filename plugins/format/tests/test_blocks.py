"""``format.code_block`` and the parser of fences."""

import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rewardkit_format import CodeBlock
from rewardkit_format.blocks import MAX_PARSED_CHARS, python_fault
from rewardkit_format.fences import fenced_blocks


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("```python\nx\n```", [("python", "x\n", True)]),
        ("```\nx\n```\n~~~ js\ny\n~~~", [("", "x\n", True), ("js", "y\n", True)]),
        ("````md\n```\nx\n```\n````", [("md", "```\nx\n```\n", True)]),
        ("~~~\n```\n~~~", [("", "```\n", True)]),
        ("```py\nx\n``` no\n```", [("py", "x\n``` no\n", True)]),
        ("``` `x` ```", []),
        ("```python\nx", [("python", "x", False)]),
        ("```", [("", "", False)]),
        ("```{.python .numberLines}\nx\n```", [("python", "x\n", True)]),
        ("  ```py\n  if x:\n      y\n  ```", [("py", "if x:\n    y\n", True)]),
        ("a ```py\nx\n```", [("", "", False)]),
    ],
)
def test_fences_are_read_as_commonmark_does(text, expected):
    """Fences of every length and kind, names, indentation, and blocks that are never closed are read."""
    assert [(block.language, block.content(text), block.closed) for block in fenced_blocks(text)] == expected


@given(st.text(alphabet="`~ \nxp", max_size=40))
def test_blocks_stand_in_the_text_in_order(text):
    """Blocks don't overlap and lie within the text, whatever the marks."""
    end = 0
    for block in fenced_blocks(text):
        assert end <= block.start <= block.end <= len(text)
        end = block.end


@pytest.mark.parametrize(
    ("text", "params", "value", "reason"),
    [
        ("```py\nx\n```", {"language": "python"}, 1.0, "there is a python block"),
        ("```Python3\nx\n```", {"language": "python"}, 1.0, "there is a python block"),
        ("```c++\nx\n```", {"language": "cpp"}, 1.0, "there is a cpp block"),
        ("```julia\nx\n```", {"language": "julia"}, 1.0, "there is a julia block"),
        ("```\nx\n```", {"language": "python"}, 0.0, "there is no python block"),
        ("```\nx\n```", {}, 1.0, "there is a code block"),
        ("x", {}, 0.0, "there is no code block"),
        ("```py\nx", {"language": "python"}, 0.0, "the python block is not closed"),
        ("```py\n \n```", {"language": "python"}, 0.0, "the python block is empty"),
        (
            "```py\n1\n```\n```py\n2\n```",
            {"language": "python", "once": True},
            0.0,
            "there is more than one python block",
        ),
        ("```py\n1\n```\n```sh\n2\n```", {"language": "python", "once": True}, 1.0, "there is a python block"),
        ("```py\nx = 1\n```", {"language": "python", "parses": True}, 1.0, "there is a python block"),
        ("```py\nx = = 1\n```", {"language": "python", "parses": True}, 0.0, "the code does not parse: line 1"),
        ("```py\nx =\n```\n```py\nx = 1\n```", {"language": "py", "parses": True}, 1.0, "there is a py block"),
    ],
)
def test_the_last_block_of_the_language_counts(score, text, params, value, reason):
    """A block that fits the parameters scores 1; anything else scores 0 with the fault."""
    result = score("format.code_block", text, **params)
    assert (result.value, result.reason) == (value, reason)


@pytest.mark.parametrize(
    "code",
    [
        "(" * 100_000,
        "-" * 100_000 + "1",
        "a" + ".b" * 60_000,
        "x = '\ud800'",
        "x\0",
        "[" * 90 + "]" * 90 + "]",
        "\t\n x",
    ],
)
def test_code_that_breaks_parsers_is_only_wrong(code):
    """Nesting, surrogates and NUL are faults of the code, never an exception."""
    assert python_fault(code)


def test_code_that_only_warns_is_right():
    """A warning about an escape is not a fault, even if warnings are errors, and is not passed on."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert python_fault('x = "\\d"\ny = 1 is 1\n') == ""


def test_code_is_not_parsed_beyond_a_limit():
    """A program of several megabytes is refused and not parsed."""
    assert "not parsed" in python_fault("x\n" * MAX_PARSED_CHARS)


@pytest.mark.parametrize(
    ("params", "says"),
    [({"language": "rust", "parses": True}, "only for python, not for rust"), ({"language": " "}, "language is empty")],
)
def test_wrong_parameters_are_refused(params, says):
    """Only Python can be parsed."""
    with pytest.raises(ValueError, match=says):
        CodeBlock(**params)
