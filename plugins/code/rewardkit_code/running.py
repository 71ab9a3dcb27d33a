"""Runs all tests of one program, and stops where more can't change the score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from rewardkit_sandbox import (
    BadTests,
    Call,
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

from rewardkit_code.boxes import OVERRUN
from rewardkit_code.outcomes import TestOutcome, call_text, difference, ended, from_judge
from rewardkit_code.plans import AssertTest, CallTest, CodeTest, OutputTest, Test

_UNUSABLE = ("SyntaxError", "IndentationError", "NameError", "ImportError", "ModuleNotFoundError")
"""What a checker raises that is broken itself."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How the tests of a program are run."""

    program: Program
    tests: Sequence[Test]
    prelude: str = ""
    """What test code may build on: the prompt, where it is Python."""
    lines_before: int = 0
    """Lines of the program that do not come from the completion."""
    isolation: Isolation = "fresh"
    stop_at_first: bool = False
    """Whether one failure decides."""
    max_overruns: int | None = None
    """After so many tests that run out of time the others are not run."""


def run_tests(sandbox: Sandbox, plan: Plan) -> list[TestOutcome]:
    """The outcome of each test: those that are cases in one request, then the others by a judge.

    Raises:
        BadTests: a test can't be used.
        SandboxError: nothing is known about the program.
        ValueError: the language can't be tested this way.
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
            tally.keep(number, _checked(sandbox, test, runs[span.start]))
        elif span:
            tally.keep(number, _outcome(test, [runs[index] for index in span]))
        else:
            tally.keep(number, _judged(sandbox, test, plan))
    return [tally.outcomes[number] for number in range(len(plan.tests))]


def _cases(test: Test) -> Sequence[Any]:
    """What the box is asked to run for a test; nothing where a judge is needed."""
    if isinstance(test, (OutputTest, CallTest)):
        return (test.case,)
    return test.assertion.calls if isinstance(test, AssertTest) and test.assertion is not None else ()


@dataclass
class _Tally:
    """What is known while the tests run."""

    plan: Plan
    spans: Sequence[range]
    outcomes: dict[int, TestOutcome] = field(default_factory=dict)
    _runs: list[Execution] = field(default_factory=list)
    _number: int = 0

    def keep(self, number: int, outcome: TestOutcome) -> None:
        self.outcomes[number] = outcome

    def is_decided(self) -> bool:
        """Whether what is left can't change the score, or is not worth its time."""
        if self.plan.stop_at_first and any(not outcome.passed for outcome in self.outcomes.values()):
            return True
        most = self.plan.max_overruns
        return most is not None and sum(outcome.overrun for outcome in self.outcomes.values()) >= most

    def stop(self, index: int, run: Execution) -> bool:
        """Called after each case; the box is still taken, so that nothing else may be run here."""
        self._runs.append(run)
        while index not in self.spans[self._number]:
            self._number += 1
        span, test = self.spans[self._number], self.plan.tests[self._number]
        if isinstance(test, OutputTest) and test.checker and run.ok:
            return False
        if index == span.stop - 1 or not run.ok:
            self.outcomes[self._number] = _outcome(test, self._runs[span.start :])
        return self.is_decided()


def _outcome(test: Test, runs: Sequence[Execution]) -> TestOutcome:
    """The outcome of a test whose cases have been run, up to the first that did not end well."""
    bad = next((run for run in runs if not run.ok), None)
    if bad is not None:
        who = f"{call_text(test.case)} " if isinstance(test, CallTest) and bad.raised else ""
        return TestOutcome(False, who + ended(bad), overrun=bad.status in OVERRUN)
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


def _output(test: OutputTest, run: Execution) -> TestOutcome:
    if same_output(run.stdout, test.expected, float_tolerance=test.float_tolerance):
        return TestOutcome(True)
    given = f"for {show(test.case.stdin, 40)} " if test.case.stdin else ""
    return TestOutcome(False, given + difference(run, test.expected, test.float_tolerance))


def _value(test: CallTest, run: Execution) -> TestOutcome:
    if same_value(run.value, test.expected, types="json", float_tolerance=test.float_tolerance):
        return TestOutcome(True)
    why = f"{call_text(test.case)} returned {show(run.value, 60)}, expected {show(test.expected, 60)}"
    return TestOutcome(False, why)


def _checked(sandbox: Sandbox, test: OutputTest, run: Execution) -> TestOutcome:
    """What the row's own checker says, run in a box of its own after the program is gone."""
    case = Call("check", (test.case.data.decode("utf-8", "replace"), test.expected, run.text))
    done = sandbox.run(Program(test.checker or ""), [case]).runs[0]
    if done.raised in _UNUSABLE or not (done.ok or done.raised):
        raise BadTests(f"the checker failed: {done.note}")
    if done.raised:  # a checker that trips over the output refuses it
        return TestOutcome(False, f"the checker {done.note} for {show(run.text, 60)}")
    return TestOutcome(True) if done.value is True else TestOutcome(False, f"the checker refused {show(run.text, 60)}")


def _judged(sandbox: Sandbox, test: Test, plan: Plan) -> TestOutcome:
    if isinstance(test, CodeTest) and test.kind == "pytest":
        code = Tests(test.source, "pytest", prelude=plan.prelude, stop_at_first=plan.stop_at_first)
    elif isinstance(test, CodeTest):
        code = Tests(test.source, entry_point=test.entry_point, prelude=plan.prelude)
    else:
        code = Tests(test.source if isinstance(test, AssertTest) else "")
    verdict = sandbox.judge(plan.program, code)
    if verdict.passed:
        return TestOutcome(True)
    return TestOutcome(False, from_judge(verdict.reason, plan.lines_before), overrun=_is_overrun(verdict))


def _is_overrun(verdict: Verdict) -> bool:
    candidate = verdict.candidate
    return verdict.reason.startswith("the tests did not end") or (candidate is not None and candidate.status in OVERRUN)
