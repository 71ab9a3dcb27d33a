"""The process that worker processes are forked from.

It imports the plugins and builds the rewards once, then forks a worker whenever it is told to; so a worker that had to be killed is
replaced in milliseconds, without importing anything again. It runs nothing of a plugin after that but ``close`` at the end, stays
single-threaded, and ends, with all its workers, when the program that started it does.

On stdin it gets a pickled ``Order``; on the socket FD it takes ``fork N`` (with the worker's end of a socket) and ``kill N``, and tells
``built``, ``failed …`` and ``exited N STATUS`` as JSON. N is a number that the program gives each worker: process ids come back.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import io
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
from rewardkit.composite.plugin_calls import call_group, call_reward, close_reward
from rewardkit.config.params import make_params
from rewardkit.registry import Registry
from rewardkit.types import Outcome, RewardFunction, RewardType, Rollout, Scope

_PR_SET_PDEATHSIG = 1
_CLOSE_S = 5
"""Seconds that the rewards have to close; the program waits a little longer."""


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
    me = os.getpid()
    connection.send("ready")
    while True:
        try:
            name, units = connection.recv()
        except (EOFError, ConnectionResetError):
            return
        for unit in units:
            start = time.perf_counter()
            outcomes = score_unit(components[name], unit)
            if os.getpid() != me:
                os._exit(1)  # the plugin forked, and this is its child come back: it must not answer too
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
    workers: dict[int, int] = {}  # numbers by process id
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
                _reap(control, workers)
            if control not in readable:
                continue
            message, fds, _, _ = socket.recv_fds(control, 4096, 1)
            if not message:
                return
            command, number = message.decode().split()
            if command == "fork":
                pid = os.fork()
                if pid == 0:
                    signal.set_wakeup_fd(-1)
                    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                    control.close()
                    os.close(wake_read)
                    os.close(wake_write)
                    _become_worker(fds[0], zygote, components)
                os.close(fds[0])
                workers[pid] = int(number)
            else:
                for pid in [pid for pid, known in workers.items() if known == int(number)]:
                    _kill(pid)
    finally:
        for pid in workers:
            _kill(pid)
        for pid in workers:
            os.waitpid(pid, 0)


def _reap(control: socket.socket, workers: dict[int, int]) -> None:
    """Tell of the workers that have ended, and end what each of them had started."""
    while workers:
        # Looked at before it is taken away: as long as it lies there nobody else can have its id, nor its group's.
        ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if ended is None:
            return
        number = workers.pop(ended.si_pid, None)
        if number is not None:
            _kill(ended.si_pid)
        _, status = os.waitpid(ended.si_pid, 0)
        if number is not None:
            control.send(json.dumps({"exited": number, "status": status}).encode())


def _kill(pid: int) -> None:
    """A worker, and everything that it started and that did not leave its session."""
    for kill in (os.killpg, os.kill):  # one that was forked this moment has no group of its own yet
        with contextlib.suppress(ProcessLookupError, PermissionError):
            kill(pid, signal.SIGKILL)


def main() -> None:
    """Entry point; the first argument is the number of the inherited socket."""
    control = socket.socket(fileno=int(sys.argv[1]))
    order: Order = pickle.load(sys.stdin.buffer)  # noqa: S301 - written by the program that started this one
    os.dup2(2, 1)  # a plugin that prints must not write into the data on stdout
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # a worker that is killed flushes nothing
    try:
        components = build(order)
    # The boundary: building runs a plugin's own code, which may raise anything.
    except BaseException as error:  # noqa: BLE001
        text = f"{type(error).__name__}: {error}"[:2000]
        control.send(json.dumps({"failed": text, "traceback": traceback.format_exc()[-8000:]}).encode())
        return
    try:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            control.send(json.dumps({"built": True}).encode())
            _run(control, components)
    finally:
        signal.alarm(_CLOSE_S)
        for built in components.values():
            close_reward(built.function, built.who)
        if os.getpgrp() == os.getpid():
            os.killpg(0, signal.SIGKILL)  # what the rewards started when they were built, and this process
