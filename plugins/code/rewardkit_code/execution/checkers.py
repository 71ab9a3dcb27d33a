"""The row's own checker, for problems with several right answers.

A checker runs in a sandbox of its own after the program has ended. When it dies, either the output is to blame (`literal_eval` of
what is no literal) or the checker itself. It is run once more on something that is no output at all: a checker that dies
in the same way there never came to look at the output, so it is broken.
"""

from __future__ import annotations

from rewardkit_sandbox import BadTests, Call, Execution, Program, Sandbox, show

from rewardkit_code.execution.outcomes import TestOutcome
from rewardkit_code.row_tests.types import OutputTest
from rewardkit_code.sandboxes import OVERRUN


def check_output(sandbox: Sandbox, test: OutputTest, run: Execution) -> TestOutcome:
    """Return what the checker of a test says about an output.

    Args:
        sandbox: Where the checker runs.
        test: A test with a checker.
        run: The run of the program, which ended well.

    Raises:
        BadTests: The checker is broken.
        SandboxError: The sandbox failed.
    """
    done = _run(sandbox, test, run.text)
    if done.ok:
        return _verdict(done, run)
    if _is_broken(sandbox, test, done):
        raise BadTests(f"the checker {_ending(done)}, whatever the output is")
    why = f"the checker {_ending(done)} for {show(run.text, 60)}"
    return TestOutcome(False, why, overrun=done.status in OVERRUN)


def _run(sandbox: Sandbox, test: OutputTest, output: str | None) -> Execution:
    case = Call("check", (test.case.data.decode("utf-8", "replace"), test.expected, output))
    return sandbox.run(Program(test.checker or ""), [case]).runs[0]


def _ending(done: Execution) -> str:
    return done.note if done.raised else f"did not end well ({done.note})"


def _verdict(done: Execution, run: Execution) -> TestOutcome:
    if done.value is True or (isinstance(done.value, (int, float)) and done.value == 1):
        return TestOutcome(True)
    if done.value is None or done.value is False or done.value in (0, "", [], ()):
        return TestOutcome(False, f"the checker refused {show(run.text, 60)}")
    raise BadTests(f"the checker must return True or False, not {show(done.value, 60)}")


def _is_broken(sandbox: Sandbox, test: OutputTest, done: Execution) -> bool:
    """Return whether the checker fails in the same way for an empty output, or for the expected one."""
    if done.raised in ("ImportError", "ModuleNotFoundError") and "import" in (test.checker or ""):
        return True
    others = [None, test.expected] if test.expected else [None]
    for output in others:
        control = _run(sandbox, test, output)
        if control.ok:
            continue
        if control.raised == done.raised and (not done.raised or control.note == done.note):
            return True
    return False
