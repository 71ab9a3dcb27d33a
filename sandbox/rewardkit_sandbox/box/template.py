"""A template: a process that has compiled a program and forks a process for each of its cases.

A case finds the interpreter's streams, modules and code prepared, which takes more time than many programs do. A template is
isolated as a case is, and never runs the program. A case can't read or write its memory (it is undumpable), and can't signal
it where the box has users enough (its real user differs). Where a case ends or stops it nevertheless, the server ends
everything in the box, and the host runs that case again without a template.

A request is the name of an action, with the descriptors of the case's streams. The answer is a `REPORT`, after `FAULT` and a text
if the case could not be isolated.
"""

from __future__ import annotations

import ctypes
import gc
import os
import socket
import struct
from collections.abc import Callable
from typing import NoReturn

from rewardkit_box import program_process  # type: ignore[import-not-found]

PR_SET_DUMPABLE = 4
CONNECTION = 3
"""The descriptor of the socket to the server. 0 to 2 are /dev/null, and received descriptors follow."""
REPORT = struct.Struct("<iidd")
"""The wait status of the case's process, 1 if it left the template no child, CPU seconds, and its largest resident set in KiB."""
READY = b"ready"
FAULT = b"fault "
_RECEIVED = CONNECTION + 1
_MOST_STREAMS = 4
_ABOVE = 64
_WALL = 0x40000000
"""Wait also for children that send no signal when they end."""
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


def run(source: bytes, connection: int, uid: int) -> NoReturn:
    """Compile the program, say so, and run each case that is asked for in a process of its own.

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
        pid = os.fork()
        if pid == 0:
            _case(server, actions[packet], len(received), uid)
        for descriptor in received:
            os.close(descriptor)
        _, status, used = os.wait4(pid, 0)
        try:
            os.wait4(-1, os.WNOHANG | _WALL)
            is_alone = 0
        except ChildProcessError:
            is_alone = 1
        server.send(REPORT.pack(status, is_alone, used.ru_utime + used.ru_stime, used.ru_maxrss))


def _case(server: socket.socket, action: Callable[[], NoReturn], streams: int, uid: int) -> NoReturn:
    """Finish the isolation of this new process, and run the program in it."""
    try:
        os.setsid()
        if uid:
            os.setresuid(uid, uid, uid)
        _set_dumpable(_ONE)
        for target in range(CONNECTION):
            os.dup2(_RECEIVED + target, target)
        program_process.after_fork()
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
