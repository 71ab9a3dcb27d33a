"""A template: a process that has compiled a program, waits for a case of it, and runs that case after it has made the next template.

A case finds the interpreter's streams, modules and code prepared, which takes more time than many programs do. A template has
never run anything of the program: it is a copy of the one before, made before that one became a case. It is a child of the
server, which alone waits for it, and is isolated as a case is. A case can't read or write the memory of its successor (it is
undumpable), and can't signal it where the box has users enough (its real user differs). Where a case ends or stops it
nevertheless, the server ends everything in the box, and the next case runs without a template.

A request is the name of an action, with the descriptors of the case's streams. The answer is `NEXT` and the successor's number, or `FAULT`
and a text if the case could not be isolated. Then the case has no socket any more.
"""

from __future__ import annotations

import ctypes
import gc
import os
import socket
from collections.abc import Callable
from typing import NoReturn

from rewardkit_box import program_process  # type: ignore[import-not-found]

PR_SET_DUMPABLE = 4
CONNECTION = 3
"""The descriptor of the socket to the server. 0 to 2 are /dev/null, and received descriptors follow."""
READY = b"ready"
NEXT = b"next "
FAULT = b"fault "
_RECEIVED = CONNECTION + 1
_MOST_STREAMS = 4
_ABOVE = 64
_CLONE_PARENT, _SIGCHLD = 0x8000, 17
_SYS_CLONE = {"x86_64": 56}.get(os.uname().machine, 220)
_libc = ctypes.CDLL(None)
_ZERO, _ONE = ctypes.c_ulong(0), ctypes.c_ulong(1)


def _set_dumpable(value: ctypes.c_ulong) -> None:
    if _libc.prctl(PR_SET_DUMPABLE, value, _ZERO, _ZERO, _ZERO) != 0:
        raise OSError("PR_SET_DUMPABLE")


def _arrange_descriptors(connection: int) -> socket.socket:
    high = os.dup2(connection, _ABOVE)
    os.closerange(0, high)
    for _ in range(CONNECTION):
        os.open("/dev/null", os.O_RDWR)
    os.dup2(high, CONNECTION, inheritable=False)
    os.close(high)
    return socket.socket(fileno=CONNECTION)


def _fork_sibling() -> int:
    """Fork a process whose parent is this one's parent; return its number, or 0 in it.

    The C library has no such function. Its own and the interpreter's work after a fork is for locks that other threads held, and
    there are no others. The number of the main thread that it remembers is then that of the first template, which it uses for
    nothing that a process does to itself.
    """
    pid: int = _libc.syscall(_SYS_CLONE, _CLONE_FLAGS, _ZERO, _ZERO, _ZERO, _ZERO)
    if pid < 0:
        raise OSError("clone")
    return pid


_CLONE_FLAGS = ctypes.c_ulong(_CLONE_PARENT | _SIGCHLD)


def run(source: bytes, connection: int, uid: int) -> NoReturn:
    """Compile the program, say so, and become the next case that is asked for.

    Args:
        source: The program.
        connection: The descriptor of the socket to the server.
        uid: The user of the cases; 0 if they have this process's.
    """
    _set_dumpable(_ZERO)
    server = _arrange_descriptors(connection)
    load = program_process.prepare_program(source)
    actions: dict[bytes, Callable[[], NoReturn]] = {}
    server.send(READY)
    while True:
        packet, received, _, _ = socket.recv_fds(server, 16, _MOST_STREAMS)
        if not packet:
            os._exit(0)
        if packet not in actions:
            actions[packet] = program_process.ACTIONS[packet.decode()](load)
            gc.freeze()
        successor = _fork_sibling()
        if successor:
            _case(server, successor, actions[packet], len(received), uid)
        os.closerange(_RECEIVED, _RECEIVED + _MOST_STREAMS)


def _case(server: socket.socket, successor: int, action: Callable[[], NoReturn], streams: int, uid: int) -> NoReturn:
    """Finish the isolation of this process, and run the program in it."""
    try:
        os.setsid()
        if uid:
            os.setresuid(uid, uid, uid)
        _set_dumpable(_ONE)
        for target in range(CONNECTION):
            os.dup2(_RECEIVED + target, target)
        program_process.after_fork()
        server.send(NEXT + b"%d" % successor)
    except BaseException as error:
        server.send(FAULT + repr(error).encode()[:1000])
        os._exit(125)
    try:
        if streams > CONNECTION:
            os.dup2(_RECEIVED + CONNECTION, CONNECTION)  # which closes the socket
        os.closerange(streams, _RECEIVED + _MOST_STREAMS)
        action()
    except BaseException:
        pass
    os._exit(124)
