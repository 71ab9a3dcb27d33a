"""What came of each test of a program, and how to tell it to a person."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from rewardkit_sandbox import Call, Execution, same_output, show

_WIDTH = 60
_RAISED = re.compile(
    r"[A-Za-z_][\w.]*(?:Error|Exception|Exit|Interrupt|Iteration|Warning|Group)\b.*|[A-Z]\w*(?:\.\w+)*(?:: .*)?"
)
"""The last line of what Python says about an exception that nobody caught."""
_LINE = re.compile(r'^  File "solution\.py", line (\d+)', re.MULTILINE)
_IN_PROGRAM = re.compile(r"\(solution\.py, line (\d+)\)")
_WHILE_LOADING = re.compile(r"^raised (.*) while loading$", re.DOTALL)


@dataclass(frozen=True, slots=True)
class TestOutcome:
    """What came of one test."""

    __test__ = False  # pytest: no test class

    passed: bool
    why: str = ""
    """Why it did not pass."""
    overrun: bool = False
    """Whether a limit on time decided, which may be the machine's fault."""
    run: bool = True
    """False where an earlier test made it needless."""


def told(outcomes: Sequence[TestOutcome], *, is_code: bool) -> str:
    """A line about all tests of a program; `is_code`: of test code, of which nobody knows how many tests it holds."""
    count, passed = len(outcomes), sum(outcome.passed for outcome in outcomes)
    number, first = next(((at, each) for at, each in enumerate(outcomes, 1) if not each.passed), (0, TestOutcome(True)))
    if count == 1:
        what = "the tests" if is_code else "the test"
        return f"{what} passed" if first.passed else f"{what} failed: {first.why}"
    if first.passed:
        return f"all {count} tests passed"
    left = sum(not outcome.run for outcome in outcomes)
    same = all(outcome.why == first.why for outcome in outcomes)
    line = f"{passed} of {count} tests passed" + (f", {left} not run" if left else "")
    return f"{line}: {first.why}" if same else f"{line}; test {number}: {first.why}"


def ended(run: Execution) -> str:
    """How a run ended that did not end well."""
    if run.status == "compile_error":
        lines = run.stderr.decode("utf-8", "replace").splitlines()
        first = next((line for line in lines if "error" in line.lower()), lines[0] if lines else "")
        return f"{run.note}: {first.strip()[:200]}" if first else run.note
    if run.status != "error" or run.raised is not None:
        return run.note
    text = run.stderr.decode("utf-8", "replace").rstrip()
    last = text.rpartition("\n")[2][:200]
    if not last:
        return run.note
    if run.exit_code != 1 or not _RAISED.fullmatch(last):
        return f"{run.note}: {last}"
    places = _LINE.findall(text[:2000] + text[-20_000:])
    return f"{last} (line {places[-1]})" if places else last


def difference(got: Execution, expected: str, tolerance: float | None) -> str:
    """Where an output is another one than expected."""
    try:
        text = got.stdout.decode()
    except UnicodeDecodeError:
        return "the output is not UTF-8"
    if not text.strip():
        return f"expected {show(expected, _WIDTH)}, and nothing was printed"
    ours, theirs = text.rstrip().split("\n"), expected.rstrip().split("\n")
    if len(ours) == len(theirs) == 1:
        return f"expected {show(theirs[0], _WIDTH)}, got {show(ours[0], _WIDTH)}"
    for number, (mine, wanted) in enumerate(zip(ours, theirs, strict=False), 1):
        if not same_output(mine, wanted, float_tolerance=tolerance):
            return f"line {number}: expected {show(wanted, _WIDTH)}, got {show(mine, _WIDTH)}"
    return f"expected {_lines(len(theirs))}, got {_lines(len(ours))}"


def _lines(count: int) -> str:
    return f"{count} line{'' if count == 1 else 's'}"


def call_text(call: Call) -> str:
    """A call as one would write it."""
    arguments = [show(value, 40) for value in call.args]
    arguments += [f"{name}={show(value, 40)}" for name, value in call.kwargs.items()]
    text = f"{call.name}({', '.join(arguments)})"
    return text if len(text) <= 2 * _WIDTH else text[: 2 * _WIDTH - 1] + "…"


def from_judge(reason: str, lines_before: int) -> str:
    """A judge's reason, its line numbers counted in the completion's program, before which other lines were put."""

    def renumbered(found: re.Match[str]) -> str:
        number = int(found[1]) - lines_before
        return f"(line {number})" if number > 0 else "(in the prompt)"

    return _IN_PROGRAM.sub(renumbered, _WHILE_LOADING.sub(r"\1", reason))
