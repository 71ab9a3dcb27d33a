"""Test code that must run as it stands: in a box of its own, calling the program in another box over a pipe.

The program can't reach the test's process, and what it returns arrives there as plain values, so it can neither read
what is expected nor patch what compares. Two boxes are busy for the length of it.
"""

from __future__ import annotations

import ast
import builtins
import os
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from rewardkit_sandbox.box import codec
from rewardkit_sandbox.errors import BadTests, BoxDied, SandboxError
from rewardkit_sandbox.host.box_connection import BoxConnection, Job, Outcome, memory_file
from rewardkit_sandbox.types import Execution, Limits, Verdict

Kind = Literal["script", "pytest"]
_MARGIN_S = 5.0


@dataclass(frozen=True, slots=True)
class Tests:
    """Test code for a Python program."""

    __test__: ClassVar[bool] = False  # pytest: no test class

    source: str
    kind: Kind = "script"
    """`script`: statements, run from top to bottom; `pytest`: a test file that imports the program as `module`."""
    entry_point: str | None = None
    """For scripts that define `check(candidate)`: the function of the program that is the candidate."""
    prelude: str = ""
    """Trusted code that the tests build on, such as the prompt with its imports and helpers."""
    names: Sequence[str] | None = None
    """The names that mean the program's functions and classes; None finds those that the tests call and don't define."""
    module: str = "solution"
    """What a pytest file imports."""
    stop_at_first: bool = False
    """Whether pytest ends at the first failing test."""

    def job(self) -> bytes:
        """What the judge's process is given.

        Raises:
            BadTests: the test code is no Python.
        """
        try:
            names = list(self.names) if self.names is not None else free_names(self.source, self.prelude)
            compile(self.source, "tests.py", "exec", dont_inherit=True)
        except (SyntaxError, ValueError) as error:
            raise BadTests(f"the test code can't be compiled: {error}") from error
        if self.entry_point and self.entry_point not in names:
            names.append(self.entry_point)
        return codec.dumps(
            {
                "kind": self.kind,
                "tests": self.source,
                "prelude": self.prelude,
                "names": names,
                "entry_point": self.entry_point,
                "module": self.module,
                "stop": self.stop_at_first,
            }
        )


def free_names(source: str, prelude: str = "") -> list[str]:
    """Names that a script uses, and that neither it nor its prelude binds; builtins and standard modules left out.

    These alone come from the program: one that defines its own `abs`, `math` or helper of the tests must not get to lend
    it to the tests.
    """
    tree = ast.parse(source)
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    bound = _bound(tree) | _bound(ast.parse(prelude))
    return sorted(used - bound - set(dir(builtins)) - set(sys.stdlib_module_names))


def _bound(tree: ast.Module) -> set[str]:
    bound: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            bound.add(node.name)
        elif isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            bound.add(node.id)
        elif isinstance(node, ast.arg):
            bound.add(node.arg)
        elif isinstance(node, ast.alias):
            bound.add((node.asname or node.name).partition(".")[0])
        elif isinstance(node, ast.ExceptHandler) and node.name:
            bound.add(node.name)
    return bound


def run(candidate: BoxConnection, tests_box: BoxConnection, code: int, tests: Tests, limits: Limits) -> Verdict:
    """One program against one piece of test code.

    Raises:
        BadTests: the test code can't be used.
        BoxDied: one of the boxes ended.
        SandboxError: this process is short of descriptors or threads.
    """
    ours: list[int] = []
    outcome: list[Outcome] = []
    errors: list[SandboxError] = []

    def serve(job: Job) -> None:
        try:
            outcome.append(candidate.run(job))
        except SandboxError as error:
            errors.append(error)

    try:
        ours += os.pipe2(os.O_CLOEXEC)
        ours += os.pipe2(os.O_CLOEXEC)
        calls_read, calls_write, answers_read, answers_write = ours
        ours.append(memory_file(tests.job()))
        ours.append(memory_file(b""))
        source, empty = ours[4:]
        serving = Job("serve", code, limits, empty, handed=(answers_write, calls_read))
        tests_limits = replace(limits, wall_s=limits.deadline_s + _MARGIN_S, cpu_s=limits.cpu_s + _MARGIN_S)
        thread = threading.Thread(target=serve, args=(serving,))
        try:
            thread.start()
        except RuntimeError as error:
            raise SandboxError(f"no thread for the tests: {error}") from error
        del ours[:4]  # the jobs close what they hand over
        try:
            outcome_of_tests = tests_box.run(
                Job("unit_tests", source, tests_limits, empty, result=True, handed=(calls_write, answers_read))
            )
        finally:
            thread.join()
    finally:
        for descriptor in ours:
            os.close(descriptor)
    if errors:
        raise errors[0]
    return _verdict(outcome_of_tests, outcome[0].execution)


def _verdict(outcome_of_tests: Outcome, candidate: Execution) -> Verdict:
    if not outcome_of_tests.execution.ok:
        why = candidate.note if not candidate.ok else f"the tests did not end: {outcome_of_tests.execution.note}"
        return Verdict(False, why, candidate=candidate)
    try:
        state, reason, tests = codec.loads(outcome_of_tests.result)
    except (codec.CodecError, TypeError, ValueError) as error:
        raise BoxDied(f"the tests gave no verdict: {error}") from error
    reason, tests = codec.printable(reason), {codec.printable(name): passed for name, passed in tests.items()}
    if state == "bad_tests":
        raise BadTests(reason)
    if state == "gone":
        # The exit code of a program that the judge has left says nothing.
        ended = candidate.status not in ("ok", "error")
        reason = candidate.note if ended else f"the program did not answer: {reason}"
    return Verdict(state == "passed", reason or "all tests passed", tests, candidate)
