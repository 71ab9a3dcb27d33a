"""Runs all tests of one program, and stops when further tests can't change the score."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from rewardkit_sandbox import (
    BadTests,
    Execution,
    Isolation,
    Program,
    Sandbox,
    Tests,
    Verdict,
    same_output,
    same_value,
    show,
)

from rewardkit_code.execution.checkers import check_output
from rewardkit_code.execution.outcomes import (
    TestOutcome,
    call_text,
    describe_failure,
    describe_verdict,
    difference,
    printed,
)
from rewardkit_code.execution.packages import hint, missing_package
from rewardkit_code.row_tests.python_tests import TestCode, parse
from rewardkit_code.row_tests.types import AssertTest, CallTest, CodeTest, OutputTest, Test
from rewardkit_code.sandboxes import OVERRUN


@dataclass(frozen=True, slots=True)
class TestPlan:
    """Settings for running a program's tests."""

    __test__ = False  # pytest: no test class

    program: Program
    tests: Sequence[Test]
    prompt_code: str = ""
    """Code of the prompt on which the tests may build."""
    announced: str = ""
    """The text that tells a model which functions to write: the prompt."""
    lines_before: int = 0
    """Lines of the program that do not come from the completion."""
    image: str = "python"
    isolation: Isolation = "fresh"
    stop_at_first: bool = False
    """True if one failed test decides the score."""
    max_overruns: int | None = None
    """After this many tests that run out of time, the others are not run."""


def run_tests(sandbox: Sandbox, plan: TestPlan) -> list[TestOutcome]:
    """Return the outcome of each test.

    Tests that are single runs go to the sandbox in one request, then test code and checkers follow.

    Raises:
        BadTests: A test can't be used.
        SandboxError: Nothing is known about the program.
        ValueError: The language can't be tested this way.
    """
    cases: list[Any] = []
    spans: list[range] = []
    for test in plan.tests:
        own = _cases(test)
        spans.append(range(len(cases), len(cases) + len(own)))
        cases += own
    tally = _Tally(plan, spans)
    runs: Sequence[Execution] = ()
    if cases:
        runs = sandbox.run(plan.program, cases, isolation=plan.isolation, stop=tally.stop).runs
    for number, (test, span) in enumerate(zip(plan.tests, spans, strict=True)):
        if number in tally.outcomes:
            continue
        if any(runs[index].status == "not_run" for index in span) or (not span and tally.is_decided()):
            tally.outcomes[number] = TestOutcome(False, "an earlier test decided", run=False)
        elif isinstance(test, OutputTest) and test.checker and runs[span.start].ok:
            tally.outcomes[number] = check_output(sandbox, test, runs[span.start])
        elif span:
            tally.outcomes[number] = _outcome(test, [runs[index] for index in span], plan)
        else:
            tally.outcomes[number] = _run_code(sandbox, test, plan)
    return [tally.outcomes[number] for number in range(len(plan.tests))]


def _cases(test: Test) -> Sequence[Any]:
    """Return the runs of the program that a test needs; none if it must run as test code."""
    if isinstance(test, (OutputTest, CallTest)):
        return (test.case,)
    return test.assertion.calls if isinstance(test, AssertTest) and test.assertion is not None else ()


@dataclass
class _Tally:
    """The outcomes that are known while the tests run."""

    plan: TestPlan
    spans: Sequence[range]
    outcomes: dict[int, TestOutcome] = field(default_factory=dict)
    _runs: list[Execution] = field(default_factory=list)
    _number: int = 0

    def is_decided(self) -> bool:
        """Return whether the remaining tests can't change the score, or are not worth their time."""
        if self.plan.stop_at_first and any(not outcome.passed for outcome in self.outcomes.values()):
            return True
        most = self.plan.max_overruns
        return most is not None and sum(outcome.overrun for outcome in self.outcomes.values()) >= most

    def stop(self, index: int, run: Execution) -> bool:
        """Record a run; called after each one while the sandbox is busy, so that nothing else may be run here."""
        self._runs.append(run)
        while index not in self.spans[self._number]:
            self._number += 1
        span, test = self.spans[self._number], self.plan.tests[self._number]
        if isinstance(test, OutputTest) and test.checker and run.ok:
            return False
        if index == span.stop - 1 or not run.ok:
            self.outcomes[self._number] = _outcome(test, self._runs[span.start :], self.plan)
        return self.is_decided()


