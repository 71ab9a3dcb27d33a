"""The reward keeps the contract, with a decoder and with an encoder."""

# ruff: noqa: RUF012 - the attributes of a contract are only read

import pytest

from rewardkit import Rollout
from rewardkit.testing import RewardContract


class TestDecoder(RewardContract):
    """A causal language model with a scalar head."""

    reward = "reward_model"
    params = {}
    good = (Rollout("say it", "hello!"), Rollout([{"role": "user", "content": "say it"}], "no!"))
    bad = (Rollout("say it", "hello"), Rollout("say it!", "a much longer answer than the others"))

    @pytest.fixture(autouse=True)
    def with_model(self, exclaiming, monkeypatch):
        """Set the folder, which is not known before the tests run."""
        monkeypatch.setattr(type(self), "params", {"model": str(exclaiming), "batch_tokens": 32})


class TestEncoder(RewardContract):
    """An encoder, padded in batches; its random weights decide which of two answers it prefers."""

    reward = "reward_model"
    params = {}
    good = (Rollout("q", "aaaa bbbb"),)
    bad = (Rollout("q", "zz 9"),)

    @pytest.fixture(scope="class")
    @classmethod
    def prefers_bad(cls, encoder):
        """Whether the random model prefers the bad answer."""
        from rewardkit_reward_model import RewardModel

        good, bad = (score.value for score in RewardModel(model=str(encoder))([*cls.good, *cls.bad]))
        return good < bad

    @pytest.fixture(autouse=True)
    def with_model(self, encoder, prefers_bad, monkeypatch):
        """Exchange the answers if the random model prefers the other one."""
        if prefers_bad:
            monkeypatch.setattr(type(self), "good", type(self).bad)
            monkeypatch.setattr(type(self), "bad", (Rollout("q", "aaaa bbbb"),))
        monkeypatch.setattr(type(self), "params", {"model": str(encoder)})


class TestLogRatio(RewardContract):
    """The log-ratio of two random language models, which decide which of two answers they prefer."""

    reward = "reward_model.log_ratio"
    params = {}
    good = (Rollout("q", "aaaa.\n\nbbbb"),)
    bad = (Rollout("q", "zz 9"),)

    @pytest.fixture(scope="class")
    @classmethod
    def prefers_bad(cls, language_models):
        """Whether the ratio is higher for the bad answer."""
        from rewardkit_reward_model import LogRatioReward

        trained, base = map(str, language_models)
        good, bad = (score.value for score in LogRatioReward(model=trained, reference=base)([*cls.good, *cls.bad]))
        return good < bad

    @pytest.fixture(autouse=True)
    def with_models(self, language_models, prefers_bad, monkeypatch):
        """Exchange the two models if their ratio is higher for the bad answer."""
        one, other = reversed(language_models) if prefers_bad else language_models
        params = {"model": str(one), "reference": str(other), "level": "step"}
        monkeypatch.setattr(type(self), "params", params)


class TestSteps(RewardContract):
    """A process reward model: the last step decides, because all others end with the separator."""

    reward = "reward_model.steps"
    params = {}
    good = (Rollout("q", "a!b!"), Rollout("q", "c!"))
    bad = (Rollout("q", "a!b"), Rollout("q", ""))

    @pytest.fixture(autouse=True)
    def with_model(self, step_model, monkeypatch):
        """Set the folder, which is not known before the tests run."""
        monkeypatch.setattr(type(self), "params", {"model": str(step_model), "batch_tokens": 32})
