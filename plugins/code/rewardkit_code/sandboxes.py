"""One sandbox for each set of options: shared by all rewards of this process that ask for it, and opened at its first use."""

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
from rewardkit_sandbox.protocol import SandboxOptions as BackendOptions

from rewardkit import Rollout, Score, Unscored

RETRY_S = 5.0
"""Seconds until opening a sandbox is tried again after a failure."""
OVERRUN = ("time_limit", "killed")
"""The endings of a run that a busy machine may have caused."""


@dataclass(frozen=True, slots=True)
class SandboxOptions:
    """The options of a sandbox."""

    backend: str
    image: str
    slots: int | None
    limits: Limits
    url: str | None = None

    def __post_init__(self) -> None:
        if self.backend not in (known := ["auto", *registry.names()]):
            raise ValueError(f"unknown backend {self.backend!r}; there are {', '.join(known)}")
        if self.backend in registry.BUILT_IN:
            registry.make(self.backend, BackendOptions(self.image, self.limits, url=self.url))
        elif self.backend == "auto" and self.url is not None:
            raise ValueError("url is an option of backend: remote")

    def identity(self) -> str | None:
        """Return what else decides the behaviour of a program: the image, the backend and its version."""
        return identify(self.backend, self.image, url=self.url)

    def runs_test_code(self) -> bool:
        """Return whether the backend can run test code; `remote` only runs programs and calls."""
        return self.backend not in registry.BUILT_IN or registry.BUILT_IN[self.backend].runs_test_code


def image_for(language: str) -> str:
    """Return the smallest image that has a language."""
    return "python" if language == "python" else "all" if language in ("rust", "go") else "languages"


class _SharedSandbox:
    def __init__(self, options: SandboxOptions) -> None:
        self.options = options
        self.users = 0
        self.threads = ThreadPoolExecutor(2 * (options.slots or default_slots()), thread_name_prefix="code")
        self._lock = threading.Lock()
        self._sandbox: Sandbox | None = None
        self._failure = ""
        self._retry_at = 0.0

    def get(self) -> Sandbox:
        """Return the open sandbox.

        Raises:
            SandboxError: It can't be opened; those who ask soon after get the same message without another attempt.
        """
        options = self.options
        with self._lock:
            if self._sandbox is not None:
                return self._sandbox
            if time.monotonic() < self._retry_at:
                raise Unavailable(self._failure)
            try:
                self._sandbox = open_sandbox(
                    options.backend, slots=options.slots, image=options.image, limits=options.limits, url=options.url
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


_OPEN: dict[SandboxOptions, _SharedSandbox] = {}
_LOCK = threading.Lock()


class SandboxClient:
    """A reward's share of a sandbox: it scores batches in about as many threads as the sandbox has slots."""

    def __init__(self, options: SandboxOptions) -> None:
        """Join the sandbox of these options, which is opened at its first use.

        Args:
            options: What the sandbox is opened with.
        """
        with _LOCK:
            if options not in _OPEN:
                _OPEN[options] = _SharedSandbox(options)
            self._shared = _OPEN[options]
            self._shared.users += 1
        self._closed = False

    async def score(
        self, rollouts: Sequence[Rollout], score_one: Callable[[Sandbox, Rollout], Score | Unscored]
    ) -> list[Score | Unscored]:
        """Return the score of each rollout; where the sandbox or the machine fails, the rollout is unscored.

        Args:
            rollouts: The batch.
            score_one: Scores one rollout in the open sandbox; called in a thread.
        """

        def guarded(rollout: Rollout) -> Score | Unscored:
            try:
                return score_one(self._shared.get(), rollout)
            except (SandboxError, OSError) as error:
                return Unscored("infra", str(error))

        loop, threads = asyncio.get_running_loop(), self._shared.threads
        return list(await asyncio.gather(*(loop.run_in_executor(threads, guarded, item) for item in rollouts)))

    def close(self) -> None:
        """Leave the sandbox; it is closed when its last client has left."""
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
