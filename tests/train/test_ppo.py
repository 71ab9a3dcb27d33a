"""PPO: policy and critic learn, warm-up leaves the policy alone, and a resumed run goes on."""

from __future__ import annotations

import json

import pytest
import torch

from rewardkit import Rollout, reward
from rewardkit.errors import ConfigError
from rewardkit.registry import Registry
from rewardkit.train.critic import Critic
from rewardkit.train.launch import launch
from rewardkit.train.policy import Passage
from rewardkit.train.ppo import train_ppo
from rewardkit.train.stages import read_train_config

CONFIG = """
version: 1
stage: ppo
output: {output}
model: {{path: {work}/base}}
data: {{train: {work}/train.jsonl}}
reward: {{components: {{main: {{use: digits}}}}}}
steps: {steps}
rollout: {{prompts_per_step: 32, max_new_tokens: 8}}
optimizer: {{lr: 3.0e-3}}
critic: {{kind: {kind}, lr: 3.0e-3, warmup_steps: {warmup}}}
kl: {{coefficient: 0.001, estimator: k1, place: reward, target: 2.0}}
epochs_per_batch: 2
updates_per_epoch: 2
checkpoint: {{every: 1}}
"""


@reward("digits")
def digits(rollout: Rollout) -> float:
    """Share of digits."""
    text = rollout.completion_text
    return sum(map(str.isdigit, text)) / max(len(text), 1)


def run(work, folder, kind="own", steps=12, warmup=0, **overrides):
    """Train, and return the figures."""
    registry = Registry()
    registry.register(digits)
    config = folder / "ppo.yaml"
    config.write_text(CONFIG.format(output=folder / "out", work=work, steps=steps, kind=kind, warmup=warmup))
    launch(read_train_config(config, registry, overrides), train_ppo)
    return [json.loads(line) for line in (folder / "out/metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("kind", ["own", "head"])
def test_policy_and_critic_learn(work, tmp_path, kind):
    """The reward rises, and the values follow the returns."""
    figures = run(work, tmp_path, kind)
    assert sum(line["reward"] for line in figures[-3:]) > sum(line["reward"] for line in figures[:3]) + 0.2
    assert figures[-1]["value"] > 0.5 * figures[-1]["returns"] > 0.2
    assert figures[0]["kl"] == pytest.approx(0, abs=1e-4)
    assert figures[0]["explained_variance"] == pytest.approx(0, abs=1e-4)  # the head starts at 0


@pytest.mark.parametrize("kind", ["own", "head"])
def test_warm_up_leaves_the_policy_alone(work, tmp_path, kind):
    """The critic learns while the policy's weights stay bit-equal; nor do they decay."""
    from safetensors.torch import load_file

    figures = run(work, tmp_path, kind, steps=2, warmup=2, **{"optimizer.weight_decay": "0.1"})
    before, after = load_file(work / "base/model.safetensors"), load_file(tmp_path / "out/final/model.safetensors")
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert figures[0]["value_loss"] > 0
    assert figures[1]["value"] != 0


def test_the_critic_is_kept(work, tmp_path):
    """A run that goes on after half its steps ends like one that was not stopped."""
    from safetensors.torch import load_file

    whole, halved = tmp_path / "whole", tmp_path / "halved"
    whole.mkdir()
    halved.mkdir()
    run(work, whole, steps=4)
    run(work, halved, steps=4)
    # take the run back to its second step
    import shutil

    shutil.rmtree(halved / "out/final")
    shutil.rmtree(halved / "out/checkpoints/step-000004")
    assert [path.name for path in (halved / "out/checkpoints").iterdir()] == ["step-000003"]
    figures = run(work, halved, steps=4)
    assert [line["step"] for line in figures] == [1, 2, 3, 4]
    one, other = (load_file(folder / "out/final/model.safetensors") for folder in (whole, halved))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_values_are_read_where_tokens_are_predicted(policy):
    """One value per token of the completion, from the state before it; the same by both readings."""
    batch = [Passage((5, 6, 7, 8), 2), Passage((9, 8, 7), 1)]
    critic = Critic(policy, own=True)
    with torch.no_grad():
        critic.head.weight.normal_()
    values = critic(batch)
    assert torch.allclose(values, critic.values_of(policy.judge(batch)), atol=1e-6)
    hidden = policy.model.model(torch.tensor([batch[0].tokens])).last_hidden_state[0]
    assert torch.allclose(values[0], critic.head(hidden[1:3]).squeeze(1), atol=1e-5)
    assert torch.allclose(values, critic.estimate(batch, 4), atol=1e-6)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ({"algorithm.advantage": "group_std"}, "in PPO advantages come from the critic"),
        ({"filter.zero_spread": "drop"}, "PPO compares a completion with the critic"),
    ],
)
def test_what_makes_no_sense_is_refused(work, tmp_path, override, message):
    """Before anything starts."""
    with pytest.raises(ConfigError, match=message):
        run(work, tmp_path, **override)
