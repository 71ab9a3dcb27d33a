"""A setting that would have no effect is refused at its place, before any work."""

from __future__ import annotations

import pytest

from rewardkit.errors import ConfigError
from rewardkit.registry import Registry
from rewardkit.train.config.reading import read_train_config

RL = {"rollout": "{group_size: 2}", "reward": "{components: {short: {use: length.penalty, with: {per_token: 0.1}}}}"}


def read(tmp_path, stage, **changes):
    """Read a configuration of a stage with some values."""
    (tmp_path / "run.yaml").write_text(
        f"version: 1\nstage: {stage}\noutput: out\nmodel: {{path: ./m}}\ndata: {{train: a.jsonl}}\nsteps: 1\n"
    )
    own = RL if stage in {"grpo", "ppo"} else {}
    return read_train_config(tmp_path / "run.yaml", Registry.load(), {**own, **changes})


@pytest.mark.parametrize(
    ("stage", "changes", "message"),
    [
        ("sft", {"optimizer.min_lr": "1.0e-6"}, "min_lr has no effect with schedule: constant"),
        ("grpo", {"kl": "{estimator: k3}"}, "estimator has no effect without a coefficient"),
        ("grpo", {"kl": "{place: reward}"}, "place has no effect without a coefficient"),
        ("ppo", {"kl": "{horizon: 100}"}, "horizon has no effect without a target"),
        ("grpo", {"correction": "{high: 3.0}"}, "high has no effect with kind: none"),
        ("grpo", {"correction": "{kind: truncate, low: 0.5}"}, "low has no effect with kind: truncate"),
        ("grpo", {"filter": "{zero_std: drop, refill_rounds: 2}"}, "refill_rounds has no effect with zero_std: drop"),
        ("grpo", {"evaluate": "{limit: 4}"}, "evaluate.limit needs held-out prompts"),
        ("grpo", {"evaluate": "{correct: short > 0}"}, "evaluate.correct needs held-out prompts"),
        ("ppo", {"critic": "{kind: head, lr: 1.0e-4}"}, "lr has no effect with kind: head"),
        ("ppo", {"critic": "{coefficient: 0.1}"}, "coefficient has no effect with kind: own"),
        ("sft", {"data": "{train: a.jsonl, messages: m, completion: c}"}, "completion has no effect with messages"),
        ("sft", {"log.samples": "2"}, "log.samples has no effect"),
    ],
)
def test_a_setting_without_effect_is_refused(tmp_path, stage, changes, message):
    """The message names the key and why nothing would change."""
    with pytest.raises(ConfigError, match=message):
        read(tmp_path, stage, **changes)


@pytest.mark.parametrize(
    ("stage", "changes"),
    [
        ("grpo", {"kl": "{coefficient: 0, place: reward}"}),
        ("grpo", {"kl": "{coefficient: 0.1, target: 2.0, horizon: 100}"}),
        ("ppo", {"kl": "{place: loss}"}),
        ("grpo", {"data.eval": "null", "evaluate": "{correct: short > 0}"}),
        ("ppo", {"critic": "{kind: head, coefficient: 0.1}"}),
        ("sft", {"optimizer": "{schedule: cosine, min_lr: 1.0e-6}"}),
    ],
)
def test_a_setting_with_an_effect_is_not(tmp_path, stage, changes):
    """A coefficient of 0 that is written down switches a penalty off, whose other settings may stay."""
    assert read(tmp_path, stage, **changes)


@pytest.mark.parametrize("value", [".inf", ".nan", "-.inf"])
@pytest.mark.parametrize("key", ["optimizer.lr", "optimizer.max_grad_norm", "rollout.temperature", "kl.coefficient"])
def test_numbers_are_finite(tmp_path, key, value):
    """An infinite rate would make weights infinite in the first step."""
    with pytest.raises(ConfigError, match=key.replace(".", r"\.")):
        read(tmp_path, "grpo", **{key: value})
