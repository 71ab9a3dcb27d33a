"""The judge's side of a judge: runs test code against a candidate that lives in another box, by calls over a pipe.

The candidate's process is never here. What comes back over the pipe is decoded into plain values; an object that can't
be carried over is a `Remote`, whose methods are called over there, and which is equal to nothing.
"""

from __future__ import annotations

import builtins
import os
import reprlib
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from rewardkit_box import codec, harness  # type: ignore[import-not-found]

CALLS, ANSWERS, VERDICT = 4, 5, 3
MAX_LINE = 8 << 20
_write, _exit, _dumps, _loads = os.write, os._exit, codec.dumps, codec.loads


class CandidateGone(BaseException):
    """The candidate's process ended, or said something that is no answer."""


class Unsupported(BaseException):
    """The tests hand over something that can't be carried to the candidate."""


class CandidateError(Exception):
    """An exception of a type that only the candidate has."""


class Link:
    """The pipes to the candidate."""

    gone: str | None
    returned: list[Any]
    """What the last call returned, if one did."""

    def __init__(self) -> None:
        self.gone = None
        self.returned = []
        self.asked = False
        """Whether the program was called at all."""
        self._answers = open(ANSWERS, "rb", closefd=False)

    def load(self) -> str | None:
        """Waits until the candidate's program is loaded; returns why not, or None."""
        kind, value = self._receive(2)
        if kind == "unloadable":
            return f"raised {value[0]}: {value[1]} while loading"
        if kind != "loaded":
            self._lost("it sent no answer")
        return None

    def lost(self) -> bool:
        """Whether the candidate went away, whatever the tests made of it."""
        return self.gone is not None

    def _lost(self, why: str) -> NoReturn:
        self.gone = why
        raise CandidateGone(why)

    def _receive(self, length: int) -> list[Any]:
        if self.gone:
            raise CandidateGone(self.gone)
        line = self._answers.readline(MAX_LINE)
        if not line.endswith(b"\n"):
            self._lost("it ended during a call" if len(line) < MAX_LINE else "its answer is too long")
        try:
            answer = _loads(line, lambda type_name, handle: Remote(self, type_name, handle))
            if type(answer) is not list or len(answer) != length:
                self._lost("it sent no answer")
        except codec.CodecError as error:
            self._lost(f"it sent no answer: {error}")
        return answer

    def ask(self, verb: str, target: Any, name: str, args: Any, kwargs: dict[str, Any]) -> Any:
        """One call. Raises what the candidate raised, as the nearest builtin exception."""

        def carry(value: Any) -> int:
            if type(value) is Remote:
                return int(value._handle)
            raise Unsupported(f"a {type(value).__name__} can't be handed to the program")

        self.asked = True
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
            raise _exception(value)
        raise CandidateError(str(value))


def _change(original: Any, changed: Any) -> None:
    """Makes an argument what the call left of it, as it would be in one process."""
    if type(original) is not type(changed):
        return
    if type(original) is list:
        original[:] = changed
    elif type(original) is dict or type(original) is set:
        original.clear()
        original.update(changed)


def _exception(value: Any) -> Exception:
    name, message, bases = value
    for base in bases:
        kind = getattr(builtins, base, None)
        if isinstance(kind, type) and issubclass(kind, Exception):
            if kind is Exception and name != "Exception":
                break
            try:
                return kind(message)
            except TypeError:
                continue
    return CandidateError(f"{name}: {message}")


class Function:
    """A function or class of the candidate's program."""

    def __init__(self, link: Link, name: str) -> None:
        self.__dict__.update(_link=link, __name__=name, __qualname__=name, __doc__=None)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._link.ask("call", None, self.__name__, args, kwargs)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return Function(self._link, f"{self.__name__}.{name}")


class Remote:
    """An object that stays in the candidate's process; its attributes and methods are asked for over there.

    It never meets a plain value in an operation: `abs(f(x) - 5)` or `f(x) == 5` with an object in the place of a number
    would let the program answer for the test. Two objects of the program's may be compared and combined.
    """

    __slots__ = ("_handle", "_link", "_type_name")

    def __init__(self, link: Link, type_name: str, handle: int) -> None:
        object.__setattr__(self, "_link", link)
        object.__setattr__(self, "_type_name", type_name)
        object.__setattr__(self, "_handle", handle)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self._link.ask("get", self, name, [], {})

    def __setattr__(self, name: str, value: Any) -> None:
        self._link.ask("set", self, name, [value], {})

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._link.ask("invoke", self, "", args, kwargs)

    def __len__(self) -> Any:
        return self._link.ask("method", self, "__len__", [], {})

    def __getitem__(self, key: Any) -> Any:
        return self._link.ask("method", self, "__getitem__", [key], {})

    def __iter__(self) -> Iterator[Any]:
        return iter(self._link.ask("list", self, "", [], {}))

    def __str__(self) -> str:
        text = self._link.ask("method", self, "__str__", [], {})
        return text if type(text) is str else f"<{self._type_name}>"

    def __repr__(self) -> str:
        return f"<the program's {self._type_name} object>"

    def __eq__(self, other: object) -> bool:
        return type(other) is Remote and self._link.ask("method", self, "__eq__", [other], {}) is True

    def __bool__(self) -> bool:
        raise TypeError(f"the truth of a {self._type_name} object can't be told here")

    __hash__ = object.__hash__


