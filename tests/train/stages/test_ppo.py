"""PPO trains policy and critic, warm-up leaves the policy unchanged, and a run is resumed."""

from __future__ import annotations

import copy
import json

import pytest
import torch
from torch import nn

from rewardkit import Rollout, reward
from rewardkit.errors import ConfigError
from rewardkit.registry import Registry
from rewardkit.train.config import LoraConfig, ModelConfig, PpoConfig
from rewardkit.train.config.reading import read_train_config
from rewardkit.train.models.policy import Policy, TokenSpan
from rewardkit.train.models.value_model import ValueModel
from rewardkit.train.stages.ppo import PpoUpdater, train_ppo
from rewardkit.train.trainer.launch import launch
from rewardkit.train.trainer.optimizer import Optimizer
from rewardkit.train.trainer.policy_update import UpdateMetrics
from rewardkit.train.trainer.rollout_batch import RolloutBatch

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
critic: {{kind: {kind}, warmup_steps: {warmup}}}
kl: {{coefficient: 0.001, estimator: k1, place: reward, target: 2.0}}
epochs_per_batch: 2
updates_per_epoch: 2
checkpoint: {{every: 1}}
"""


@reward("digits")
def digits(rollout: Rollout) -> float:
    """Reward the share of digits."""
    text = rollout.completion_text
    return sum(map(str.isdigit, text)) / max(len(text), 1)


def run(work, folder, kind="own", steps=12, warmup=0, **overrides):
    """Train, and return the metrics."""
    registry = Registry()
    registry.register(digits)
    config = folder / "ppo.yaml"
    config.write_text(CONFIG.format(output=folder / "out", work=work, steps=steps, kind=kind, warmup=warmup))
    rate = {"critic.lr": "3.0e-3"} if kind == "own" else {}
    launch(read_train_config(config, registry, rate | overrides), train_ppo)
    return [json.loads(line) for line in (folder / "out/metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("kind", ["own", "head"])
def test_policy_and_critic_learn(work, tmp_path, kind):
    """The reward rises, and the values follow the returns."""
    metrics = run(work, tmp_path, kind)
    assert sum(line["reward"] for line in metrics[-3:]) > sum(line["reward"] for line in metrics[:3]) + 0.2
    assert metrics[-1]["value"] > 0.5 * metrics[-1]["returns"] > 0.2
    assert metrics[0]["kl"] == pytest.approx(0, abs=1e-4)
    assert metrics[0]["explained_variance"] == pytest.approx(0, abs=1e-4)  # the head starts at 0


@pytest.mark.parametrize("kind", ["own", "head"])
def test_adapters_have_a_policy_a_reference_and_no_dropout(work, tmp_path, kind):
    """The old policy of a LoRA run differs from its reference, and neither has dropout."""
    metrics = run(work, tmp_path, kind, steps=3, **{"model.lora": "{rank: 4, dropout: 0.5}", "optimizer.lr": "0.02"})
    assert all(line["sampling_logp_difference"] < 1e-5 for line in metrics)
    assert metrics[-1]["kl_per_token"] > 1e-3


def test_a_critic_of_its_own_has_no_dropout(work):
    """Its values before and during an update come from the same model."""
    policy = Policy.load(ModelConfig(path=str(work / "base"), lora=LoraConfig(rank=2, dropout=0.5)))
    critic = ValueModel(policy, own=True)
    assert critic.reader is not None
    passages = [TokenSpan((5, 6, 7, 8), 1)]
    critic.reader.model.train()
    for value in critic.reader.trained.values():
        nn.init.constant_(value, 0.1)  # adapters begin as nothing, of which dropout leaves nothing
    once, again = (critic.reader.states(passages) for _ in range(2))
    assert torch.equal(once, again)


@pytest.mark.parametrize("kind", ["own", "head"])
def test_warm_up_leaves_the_policy_alone(work, tmp_path, kind):
    """The critic is trained while the policy's weights stay bit-equal, without decay, and no policy metrics are made up."""
    from safetensors.torch import load_file

    metrics = run(work, tmp_path, kind, steps=2, warmup=2, **{"optimizer.weight_decay": "0.1"})
    before, after = load_file(work / "base/model.safetensors"), load_file(tmp_path / "out/final/model.safetensors")
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert metrics[0]["value_loss"] > 0
    assert metrics[1]["value"] != 0
    assert all(("entropy" in line) == (kind == "head") for line in metrics)  # which reads the policy's hidden states