def _outcome(test: Test, runs: Sequence[Execution], plan: TestPlan) -> TestOutcome:
    """The outcome of a test whose cases have been run, up to the first that did not end well."""
    bad = next((run for run in runs if not run.ok), None)
    if bad is not None:
        return _failed_run(test, bad, plan)
    if isinstance(test, OutputTest):
        return _output(test, runs[0])
    if isinstance(test, CallTest):
        return _value(test, runs[0])
    assert isinstance(test, AssertTest) and test.assertion is not None  # noqa: S101, PT018 - other tests have no cases
    if test.assertion.holds(runs):
        return TestOutcome(True)
    got = ", ".join(
        f"{call_text(call)} returned {show(run.value, 60)}"
        for call, run in zip(test.assertion.calls, runs, strict=True)
    )
    return TestOutcome(False, f"{' '.join(test.source.split())[:120]}: {got}"[:300])


def _failed_run(test: Test, run: Execution, plan: TestPlan) -> TestOutcome:
    who = f"{call_text(test.case)} " if isinstance(test, CallTest) and run.raised else ""
    why = describe_failure(run, plan.lines_before)
    said = f"{run.note}\n{run.stderr[-2000:].decode('utf-8', 'replace')}"
    missing = missing_package(said, plan.program.source, plan.image)
    return TestOutcome(
        False,
        who + why + (hint(said, plan.image) if missing else ""),
        overrun=run.status in OVERRUN,
        missing_package=missing,
        output=printed(run),
    )


def _output(test: OutputTest, run: Execution) -> TestOutcome:
    if same_output(run.stdout, test.expected, float_tolerance=test.float_tolerance):
        return TestOutcome(True)
    given = f"for {show(test.case.stdin, 40)} " if test.case.stdin else ""
    why = given + difference(run, test.expected, test.float_tolerance)
    return TestOutcome(False, why, output=printed(run))


def _value(test: CallTest, run: Execution) -> TestOutcome:
    for expected in (test.expected, *test.alternatives):
        if same_value(run.value, expected, types="json", float_tolerance=test.float_tolerance):
            return TestOutcome(True)
    why = f"{call_text(test.case)} returned {show(run.value, 60)}, expected {show(test.expected, 60)}"
    return TestOutcome(False, why, output=printed(run))


def _run_code(sandbox: Sandbox, test: Test, plan: TestPlan) -> TestOutcome:
    code = test.code if isinstance(test, AssertTest) else test
    assert isinstance(code, CodeTest)  # noqa: S101 - other tests have cases
    bound = _bound(plan.prompt_code)
    names = [name for name in code.names if name not in bound]
    if code.kind == "pytest":
        tests = Tests(code.source, "pytest", names=names, stop_at_first=plan.stop_at_first)
    else:
        prelude = "\n".join(filter(None, (plan.prompt_code, code.prelude)))
        tests = Tests(code.source, entry_point=code.entry_point, prelude=prelude, names=names)
    try:
        verdict = sandbox.run_tests(plan.program, tests)
    except BadTests as error:
        raise BadTests(f"{error}{hint(str(error), plan.image)}") from error
    if verdict.passed:
        return TestOutcome(True)
    if absent := _undefined(code, bound, plan):
        raise BadTests(
            f"the tests use {absent}, which neither they nor the program define and the prompt does not name"
        )
    why = describe_verdict(verdict.reason, plan.lines_before, code.lines_added)
    stderr = verdict.candidate.stderr[-2000:].decode("utf-8", "replace") if verdict.candidate else ""
    missing = missing_package(f"{verdict.reason}\n{stderr}", plan.program.source, plan.image)
    return TestOutcome(
        False,
        why + (hint(f"No module named '{missing}'", plan.image) if missing else ""),
        overrun=_is_overrun(verdict),
        missing_package=missing,
        output=printed(verdict.candidate) if verdict.candidate else "",
    )


@lru_cache(maxsize=256)
def _bound(source: str) -> frozenset[str]:
    return frozenset(TestCode(parse(source)).bound) if source else frozenset()


def _undefined(code: CodeTest, bound: frozenset[str], plan: TestPlan) -> str | None:
    """A name that the test code uses and that a model could not know of: nothing defines it, and the prompt does not name it."""
    if code.entry_point:
        helpers = code.undefined - {code.entry_point.partition(".")[0]}
    elif code.kind == "script" and len(code.undefined) == 1:
        return None  # the one function that a script calls is the one under test
    else:
        helpers = code.undefined
    for name in sorted(helpers - bound):
        is_there = re.search(rf"(?<!\w){re.escape(name)}\b", f"{plan.program.source}\n{plan.announced}")
        if not is_there:
            return name
    return None


def _is_overrun(verdict: Verdict) -> bool:
    candidate = verdict.candidate
    return verdict.reason.startswith("the tests did not end") or (candidate is not None and candidate.status in OVERRUN)
