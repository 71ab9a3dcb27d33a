"""The last tier: a symbolic algebra system in worker processes. `pool` keeps them, `worker` is the program that they run."""

from rewardkit_math.symbolic.pool import WorkerDied, WorkerTimeout, available, same

__all__ = ["WorkerDied", "WorkerTimeout", "available", "same"]
