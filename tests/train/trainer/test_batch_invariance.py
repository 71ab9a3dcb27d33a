"""The gradient of every stage is that of its formula, however the batch is divided, packed or accumulated."""

from __future__ import annotations

import math
from dataclasses import replace
from unittest import mock

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy, logsigmoid

from rewardkit.train.config import DpoConfig, LoraConfig, ModelConfig, PpoConfig, RewardModelConfig, SftConfig
from rewardkit.train.data.preference_pairs import AnswerPair, Dialogue, ScoredPair
from rewardkit.train.data.prompt_sharing import SharingLimits
from rewardkit.train.data.tokenization import Example
from rewardkit.train.losses.gae import gae
from rewardkit.train.models.policy import Policy
from rewardkit.train.models.reward_model import RewardModel
from rewardkit.train.stages.dpo import DpoTask
from rewardkit.train.stages.ppo import PpoUpdater
from rewardkit.train.stages.reward_model import RewardModelTask
from rewardkit.train.stages.sft import SftTask
from rewardkit.train.trainer.optimizer import Optimizer
from rewardkit.train.trainer.rollout_batch import RolloutBatch

COMMON = {"version": 1, "output": "out", "model": {"path": "unused"}, "data": {"train": "unused"}}
PROPERTY = settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
CUTS = [1, 40, 90, 100_000]
"""Tokens of a micro-batch: one row each, some rows, the whole batch."""


def numbers(count, seed, low=2, high=50):
    """Return token ids."""
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randint(low, high, (count,), generator=generator).tolist())


def example(seed, weights=None):
    """Return a prompt with a response of its own length."""
    start, length = 2 + seed % 3, 1 + (seed * 5) % 9
    weights = weights or (*(0.5 * ((seed + place) % 4) for place in range(length - 1)), 1.0)
    return Example(numbers(start + length, seed), start, weights, "here")


def gradients(parameters):
    """Return all parameters in one row."""
    return torch.cat([value.grad.flatten() for value in parameters.values() if value.grad is not None])


def given_rows(task, count, micro, rows=None):
    """Return the gradient that a supervised stage accumulates over micro-batches."""
    optimizer = Optimizer(task.model.trained, task.config.optimizer, 10)
    rows = list(range(count)) if rows is None else rows
    task.set_batch(rows)
    noted = torch.zeros(len(rows), task.stats_per_row)

    def backward(part):
        loss, seen = task.compute_loss(part)
        loss.backward()
        noted[part] = seen.detach()

    optimizer.accumulate([task.lengths[row] for row in rows], micro, backward, packed=task.packed_rows(rows))
    found = gradients(task.model.trained)
    optimizer.adamw.zero_grad()
    return found, task.metrics(noted)


def by_hand(task, loss):
    """Return the gradient of a loss that was computed row by row."""
    loss.backward()
    found = gradients(task.model.trained)
    for value in task.model.trained.values():
        value.grad = None
    return found


def logprobs(model, tokens, start):
    """Return the log-probs of the tokens from ``start`` on, by the model's own forward pass."""
    logits = model(torch.tensor([tokens])).logits[0, start - 1 : -1]
    return -cross_entropy(logits, torch.tensor(tokens[start:]), reduction="none")


@PROPERTY
@given(
    micro=st.sampled_from(CUTS),
    packing=st.booleans(),
    reduction=st.sampled_from(["token", "sequence_mean", "sequence_sum"]),
)
def test_sft(policy, micro, packing, reduction):
    """The loss is Σ weight × −log p: a mean over tokens, over rows, or a sum per row, with weighted spans."""
    config = SftConfig.model_validate({**COMMON, "stage": "sft", "steps": 1, "loss": {"reduction": reduction}})
    policy.packing = packing
    rows = [example(seed) for seed in range(7)]
    task = SftTask(config, policy, rows, [])
    with mock.patch.object(policy, "forward_logprobs", wraps=policy.forward_logprobs) as forward:
        found, measured = given_rows(task, 7, micro)
    assert {call.kwargs["packed"] for call in forward.call_args_list} == {packing}
    each = [(-logprobs(policy.model, row.tokens, row.start) * torch.tensor(row.weights)).sum() for row in rows]
    loss = {
        "token": lambda: sum(each) / sum(sum(row.weights) for row in rows),
        "sequence_mean": lambda: sum(one / sum(row.weights) for one, row in zip(each, rows, strict=True)) / 7,
        "sequence_sum": lambda: sum(each) / 7,
    }[reduction]()
    assert measured["loss"] == pytest.approx(loss.item(), abs=1e-4)
    assert torch.allclose(found, by_hand(task, loss), atol=1e-5)
    assert found.norm() > 1e-2


