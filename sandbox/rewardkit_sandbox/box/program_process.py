"""Runs a Python program in an isolated child process. The host trusts nothing here.

Descriptors 0, 1 and 2 are the program's own. Results are written to 3, one a line, and calls are read from 4. A program that
writes to 3 itself merely states another result, and the host compares that one like any other.
"""

from __future__ import annotations

import _random
import _signal  # type: ignore[import-not-found]
import _thread
import atexit
import builtins
import gc
import linecache
import os
import site
import sys
import traceback
import types
from collections.abc import Callable
from functools import partial
from typing import Any, NoReturn

from rewardkit_box import codec  # type: ignore[import-not-found]

RESULT, CALLS = 3, 4
FILE = "solution.py"
_OWN = (
    "rewardkit_box",
    *(
        f"rewardkit_box.{name}"
        for name in ("codec", "program_process", "unit_tests", "scratch_folders", "template", "fork_server")
    ),
)
_write, _dup2, _exit, _dumps, _loads = os.write, os.dup2, os._exit, codec.dumps, codec.loads
_thread_count, _seed = _thread._count, _random.Random.seed


def read_all(descriptor: int) -> bytes:
    """Return the content of a sealed memory file, whatever its shared offset."""
    size = os.fstat(descriptor).st_size
    parts, at = [], 0
    while at < size:
        part = os.pread(descriptor, size - at, at)
        if not part:
            break
        parts.append(part)
        at += len(part)
    return b"".join(parts)


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[_write(descriptor, view) :]


_streams: list[Any] = []
_warm: dict[str, Any] = {}
_is_program: list[bool] = []
"""Not empty in a process that runs a program."""


def prepare(preimport: list[str]) -> None:
    """Prepare the warm server: import modules, add the names of `site`, make streams, freeze the heap.

    All of it saves memory pages that each child would have to copy. The functions that modules register for the time before and
    after a fork are for forks of the program itself: this process has one thread, so its own children need them not.
    """
    hooks: list[dict[str, Callable[[], Any]]] = []
    register = os.register_at_fork
    os.register_at_fork = lambda **functions: hooks.append(functions)
    try:
        import random
        import threading

        for name in preimport:
            try:
                __import__(name)
            except ImportError:
                pass
    finally:
        os.register_at_fork = register
    for when in ("before", "after_in_parent", "after_in_child"):
        functions = [each[when] for each in hooks if when in each]
        if functions:
            register(**{when: partial(_run_hooks, functions[::-1] if when == "before" else functions)})
    # Held so that nothing is taken apart in a child when it is put out of a program's sight.
    _warm.update(threading=threading, modules=dict(sys.modules), streams=(sys.stdin, sys.stdout, sys.stderr))
    _warm.update(random=random._inst, main_thread=threading.main_thread())
    site.setquit()
    site.sethelper()
    _streams.extend(_prepared_streams())
    gc.collect()
    gc.freeze()
    gc.disable()


def _run_hooks(functions: list[Callable[[], Any]]) -> None:
    if _is_program:
        for function in functions:
            function()


def _prepared_streams() -> list[Any]:
    """Standard streams that remember 0 to be a file and 1 and 2 to be pipes, which they are in each child."""
    read, write = os.pipe()
    file = os.memfd_create("stdin")
    saved = [os.dup(descriptor) for descriptor in range(3)]
    try:
        for target, source in enumerate((file, write, write)):
            _dup2(source, target)
        return [_open_stream(descriptor) for descriptor in range(3)]
    finally:
        for target, source in enumerate(saved):
            _dup2(source, target)
        for descriptor in (read, write, file, *saved):
            os.close(descriptor)


def after_fork() -> None:
    """In a new process that will run a program."""
    _is_program.append(True)
    _seed(_warm["random"])
    _warm["main_thread"]._native_id = os.getpid()


def _fresh_main(name: str = "__main__") -> dict[str, Any]:
    module = types.ModuleType(name)
    module.__dict__.update(__file__=FILE, __builtins__=builtins, __spec__=None)
    sys.modules[name] = module
    return module.__dict__


def _open_stream(descriptor: int) -> Any:
    if descriptor == 0:
        return open(0, encoding="utf-8", errors="surrogateescape", closefd=False)
    if descriptor == 1:
        return open(1, "w", encoding="utf-8", errors="surrogateescape", closefd=False)
    return open(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False, buffering=1)