def _between_objects(name: str) -> Callable[[Remote, object], Any]:
    def operate(self: Remote, other: object) -> Any:
        if type(other) is not Remote:
            raise TypeError(
                f"a {self._type_name} object of the program's can't meet a {type(other).__name__} of the test's"
            )
        return self._link.ask("method", self, name, [other], {})

    return operate


for _name in ("lt", "le", "gt", "ge", "add", "sub", "mul", "truediv", "and", "or"):
    setattr(Remote, f"__{_name}__", _between_objects(f"__{_name}__"))


class _Solution(types.ModuleType):
    """The candidate's program as an importable module."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return Function(self._link, name)


def _reason(error: BaseException, tests: str = "", link: Link | None = None) -> str:
    """What failed, in which line of the tests, and what the program had answered."""
    failed = isinstance(error, AssertionError)
    if isinstance(error, CandidateError):
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
    returned = f" (the last call returned {_show(link.returned[0])})" if link is not None and link.returned else ""
    return f"{line} failed{returned}" if failed else f"{told}, in {line}{returned}"


def _is_import_of_tests(error: ImportError) -> bool:
    """Whether the tests themselves asked for a module that is not here; not the program, during a call."""
    at = error.__traceback__
    while at is not None:
        if at.tb_frame.f_code is Link.ask.__code__:
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


def _run_script(link: Link, job: dict[str, Any], _tests: dict[str, bool]) -> None:
    """Test code as it stands; `check(candidate)` is called where it defines one and an entry point is given."""
    space = harness._fresh_main("tests")
    if job["prelude"]:
        exec(compile(job["prelude"], "prelude.py", "exec", dont_inherit=True), space)
    for name in job["names"]:
        space[name] = Function(link, name)
    compiled = compile(job["tests"], "tests.py", "exec", dont_inherit=True)
    exec(compiled, space)
    if job["entry_point"] and callable(space.get("check")):
        space["check"](space[job["entry_point"]])


class _Report:
    """A pytest plugin that keeps each test's outcome."""

    def __init__(self, tests: dict[str, bool], link: Link) -> None:
        self.tests = tests
        self.link = link
        self.missing = ""
        """A module that the tests import and that is not here."""
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
            if last.startswith("ModuleNotFoundError") and not self.link.asked:
                self.missing = last
            self.reasons.append(f"the tests can't be collected: {last[:300]}")

    @staticmethod
    def _why(report: Any) -> str:
        """The message without the listing around it."""
        crash = getattr(report.longrepr, "reprcrash", None)
        told = " ".join((crash.message if crash else str(report.longrepr)).split())[:300]
        return f"{told} (line {crash.lineno})" if crash and crash.path.endswith("test_solution.py") else told


def _run_pytest(link: Link, job: dict[str, Any], tests: dict[str, bool]) -> None:
    import pytest

    module = _Solution(job["module"])
    module.__dict__.update(_link=link, __file__="/tmp/solution.py")
    sys.modules[job["module"]] = module
    with open("/tmp/test_solution.py", "w") as file:
        file.write(job["tests"])
    report = _Report(tests, link)
    pytest.main(
        ["-q", "-x" if job["stop"] else "-q", "-p", "no:cacheprovider", "--rootdir=/tmp", "/tmp/test_solution.py"],
        [report],
    )
    if report.missing:
        raise ModuleNotFoundError(report.missing.partition(": ")[2])
    if not tests:
        raise AssertionError("no test was run")
    if report.reasons:
        raise AssertionError("; ".join(report.reasons)[:1000])


def judge(source: bytes, _extra: list[int]) -> NoReturn:
    """Runs the tests and writes one verdict: [state, reason, each test]."""
    harness._open_streams(harness._streams)
    job = _loads(source)
    link = Link()
    tests: dict[str, bool] = {}
    state, reason = "passed", ""
    try:
        unloaded = link.load()
        if unloaded:
            state, reason = "failed", unloaded
        else:
            (_run_pytest if job["kind"] == "pytest" else _run_script)(link, job, tests)
    except CandidateGone as error:
        state, reason = "gone", str(error)
    except Unsupported as error:
        state, reason = "bad_tests", str(error)
    except SyntaxError as error:
        bad = error.filename in ("tests.py", "prelude.py")
        state, reason = "bad_tests" if bad else "failed", _reason(error, job["tests"])
    except ImportError as error:
        state = "bad_tests" if _is_import_of_tests(error) else "failed"
        reason = _reason(error, job["tests"], link)
    except BaseException as error:
        script = job["tests"] if job["kind"] == "script" else ""
        state, reason = "failed", _reason(error, script, link)
    if state == "passed" and link.lost():
        state, reason = "gone", str(link.gone)
    line = _dumps([state, reason, tests])
    view = memoryview(line)
    while view:
        view = view[_write(VERDICT, view) :]
    _exit(0)


harness.ENTRIES["judge"] = judge
