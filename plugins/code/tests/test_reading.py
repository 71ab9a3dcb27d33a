"""Extraction, lint and similarity, which run no program."""

import pytest
from rewardkit_code import Lint, Similarity
from rewardkit_code.program.extraction import program

from rewardkit import Rollout


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("```python\na\n```", "a\n"),
        ("```py\na\n```\n```python\nb\n```\n```text\nc\n```", "b\n"),
        ("```\na\n```", "a\n"),
        ("```python\na\n```\n```\noutput\n```", "a\n"),
        ("```python\na", "a"),
        ("~~~python\na\n~~~", "a\n"),
        ("```js\na\n```", None),
        ("no code", None),
        ("<think>```python\nx\n```</think><answer>```python\ny\n```</answer>", "y\n"),
        ("<answer>print(1)</answer>", "print(1)"),
        ("````python\n```\na\n````", "```\na\n"),
        ("```python\n\n```", None),
    ],
)
def test_extraction(text, found):
    """The last fenced block of the language counts."""
    assert program(text, "python", "last") == found


def test_whole():
    """`whole` takes the completion as it is."""
    assert program("  return 1\n", "python", "whole") == "  return 1\n"


def lint(code):
    """Return the score of this code."""
    return Lint()([Rollout("", f"```python\n{code}\n```")])[0]


def test_lint():
    """Fewer problems give more; a program that does not parse gets 0, and `noqa` does not help."""
    clean, messy, broken = lint("import os\nprint(os.sep)"), lint("import os\nimport sys"), lint("def f(:")
    assert clean.value == 1.0
    assert 0 < messy.value < clean.value
    assert "F401" in messy.reason
    assert broken.value == 0.0
    assert lint("import os  # noqa\nimport sys  # noqa").value == messy.value


def test_what_lint_can_not_read_is_worth_nothing():
    """A program that is too long, or that crashes the linter, gets 0 and is not unscored."""
    for code in ("x = 1\n" * 50_000, "\\boxed{" * 50_000, "(" * 100_000, "\0", "\ud800"):
        assert lint(code).value == 0.0


def test_similarity():
    """A copy gets 1 whatever its layout, an unrelated program 0."""
    solution = "def f(numbers):\n    total = 0\n    for number in numbers:\n        total += number\n    return total\n"
    copied = solution.replace("    ", "  ") + "# mine\n"
    other = "import math\nclass A:\n    def g(self, x, y=2):\n        return [math.sqrt(x) for _ in range(y)]\n"
    values = [
        r.value
        for r in Similarity(reference="s")(
            [Rollout("", f"```python\n{c}```", {"s": solution}) for c in (copied, other)]
        )
    ]
    assert values == [1.0, 0.0]
