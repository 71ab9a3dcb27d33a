"""The base of the local backends: their sandbox is a pool of boxes."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

from rewardkit_sandbox.host.box_connection import BoxConnection
from rewardkit_sandbox.host.pool import Pool
from rewardkit_sandbox.protocol import SandboxBackend
from rewardkit_sandbox.sandbox import PooledSandbox

SERVER_MB = 64
"""Memory of a box beyond the program's own: the fork server and page tables."""
BOX_CPUS = 1.0
"""CPUs that a box may use at a time."""


class PooledBackend(SandboxBackend):
    """A backend that starts boxes; a subclass says how."""

    name: ClassVar[str]

    def open(self, description: str) -> PooledSandbox:
        """Return a sandbox with its boxes warm.

        Raises:
            Unavailable: Boxes can't be made here; the message says what to do.
        """
        pool = Pool(self, self.options.slots)
        pool.open()
        return PooledSandbox(pool, self.options.limits, description)

    @abstractmethod
    def prepare(self) -> None:
        """Make sure that boxes can be started, and remove what owners that ended left behind.

        Raises:
            Unavailable: They can't; the message says what to do.
        """

    @abstractmethod
    def start(self, serial: int) -> BoxConnection:
        """Return a box that is ready.

        Raises:
            BoxDied: It did not come up. What was made of it is removed, and it is tried again for a while.
        """

    @abstractmethod
    def close(self) -> None:
        """Release what the backend itself holds."""
