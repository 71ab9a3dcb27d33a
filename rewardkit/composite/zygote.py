"""The process that worker processes are forked from.

It imports the plugins and builds the rewards once, then forks a worker whenever it is told to; so a worker that had to be killed is
replaced in milliseconds, without importing anything again. It runs nothing of a plugin after that, stays single-threaded, and ends,
with all its workers, when the program that started it does.

On stdin it gets a pickled ``Order``; on the socket FD it takes ``fork`` (with the worker's end of a socket) and ``kill PID``, and tells
``built``, ``failed …`` and ``exited PID STATUS`` as JSON.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import os
import pickle
import select
import signal
import socket
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from rewardkit.authoring import reward_type_of
from rewardkit.composite.boundary import call_group, call_reward
from rewardkit.config.params import make_params
from rewardkit.registry import Registry
from rewardkit.types import Outcome, RewardFunction, RewardType, Rollout, Scope

_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class Built:
    """What a worker needs to call one component."""

    function: RewardFunction
    scope: Scope
    who: str


@dataclass(frozen=True, slots=True)
class ComponentOrder:
    """How to find and build one component."""

    use: str
    plugin: str
    """The entry point to look at; empty for a reward that this program registered itself."""
    origin: str
    params: Any
    """As JSON data."""
    who: str


@dataclass(frozen=True, slots=True)
class Order:
    """What the zygote builds."""

    sys_path: tuple[str, ...]
    components: Mapping[str, ComponentOrder]


def find_type(order: ComponentOrder) -> RewardType:
    """The reward type: from the plugin's entry point, or from the module that decorated it."""
    if order.plugin:
        return Registry.load(only={order.plugin}).get(order.use).type
    module, _, name = order.origin.partition(":")
    target: Any = importlib.import_module(module)
    for part in name.split("."):
        target = getattr(target, part)
    found = reward_type_of(target)
    if found is None:
        raise TypeError(f"{order.origin} is not decorated with @reward")
    return found


def build(order: Order) -> dict[str, Built]:
    """Build every component, or tell the socket which one failed and end."""
    built: dict[str, Built] = {}
    for name, component in order.components.items():
        reward_type = find_type(component)
        function = reward_type.build(make_params(reward_type, component.params))
        built[name] = Built(function, reward_type.scope, component.who)
    return built


def score_unit(built: Built, rollouts: Sequence[Rollout]) -> list[Outcome]:
    """Score one rollout, or one group."""
    call = call_group if built.scope == "group" else call_reward
    return call(built.function, rollouts, built.who)


def serve(connection: Connection, components: Mapping[str, Built]) -> None:
    """A worker's life: take a chunk of units, answer each as soon as it is scored, so that none is lost with a later one."""
    connection.send(os.getpid())
    while True:
        try:
            name, units = connection.recv()
        except (EOFError, ConnectionResetError):
            return
        for unit in units:
            start = time.perf_counter()
            outcomes = score_unit(components[name], unit)
            connection.send((outcomes, time.perf_counter() - start))


def _become_worker(fd: int, zygote: int, components: Mapping[str, Built]) -> None:
    """Runs in the forked child and never returns."""
    status = 1
    try:
        os.setsid()  # whatever the plugin starts is killed together with it
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() == zygote:
            with contextlib.suppress(BrokenPipeError):
                serve(Connection(fd), components)
        status = 0
    finally:
        os._exit(status)


def _run(control: socket.socket, components: Mapping[str, Built]) -> None:
    zygote = os.getpid()
    workers: set[int] = set()
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    watched: list[Any] = [control, wake_read]
    try:
        while True:
            readable, _, _ = select.select(watched, [], [])
            if wake_read in readable:
                os.read(wake_read, 4096)
                while workers:
                    pid, status = os.waitpid(-1, os.WNOHANG)
                    if pid == 0:
                        break
                    workers.discard(pid)
                    control.send(json.dumps({"exited": pid, "status": status}).encode())
            if control not in readable:
                continue
            message, fds, _, _ = socket.recv_fds(control, 4096, 1)
            if not message:
                return
            command = message.decode().split()
            if command[0] == "fork":
                pid = os.fork()
                if pid == 0:
                    signal.set_wakeup_fd(-1)
                    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                    control.close()
                    os.close(wake_read)
                    os.close(wake_write)
                    _become_worker(fds[0], zygote, components)
                os.close(fds[0])
                workers.add(pid)
            elif command[0] == "kill" and int(command[1]) in workers:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(int(command[1]), signal.SIGKILL)
    finally:
        for pid in workers:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)


def main() -> None:
    """Entry point; the first argument is the number of the inherited socket."""
    control = socket.socket(fileno=int(sys.argv[1]))
    order: Order = pickle.load(sys.stdin.buffer)  # noqa: S301 - written by the program that started this one
    os.dup2(2, 1)  # a plugin that prints must not write into the data on stdout
    sys.path[:] = order.sys_path
    try:
        components = build(order)
    # The boundary: building runs a plugin's own code.
    except Exception as error:  # noqa: BLE001
        text = f"{type(error).__name__}: {error}"[:2000]
        control.send(json.dumps({"failed": text, "traceback": traceback.format_exc()[-20000:]}).encode())
        return
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        control.send(json.dumps({"built": True}).encode())
        _run(control, components)
