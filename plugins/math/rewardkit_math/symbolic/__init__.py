"""The last tier: sympy in worker processes. `pool` asks the questions, `worker` answers them in a worker process."""

from rewardkit_math.symbolic.pool import Deadline, WorkerDied, WorkerTimeout, available, same

__all__ = ["Deadline", "WorkerDied", "WorkerTimeout", "available", "same"]