def _open_streams(streams: list[Any]) -> None:
    sys.stdin, sys.stdout, sys.stderr = streams
    sys.__stdin__, sys.__stdout__, sys.__stderr__ = streams  # type: ignore[misc]


def _hide() -> None:
    for name in _OWN:
        del sys.modules[name]
    sys.argv = [FILE]
    sys.path[0:0] = [""]
    gc.enable()
    _signal.signal(_signal.SIGINT, _signal.default_int_handler)


def _compile(source: bytes) -> types.CodeType:
    linecache.cache[FILE] = (
        lambda: source.decode("utf-8", "surrogateescape"),
    )  # split into lines by the first traceback
    return compile(source, FILE, "exec", dont_inherit=True)


def prepare_program(source: bytes) -> Callable[[], types.CodeType]:
    """In a template: do what all cases of a program would do before they run it; return what gives a case its code.

    Compiling touches more memory than running most programs does. A program that can't be compiled is left to its cases, which
    report the error.
    """
    try:
        code = _compile(source)
    except BaseException:
        code = None
    _open_streams(_streams)
    _hide()
    return lambda: code or _compile(source)


def _report(error: BaseException) -> int:
    """Prints a traceback as Python would, without this module's frames; returns the exit code."""
    if isinstance(error, SystemExit):
        code = error.code
        if code is None or isinstance(code, int):
            return (code or 0) & 0xFF
        print(code, file=sys.stderr)
        return 1
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename.startswith("<rewardkit"):
        frames = frames.tb_next
    try:
        if sys.excepthook is not sys.__excepthook__:
            sys.excepthook(type(error), error, frames)
        else:
            traceback.print_exception(type(error), error, frames, limit=-20)
    except BaseException:
        pass
    return 1


def _finish(code: int) -> NoReturn:
    """Ends the process as the interpreter would (threads joined, atexit run, streams flushed), without its teardown."""
    try:
        if _thread_count() or getattr(_warm["threading"], "_threading_atexits", True):
            _warm["threading"]._shutdown()
        atexit._run_exitfuncs()
    except BaseException as error:
        code = code or _report(error)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BaseException:
            code = code or 120
    _exit(code)


def execute(code: int, job: dict[str, Any]) -> NoReturn:
    """Becomes another program: a compiled one, or an interpreter or compiler over the source put into a file."""
    os.set_inheritable(code, False)
    if job.get("file"):
        with open(job["file"], "wb") as file:
            file.write(read_all(code))
        os.execve(job["argv"][0], job["argv"], job["environment"])
    os.execve(code, job["argv"], job["environment"])


def script(source: bytes, _extra: list[int]) -> NoReturn:
    """Runs the program as `python solution.py` would."""
    _open_streams(_streams)
    _hide()
    _prepared_script(lambda: _compile(source))()


def _prepared_script(load: Callable[[], types.CodeType]) -> Callable[[], NoReturn]:
    namespace = _fresh_main()

    def run() -> NoReturn:
        code = 0
        try:
            exec(load(), namespace)
        except BaseException as error:
            code = _report(error)
        _finish(code)

    return run


def _resolve(namespace: dict[str, Any], name: str) -> Any:
    """The function called `name`: of the program, a dotted path in it, or a method of its class Solution."""
    first, *rest = name.split(".")
    if first in namespace:
        target = namespace[first]
    elif not rest and "Solution" in namespace:
        target, rest = namespace["Solution"], [name]
    else:
        raise NameError(f"name {name!r} is not defined")
    for part in rest:
        if isinstance(target, type):
            target = target()
        target = getattr(target, part)
    return target


def _call(namespace: dict[str, Any], job: Any) -> Any:
    name, args, kwargs = job
    return _resolve(namespace, name)(*args, **kwargs)


def _failure(error: BaseException) -> list[Any]:
    kind = type(error)
    names = [base.__name__ for base in kind.__mro__ if base.__module__ == "builtins" and base is not object]
    try:
        message = str(error)[:1000]
    except BaseException:
        message = ""
    return [str(kind.__name__)[:100], message.encode("utf-8", "replace").decode(), names]


def call(source: bytes, _extra: list[int]) -> NoReturn:
    """Runs the program, calls one function of it, and writes what it returned or raised to the result descriptor."""
    _open_streams(_streams)
    _hide()
    _prepared_call(lambda: _compile(source))()


