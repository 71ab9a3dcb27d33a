"""The process that runs test code, and calls a program that runs in another box over a pipe.

The program's process is in the other box. Its answers are decoded into plain values. An object that can't be sent becomes a
`RemoteObject`: its methods are called in the other box, and it is equal to no value of the tests.
"""

from __future__ import annotations

import builtins
import os
import reprlib
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from rewardkit_box import codec, program_process  # type: ignore[import-not-found]

CALLS, ANSWERS, VERDICT = 4, 5, 3
MAX_LINE = 8 << 20
_write, _exit, _dumps, _loads = os.write, os._exit, codec.dumps, codec.loads


class ProgramGone(BaseException):
    """The program's process ended, or sent something that is not an answer."""


class Unsupported(BaseException):
    """The tests pass an argument that can't be sent to the program."""


class BrokenTests(BaseException):
    """The test code itself failed, before it called the program."""


class ProgramError(Exception):
    """An exception of a type that only the program has."""


class ProgramConnection:
    """The pipes to the program's process."""

    gone: str | None
    returned: list[Any]
    """The value that the last call returned, in a list; empty if it did not return."""

    def __init__(self, source: str = "") -> None:
        self.source = source
        """The text of the tests."""
        self.gone = None
        self.returned = []
        self.asked = False
        """True once the program was called."""
        self.unsupported = ""
        """The message about an argument that could not be sent."""
        self._constructs = False
        self._answers = open(ANSWERS, "rb", closefd=False)

    def load(self) -> str | None:
        """Wait until the program is loaded; return None, or the reason why it could not be."""
        kind, value = self._receive(2)
        if kind == "unloadable":
            return f"raised {value[0]}: {value[1]} while loading"
        if kind != "loaded":
            self._lost("it sent no answer")
        return None

    def lost(self) -> bool:
        """Return whether the program's process is gone, even if the tests caught that."""
        return self.gone is not None

    def _lost(self, why: str) -> NoReturn:
        self.gone = why
        raise ProgramGone(why)

    def _receive(self, length: int) -> list[Any]:
        if self.gone:
            raise ProgramGone(self.gone)
        line = self._answers.readline(MAX_LINE)
        if not line.endswith(b"\n"):
            self._lost("it ended during a call" if len(line) < MAX_LINE else "its answer is too long")
        try:
            answer = _loads(line, lambda type_name, handle: RemoteObject(self, type_name, handle, self._constructs))
            if type(answer) is not list or len(answer) != length:
                self._lost("it sent no answer")
        except codec.CodecError as error:
            self._lost(f"it sent no answer: {error}")
        return answer

    def ask(self, verb: str, target: Any, name: str, args: Any, kwargs: dict[str, Any]) -> Any:
        """Make one call; raise what the program raised, as the nearest builtin exception."""

        def carry(value: Any) -> int:
            if type(value) is RemoteObject:
                return int(value._handle)
            kind = type(value).__name__
            if type(target) is RemoteObject and not target._is_constructed:
                # `r.sort(key=…)` where the program returned an object in the place of a list.
                raise ProgramError(f"the program returned {target!r}, which can't be handed a {kind}")
            self.unsupported = f"a {kind} can't be handed to the program"
            raise Unsupported(self.unsupported)

        self.asked = True
        # The tests ask for an object by calling a class: `Stack()`. What other functions return stands for a plain value.
        is_class = verb == "call" and name.rpartition(".")[2][:1].isupper()
        self._constructs = is_class or (type(target) is RemoteObject and target._is_constructed)
        line = _dumps([verb, target, name, list(args), kwargs], carry)
        view = memoryview(line)
        try:
            while view:
                view = view[_write(CALLS, view) :]
        except BrokenPipeError:
            self._lost("it ended before a call")
        kind, value, after = self._receive(3)
        if type(after) is list and len(after) == len(args):
            for original, changed in zip(args, after):
                _change(original, changed)
        self.returned = [value] if kind == "returned" and verb == "call" else []
        if kind == "returned":
            return value
        if kind == "raised":
            raise _exception(value, self.source)
        raise ProgramError(str(value))


def _change(original: Any, changed: Any) -> None:
    """Change an argument as the call changed it, as it would be in one process."""
    if type(original) is not type(changed):
        return
    if type(original) is list:
        original[:] = changed
    elif type(original) is dict or type(original) is set:
        original.clear()
        original.update(changed)


_ENDS_ITERATION = ("StopIteration", "StopAsyncIteration", "GeneratorExit")


