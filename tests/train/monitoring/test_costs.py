"""Costs of services are metrics of a step."""

from rewardkit.train.monitoring.costs import CostMeter
from rewardkit.train.monitoring.metric_descriptions import describe


class Reward:
    """A reward whose judge has made some calls."""

    def __init__(self):
        self.costs = {"quality": {"judge_calls": 3.0}}


def test_a_step_has_what_was_spent_in_it():
    """Each step has the difference to the last one, and each cost of a judge has a description."""
    reward = Reward()
    meter = CostMeter(reward)
    reward.costs = {"quality": {"judge_calls": 10.0, "judge_cost": 0.5}}

    assert meter.step() == {"component/quality/judge_calls": 7.0, "component/quality/judge_cost": 0.5}
    assert meter.step() == {"component/quality/judge_calls": 0.0, "component/quality/judge_cost": 0.0}
    assert all(describe(f"component/quality/{name}") for name in reward.costs["quality"])
