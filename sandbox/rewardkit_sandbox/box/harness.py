"""What a child process does with a Python program, after the walls are up. Nothing here is trusted by the host.

Descriptors: 0, 1, 2 are the program's own; 3 takes results (a line each), 4 brings calls. The program can write to 3
itself: it then merely states another result, which the host compares like any other.
"""

from __future__ import annotations

import atexit
import builtins
import gc
import linecache
import os
import signal
import site
import sys
import threading
import traceback
import types
from typing import Any, NoReturn

from rewardkit_box import codec  # type: ignore[import-not-found]

RESULT, CALLS = 3, 4
FILE = "solution.py"
_write, _dup2, _exit, _dumps, _loads = os.write, os.dup2, os._exit, codec.dumps, codec.loads


def read_all(descriptor: int) -> bytes:
    """The whole of a sealed memory file, wherever its shared offset stands."""
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


def prepare() -> None:
    """Done once, in the warm server: what `site` would add to an interactive start, and a frozen heap."""
    site.setquit()
    site.sethelper()
    gc.collect()
    gc.freeze()
    gc.disable()


def _fresh_main(name: str = "__main__") -> dict[str, Any]:
    module = types.ModuleType(name)
    module.__dict__.update(__file__=FILE, __builtins__=builtins, __spec__=None)
    sys.modules[name] = module
    return module.__dict__


def _open_streams() -> None:
    sys.stdin = open(0, encoding="utf-8", errors="surrogateescape", closefd=False)
    sys.__stdin__ = sys.stdin  # type: ignore[misc]
    sys.stdout = open(1, "w", encoding="utf-8", errors="surrogateescape", closefd=False)
    sys.__stdout__ = sys.stdout  # type: ignore[misc]
    sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False, buffering=1)
    sys.__stderr__ = sys.stderr  # type: ignore[misc]


def _hide() -> None:
    for name in [name for name in sys.modules if name.startswith("rewardkit_box")]:
        del sys.modules[name]
    sys.argv = [FILE]
    sys.path[0:0] = [""]
    gc.enable()
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _compile(source: bytes) -> types.CodeType:
    text = source.decode("utf-8", "surrogateescape")
    linecache.cache[FILE] = (len(source), None, text.splitlines(True), FILE)
    return compile(source, FILE, "exec", dont_inherit=True)


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
        threading._shutdown()  # type: ignore[attr-defined]
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
    _open_streams()
    _hide()
    code = 0
    try:
        exec(_compile(source), _fresh_main())
    except BaseException as error:
        code = _report(error)
    _finish(code)


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
    job = _loads(read_all(0))
    os.lseek(0, 0, os.SEEK_END)
    _open_streams()
    _hide()
    code = 0
    try:
        namespace = _fresh_main("solution")
        exec(_compile(source), namespace)
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


def batch(source: bytes, extra: list[int]) -> NoReturn:
    """All cases in this one process, fresh globals for each. After each, a line with where its output ended.

    A case is a descriptor that becomes stdin, or else a call on stdin. Stdout and stderr are files here, not pipes.
    """
    jobs = extra or [_loads(line) for line in read_all(0).splitlines()]
    os.lseek(0, 0, os.SEEK_END)
    _open_streams()
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
    """Loads the program, then answers calls on CALLS until it is closed: the candidate's side of a judge.

    A request is [verb, object, name, args, kwargs]; the answer is ["returned", value, args after
    the call], ["raised", …] or ["unencodable", …]. Objects that can't be carried over stay here under a handle.
    """
    _open_streams()
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
