"""Tests told apart by their shape, and read into plans. A field that is no usable test is a fault of the reference."""

from __future__ import annotations

import json
import threading
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from rewardkit_sandbox import Assertion, Call, Stdin, split


class ReferenceFault(ValueError):  # noqa: N818 - it says whose fault it is
    """The tests can't be used."""


@dataclass(frozen=True, slots=True)
class OutputTest:
    """A program's output for an input."""

    case: Stdin
    expected: str
    float_tolerance: float | None
    checker: str | None
    """Source of `check(stdin, expected, output)`, for answers that are not the only right one."""
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class CallTest:
    """A function's value for arguments."""

    case: Call
    expected: Any
    float_tolerance: float | None
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class AssertTest:
    """An assertion: split, where it can be."""

    source: str
    assertion: Assertion | None
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class CodeTest:
    """Test code that is run as it stands: HumanEval's `check`, a pytest file, or a script of assertions."""

    source: str
    kind: str
    entry_point: str | None = None
    weight: float = 1.0


_WARNINGS = threading.Lock()
Test = OutputTest | CallTest | AssertTest | CodeTest


def read(tests: Any, *, entry_point: str | None, float_tolerance: float | None) -> list[Test]:
    """The tests of one row.

    Raises:
        ReferenceFault: there are none, or one of them has no known shape; the message says which and what was found.
    """
    if isinstance(tests, str):
        tests = _from_text(tests)
    if isinstance(tests, str):
        return [_code(tests, entry_point)]
    if isinstance(tests, Mapping):
        tests = (
            _columns(tests) if "inputs" in tests or ("input" in tests and isinstance(tests["input"], list)) else [tests]
        )
    if not isinstance(tests, Sequence) or isinstance(tests, bytes):
        raise ReferenceFault(f"tests must be a list, an object or text, not {type(tests).__name__}")
    if not tests:
        raise ReferenceFault("there are no tests")
    return [_one(test, number, float_tolerance) for number, test in enumerate(tests, 1)]


def _from_text(text: str) -> Any:
    if not text.strip():
        raise ReferenceFault("the tests are empty")
    if text.lstrip()[0] in "[{":
        try:
            return json.loads(text)
        except ValueError:
            return text
    return text


def _columns(tests: Mapping[str, Any]) -> list[Any]:
    """`{"inputs": […], "outputs": […], "fn_name": …}`, as APPS and TACO write it."""
    inputs, outputs = tests.get("inputs", tests.get("input")), tests.get("outputs", tests.get("output"))
    if not isinstance(inputs, list) or not isinstance(outputs, list) or len(inputs) != len(outputs):
        raise ReferenceFault("inputs and outputs must be lists of the same length")
    if name := tests.get("fn_name"):
        unwrapped = [out[0] if isinstance(out, list) and len(out) == 1 else out for out in outputs]
        return [{"call": name, "args": args, "expected": out} for args, out in zip(inputs, unwrapped, strict=True)]
    return [{"stdin": _joined(given), "expected": _joined(out)} for given, out in zip(inputs, outputs, strict=True)]


def _joined(value: Any) -> Any:
    return "\n".join(map(str, value)) if isinstance(value, list) else value


@lru_cache(maxsize=1024)  # the completions of one prompt share their tests
def _code(source: str, entry_point: str | None) -> CodeTest:
    if fault := _fault(source):
        raise ReferenceFault(f"the test code does not compile: {fault}")
    if "def check(" in source and entry_point:
        return CodeTest(source, "script", entry_point)
    if "def check(" in source and "assert" in source and "check(" not in source.replace("def check(", ""):
        raise ReferenceFault("the tests define check(candidate); name the function's column with entry_point")
    if "def test_" in source:
        return CodeTest(source, "pytest")
    if "assert" not in source and "raise" not in source:
        raise ReferenceFault("the test code asserts nothing")
    return CodeTest(source, "script")


def _fault(source: str) -> str:
    """Why a source is no Python, or nothing. The host only compiles what the row's author wrote, never a completion."""
    try:
        # Filters of warnings belong to the whole process: two threads that set them at once could leave them set.
        with _WARNINGS, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            compile(source, "tests", "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return f"{error}" or type(error).__name__
    return ""


@lru_cache(maxsize=1024)
def parses(prompt: str) -> bool:
    """Whether a prompt is Python: HumanEval's, a function's head with imports and helpers before it."""
    return not _fault(prompt)


@lru_cache(maxsize=4096)
def _split(source: str) -> Assertion | None:
    return split(source)


def _one(test: Any, number: int, tolerance: float | None) -> Test:
    where = f"test {number}"
    if isinstance(test, str):
        try:
            return AssertTest(test, _split(test)) if test.lstrip().startswith("assert") else _code(test, None)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise ReferenceFault(f"{where}: {error}") from error
    if not isinstance(test, Mapping):
        raise ReferenceFault(f"{where} must be an object or an assert, not {type(test).__name__}")
    # Parquet gives every test of a column the keys of all of them.
    test = {name: value for name, value in test.items() if value is not None or name == "expected"}
    weight = test.get("weight", 1.0)
    if isinstance(weight, bool) or not isinstance(weight, (int, float)) or not 0 < weight < float("inf"):
        raise ReferenceFault(f"{where}: weight must be a number above 0, not {weight!r}")
    tolerance = test.get("float_tolerance", tolerance)
    if tolerance is not None and (
        isinstance(tolerance, bool) or not isinstance(tolerance, (int, float)) or tolerance < 0
    ):
        raise ReferenceFault(f"{where}: float_tolerance must be a number from 0 on, not {tolerance!r}")
    if "call" in test:
        name, args, kwargs = test["call"], test.get("args", []), test.get("kwargs", {})
        if not isinstance(name, str) or not name:
            raise ReferenceFault(f'{where}: "call" must name a function, not {name!r}')
        if not isinstance(args, list) or not isinstance(kwargs, Mapping) or "expected" not in test:
            raise ReferenceFault(f'{where} needs "args", a list, and "expected" beside "call"')
        return CallTest(Call(name, tuple(args), dict(kwargs)), test["expected"], tolerance, weight)
    stdin = test.get("stdin", test.get("input"))
    expected = test.get("expected", test.get("output"))
    checker = test.get("checker")
    if checker is not None and not isinstance(checker, str):
        raise ReferenceFault(f"{where}: checker must be Python text, not {type(checker).__name__}")
    if not isinstance(stdin, str) or not (isinstance(expected, str) or (checker and expected is None)):
        keys = ", ".join(map(str, test)) or "nothing"
        raise ReferenceFault(f'{where} needs "stdin" and "expected", both text, or "call", or "checker"; it has {keys}')
    return OutputTest(Stdin(stdin), expected or "", tolerance, checker, weight)
