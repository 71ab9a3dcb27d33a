"""Checkers that die: of the output, or because they are broken."""

import asyncio

import pytest
from rewardkit_code import CodeTests

from rewardkit import Rollout, Unscored

pytestmark = pytest.mark.usefixtures("_needs_sandbox")


@pytest.fixture(scope="module")
def result():
    """Scores a program that prints a text, by the body of a checker."""
    reward = CodeTests(slots=2, cpu_s=1, wall_s=20)

    def score(printed, body, head="", **test):
        checker = f"{head}\ndef check(stdin, expected, output):\n    {body}\n"
        row = {"tests": [{"stdin": "8", "checker": checker, **test}]}
        rollout = Rollout("", f"```python\nprint({printed!r})\n```", row)
        return asyncio.run(reward([rollout]))[0]

    yield score
    reward.close()


@pytest.mark.parametrize(
    ("printed", "body", "head"),
    [
        ("[1, 2", "return sum(ast.literal_eval(output)) == 8", "import ast"),
        ("(" * 10_000, "return ast.literal_eval(output) == 8", "import ast"),
        ("foo", "return eval(output) == 8", ""),
        ("", "return output.split()[0] == '8'", ""),
        ("0", "return 8 / int(output) == 1", ""),
        ("{", "return json.loads(output)['a'] == 8", "import json"),
        ("[]", "return json.loads(output)['a'] == 8", "import json"),
        ("while True: pass", "exec(output)", ""),
        ("import nowhere", "exec(output)", ""),
        ("9", "raise ValueError('not 8') if output.strip() != '8' else None", ""),
    ],
)
def test_an_output_that_the_checker_dies_of_is_wrong(result, printed, body, head):
    """An exception or a time limit that the output causes is the program's 0."""
    assert result(printed, body, head).value == 0.0


@pytest.mark.parametrize(
    ("body", "head"),
    [
        ("return stdin.nope == output", ""),
        ("return int(stdin) / 0 == 8", ""),
        ("return expected['key'] == output", ""),
        ("while True: pass", ""),
        ("return np.array(output) == 8", "import numpy as np"),
        ("return 'yes'", ""),
    ],
)
def test_a_broken_checker_gives_no_score(result, body, head):
    """A checker that fails in the same way whatever the output is, or gives no verdict, is the reference's fault."""
    found = result("8", body, head)
    assert isinstance(found, Unscored)
    assert found.kind == "reference"
    assert "checker" in found.message


def test_a_checker_that_fails_for_the_expected_output_is_broken(result):
    """The row's own answer must not kill its checker."""
    found = result("8", "return int(output.strip()).nope", expected="8")
    assert isinstance(found, Unscored)


@pytest.mark.parametrize(
    ("body", "value"),
    [("return True", 1.0), ("return 1", 1.0), ("return False", 0.0), ("pass", 0.0), ("return 0", 0.0)],
)
def test_verdicts(result, body, value):
    """True accepts the output; False and a missing return refuse it."""
    assert result("8", body).value == value
