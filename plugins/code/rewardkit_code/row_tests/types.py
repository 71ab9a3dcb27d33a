"""The kinds of tests that a program can be put through."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rewardkit_sandbox import Assertion, Call, Stdin


class UnusableTests(ValueError):  # noqa: N818 - the tests are what is wrong
    """The tests of a row can't be used, whatever the program is."""


@dataclass(frozen=True, slots=True)
class OutputTest:
    """The output of a program for an input."""

    case: Stdin
    expected: str
    float_tolerance: float | None
    checker: str | None
    """Source of `check(stdin, expected, output)`, for problems with several right answers."""
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class CallTest:
    """The value that a function returns for arguments."""

    case: Call
    """The call of a function. Its name is empty if the row does not name the function."""
    expected: Any
    float_tolerance: float | None
    weight: float = 1.0
    alternatives: Sequence[Any] = ()
    """Other values that the format's own harness accepts."""


@dataclass(frozen=True, slots=True)
class CodeTest:
    """Test code that runs unchanged: HumanEval's `check(candidate)`, a pytest or unittest module, or a script."""

    source: str
    kind: Literal["script", "pytest"]
    entry_point: str | None = None
    """The function that is handed to `check`."""
    weight: float = 1.0
    names: tuple[str, ...] = ()
    """The names that the test code takes from the program."""
    undefined: frozenset[str] = frozenset()
    """The names that the test code uses without importing them from the program, a subset of `names`."""
    prelude: str = ""
    """Code of ours that it builds on."""
    lines_added: int = 0
    """Lines that `source` has before the first line of the row's test code."""


@dataclass(frozen=True, slots=True)
class AssertTest:
    """An assertion about what calls of the program return."""

    source: str
    assertion: Assertion | None
    """The assertion, split into calls and a condition; None if it can only run as test code."""
    weight: float = 1.0
    setup: str = ""
    """Lines to run before it."""
    code: CodeTest | None = None
    """The assertion as test code, if it can't be split."""


Test = OutputTest | CallTest | AssertTest | CodeTest


@dataclass(frozen=True, slots=True)
class RowTests:
    """All tests of a row."""

    tests: Sequence[Test]
    format: str
    """The name of the format, for a person."""

    @property
    def is_code(self) -> bool:
        """True if the only test is test code, so that the number of tests is unknown."""
        return len(self.tests) == 1 and isinstance(self.tests[0], CodeTest)

    @property
    def names(self) -> list[str]:
        """The functions and classes that the tests use, the most telling one first."""
        names: list[str] = []
        for test in self.tests:
            if isinstance(test, CallTest) and test.case.name:
                names.append(test.case.name)
            elif isinstance(test, AssertTest) and test.assertion is not None:
                names += [call.name for call in test.assertion.calls]
            elif isinstance(test, AssertTest) and test.code is not None:
                names += test.code.names
            elif isinstance(test, CodeTest):
                names += [test.entry_point] if test.entry_point else test.names
        return list(dict.fromkeys(names))
