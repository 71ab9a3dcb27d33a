"""The reasons that a person reads when a program does not pass."""

import asyncio

import pytest
from rewardkit_code import CodeTests

from rewardkit import Rollout

pytestmark = pytest.mark.usefixtures("_needs_sandbox")


@pytest.fixture(scope="module")
def reward():
    """One reward for all."""
    made = CodeTests(slots=2, cpu_s=1, wall_s=20, entry_point="entry")
    yield made
    made.close()


OUT = {"stdin": "2\n", "expected": "4\n"}
CALL = {"call": "f", "args": [2], "expected": 4}
CHECK = "def check(candidate):\n    assert candidate(2) == 4\n"


@pytest.mark.parametrize(
    ("code", "tests", "reason"),
    [
        ("print(int(input()) * 2)", [OUT], "the test passed"),
        ("print(int(input()) * 2)", [OUT] * 2, "all 2 tests passed"),
        ("print(5)", [OUT], "the test failed: for '2\\n' expected '4', got '5'"),
        ("print(4)\nprint(5)", [OUT], "the test failed: for '2\\n' expected 1 line, got 2 lines"),
        ("print(1)\nprint(5)", [{"stdin": "", "expected": "1\n4"}], "the test failed: line 2: expected '4', got '5'"),
        ("pass", [OUT], "the test failed: for '2\\n' expected '4\\n', and nothing was printed"),
        ("x = 1\n1 / 0", [OUT] * 2, "0 of 2 tests passed: ZeroDivisionError: division by zero (line 2)"),
        ("x = 1\ndef f(:", [OUT], "the test failed: SyntaxError: invalid syntax (line 2)"),
        ("import sys\nsys.exit(3)", [OUT], "the test failed: exit code 3"),
        ("import os\nos.kill(os.getpid(), 9)", [OUT], "the test failed: ended by signal SIGKILL"),
        ("while True: pass", [OUT] * 5, "0 of 5 tests passed, 2 not run; test 1: used more than 1 s of CPU"),
        ("def f(x): return x", [CALL], "the test failed: f(2) returned 2, expected 4"),
        ("def f(x): return x // 0", [CALL], "the test failed: f(2) raised ZeroDivisionError: integer division or modulo by zero"),
        ("def f(x): return x", ["assert f(2) == 4"], "the test failed: assert f(2) == 4: f(2) returned 2"),
        ("def f(x): return x", ["assert f(2) == 2", CALL, OUT], "1 of 3 tests passed; test 2: f(2) returned 2, expected 4"),
        ("def f(x): return x", CHECK, "the tests failed: line 2 of the tests: assert candidate(2) == 4 failed (the last call returned 2)"),
        ("def f(x):\n    return 2 * x", CHECK, "the tests passed"),
        ("x = 1\ndef f(:", CHECK, "the tests failed: SyntaxError: invalid syntax (line 2)"),
    ],
)  # fmt: skip
def test_reasons(reward, code, tests, reason):
    """The reason says which test failed, what was expected and what came; line numbers are those of the program in the completion."""
    entry = "f" if isinstance(tests, str) else ""
    prompt = "import math\n\ndef f(x):\n    '''Twice.'''\n" if entry else "Write it."
    rollout = Rollout(prompt, f"```python\n{code}\n```", {"tests": tests, "entry": entry})
    assert asyncio.run(reward([rollout]))[0].reason == reason


def test_the_prompts_imports_and_helpers_are_there(reward):
    """A function that is written out again can use the prompt's imports and helpers, even after imports from `__future__`."""
    prompt = "import math\n\ndef twice(x):\n    return 2 * x\n\ndef f(x):\n    '''Twice.'''\n"
    for code in (
        "def f(x):\n    return twice(math.floor(x))",
        "from __future__ import annotations\ndef f(x: Y):\n    return twice(x)",
        "    return twice(x)",
        "    def g(y):\n        return twice(y)\n    return g(x)",
    ):
        rollout = Rollout(prompt, f"```python\n{code}\n```", {"tests": CHECK, "entry": "f"})
        assert asyncio.run(reward([rollout]))[0].value == 1.0, code


def test_a_prompt_that_is_no_python_stays_out(reward):
    """Prose prompts are not put before the program."""
    rollout = Rollout(
        "Write f, which doubles!", "```python\ndef f(x):\n    return 2 * x\n```", {"tests": CHECK, "entry": "f"}
    )
    assert asyncio.run(reward([rollout]))[0].value == 1.0