def _exception(value: Any, expected: str) -> Exception:
    """Return the nearest builtin exception to what the program raised.

    `all(map(f, xs))` and `zip` would take a StopIteration for the end of the sequence and pass. It stays one only where the
    tests name it, because they expect it.
    """
    name, message, bases = value
    for base in bases:
        if base in _ENDS_ITERATION and base not in expected:
            break
        kind = getattr(builtins, base, None)
        if isinstance(kind, type) and issubclass(kind, Exception):
            if kind is Exception and name != "Exception":
                break
            try:
                return kind(message)
            except TypeError:
                continue
    return ProgramError(f"{name}: {message}")


class ProgramFunction:
    """A function or class of the program."""

    def __init__(self, program: ProgramConnection, name: str) -> None:
        self.__dict__.update(_program=program, __name__=name, __qualname__=name, __doc__=None)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._program.ask("call", None, self.__name__, args, kwargs)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return ProgramFunction(self._program, f"{self.__name__}.{name}")


class RemoteObject:
    """An object that stays in the program's process, where its attributes are read and its methods called.

    No operation combines it with a plain value: `abs(f(x) - 5)` or `f(x) == 5` with an object in the place of a number
    would let the program answer for the test. Two objects of the program's may be compared and combined.
    """

    __slots__ = ("_handle", "_is_constructed", "_program", "_type_name")

    def __init__(self, program: ProgramConnection, type_name: str, handle: int, is_constructed: bool) -> None:
        object.__setattr__(self, "_is_constructed", is_constructed)
        object.__setattr__(self, "_program", program)
        object.__setattr__(self, "_type_name", type_name)
        object.__setattr__(self, "_handle", handle)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self._program.ask("get", self, name, [], {})

    def __setattr__(self, name: str, value: Any) -> None:
        self._program.ask("set", self, name, [value], {})

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._program.ask("invoke", self, "", args, kwargs)

    def __len__(self) -> Any:
        return self._program.ask("method", self, "__len__", [], {})

    def __getitem__(self, key: Any) -> Any:
        return self._program.ask("method", self, "__getitem__", [key], {})

    def __iter__(self) -> Iterator[Any]:
        return iter(self._program.ask("list", self, "", [], {}))

    def __str__(self) -> str:
        text = self._program.ask("method", self, "__str__", [], {})
        return text if type(text) is str else f"<{self._type_name}>"

    def __repr__(self) -> str:
        return f"<the program's {self._type_name} object>"

    def __eq__(self, other: object) -> bool:
        return type(other) is RemoteObject and self._program.ask("method", self, "__eq__", [other], {}) is True

    def __bool__(self) -> bool:
        raise TypeError(f"the truth of a {self._type_name} object can't be told here")

    __hash__ = object.__hash__


def _between_objects(name: str) -> Callable[[RemoteObject, object], Any]:
    def operate(self: RemoteObject, other: object) -> Any:
        if type(other) is not RemoteObject:
            raise TypeError(
                f"a {self._type_name} object of the program's can't be combined with a {type(other).__name__} of the tests"
            )
        return self._program.ask("method", self, name, [other], {})

    return operate


for _name in ("lt", "le", "gt", "ge", "add", "sub", "mul", "truediv", "and", "or"):
    setattr(RemoteObject, f"__{_name}__", _between_objects(f"__{_name}__"))


