"""The outcome of each test of a program, and its description for a person."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from rewardkit_sandbox import Call, Execution, same_output, show

_WIDTH = 60
_PRINTED = 2_000
"""Bytes of an output that are kept."""
_RAISED = re.compile(
    r"[A-Za-z_][\w.]*(?:Error|Exception|Exit|Interrupt|Iteration|Warning|Group)\b.*|[A-Z]\w*(?:\.\w+)*(?:: .*)?"
)
"""The last line of Python's traceback of an exception that nobody caught."""
_LINE = re.compile(r'^  File "solution\.py", line (\d+)', re.MULTILINE)
_IN_PROGRAM = re.compile(r"\(solution\.py, line (\d+)\)")
_IN_TESTS = re.compile(r"(?<=\()line (\d+)(?=\)$|\);)|line (\d+)(?= of the tests)")
_WHILE_LOADING = re.compile(r"^raised (.*) while loading$", re.DOTALL)


@dataclass(frozen=True, slots=True)
class TestOutcome:
    """The outcome of one test."""

    __test__ = False  # pytest: no test class

    passed: bool
    why: str = ""
    """Why it did not pass."""
    overrun: bool = False
    """True if a time limit decided the result, which a busy machine may have caused."""
    run: bool = True
    """False if an earlier test made it needless."""
    missing_package: str | None = None
    """The package for which the program failed to start, if the image lacks it and another image has it."""
    output: str = ""
    """The end of what the program printed, if it did not pass."""


def summarize(outcomes: Sequence[TestOutcome], *, is_code: bool) -> str:
    """Return a line about all tests of a program.

    Args:
        outcomes: One for each test.
        is_code: Whether it is test code, so that nobody knows how many tests it holds.
    """
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


def printed(run: Execution) -> str:
    """Return the end of what a program printed: its output, then its messages, each of at most 2,000 bytes.

    Args:
        run: The run.
    """
    ends = [
        ("… " if len(stream) > _PRINTED else "") + stream[-_PRINTED:].decode("utf-8", "replace").rstrip()
        for stream in (run.stdout, run.stderr)
    ]
    return "\n".join(end for end in ends if end)


def describe_failure(run: Execution, lines_before: int = 0) -> str:
    """Return how a run ended that did not end well.

    Args:
        run: The run.
        lines_before: Lines of the program that do not come from the completion; line numbers are counted without them.
    """
    if run.status == "compile_error":
        lines = run.stderr.decode("utf-8", "replace").splitlines()
        first = next((line for line in lines if "error" in line.lower()), lines[0] if lines else "")
        return f"{run.note}: {first.strip()[:200]}" if first else run.note
    if run.status != "error" or run.raised is not None:
        return renumber(run.note, lines_before)
    text = run.stderr.decode("utf-8", "replace").rstrip()
    last = text.rpartition("\n")[2][:200]
    if not last:
        return run.note
    if run.exit_code != 1 or not _RAISED.fullmatch(last):
        return f"{run.note}: {last}"
    places = _LINE.findall(text[:2000] + text[-20_000:])
    return f"{last} {_place(int(places[-1]) - lines_before)}" if places else last


def difference(got: Execution, expected: str, tolerance: float | None) -> str:
    """Return the first difference between an output and the expected one.

    Args:
        got: The run whose output failed the test.
        expected: The expected output.
        tolerance: The tolerance of numbers.
    """
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
    """Return a call as one would write it."""
    arguments = [show(value, 40) for value in call.args]
    arguments += [f"{name}={show(value, 40)}" for name, value in call.kwargs.items()]
    text = f"{call.name}({', '.join(arguments)})"
    return text if len(text) <= 2 * _WIDTH else text[: 2 * _WIDTH - 1] + "…"


def describe_verdict(reason: str, lines_before: int, lines_added: int = 0) -> str:
    """Return the reason of failed test code with the line numbers of the completion and of the row's test code.

    Args:
        reason: What the sandbox says.
        lines_before: Lines of the program that do not come from the completion.
        lines_added: Lines of the test code that do not come from the row.
    """
    reason = renumber(_WHILE_LOADING.sub(r"\1", reason), lines_before)
    if lines_added:
        reason = _IN_TESTS.sub(lambda found: f"line {int(found[1] or found[2]) - lines_added}", reason)
    return reason


def renumber(text: str, lines_before: int) -> str:
    """Return a text with the lines of the program counted as they stand in the completion."""
    return _IN_PROGRAM.sub(lambda found: _place(int(found[1]) - lines_before), text)


def _place(line: int) -> str:
    return f"(line {line})" if line > 0 else "(before the completion)"
