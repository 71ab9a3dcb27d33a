"""HumanEval and pytest files: test code in a box of its own."""

import ast
import gzip
import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from sandbox_support import data

from rewardkit_sandbox import BadTests, Program, Tests


def problems():
    with gzip.open(data("code/HumanEval.jsonl.gz"), "rt") as file:
        return [json.loads(line) for line in file]


def code_of(row):
    return Tests(row["test"], entry_point=row["entry_point"], prelude=row["prompt"])


def test_canonical_solutions_pass(sandbox):
    """Solutions of HumanEval pass their tests: every fourth here, all in benchmarks/humaneval.py."""
    with ThreadPoolExecutor(2) as executor:
        verdicts = executor.map(
            lambda row: sandbox.run_tests(Program(row["prompt"] + row["canonical_solution"]), code_of(row)),
            problems()[::4],
        )
        assert [verdict.reason for verdict in verdicts if not verdict.passed] == []


@pytest.mark.parametrize(
    "body",
    [
        "    return None\n",
        "    import os; os._exit(0)\n",
        "    raise SystemExit(0)\n",
        "    return type('Y', (), {'__eq__': lambda s, o: True, '__bool__': lambda s: True})()\n",
    ],
)
def test_empty_and_forging_solutions_fail(sandbox, body):
    """Solutions that return nothing, leave, or return what equals everything all fail."""
    rows = problems()[::24]
    with ThreadPoolExecutor(2) as executor:
        verdicts = executor.map(lambda row: sandbox.run_tests(Program(row["prompt"] + body), code_of(row)), rows)
        assert [row["task_id"] for row, verdict in zip(rows, verdicts, strict=True) if verdict.passed] == []


PYTEST = """
import pytest
from solution import Stack, add

@pytest.fixture
def stack():
    return Stack()

@pytest.mark.parametrize("a, b, c", [(1, 2, 3), (0, 0, 0)])
def test_add(a, b, c):
    assert add(a, b) == c

def test_push(stack):
    stack.push(3)
    assert len(stack) == 1
    assert stack.pop() == 3
    with pytest.raises(IndexError):
        stack.pop()
"""
GOOD = "class Stack:\n    def __init__(self): self.items = []\n    def push(self, x): self.items.append(x)\n    def pop(self): return self.items.pop()\n    def __len__(self): return len(self.items)\ndef add(a, b): return a + b\n"


def test_a_pytest_file(sandbox):
    """A test file imports the program, with fixtures, parameters, objects and expected exceptions."""
    verdict = sandbox.run_tests(Program(GOOD), Tests(PYTEST, kind="pytest"))
    assert verdict.passed, verdict
    assert verdict.tests == {"test_add[1-2-3]": True, "test_add[0-0-0]": True, "test_push": True}
    verdict = sandbox.run_tests(Program(GOOD.replace("a + b", "a - b")), Tests(PYTEST, kind="pytest"))
    assert not verdict.passed
    assert verdict.tests == {"test_add[1-2-3]": False, "test_add[0-0-0]": True, "test_push": True}


@pytest.mark.parametrize("source", ["", "def helper(): pass", "def test_x(: pass"])
def test_pytest_files_without_tests_never_pass(sandbox, source):
    """A file in which nothing is run passes nothing."""
    try:
        assert not sandbox.run_tests(Program(GOOD), Tests(source, kind="pytest")).passed
    except Exception as error:
        assert "compiled" in str(error)


def test_helpers_of_the_prompt_are_the_prompts(sandbox):
    """A name that the prelude defines is not taken from the program."""
    tests = Tests(
        "def check(candidate):\n    assert helper(candidate(1)) == 2",
        entry_point="f",
        prelude="def helper(x): return x + 1\ndef f(x):\n    pass\n",
    )
    assert sandbox.run_tests(Program("def f(x): return 1"), tests).passed
    assert not sandbox.run_tests(Program("def helper(x): return 2\ndef f(x): return 9"), tests).passed


def test_literal_names_are_found():
    """Only names that the tests neither define nor import, and that are no builtins, come from the program."""
    from rewardkit_sandbox.verdicts.unit_tests import free_names

    source = "import math as m\nfor i in range(3):\n    assert abs(f(i)) == math.pi and g.h(i) and x"
    assert free_names(source, "x = 1") == ["f", "g"]
    assert ast.parse(source)


