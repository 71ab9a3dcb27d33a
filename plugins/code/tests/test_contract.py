"""Every reward of this plugin keeps the contract."""

# ruff: noqa: RUF012 - the attributes of a contract are only read

import pytest
from rewardkit_code import code_tests, runs
from rewardkit_code.sandboxes import SandboxClient

from rewardkit import Registry, Rollout
from rewardkit.config.params import make_params
from rewardkit.testing import RewardContract

LIMITS = {"cpu_s": 2, "slots": 2}


def fenced(code):
    """Return a completion with this program."""
    return f"So:\n```python\n{code}\n```\n"


class SandboxContract(RewardContract):
    """A contract whose instances share one open sandbox."""

    __test__ = False

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def _open(cls, _sandbox_opens):
        if _sandbox_opens:
            pytest.skip(_sandbox_opens)
        kind = Registry.load().get(cls.reward).type
        options = {"code.tests": code_tests._options, "code.runs": runs._options}[cls.reward]
        client = SandboxClient(options(make_params(kind, dict(cls.params))))
        yield
        client.close()


OUTPUT = [{"stdin": "2 3\n", "expected": "5\n"}, {"stdin": "0 0\n", "expected": "0"}]


class TestOutput(SandboxContract):
    """`code.tests` on programs that read and print."""

    __test__ = True
    reward = "code.tests"
    params = LIMITS
    good = [Rollout("Add.", fenced("print(sum(map(int, input().split())))"), {"tests": OUTPUT})]
    bad = [
        Rollout("Add.", fenced("print(5)\nprint(input())"), {"tests": OUTPUT}),
        Rollout("Add.", "I can't.", {"tests": OUTPUT}),
    ]


class TestWholeCompletions(SandboxContract):
    """`code.tests` on whole completions, with all tests in one process."""

    __test__ = True
    reward = "code.tests"
    params = LIMITS | {"extract": "whole", "score": "all", "isolation": "shared"}
    good = [Rollout("Add.", "print(sum(map(int, input().split())))", {"tests": OUTPUT})]
    bad = [Rollout("Add.", "print(input())", {"tests": OUTPUT}), Rollout("Add.", "def f(:", {"tests": OUTPUT})]


class TestHumanEvalsForm(SandboxContract):
    """`code.tests` with test code."""

    __test__ = True
    reward = "code.tests"
    params = LIMITS | {"entry_point": "entry_point", "extract": "whole"}
    fields = {"tests": "def check(candidate):\n    assert candidate(2) == 4\n", "entry_point": "double"}
    good = [Rollout('def double(x):\n    """Twice."""\n', "    return 2 * x\n", fields)]
    bad = [Rollout('def double(x):\n    """Twice."""\n', "    return x\n", fields)]


class TestRuns(SandboxContract):
    """`code.runs` with an input."""

    __test__ = True
    reward = "code.runs"
    params = LIMITS | {"stdin": "given"}
    good = [Rollout("Read.", fenced("print(int(input()))"), {"given": "1\n"})]
    bad = [Rollout("Read.", fenced("print(int(input()))"), {"given": "one\n"}), Rollout("Read.", "No.", {"given": ""})]


class TestLint(RewardContract):
    """`code.lint` on fenced programs."""

    reward = "code.lint"
    good = [Rollout("Do.", fenced("import os\nprint(os.sep)"))]
    bad = [Rollout("Do.", fenced("import os\nimport sys")), Rollout("Do.", fenced("def f(:"))]


class TestLintOfWholeCompletions(RewardContract):
    """`code.lint` on whole completions."""

    reward = "code.lint"
    params = {"extract": "whole"}
    good = [Rollout("Do.", "print(1)\n")]
    bad = [Rollout("Do.", "import os\nimport sys\n")]


COPY = "def f(numbers):\n    total = 0\n    for number in numbers:\n        total += number\n    return total\n"
OTHER = "class A:\n    def g(self, x, y=2):\n        return [abs(x) for _ in range(y)]\n"


class TestSimilarity(RewardContract):
    """`code.similarity` with a reference column."""

    reward = "code.similarity"
    params = {"reference": "solution", "extract": "whole"}
    good = [Rollout("Do.", COPY, {"solution": COPY})]
    bad = [Rollout("Do.", OTHER, {"solution": COPY})]


class TestSimilarityToThePrompt(RewardContract):
    """`code.similarity` with the prompt as reference."""

    reward = "code.similarity"
    good = [Rollout(f"Do not copy this:\n{COPY}", fenced(COPY))]
    bad = [Rollout(f"Do not copy this:\n{COPY}", fenced(OTHER))]
