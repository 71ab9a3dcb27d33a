"""Runs test code in a separate box, from which it calls the program in another box over a pipe.

The program can't reach the tests' process, and its results arrive there as plain values. So it can neither read the expected
values nor change how they are compared. Both boxes are busy until the tests end.
"""

from __future__ import annotations

import ast
import builtins
import os
import sys
import threading
from dataclasses import replace

from rewardkit_sandbox.box import codec
from rewardkit_sandbox.errors import BadTests, BoxDied, SandboxError
from rewardkit_sandbox.host.box_connection import BoxConnection
from rewardkit_sandbox.host.exchange import Job, Outcome, memory_file
from rewardkit_sandbox.types import Execution, Limits, Tests, Verdict

_MARGIN_S = 5.0


def tests_job(tests: Tests) -> bytes:
    """Return what the process that runs the tests is given.

    Raises:
        BadTests: The test code is not valid Python.
    """
    try:
        names = list(tests.names) if tests.names is not None else free_names(tests.source, tests.prelude)
        compile(tests.source, "tests.py", "exec", dont_inherit=True)
    except (SyntaxError, ValueError) as error:
        raise BadTests(f"the test code can't be compiled: {error}") from error
    if tests.entry_point and tests.entry_point not in names:
        names.append(tests.entry_point)
    return codec.dumps(
        {
            "kind": tests.kind,
            "tests": tests.source,
            "prelude": tests.prelude,
            "names": names,
            "entry_point": tests.entry_point,
            "module": tests.module,
            "stop": tests.stop_at_first,
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
    """Run test code against one program.

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
        ours.append(memory_file(tests_job(tests)))
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
        # The tests have ended, so the exit code of the program means nothing.
        ended = candidate.status not in ("ok", "error")
        reason = candidate.note if ended else f"the program did not answer: {reason}"
    return Verdict(state == "passed", reason or "all tests passed", tests, candidate)