class _ProgramModule(types.ModuleType):
    """The program as an importable module."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return ProgramFunction(self._program, name)


def _reason(error: BaseException, tests: str = "", program: ProgramConnection | None = None) -> str:
    """Return what failed, in which line of the tests, and what the program had returned."""
    failed = isinstance(error, AssertionError)
    if isinstance(error, ProgramError):
        told = f"the program raised {error}"
    elif failed:
        told = str(error)
    else:
        told = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    told = told[:300]
    number, at = 0, error.__traceback__
    while at is not None:
        if at.tb_frame.f_code.co_filename == "tests.py":
            number = at.tb_lineno
        at = at.tb_next
    lines = tests.splitlines()
    if not 0 < number <= len(lines):
        return told or "a test failed"
    line = f"line {number} of the tests: {lines[number - 1].strip()[:120]}"
    returned = (
        f" (the last call returned {_show(program.returned[0])})" if program is not None and program.returned else ""
    )
    return f"{line} failed{returned}" if failed else f"{told}, in {line}{returned}"


def _is_import_of_tests(error: ImportError) -> bool:
    """Return whether the tests import a module that is missing, and not the program during a call."""
    at = error.__traceback__
    while at is not None:
        if at.tb_frame.f_code is ProgramConnection.ask.__code__:
            return False
        at = at.tb_next
    return True


def _show(value: Any) -> str:
    """A value for a person to read, whatever its size."""
    short = reprlib.Repr()
    short.maxstring = short.maxother = short.maxlong = 60
    try:
        return short.repr(value)[:100]
    except Exception:  # an integer of too many digits
        return f"a {type(value).__name__}"


def _run_script(program: ProgramConnection, job: dict[str, Any], _tests: dict[str, bool]) -> None:
    """Test code as it stands; `check(candidate)` is called where it defines one and an entry point is given."""
    space = program_process._fresh_main("tests")
    if job["prelude"]:
        exec(compile(job["prelude"], "prelude.py", "exec", dont_inherit=True), space)
    for name in job["names"]:
        space[name] = ProgramFunction(program, name)
    compiled = compile(job["tests"], "tests.py", "exec", dont_inherit=True)
    exec(compiled, space)
    if job["entry_point"] and callable(space.get("check")):
        space["check"](space[job["entry_point"]])


class _Report:
    """A pytest plugin that keeps each test's outcome."""

    def __init__(self, tests: dict[str, bool], program: ProgramConnection) -> None:
        self.tests = tests
        self.program = program
        self.broken = ""
        """The error with which the test module could not be imported, before it called the program."""
        self.reasons: list[str] = []

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.when == "call" or report.outcome != "passed":
            name = report.nodeid.partition("::")[2]
            passed = report.outcome == "passed" and self.tests.get(name, True)
            self.tests[name] = passed
            if not passed:
                self.reasons.append(f"{name}: {self._why(report) if report.outcome == 'failed' else report.outcome}")

    def pytest_collectreport(self, report: Any) -> None:
        if report.failed:
            self.tests["collection"] = False
            last = str(report.longrepr).rstrip().rpartition("\n")[2].removeprefix("E").strip()
            if not self.program.asked:
                self.broken = last
            self.reasons.append(f"the tests can't be collected: {last[:300]}")

    @staticmethod
    def _why(report: Any) -> str:
        """The message without the listing around it."""
        crash = getattr(report.longrepr, "reprcrash", None)
        told = " ".join((crash.message if crash else str(report.longrepr)).split())[:300]
        return f"{told} (line {crash.lineno})" if crash and crash.path.endswith("test_solution.py") else told


def _run_pytest(program: ProgramConnection, job: dict[str, Any], tests: dict[str, bool]) -> None:
    import pytest

    module = _ProgramModule(job["module"])
    module.__dict__.update(_program=program, __file__="/tmp/solution.py")
    sys.modules[job["module"]] = module
    with open("/tmp/test_solution.py", "w") as file:
        file.write(job["tests"])
    report = _Report(tests, program)
    pytest.main(
        ["-q", "-x" if job["stop"] else "-q", "-p", "no:cacheprovider", "--rootdir=/tmp", "/tmp/test_solution.py"],
        [report],
    )
    if report.broken:
        raise BrokenTests(report.broken)
    if not tests:
        raise AssertionError("no test was run")
    if report.reasons:
        raise AssertionError("; ".join(report.reasons)[:1000])


def run_unit_tests(source: bytes, _extra: list[int]) -> NoReturn:
    """Run the tests and write the verdict: [state, reason, the tests by name]."""
    program_process._open_streams(program_process._streams)
    job = _loads(source)
    program = ProgramConnection(f"{job['prelude']}\n{job['tests']}")
    tests: dict[str, bool] = {}
    state, reason = "passed", ""
    try:
        unloaded = program.load()
        if unloaded:
            state, reason = "failed", unloaded
        else:
            (_run_pytest if job["kind"] == "pytest" else _run_script)(program, job, tests)
    except ProgramGone as error:
        state, reason = "gone", str(error)
    except (Unsupported, BrokenTests) as error:
        state, reason = "bad_tests", str(error)
    except SyntaxError as error:
        bad = error.filename in ("tests.py", "prelude.py")
        state, reason = "bad_tests" if bad else "failed", _reason(error, job["tests"])
    except ImportError as error:
        state = "bad_tests" if _is_import_of_tests(error) else "failed"
        reason = _reason(error, job["tests"], program)
    except BaseException as error:
        script = job["tests"] if job["kind"] == "script" else ""
        is_broken = script and not program.asked and not isinstance(error, AssertionError)
        state, reason = "bad_tests" if is_broken else "failed", _reason(error, script, program)
    if state == "failed" and program.unsupported:  # pytest takes it for a failed test
        state, reason = "bad_tests", program.unsupported
    if state == "passed" and program.lost():
        state, reason = "gone", str(program.gone)
    line = _dumps([state, reason, tests])
    view = memoryview(line)
    while view:
        view = view[_write(VERDICT, view) :]
    _exit(0)


program_process.ENTRIES["unit_tests"] = run_unit_tests
