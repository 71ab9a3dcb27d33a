"""A composite reward as an environment of SkyRL."""

import pytest

from rewardkit.errors import UsageError
from rewardkit.integrations.common import NotScoredError

from .conftest import ANSWERS, BROKEN, COMPLETIONS, GROUPS, SCORED, TOKENS

gym = pytest.importorskip(
    "skyrl_gym", reason="needs skyrl-gym, which has an environment of its own: make test-integrations"
)

from rewardkit.integrations.skyrl import register


@pytest.fixture
def make(file):
    """Return a function that makes the environment as SkyRL does."""
    from skyrl_gym.envs.registration import registry

    if "rewardkit" not in registry:
        register()

    def environment(answer, *text, **config):
        extras = {"reward_spec": {"method": "rule", "ground_truth": answer}, "data_source": "sums", "max_turns": 1}
        return gym.make("rewardkit", env_config={"file": file(*text), "retry_for_s": 0, **config}, extras=extras)

    return environment


def test_a_failure_raises(make, truth) -> None:
    """Of a group with 25 % failures the failed answer raises, and the others get their rewards."""
    found = []
    for answer, completion in zip(ANSWERS, COMPLETIONS, strict=True):
        environment = make(answer)
        environment.init([{"role": "user", "content": "2+3?"}])
        if answer == BROKEN:
            with pytest.raises(NotScoredError, match="not scored \\(reference\\)"):
                environment.step(completion)
            continue
        output = environment.step(completion)
        assert output["done"]
        assert environment.get_metrics() == {"rewardkit/right": output["reward"]}
        found.append(output["reward"])
    assert found == SCORED
    truth("SkyRL, environment", "skyrl-gym", "raises `NotScoredError`")


@pytest.mark.parametrize(("text", "message"), [(GROUPS, "compares the rollouts"), (TOKENS, "number of tokens")])
def test_what_skyrl_can_not_give_is_refused(make, text: str, message: str) -> None:
    """Groups and tokens are refused when the environment is made."""
    with pytest.raises(UsageError, match=message):
        make("5", text)
