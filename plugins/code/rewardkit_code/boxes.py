"""One sandbox per set of options, shared by all rewards of this process that ask for it, and opened when first used."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal, TypeVar

from rewardkit_sandbox import Limits, Sandbox, SandboxError, open_sandbox

from rewardkit import Rollout, Score, Unscored

Backend = Literal["auto", "docker", "bubblewrap"]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Options:
    """What a sandbox is opened with."""

    backend: Backend
    image: str
    slots: int | None
    limits: Limits


class _Shared:
    def __init__(self, options: Options) -> None:
        self.options = options
        self.users = 0
        self.lock = threading.Lock()
        self.sandbox: Sandbox | None = None

    def get(self) -> Sandbox:
        with self.lock:
            if self.sandbox is None:
                options = self.options
                self.sandbox = open_sandbox(
                    options.backend, slots=options.slots, image=options.image, limits=options.limits
                )
            return self.sandbox


_OPEN: dict[Options, _Shared] = {}
_LOCK = threading.Lock()


class Boxes:
    """A reward's hold on a sandbox: scores batches in as many threads as it has boxes."""

    def __init__(self, options: Options) -> None:
        with _LOCK:
            self._shared = _OPEN.setdefault(options, _Shared(options))
            self._shared.users += 1
        self._closed = False
        self._executor: ThreadPoolExecutor | None = None

    async def score(
        self, rollouts: Sequence[Rollout], one: Callable[[Sandbox, Rollout], Score | Unscored]
    ) -> list[Score | Unscored]:
        """Each rollout's score; a sandbox that can't do its work is not the program's fault."""
        if self._executor is None:
            self._executor = ThreadPoolExecutor(self._shared.options.slots or 16, thread_name_prefix="code")

        def guarded(rollout: Rollout) -> Score | Unscored:
            try:
                return one(self._shared.get(), rollout)
            except SandboxError as error:
                return Unscored("infra", str(error))

        loop = asyncio.get_running_loop()
        return list(await asyncio.gather(*(loop.run_in_executor(self._executor, guarded, item) for item in rollouts)))

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
        if self._executor is not None:
            self._executor.shutdown(wait=False, cancel_futures=True)
        if last and self._shared.sandbox is not None:
            self._shared.sandbox.close()
