"""A fixture that scores one text, shared by all tests of this plugin."""

import pytest

from rewardkit import Registry, Rollout
from rewardkit.config.params import make_params


@pytest.fixture(scope="session")
def score():
    """``score("format.tags", text, **params)`` returns the installed reward's result for one completion."""
    registry = Registry.load()
    built = {}

    def score_one(name, text, **params):
        key = (name, repr(params))
        if key not in built:
            reward_type = registry.get(name).type
            built[key] = reward_type.build(make_params(reward_type, params))
        (result,) = built[key]([Rollout("prompt", text)])
        return result

    return score_one
