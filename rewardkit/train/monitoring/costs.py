"""What calls to services cost in each step, for rewards that tell, such as judges."""

from __future__ import annotations

from rewardkit.composite import CompositeReward
from rewardkit.scoring.summary import added_costs
from rewardkit.train.distributed import collectives


class CostMeter:
    """Measures the costs of a reward from step to step.

    Args:
        reward: The reward of this process.
    """

    def __init__(self, reward: CompositeReward) -> None:
        self._reward = reward
        self._before = reward.costs

    def step(self) -> dict[str, float]:
        """Return what was spent since the last call, over all processes: metrics ``component/NAME/COST``."""
        now = self._reward.costs
        spent, self._before = added_costs(now, self._before, -1.0), now
        total: dict[str, dict[str, float]] = {}
        for part in collectives.all_gather([spent]):
            total = added_costs(total, part)
        return {f"component/{name}/{what}": value for name, costs in total.items() for what, value in costs.items()}