@PROPERTY
@given(
    micro=st.sampled_from(CUTS), packing=st.booleans(), loss=st.sampled_from(["sigmoid", "smoothed", "ipo", "hinge"])
)
def test_dpo(policy, micro, packing, loss):
    """The loss is the mean over pairs of the loss of the margin over the reference, whether answers share their prompt or not."""
    policy.packing = packing
    policy.sharing = SharingLimits(8192, math.inf) if packing else None
    kind = {"loss": "sigmoid", "label_smoothing": 0.2} if loss == "smoothed" else {"loss": loss}
    config = DpoConfig.model_validate({**COMMON, "stage": "dpo", "steps": 1, "beta": 0.7, **kind})

    def answer(seed):
        row = example(seed)
        said_before = 0.0 if len(row.weights) > 1 else 1.0  # as what a user says between two turns
        return Example(row.tokens, row.start, (said_before, *[1.0] * (len(row.weights) - 1)), "here")

    pairs = [AnswerPair(answer(seed), answer(seed + 3)) for seed in range(5)]
    same = pairs[1].chosen
    prompt = same.tokens[: same.start]  # one pair has one prompt, as pairs of real data have
    pairs[1] = AnswerPair(same, replace(same, tokens=(*prompt, *reversed(same.tokens[same.start :]))))
    task = DpoTask(config, policy, pairs, [])
    with torch.no_grad():
        for value in policy.trained.values():
            value.mul_(1.3)  # away from the reference

    def said(row):
        found = logprobs(policy.model, row.tokens, row.start)[torch.tensor(row.weights) > 0]
        return found.mean() if loss == "ipo" else found.sum()

    leads = [said(pair.chosen) - said(pair.rejected) for pair in pairs]
    found, _ = given_rows(task, 5, micro)
    known = zip(leads, task.references.chosen_P - task.references.rejected_P, strict=True)
    lead_P = torch.stack([lead - reference for lead, reference in known])
    loss_P = {
        "sigmoid": -logsigmoid(0.7 * lead_P),
        "smoothed": -0.8 * logsigmoid(0.7 * lead_P) - 0.2 * logsigmoid(-0.7 * lead_P),
        "ipo": (lead_P - 1 / 1.4).square(),
        "hinge": (1 - 0.7 * lead_P).clamp(min=0),
    }[loss]
    expected = by_hand(task, loss_P.mean())
    with torch.no_grad():
        for value in policy.trained.values():
            value.div_(1.3)
    assert torch.allclose(found, expected, atol=1e-5, rtol=1e-4)
    assert found.norm() > 1e-2


@pytest.fixture
def scorer(work):
    """Return a reward model with random weights."""
    return RewardModel.load(ModelConfig(path=str(work / "base")))


@PROPERTY
@given(micro=st.sampled_from(CUTS), centring=st.sampled_from([0.0, 0.3]))
def test_reward_model(scorer, micro, centring):
    """The loss is the mean over pairs of −log σ(score difference − margin), with the centring term."""
    config = RewardModelConfig.model_validate(
        {**COMMON, "stage": "reward_model", "steps": 1, "loss": {"centring": centring, "margin": "m"}}
    )

    def dialogue(seed):
        return Dialogue(numbers(3 + (seed * 5) % 11, seed), 5, is_cut=False, is_chat=False)

    pairs = [ScoredPair(dialogue(seed), dialogue(seed + 20), 0.1 * seed) for seed in range(6)]
    task = RewardModelTask(config, scorer, pairs, [])
    found, measured = given_rows(task, 6, micro)
    loss = 0.0
    for pair in pairs:
        one, two = (scorer.model(torch.tensor([side.tokens])).logits[0, 0] for side in (pair.chosen, pair.rejected))
        loss = loss + (-logsigmoid(one - two - pair.margin) + centring * (one + two) ** 2) / 6
    assert measured["loss"] == pytest.approx(loss.item(), abs=1e-4)
    assert torch.allclose(found, by_hand(task, loss), atol=1e-5)
    assert found.norm() > 1e-2


