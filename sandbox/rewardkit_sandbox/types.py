"""The inputs and results of a sandbox: frozen dataclasses, standard library only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

Status = Literal["ok", "error", "time_limit", "memory_limit", "output_limit", "killed", "compile_error", "not_run"]
Isolation = Literal["fresh", "shared"]


_MOST_SECONDS = 1_000_000
_MOST = {
    **dict.fromkeys(("memory_mb", "scratch_mb", "file_mb"), 1 << 24),
    **dict.fromkeys(("processes", "open_files"), 1 << 20),
    **dict.fromkeys(("output_bytes", "scratch_files"), 1 << 32),
}
"""The largest values that the kernel's counters can hold."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one program. A single run can't ask for more than the limits of its sandbox."""

    cpu_s: float = 5.0
    """CPU seconds of each process, rounded up to whole seconds."""
    wall_s: float | None = None
    """Wall-clock seconds of each test; None means three times `cpu_s`, so that a busy machine fails no honest program."""
    memory_mb: int = 512
    """Memory of the program with all its processes (MiB); also the address space of each process where its language allows."""
    processes: int = 64
    """Processes and threads at a time."""
    open_files: int = 256
    """Descriptors of each process."""
    file_mb: int = 64
    """The largest file that may be written (MiB)."""
    output_bytes: int = 1 << 20
    """Bytes kept of stdout, of stderr and of a call's result, each. More stdout ends the run, more stderr is dropped."""
    scratch_mb: int = 64
    """Size of /tmp, which is the working directory, and of /dev/shm (MiB, each). Fixed when the sandbox is opened."""
    scratch_files: int = 4096
    """Inodes of /tmp and of /dev/shm, each. Fixed when the sandbox is opened."""

    def __post_init__(self) -> None:
        for name in self.__dataclass_fields__:
            value = getattr(self, name)
            if value is not None and not 0 < value <= _MOST.get(name, _MOST_SECONDS):
                raise ValueError(
                    f"Limits.{name} must be above 0 and at most {_MOST.get(name, _MOST_SECONDS):,}, not {value!r}"
                )

    @property
    def deadline_s(self) -> float:
        """The wall-clock limit in seconds."""
        return 3 * self.cpu_s if self.wall_s is None else self.wall_s


@dataclass(frozen=True, slots=True)
class Program:
    """A program in one language."""

    source: str
    """The source code."""
    language: str = "python"
    """The name of the language, a key of `LANGUAGES`."""


@dataclass(frozen=True, slots=True)
class Stdin:
    """A case that runs the program with this standard input."""

    stdin: str | bytes = ""
    """The standard input, as text or bytes."""

    @property
    def data(self) -> bytes:
        """The bytes that the program reads."""
        return self.stdin if isinstance(self.stdin, bytes) else self.stdin.encode("utf-8", "surrogateescape")


@dataclass(frozen=True, slots=True)
class Call:
    """A case that calls one function of a Python program: a global, a dotted path, or a method of its class `Solution`."""

    name: str
    """The function, such as `solve`, `module.function` or a method of `Solution`."""
    args: tuple[Any, ...] = ()
    """The positional arguments, of builtin types."""
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    """The keyword arguments, of builtin types."""


Case = Stdin | Call


@dataclass(frozen=True, slots=True)
class Execution:
    """The result of one run, as observed from outside."""

    status: Status
    """`ok`: the process ended by itself with exit code 0 and, for a call, returned a value."""
    stdout: bytes = b""
    """At most `Limits.output_bytes`."""
    stderr: bytes = b""
    """At most `Limits.output_bytes`."""
    exit_code: int | None = None
    """None if a signal or the sandbox ended the process."""
    value: Any = None
    """The value that a call returned, in builtin types (anything else is an `Opaque`). The program states it; it is decoded strictly."""
    raised: str | None = None
    """The name of the exception that a call raised."""
    cpu_s: float = 0.0
    """User and system time of the whole process tree."""
    wall_s: float = 0.0
    """From fork to the end of the first process."""
    memory_kb: int = 0
    """Largest resident set of a process of the tree, the interpreter's own pages included."""
    note: str = ""
    """The reason, in words for a report."""

    @property
    def ok(self) -> bool:
        """True if the process ended by itself, without an error."""
        return self.status == "ok"

    @property
    def text(self) -> str:
        """Stdout as text; bytes that are not UTF-8 become U+FFFD."""
        return self.stdout.decode("utf-8", "replace")


@dataclass(frozen=True, slots=True)
class Result:
    """The runs of a program on its cases."""

    runs: tuple[Execution, ...]
    """One per case, in their order; those after an early stop are `not_run`."""
    compilation: Execution | None = None
    """The compile step, for languages that have one. If it failed, every run is a `compile_error`."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of test code, from a process that the program can't reach."""

    passed: bool
    """True if all tests passed."""
    reason: str
    """The reason, in words for a report."""
    tests: Mapping[str, bool] = field(default_factory=dict)
    """The outcome of each test function, by its name."""
    candidate: Execution | None = None
    """The run of the program's own process."""


@dataclass(frozen=True, slots=True)
class Tests:
    """Test code for a Python program."""

    __test__: ClassVar[bool] = False  # pytest would collect a class of this name.

    source: str
    """The source code of the tests."""
    kind: Literal["script", "pytest"] = "script"
    """`script`: statements, run from top to bottom; `pytest`: a test file that imports the program as `module`."""
    entry_point: str | None = None
    """For scripts that define `check(candidate)`: the function of the program that is the candidate."""
    prelude: str = ""
    """Trusted code that the tests build on, such as the prompt with its imports and helpers."""
    names: Sequence[str] | None = None
    """The names that mean the program's functions and classes; None finds those that the tests call and don't define."""
    module: str = "solution"
    """The module names that a pytest file imports."""
    stop_at_first: bool = False
    """Stop pytest at the first failing test."""


@dataclass(frozen=True, slots=True)
class Property:
    """A property of this machine or of a sandbox, and whether it holds."""

    name: str
    """The property, in a few words."""
    holds: bool
    """True if the property holds."""
    detail: str
    """The observation."""
    remedy: str = ""
    """The remedy if the check failed."""
