"""The interface that all sandboxes share, and the class that a distribution offers to add a backend."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Protocol, Self

from rewardkit_sandbox.types import Case, Execution, Isolation, Limits, Program, Property, Result, Tests, Verdict

Stop = Callable[[int, Execution], bool]
"""Called after each case with its index and its run; True leaves out the remaining cases."""


class Sandbox(Protocol):
    """A place that runs programs. Safe to share between threads; async callers use `arun` and `arun_tests`."""

    limits: Limits
    """The limits of a call that gives none."""
    description: str
    """The backend, and why it was chosen."""
    size: int
    """The number of programs that run at a time."""

    def run(
        self,
        program: Program,
        cases: Sequence[Case],
        limits: Limits | None = None,
        *,
        isolation: Isolation = "fresh",
        stop: Stop | None = None,
    ) -> Result:
        """Run a program on each case and return the runs in the order of the cases.

        Args:
            program: The source and its language.
            cases: Inputs and calls. Expected results are not part of them.
            limits: The limits of each case; by default those of the sandbox.
            isolation: `fresh` gives each case a process of its own; `shared` may run all cases of a Python program in one process.
            stop: Called after each case; True leaves out the remaining cases, which become `not_run`.

        Raises:
            SandboxError: The sandbox failed, so nothing is known about the program.
            ValueError: The request is not valid: an unknown language, or limits above the sandbox's.
        """

    async def arun(
        self,
        program: Program,
        cases: Sequence[Case],
        limits: Limits | None = None,
        *,
        isolation: Isolation = "fresh",
        stop: Stop | None = None,
    ) -> Result:
        """Run a program as `run` does, without blocking the event loop.

        Args:
            program: The source and its language.
            cases: Inputs and calls. Expected results are not part of them.
            limits: The limits of each case; by default those of the sandbox.
            isolation: As for `run`.
            stop: As for `run`.

        Raises:
            SandboxError: The sandbox failed, so nothing is known about the program.
            ValueError: The request is not valid.
        """

    def run_tests(self, program: Program, tests: Tests, limits: Limits | None = None) -> Verdict:
        """Run test code against a Python program. Each runs in a separate sandbox process.

        Args:
            program: The program, in Python.
            tests: The test code.
            limits: The limits of the program and of the test code; by default those of the sandbox.

        Raises:
            BadTests: The test code can't be used.
            SandboxError: The sandbox failed, so nothing is known about the program.
            ValueError: The program is not in Python.
        """

    async def arun_tests(self, program: Program, tests: Tests, limits: Limits | None = None) -> Verdict:
        """Run test code as `run_tests` does, without blocking the event loop.

        Args:
            program: The program, in Python.
            tests: The test code.
            limits: The limits of the program and of the test code; by default those of the sandbox.

        Raises:
            BadTests: The test code can't be used.
            SandboxError: The sandbox failed, so nothing is known about the program.
            ValueError: The program is not in Python.
        """

    def close(self) -> None:
        """End all programs and release all resources. Calls that wait or run raise `Closed`."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...


@dataclass(frozen=True, slots=True)
class SandboxOptions:
    """Options of a sandbox."""

    image: str = "python"
    """The name of an image, a Docker tag, or the path of a root file system."""
    limits: Limits = field(default_factory=Limits)
    """The limits of a program."""
    slots: int = 2
    """The number of programs that run at a time."""
    runtime: str | None = None
    """For Docker: another runtime of the engine, such as `runsc`."""
    preimport: tuple[str, ...] | None = None
    """Modules that every Python program finds imported; None takes the common ones."""
    url: str | None = None
    """For `remote`: the address of the service."""
    token: str | None = field(default=None, repr=False)
    """For `remote`: the token of the service; None takes REWARDKIT_SANDBOX_TOKEN."""


class SandboxBackend(ABC):
    """A kind of sandbox. A distribution adds one by offering a subclass in the entry-point group `rewardkit_sandbox.backends`.

    The constructor must not do any work; the other methods do.

    Args:
        options: The options of the sandbox.
    """

    runs_test_code: ClassVar[bool] = True
    """True if its sandboxes offer `run_tests`."""
    takes_url: ClassVar[bool] = False
    """True if `SandboxOptions.url` is required; other backends refuse it."""

    def __init__(self, options: SandboxOptions) -> None:
        self.options = options

    def refuse(self) -> str | None:
        """Return an error message if the options are not valid, otherwise None. The machine is not checked."""
        if self.takes_url and not self.options.url:
            return "this backend needs the address of its service: set url"
        if not self.takes_url and self.options.url:
            return "url is an option of the backend `remote`"
        return None

    @abstractmethod
    def identity(self) -> str | None:
        """Return a text that changes whenever the same program might behave differently; None if that can't be told.

        Scores are cached under it. It must not open a sandbox.
        """

    @abstractmethod
    def diagnose(self) -> Iterator[Property]:
        """Yield checks of what the backend needs on this machine, each with a remedy if it fails. It must not open a sandbox."""

    @abstractmethod
    def open(self, description: str) -> Sandbox:
        """Return a sandbox that is ready.

        Args:
            description: The name of the backend and why it was chosen, for `Sandbox.description`.

        Raises:
            Unavailable: It can't be opened here; the message says what to do.
        """