def test_a_reason_names_the_line_and_the_answer(sandbox):
    """Whoever reads why a program failed sees which line of the tests it was, and what the program had answered."""
    tests = Tests("def check(f):\n    assert f(1) == 1\n    assert f(2) == 3", entry_point="f")
    assert sandbox.run_tests(Program("def f(x): return x"), tests).reason == (
        "line 3 of the tests: assert f(2) == 3 failed (the last call returned 2)"
    )
    raised = sandbox.run_tests(Program("def f(x): raise SystemExit(0)"), tests).reason
    assert raised == "the program raised SystemExit: 0, in line 2 of the tests: assert f(1) == 1"
    file = Tests("from solution import f\ndef test_two():\n    assert f(2) == 3", kind="pytest")
    reason = sandbox.run_tests(Program("def f(x): return x"), file).reason
    assert reason == "test_two: assert 2 == 3 + where 2 = f(2) (line 3)"


@pytest.mark.parametrize("kind", ["script", "pytest"])
def test_a_module_that_the_tests_lack_is_not_the_programs_fault(sandbox, kind):
    """Tests that import what the image has not can't be used; a program that does so has failed."""
    tests = "import surely_not_there\ndef test_f():\n    assert f(1)\n"
    with pytest.raises(BadTests, match="surely_not_there"):
        sandbox.run_tests(Program("def f(x): return x"), Tests(tests, kind=kind))
    own = "from solution import f\ndef test_f():\n    assert f(1)\ntest_f()" if kind == "pytest" else "assert f(1)"
    verdict = sandbox.run_tests(Program("def f(x): import surely_not_there"), Tests(own, kind=kind))
    assert not verdict.passed


@pytest.mark.parametrize(
    "tests",
    [
        Tests(
            "DATA = open('/surely/not/there').read()\ndef check(candidate):\n    assert candidate(1)\n", entry_point="f"
        ),
        Tests("def check(candidate):\n    assert [1][5] == candidate(1)\n", entry_point="f"),
        Tests(
            "from solution import f\nDATA = open('/surely/not/there').read()\ndef test_a():\n    assert f(1)\n",
            "pytest",
        ),
    ],
    ids=["at import", "in check", "in a module"],
)
def test_an_error_before_the_first_call_is_the_tests_own(sandbox, tests):
    """Test code that fails before it called the program says nothing about the program."""
    with pytest.raises(BadTests):
        sandbox.run_tests(Program("def f(x):\n    return x\n"), tests)


STOPS = ["StopIteration", "StopAsyncIteration", "GeneratorExit", "type('Mine', (StopIteration,), {})"]


LOOPS = [
    "assert all(map(f, [2, 3]))",
    "for a in map(f, [2, 3]): assert a == 4",
    "assert all(a == b for a, b in zip(map(f, [2, 3]), [4, 9]))",
    "assert not any(map(f, [4, 6]))",
    "for a in iter(lambda: f(1), 5): assert a == 4",
    "assert list(map(f, [])) == [*map(f, [1])]",
    "first, = [*map(f, [1])] or [4]\nassert first == 4",
]


@pytest.mark.parametrize(
    ("stop", "tests"),
    [*((STOPS[0], loop) for loop in LOOPS), *((stop, loop) for stop in STOPS[1:] for loop in LOOPS[:2])],
)
def test_the_end_of_an_iteration_is_a_failure(sandbox, stop, tests):
    """An exception that ends loops does not pass the loops of test code."""
    assert not sandbox.run_tests(Program(f"def f(x): raise {stop}"), Tests(tests)).passed


def test_an_end_that_the_tests_expect(sandbox):
    """Test code that names StopIteration gets it."""
    tests = "try: f()\nexcept StopIteration: pass\nelse: assert False"
    assert sandbox.run_tests(Program("def f(): raise StopIteration"), Tests(tests)).passed


def test_an_object_where_a_list_was_due(sandbox):
    """Handing a function to an object that stands for a plain value is the program's failure; to one of its classes, unusable."""
    source = "class A:\n    def __getattr__(s, n): return lambda *a, **k: s\ndef f(): return A()"
    assert not sandbox.run_tests(Program(source), Tests("r = f()\nr.sort(key=lambda v: v)")).passed
    with pytest.raises(BadTests, match="function can't be handed"):
        sandbox.run_tests(Program(source), Tests("A().sort(key=lambda v: v)"))
    module = "from solution import A\ndef test_a(): A().sort(key=lambda v: v)"
    with pytest.raises(BadTests, match="function can't be handed"):
        sandbox.run_tests(Program(source), Tests(module, "pytest"))