def _prepared_call(load: Callable[[], types.CodeType]) -> Callable[[], NoReturn]:
    namespace = _fresh_main("solution")

    def run() -> NoReturn:
        job = _loads(read_all(0))
        os.lseek(0, 0, os.SEEK_END)
        code = 0
        try:
            exec(load(), namespace)
            value = _call(namespace, job)
        except BaseException as error:
            code = _report(error)
            _write_all(RESULT, _dumps(["raised", _failure(error)]))
        else:
            try:
                line = _dumps(["returned", value])
            except codec.CodecError as error:
                line = _dumps(["unencodable", str(error)])
            _write_all(RESULT, line)
        _finish(code)

    return run


ACTIONS = {"script": _prepared_script, "call": _prepared_call}
"""What a template can run: each takes what loads the program, and returns what runs one case of it."""


def batch(source: bytes, extra: list[int]) -> NoReturn:
    """All cases in this one process, fresh globals for each. After each, a line with where its output ended.

    A case is a descriptor that becomes stdin, or else a call on stdin. Stdout and stderr are files here, not pipes.
    """
    jobs = extra or [_loads(line) for line in read_all(0).splitlines()]
    os.lseek(0, 0, os.SEEK_END)
    _open_streams([_open_stream(descriptor) for descriptor in range(3)])
    _hide()
    compiled = None
    for index, job in enumerate(jobs):
        status: str = "exited"
        value: Any = 0
        try:
            if type(job) is int:
                _dup2(job, 0)
                sys.stdin = open(0, encoding="utf-8", errors="surrogateescape", closefd=False)
            if compiled is None:
                compiled = _compile(source)
            if type(job) is int:
                exec(compiled, _fresh_main())
            else:
                namespace = _fresh_main("solution")
                exec(compiled, namespace)
                status, value = "returned", _call(namespace, job)
        except BaseException as error:
            code = _report(error)
            status, value = ("exited", code) if type(job) is int else ("raised", _failure(error))
        try:
            sys.stdout.flush()
            sys.stderr.flush()
            ends = [os.lseek(1, 0, os.SEEK_CUR), os.lseek(2, 0, os.SEEK_CUR)]
            try:
                line = _dumps([index, ends, status, value])
            except codec.CodecError as error:
                line = _dumps([index, ends, "unencodable", str(error)])
            _write_all(RESULT, line)
        except BaseException:
            _exit(1)
    _exit(0)


def serve(source: bytes, _extra: list[int]) -> NoReturn:
    """Load the program, then answer the calls of unit tests until the pipe is closed.

    A request is [verb, object, name, args, kwargs]; the answer is ["returned", value, args after
    the call], ["raised", …] or ["unencodable", …]. Objects that can't be carried over stay here under a handle.
    """
    _open_streams(_streams)
    _hide()
    kept = []

    def keep(value: Any) -> int:
        kept.append(value)
        return len(kept)

    def held(type_name: str, handle: int) -> Any:
        return kept[handle - 1]

    try:
        namespace = _fresh_main("solution")
        exec(_compile(source), namespace)
    except BaseException as error:
        code = _report(error)
        _write_all(RESULT, _dumps(["unloadable", _failure(error)]))
        _finish(code or 1)
    _write_all(RESULT, _dumps(["loaded", sorted(name for name in namespace if type(name) is str)]))
    for line in open(CALLS, "rb", closefd=False):
        try:
            verb, target, name, args, kwargs = _loads(line, held)
            if verb == "get":
                value = getattr(target, name)
            elif verb == "set":
                value = None
                setattr(target, name, *args)
            elif verb == "method":
                value = getattr(target, name)(*args, **kwargs)
            elif verb == "invoke":
                value = target(*args, **kwargs)
            elif verb == "list":
                value = list(target)
            else:
                value = _resolve(namespace, name)(*args, **kwargs)
        except BaseException as error:
            _report(error)
            answer = ["raised", _failure(error), None]
        else:
            answer = ["returned", value, args]
        try:
            line = _dumps(answer, keep)
        except codec.CodecError as error:
            line = _dumps(["unencodable", str(error), None])
        _write_all(RESULT, line)
    _finish(0)


ENTRIES = {"script": script, "call": call, "batch": batch, "serve": serve}
