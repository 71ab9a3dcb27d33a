"""Runs the cases of one program in a box, each in a new process."""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Self

from rewardkit_sandbox.box import codec
from rewardkit_sandbox.errors import BoxDied
from rewardkit_sandbox.host.box_config import ENVIRONMENT
from rewardkit_sandbox.host.box_connection import BoxConnection
from rewardkit_sandbox.host.exchange import Exchange, Job, Outcome, memory_file
from rewardkit_sandbox.languages import Language
from rewardkit_sandbox.types import Call, Case, Execution, Limits

_WORTH_TEMPLATE = 3
"""A Python program with at least this many cases left is prepared once, by a template."""
_TEMPLATES = 3
"""The number of templates that a program's cases may end. Then the others run without."""
_TEMPLATE_FILES = 64
"""The lowest limit of open files under which a template can work."""


@dataclass(frozen=True, slots=True)
class ProgramCode:
    """A program that is ready to run, with its source or binary in a sealed memory file."""

    language: Language
    descriptor: int
    compilation: Execution | None = None


class CaseRunner:
    """Runs the cases of a program in one box, each in a new process. Where that pays, a template makes these processes.

    The box is asked for the next case's process before the outcome of a case is looked at. A case that loses its template runs
    again without one.
    """

    def __init__(self, box: BoxConnection, code: ProgramCode, cases: Sequence[Case], limits: Limits) -> None:
        self._box = box
        self._code = code
        self._cases = cases
        self._limits = limits
        can = box.can_have_template and code.language.name == "python" and limits.open_files >= _TEMPLATE_FILES
        self._templates = _TEMPLATES if can else 0
        self._asked: deque[Exchange] = deque()
        """Processes that the template was asked for, at most two."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        while self._asked:
            self._box.abandon(self._asked.popleft())
        self._box.end_template()

    def run(self, index: int) -> Execution:
        """Run the case at an index."""
        case = self._cases[index]
        if (
            not (self._asked or self._box.has_template)
            and self._templates
            and len(self._cases) - index >= _WORTH_TEMPLATE
        ):
            self._start_template()
        if self._asked or self._box.has_template:
            if not self._asked:
                self._ask(case)
            if index + 1 < len(self._cases):
                with contextlib.suppress(BoxDied):  # then the case that is running tells why
                    self._ask(self._cases[index + 1])
            outcome = self._box.finish(self._asked.popleft())
            if outcome.is_known:
                return _execution(outcome, case)
            while self._asked:  # nor is the next one known
                self._box.finish(self._asked.popleft())
        return run_case(self._box, self._code, case, self._limits)

    def _ask(self, case: Case) -> None:
        job = partial(Job, _entry(case), -1, self._limits, of_template=True)
        with _input(case) as stdin:
            self._asked.append(self._box.begin(job(stdin, result=isinstance(case, Call))))

    def _start_template(self) -> None:
        self._templates -= 1
        empty = memory_file(b"")
        try:
            self._box.run(Job("template", self._code.descriptor, self._limits, empty))
        finally:
            os.close(empty)


def run_case(box: BoxConnection, code: ProgramCode, case: Case, limits: Limits) -> Execution:
    """Run one case in a new process."""
    language = code.language
    job: Callable[..., Job]
    if language.name == "python":
        job = partial(Job, _entry(case), code.descriptor, limits)
    else:
        job = partial(
            Job,
            "exec",
            code.descriptor,
            limits,
            argv=language.run,
            file=None if language.compile else language.file,
            environment={**ENVIRONMENT, **language.environment},
            address_space=language.address_space,
        )
    with _input(case) as stdin:
        return _execution(box.run(job(stdin=stdin, result=isinstance(case, Call))), case)


def _entry(case: Case) -> str:
    return "call" if isinstance(case, Call) else "script"


@contextlib.contextmanager
def _input(case: Case) -> Iterator[int]:
    """Give the descriptor of what a case's process reads from standard input."""
    data = codec.dumps([case.name, list(case.args), dict(case.kwargs)]) if isinstance(case, Call) else case.data
    stdin = memory_file(data)
    try:
        yield stdin
    finally:
        os.close(stdin)


def _execution(outcome: Outcome, case: Case) -> Execution:
    return returned(outcome.execution, outcome.result) if isinstance(case, Call) else outcome.execution


def returned(execution: Execution, result: bytes) -> Execution:
    """Return the run of a call with its value. If the process fails after it has returned a value, the call has failed."""
    if not execution.ok and not (execution.exit_code == 1 and result):
        return execution
    try:
        kind, value = codec.loads(result)
        if kind == "raised":
            raised, message, _ = value
    except (codec.CodecError, TypeError, ValueError):
        return replace(execution, status="error", note="ended without returning")
    if kind == "returned" and execution.ok:
        return replace(execution, value=value)
    if kind == "raised":
        name, message = (codec.printable(str(text)[:500]) for text in (raised, message))
        return replace(execution, status="error", raised=name, note=f"raised {name}: {message}"[:500])
    return replace(
        execution, status="error", note=codec.printable(f"the returned value can't be compared: {value!s:.400}")
    )
