"""`code.tests` with every kind of test, in a real sandbox."""

import asyncio
import gzip
import json
import os
from pathlib import Path

import pytest
from rewardkit_code import CodeTests, Runs
from rewardkit_sandbox import Unavailable, open_sandbox

from rewardkit import Rollout, Score, Unscored

ADD = "def add(a, b):\n    return a + b\n"


@pytest.fixture(scope="module", autouse=True)
def _works():
    try:
        open_sandbox(slots=1).close()
    except Unavailable as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def rewards():
    """Rewards by their parameters; all share one sandbox."""
    made = {}

    def get(**params):
        key = repr(sorted(params.items()))
        made[key] = made.get(key) or CodeTests(slots=2, **params)
        return made[key]

    yield get
    for each in made.values():
        each.close()


def score(reward, code, tests, fenced=True, prompt="", **fields):
    """Return the score of a completion with this code."""
    completion = f"Here it is:\n```python\n{code}\n```\nDone." if fenced else code
    return asyncio.run(reward([Rollout(prompt, completion, {"tests": tests, **fields})]))[0]


SHAPES = {
    "output": (
        "print(sum(map(int, input().split())))",
        [{"stdin": "1 2\n", "expected": "3\n"}, {"stdin": "0 0", "expected": "0"}],
    ),
    "call": (ADD, [{"call": "add", "args": [1, 2], "expected": 3}]),
    "method": (
        "class Solution:\n    def add(self, a, b): return (a, b)",
        [{"call": "add", "args": [1, 2], "expected": [1, 2]}],
    ),
    "asserts": (
        ADD,
        [
            "assert add(1, 2) == 3",
            "assert add([1], [2]) == [1, 2]",
            "for i in range(3):\n    assert add(i, 1) == i + 1",
        ],
    ),
    "json text": (ADD, json.dumps(["assert add(1, 2) == 3"])),
    "script": (ADD, "assert add(1, 2) == 3\nassert add('a', 'b') == 'ab'"),
    "pytest": (ADD, "from solution import add\ndef test_add():\n    assert add(1, 2) == 3"),
    "columns": ("print(int(input()) * 2)", {"inputs": ["1\n", "2\n"], "outputs": ["2\n", "4\n"]}),
    "columns of calls": (ADD, {"fn_name": "add", "inputs": [[1, 2]], "outputs": [3]}),
    "checker": (
        "print(4, 2)",
        [
            {
                "stdin": "8",
                "checker": "def check(stdin, expected, output):\n    a, b = map(int, output.split())\n    return a * b == int(stdin)",
            }
        ],
    ),
    "tolerance": ("print(1 / 3)", [{"stdin": "", "expected": "0.33333333", "float_tolerance": 1e-6}]),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape(rewards, shape):
    """A right program gets 1, a wrong one 0, with a reason."""
    code, tests = SHAPES[shape]
    good = score(rewards(), code, tests)
    assert good.value == 1.0, good
    bad = score(rewards(), "def add(a, b): return None\nprint('x')", tests)
    assert bad.value == 0.0
    assert "failed: " in bad.reason or "of" in bad.reason


@pytest.mark.parametrize(
    "tests",
    [[], "", "[]", None, 3, [3], [{}], [{"stdin": "1"}], "assert f( ==", "x = 1", ["assert f( =="], {"inputs": [1], "outputs": []},
     [{"call": "f"}], "def check(candidate):\n    assert candidate(1)", [{"stdin": "", "expected": "", "weight": 0}]],
)  # fmt: skip
def test_unusable_tests_are_the_references_fault(rewards, tests):
    """Unusable tests are reported before a run, and give neither a pass nor a 0."""
    result = score(rewards(), ADD, tests)
    assert isinstance(result, Unscored)
    assert result.kind == "reference"


def test_other_languages_take_output_tests(rewards):
    """Calls, assertions and test code for a program that is not Python are unusable; output tests run."""
    reward = rewards(language="bash", image="python")
    rollout = lambda tests: Rollout("", "```sh\necho 3\n```", {"tests": tests})  # noqa: E731
    call, output = [{"call": "f", "args": [], "expected": 1}], [{"stdin": "", "expected": "3"}]
    refused, scored = asyncio.run(reward([rollout(call), rollout(output)]))
    assert refused == Unscored("reference", "programs in bash take tests with stdin only")
    assert scored.value == 1.0


def test_scores(rewards):
    """The value is the share of tests, all or nothing, or the share of weights."""
    tests = [{"call": "f", "args": [1], "expected": 1, "weight": 3}, {"call": "f", "args": [2], "expected": 9}]
    code = "def f(x): return x"
    assert score(rewards(), code, tests).value == 0.5
    assert score(rewards(score="all"), code, tests).value == 0.0
    assert score(rewards(score="weighted"), code, tests).value == 0.75
    assert score(rewards(isolation="shared"), code, tests).value == 0.5
    assert score(rewards(), code, tests).reason == "1 of 2 tests passed; test 2: f(2) returned 2, expected 9"


def test_candidates_own_failures_are_scores(rewards):
    """A missing program, or one that hangs, raises or does not parse, gets 0 and a reason."""
    tests = [{"stdin": "", "expected": "x"}]
    assert score(rewards(), "just words", tests, fenced=False) == Score(
        0.0, "there is no python program in the completion", {"passed": 0.0, "tests": 1.0}
    )
    assert "timed out" in score(rewards(cpu_s=1, wall_s=1), "import time; time.sleep(9)", tests).reason
    assert "ZeroDivisionError" in score(rewards(), "1 / 0", tests).reason
    assert "SyntaxError" in score(rewards(), "def f(:", tests).reason


def test_early_stop(rewards):
    """With score: all, the run stops at the first failure."""
    tests = [{"stdin": "", "expected": "x"}, *[{"stdin": "", "expected": "y"}] * 3]
    assert score(rewards(score="all"), "print('z')", tests).value == 0.0


def humaneval():
    """Return HumanEval's problems, or skip the test."""
    folder = Path(os.environ.get("REWARDKIT_DATA", Path(__file__).parents[3] / "../shared/data"))
    path = folder / "code/HumanEval.jsonl.gz"
    if not path.exists():
        pytest.skip(f"no {path} (set REWARDKIT_DATA)")
    with gzip.open(path, "rt") as file:
        return [json.loads(line) for line in file]


def test_humaneval(rewards):
    """Every canonical solution passes, as a body, as a whole and fenced; an empty body never does."""
    rows = humaneval()
    reward = rewards(entry_point="entry_point", extract="whole", tests="test")
    make = lambda row, body: Rollout(row["prompt"], body, {"test": row["test"], "entry_point": row["entry_point"]})  # noqa: E731
    right = asyncio.run(reward([make(row, row["canonical_solution"]) for row in rows]))
    assert [result for result in right if result.value != 1.0] == []
    whole = asyncio.run(reward([make(row, row["prompt"] + row["canonical_solution"]) for row in rows[::10]]))
    assert [result for result in whole if result.value != 1.0] == []
    wrong = asyncio.run(reward([make(row, "    return None\n") for row in rows]))
    assert [result for result in wrong if result.value != 0.0] == []


def test_runs():
    """A program that ends without an error gets 1, any other 0."""
    reward = Runs()
    try:
        good, bad, none = asyncio.run(
            reward(
                [Rollout("", f"```python\n{code}\n```") for code in ("print(1)", "raise ValueError('x')")]
                + [Rollout("", "hm")]
            )
        )
    finally:
        reward.close()
    assert (good.value, bad.value, none.value) == (1.0, 0.0, 0.0)
    assert "ValueError: x" in bad.reason
    assert (good.extracted, good.output) == ("print(1)\n", "1")
    assert "ValueError: x" in bad.output


@pytest.mark.parametrize(
    ("code", "tests", "output"),
    [
        (
            "print('first')\nprint(input())",
            [{"stdin": "1", "expected": "1"}, {"stdin": "2", "expected": "2"}],
            "first\n1",
        ),
        (
            "def f(x):\n    print('looking at', x)\n    return 0",
            [{"call": "f", "args": [1], "expected": 1}],
            "looking at 1",
        ),
        ("import sys\nprint('x' * 5000)\nsys.exit('bye')", [{"stdin": "", "expected": "y"}], f"… {'x' * 1999}\nbye"),
        ("print(input())", [{"stdin": "1", "expected": "1"}], None),
    ],
)
def test_the_score_holds_the_program_and_what_it_printed_where_it_failed(rewards, code, tests, output):
    """The program, and the ends of output and messages of the first failed test; a program that passes shows none."""
    found = score(rewards(), code, tests)
    assert (found.extracted, found.output) == (f"{code}\n", output)