def test_the_critic_is_kept(work, tmp_path):
    """A run resumed after half its steps ends like an uninterrupted run."""
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
    metrics = run(work, halved, steps=4)
    assert [line["step"] for line in metrics] == [1, 2, 3, 4]
    one, other = (load_file(folder / "out/final/model.safetensors") for folder in (whole, halved))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_values_are_read_where_tokens_are_predicted(policy):
    """Both ways of computing values give one per completion token, from the state before it."""
    batch = [TokenSpan((5, 6, 7, 8), 2), TokenSpan((9, 8, 7), 1)]
    critic = ValueModel(policy, own=True)
    with torch.no_grad():
        critic.head.weight.normal_()
    values = critic(batch)
    assert torch.allclose(values, critic.values_of(policy.forward_logprobs(batch)), atol=1e-6)
    hidden = policy.model.model(torch.tensor([batch[0].tokens])).last_hidden_state[0]
    assert torch.allclose(values[0], critic.head(hidden[1:3]).squeeze(1), atol=1e-5)
    assert torch.allclose(values, critic.estimate(batch, 4), atol=1e-6)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ({"algorithm.advantage": "group_std"}, "in PPO advantages come from the critic"),
        ({"filter.zero_std": "drop"}, "PPO compares a completion with the critic"),
    ],
)
def test_what_makes_no_sense_is_refused(work, tmp_path, override, message):
    """The configuration is refused before anything starts."""
    with pytest.raises(ConfigError, match=message):
        run(work, tmp_path, **override)


def updater(policy, **changes):
    """Return a new updater with a reference far from the policy."""
    config = PpoConfig.model_validate(
        {"version": 1, "stage": "ppo", "output": "out", "model": {"path": "x"}, "data": {"train": "x"}, "reward": {}}
        | {"steps": 4, "epochs_per_batch": 1, **changes}
    )
    reference = copy.deepcopy(policy)
    with torch.no_grad():
        for value in reference.trained.values():
            value.mul_(1.3)
    found = PpoUpdater(config, policy, Optimizer(policy.trained, config.optimizer, config.steps), reference)
    with torch.no_grad():
        found.critic.head.weight.normal_(generator=torch.Generator().manual_seed(1))
    return found, reference


BATCH = RolloutBatch(
    [(5, 6), (7,)],
    [(8, 9, 10), (11, 12)],
    [[0.0] * 3, [0.0] * 2],
    torch.tensor([1.0, -2.0]),
    torch.arange(2),
    torch.tensor([True, True]),
)


@pytest.mark.parametrize("whitens", [True, False])
def test_advantages_are_those_of_penalised_rewards(policy, whitens):
    """Each token is penalised by β times its log-ratio, the last one gets the reward; then GAE and whitening."""
    ppo, reference = updater(
        policy, kl={"coefficient": 0.3}, critic={"kind": "head", "lam": 0.5, "gamma": 0.9, "whiten": whitens}
    )
    passages = [BATCH.sequence(0), BATCH.sequence(1)]
    now, then = (one.forward_logprobs(passages).logprobs_B_T.detach() for one in (policy, reference))
    found, _ = ppo.advantages(BATCH, BATCH.mask_B_T, now, then)
    values = ppo.critic.estimate(passages, 100)
    expected = []
    for row, count in ((0, 3), (1, 2)):
        rewards = [-0.3 * float(now[row, t] - then[row, t]) for t in range(count)]
        rewards[-1] += float(BATCH.rewards_B[row])
        later, following, own = 0.0, 0.0, []
        for t in reversed(range(count)):
            later = rewards[t] + 0.9 * following - float(values[row, t]) + 0.9 * 0.5 * later
            following = float(values[row, t])
            own.append(later)
        expected += own[::-1]
    advantages = torch.tensor(expected)
    if whitens:
        advantages = (advantages - advantages.mean()) / advantages.std()
    assert torch.allclose(found[BATCH.mask_B_T], advantages, atol=1e-4)


def test_policy_and_critic_learn_at_rates_of_their_own(policy):
    """Adam's first step has the length of the learning rate."""
    ppo, _ = updater(policy, optimizer={"lr": 1e-4, "eps": 1e-12}, critic={"kind": "own", "lr": 1e-2})
    before = {name: value.detach().clone() for name, value in policy.trained.items()}
    head = ppo.critic.head.weight.detach().clone()
    ppo.update(BATCH, 0)
    moved = max(float((value.detach() - before[name]).abs().max()) for name, value in policy.trained.items())
    assert moved == pytest.approx(1e-4, rel=0.05)
    assert float((ppo.critic.head.weight.detach() - head).abs().max()) == pytest.approx(1e-2, rel=0.05)


def test_values_are_held_near_what_they_were(policy):
    """The critic's loss is the clipped one, over the tokens of the update."""
    for clip in (None, 0.2):
        ppo, _ = updater(policy, critic={"kind": "own", "clip": clip}, optimizer={"lr": 1e-9})
        inputs = ppo.prepare(BATCH, 0)
        targets = inputs.values
        values = targets.values_B_T + torch.tensor([[0.5, -0.1, 3.0], [-4.0, 1.0, 0.0]])
        expected = 0.0
        for row, count in ((0, 3), (1, 2)):
            for t in range(count):
                now, was, target = (float(one[row, t]) for one in (values, targets.values_B_T, targets.returns_B_T))
                held = now if clip is None else min(max(now, was - clip), was + clip)
                expected += 0.5 * max((now - target) ** 2, (held - target) ** 2) / 5
        weights = ppo.value_weights([0, 1], inputs)
        found = ppo.value_loss([0, 1], values, weights, inputs, UpdateMetrics(inputs.mask_B_T))
        assert float(found) == pytest.approx(expected, rel=1e-4)