class Recorder(Optimizer):
    """Records the gradients of each optimiser step instead of applying them."""

    def __init__(self, *args):
        super().__init__(*args)
        self.seen = []

    def step(self, step):
        """Record the gradients, and clear them."""
        self.seen.append(
            {name: value.grad.clone() for name, value in self.parameters.items() if value.grad is not None}
        )
        self.adamw.zero_grad()
        return 0.0


def ppo_gradients(work, kind, micro, *, packing=False):
    """Return the gradients of policy and critic in one update, and their inputs."""
    config = PpoConfig.model_validate(
        {
            **COMMON,
            "stage": "ppo",
            "reward": {},
            "steps": 1,
            "micro_batch_tokens": micro,
            "critic": {"kind": kind, "lam": 0.9, "gamma": 0.95, "clip": None, "whiten": False}
            | ({"coefficient": 0.3} if kind == "head" else {}),
            "epochs_per_batch": 1,
            "kl": {"coefficient": 0.0},
        }
    )
    policy = Policy.load(ModelConfig(path=str(work / "base")))
    policy.packing = packing
    policy.sharing = SharingLimits(8192, math.inf) if packing else None
    updater = PpoUpdater(config, policy, Recorder(policy.trained, config.optimizer, 1), None)
    updater.optimizer = Recorder(updater.optimizer.parameters, config.optimizer, 1)
    if updater.critic_optimizer is not None:
        updater.critic_optimizer = Recorder(updater.critic_optimizer.parameters, config.optimizer, 1)
    with torch.no_grad():
        generator = torch.Generator().manual_seed(1)
        updater.critic.head.weight.copy_(torch.randn(updater.critic.head.weight.shape, generator=generator))
    prompts = [numbers(2 + row // 2, row // 2) for row in range(6)]
    completions = [numbers(1 + (row * 3) % 8, row + 50) for row in range(6)]
    counts = torch.ones(6, dtype=torch.bool)
    counts[2] = False
    batch = RolloutBatch(
        prompts, completions, [[0.0] * len(one) for one in completions], torch.arange(6.0), torch.arange(6), counts
    )
    updater.update(batch, 0)
    [own] = updater.optimizer.seen
    if updater.critic_optimizer is not None:
        [critic] = updater.critic_optimizer.seen
        own = {**own, **critic}
    return own, updater, batch


@pytest.mark.parametrize("kind", ["own", "head"])
def test_ppo(work, kind):
    """The losses are −A·log p and half the squared error, each a mean over the tokens that count."""
    whole, updater, batch = ppo_gradients(work, kind, 100_000)
    for micro in CUTS[:-1]:
        cut, _, _ = ppo_gradients(work, kind, micro, packing=micro == CUTS[2])
        assert cut.keys() == whole.keys()
        for name in whole:
            assert torch.allclose(cut[name], whole[name], atol=1e-5, rtol=1e-4), name

    critic, policy = updater.critic, updater.policy
    reader = (critic.reader or policy).model
    tokens = sum(len(one) for row, one in enumerate(batch.completions) if batch.counts_B[row])
    policy_loss = value_loss = 0.0
    for row, said in enumerate(batch.completions):
        if not batch.counts_B[row]:
            continue
        whole_row = (*batch.prompts[row], *said)
        start = len(batch.prompts[row])
        states = reader.model(torch.tensor([whole_row])).last_hidden_state[0, start - 1 : -1]
        values = critic.head(states).squeeze(1)
        rewards = torch.zeros(1, len(said))
        rewards[0, -1] = batch.rewards_B[row]
        mask = torch.ones(1, len(said), dtype=torch.bool)
        estimates = gae(rewards, values[None], mask, gamma=0.95, lam=0.9)
        value_loss = value_loss + 0.5 * (values - estimates.returns_B_T[0]).square().sum() / tokens
        said_logprobs = logprobs(policy.model, whole_row, start)
        policy_loss = policy_loss - (estimates.advantages_B_T[0] * said_logprobs).sum() / tokens
    (policy_loss + (0.3 if kind == "head" else 1.0) * value_loss).backward()
    parameters = dict(updater.optimizer.parameters)
    if updater.critic_optimizer is not None:
        parameters |= updater.critic_optimizer.parameters
    for name, gradient in whole.items():
        assert torch.allclose(gradient, parameters[name].grad, atol=1e-5, rtol=1e-4), name
    assert max(float(gradient.abs().max()) for gradient in whole.values()) > 1e-2


def dropouts(model):
    """Return the probabilities of all dropout modules of a model."""
    return {module.p for module in model.modules() if isinstance(module, torch.nn.Dropout)}


def test_dropout_is_off(work):
    """DPO and reward models compare passes, so they train without dropout unless a reward model is told otherwise."""
    config = ModelConfig(path=str(work / "base"), lora=LoraConfig(rank=2, dropout=0.4))
    policy = Policy.load(config)
    assert dropouts(policy.model) == {0.4}
    pair = AnswerPair(example(1), example(2))
    DpoTask(DpoConfig.model_validate({**COMMON, "stage": "dpo", "steps": 1}), policy, [pair], [])
    assert dropouts(policy.model) == {0.0}
    assert policy.model.training
    for uses in (True, False):
        scorer = RewardModel.load(config)
        settings_ = {**COMMON, "stage": "reward_model", "steps": 1, "dropout": uses}
        RewardModelTask(RewardModelConfig.model_validate(settings_), scorer, [], [])
        assert dropouts(scorer.model) == ({0.4} if uses else {0.0})


def test_held_out_rows_are_measured_by_their_tokens_in_the_loss(policy):
    """Loss and accuracy of SFT leave out tokens without weight, and the model with the lower loss is better."""
    row = example(4, weights=(0.0, 1.0, 0.0))
    config = SftConfig.model_validate({**COMMON, "stage": "sft", "steps": 1})
    task = SftTask(config, policy, [row], [row])
    found = task.evaluate()
    with torch.no_grad():
        logits = policy.model(torch.tensor([row.tokens])).logits[0, row.start : row.start + 1]
    token = row.tokens[row.start + 1]
    assert found["loss"] == pytest.approx(-float(logits.log_softmax(-1)[0, token]), rel=1e-5)
    assert found["token_accuracy"] == float(int(logits.argmax()) == token)
    assert task.quality({"loss": 1.0}) > task.quality({"loss": 2.0})


def test_held_out_pairs_have_references_of_their_own(policy):
    """If the policy is its reference, every held-out pair has the loss log 2."""
    pairs = [AnswerPair(example(seed), example(seed + 3)) for seed in range(5)]
    config = DpoConfig.model_validate({**COMMON, "stage": "dpo", "steps": 1})
    task = DpoTask(config, policy, pairs[:3], pairs[3:])
    assert task.evaluate()["loss"] == pytest.approx(0.693147, abs=1e-4)
    assert task.quality({"loss": 1.0}) > task.quality({"loss": 2.0})


def test_a_reward_model_is_judged_on_held_out_pairs(scorer):
    """The quality is the share of pairs that are ranked right, and a lower loss is better."""

    def dialogue(seed):
        return Dialogue(numbers(5, seed), 5, is_cut=False, is_chat=False)

    pairs = [ScoredPair(dialogue(seed), dialogue(seed + 20), 0.0) for seed in range(6)]
    task = RewardModelTask(
        RewardModelConfig.model_validate({**COMMON, "stage": "reward_model", "steps": 1}), scorer, pairs[:2], pairs[2:]
    )
    with torch.no_grad():
        scores = [
            [float(scorer.model(torch.tensor([side.tokens])).logits) for side in (pair.chosen, pair.rejected)]
            for pair in pairs[2:]
        ]
    report = task.report()
    assert report.pairs == 4
    assert report.accuracy.value == sum(one > two for one, two in scores) / 4
    assert report.mean == pytest.approx(sum(map(sum, scores)) / 8, abs=1e-5)
    assert task.quality({"loss": 1.0}) > task.quality({"loss": 2.0})
