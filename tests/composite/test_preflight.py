"""A reward may tell before a run that it can't score, and at any time what its calls have cost."""

import pytest

from rewardkit import Registry, Rollout, load_reward, reward
from rewardkit.errors import ConfigError


class Service:
    """A reward that calls a service. Each call costs two tokens."""

    problem = None

    def __init__(self):
        self.tokens = 0

    def __call__(self, rollouts):
        """Score rollouts."""
        self.tokens += 2 * len(rollouts)
        return [1.0] * len(rollouts)

    def preflight(self):
        """Return why it can't score."""
        if isinstance(self.problem, Exception):
            raise self.problem
        return self.problem

    def costs(self):
        """Return the tokens so far."""
        return {"tokens": self.tokens}


def loaded(problem=None):
    """Load a reward file with two components of a service that has a problem."""
    kind = reward("service")(type("Service", (Service,), {"problem": problem}))
    registry = Registry()
    registry.register(kind)
    text = "version: 1\ncomponents:\n  one: {use: service}\n  two: {use: service}\n"
    return load_reward(text, registry=registry)


def test_a_reward_that_can_score_passes():
    """Nothing is raised."""
    with loaded() as found:
        found.preflight()


@pytest.mark.parametrize("problem", ["it is down", OSError("it is down")])
def test_problems_are_told_with_their_places(problem):
    """Each component is named by its line, also where its own check raises."""
    with loaded(problem) as found, pytest.raises(ConfigError) as caught:
        found.preflight()
    assert "<string>:3:14" in str(caught.value)
    assert "<string>:4:14" in str(caught.value)
    assert "it is down" in str(caught.value)


def test_costs_are_sums_by_component():
    """Each component has what its own calls have cost."""
    with loaded() as found:
        found.score([Rollout("q", "a"), Rollout("q", "b")])
        assert found.costs == {"one": {"tokens": 4.0}, "two": {"tokens": 4.0}}
