"""A pool of worker processes that survives whatever its workers do.

Each task has its own deadline. A worker that hangs is killed, a worker that dies is replaced, and only the task that it was
busy with can fail. Importing this package loads the standard library only, so plugins can use it too::

    pool = ProcessPool(Program(), size=2)
    [result] = pool.submit(["a task"], timeout_s=5.0).result()
"""

from __future__ import annotations

from rewardkit.process_pool.fork_server import Answer, Handler, Program
from rewardkit.process_pool.pool import ProcessPool, default_workers
from rewardkit.process_pool.tasks import Failure, Result

__all__ = ["Answer", "Failure", "Handler", "ProcessPool", "Program", "Result", "default_workers"]
