"""The last tier: sympy in worker processes. `pool` keeps the processes, `worker` is the program that they run."""

from rewardkit_math.symbolic.pool import Deadline, WorkerDied, WorkerTimeout, available, same

__all__ = ["Deadline", "WorkerDied", "WorkerTimeout", "available", "same"]
