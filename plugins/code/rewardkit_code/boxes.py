"""One sandbox per set of options, shared by all rewards of this process that ask for it, and opened when first used."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from rewardkit_sandbox import Limits, Sandbox, SandboxError, Unavailable, identify, open_sandbox
from rewardkit_sandbox.backends import registry
from rewardkit_sandbox.opening import default_slots

from rewardkit import Rollout, Score, Unscored

RETRY_S = 5.0
"""How long a sandbox that could not be opened is taken to be so."""
OVERRUN = ("time_limit", "killed")
"""How a run may have ended because of what else the machine had to do."""


@dataclass(frozen=True, slots=True)
class Options:
    """What a sandbox is opened with."""

    backend: str
    image: str
    slots: int | None
    limits: Limits

    def __post_init__(self) -> None:
        if self.backend not in (known := ["auto", *registry.names()]):
            raise ValueError(f"unknown backend {self.backend!r}; there are {', '.join(known)}")

    def identity(self) -> str | None:
        """What else decides what a program does: the image, the backend and its version."""
        return identify(self.backend, self.image)


def image_for(language: str) -> str:
    """The smallest image that has a language."""
    return "python" if language == "python" else "all" if language in ("rust", "go") else "languages"


class _Shared:
    def __init__(self, options: Options) -> None:
        self.options = options
        self.users = 0
        self.threads = ThreadPoolExecutor(2 * (options.slots or default_slots()), thread_name_prefix="code")
        self._lock = threading.Lock()
        self._sandbox: Sandbox | None = None
        self._failure = ""
        self._retry_at = 0.0

    def get(self) -> Sandbox:
        """The open sandbox. Raises SandboxError where there is none to be had, also to those who ask soon after."""
        options = self.options
        with self._lock:
            if self._sandbox is not None:
                return self._sandbox
            if time.monotonic() < self._retry_at:
                raise Unavailable(self._failure)
            try:
                self._sandbox = open_sandbox(
                    options.backend, slots=options.slots, image=options.image, limits=options.limits
                )
            except (SandboxError, OSError) as error:
                self._failure, self._retry_at = str(error), time.monotonic() + RETRY_S
                raise
            return self._sandbox

    def close(self) -> None:
        self.threads.shutdown(wait=False, cancel_futures=True)
        with self._lock:
            if self._sandbox is not None:
                self._sandbox.close()


_OPEN: dict[Options, _Shared] = {}
_LOCK = threading.Lock()


class Boxes:
    """A reward's hold on a sandbox: scores batches in about as many threads as it has boxes."""

    def __init__(self, options: Options) -> None:
        with _LOCK:
            if options not in _OPEN:
                _OPEN[options] = _Shared(options)
            self._shared = _OPEN[options]
            self._shared.users += 1
        self._closed = False

    async def score(
        self, rollouts: Sequence[Rollout], one: Callable[[Sandbox, Rollout], Score | Unscored]
    ) -> list[Score | Unscored]:
        """Each rollout's score; a sandbox or machine that can't do its work is not the program's fault."""

        def guarded(rollout: Rollout) -> Score | Unscored:
            try:
                return one(self._shared.get(), rollout)
            except (SandboxError, OSError) as error:
                return Unscored("infra", str(error))

        loop, threads = asyncio.get_running_loop(), self._shared.threads
        return list(await asyncio.gather(*(loop.run_in_executor(threads, guarded, item) for item in rollouts)))

    def close(self) -> None:
        """Lets go; the last one out closes the sandbox."""
        with _LOCK:
            if self._closed:
                return
            self._closed = True
            self._shared.users -= 1
            last = self._shared.users == 0
            if last:
                _OPEN.pop(self._shared.options, None)
        if last:
            self._shared.close()
