"""The gradient of a policy update is that of the formula, however the batch is divided."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from itertools import chain

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rewardkit.train.config import GrpoConfig
from rewardkit.train.data.prompt_sharing import SharingLimits
from rewardkit.train.losses.verifier_noise import expected_verdicts
from rewardkit.train.models.policy import TokenSpan
from rewardkit.train.rollout.verdicts import Verdicts
from rewardkit.train.trainer.optimizer import Optimizer
from rewardkit.train.trainer.policy_update import PolicyUpdater
from rewardkit.train.trainer.rollout_batch import RolloutBatch


def config(**changes):
    """Return a GRPO configuration."""
    base = {
        "version": 1,
        "stage": "grpo",
        "output": "out",
        "model": {"path": "unused"},
        "data": {"train": "unused"},
        "reward": {},
        "steps": 10,
        "optimizer": {"lr": 1e-3, "max_grad_norm": None},
    }
    return GrpoConfig.model_validate({**base, **changes})


def lesson(policy, groups=3, size=4, seed=0):
    """Return random completions of uneven length with random rewards and log-probs of the rollout engine."""
    generator = torch.Generator().manual_seed(seed)
    rows = groups * size
    prompts = [tuple(torch.randint(2, 50, (3 + row // size,), generator=generator).tolist()) for row in range(rows)]
    completions = [
        tuple(torch.randint(2, 50, (int(torch.randint(1, 12, (), generator=generator)),), generator=generator).tolist())
        for _ in range(rows)
    ]
    with torch.no_grad():
        rollout = [
            policy.forward_logprobs([TokenSpan((*prompt, *answer), len(prompt))]).logprobs_B_T[0].tolist()
            for prompt, answer in zip(prompts, completions, strict=True)
        ]
    rewards = torch.randint(0, 3, (rows,), generator=generator).float()
    rewards[:size] = 1.0  # a group without spread
    counts = torch.ones(rows, dtype=torch.bool)
    counts[size] = False  # a truncated completion that is masked
    return RolloutBatch(prompts, completions, rollout, rewards, torch.arange(groups).repeat_interleave(size), counts)


def gradient(policy, settings_, batch, reference=None):
    """Return the gradient of one update; the sum if there are several, which all start at the same weights."""
    found = []

    class Recorder(Optimizer):
        def step(self, step):
            # An update of rows that teach nothing has no gradient at all.
            grads = [
                torch.zeros_like(value) if value.grad is None else value.grad for value in self.parameters.values()
            ]
            found.append(torch.cat([value.flatten() for value in grads]))
            self.adamw.zero_grad()
            return 0.0

    updater = PolicyUpdater(settings_, policy, Recorder(policy.trained, settings_.optimizer, 10), reference)
    updater.update(batch, 0)
    assert len(found) == settings_.updates_per_epoch * settings_.epochs_per_batch
    return torch.stack(found).sum(0)


@pytest.mark.parametrize("place", ["loss", "reward"])
def test_the_gradient_does_not_depend_on_whether_prompts_are_shared(policy, place):
    """With any number of micro-batches, and with old and reference log-probabilities."""
    batch = lesson(policy)
    batch = replace(batch, prompts=[batch.prompts[4 * (row // 4)] for row in range(len(batch.prompts))])
    found, tokens = [], []
    policy.lm.get_input_embeddings().register_forward_pre_hook(lambda _, args: tokens.append(args[0].numel()))
    for packing, micro in ((False, 10_000), (True, 10_000), (True, 30), (True, 1)):
        policy.packing = packing
        policy.sharing = SharingLimits(8192, math.inf) if packing else None
        tokens.clear()
        kl = {"coefficient": 0.1, "place": place}
        found.append(
            gradient(policy, config(kl=kl, micro_batch_tokens=micro), batch, reference=policy.copy(trained=False))
        )
        found[-1] = torch.cat([found[-1], torch.tensor([float(sum(tokens))])])
    for other in found[1:]:
        assert torch.allclose(other[:-1], found[0][:-1], atol=1e-5)
    assert found[1][-1] < found[0][-1]


def test_the_gradient_is_that_of_the_formula(policy):
    """The gradient equals −Σ A·log p / N, computed row by row with advantages by hand."""
    batch = lesson(policy)
    got = gradient(policy, config(algorithm={"use": "dapo"}), batch)
    tokens = sum(len(answer) for row, answer in enumerate(batch.completions) if batch.counts_B[row])
    loss = 0.0
    for row, answer in enumerate(batch.completions):
        group = batch.rewards_B[batch.groups_B == batch.groups_B[row]]
        if not batch.counts_B[row]:
            continue
        advantage = (batch.rewards_B[row] - group.mean()) / (group.std() + 1e-4)
        ids = torch.tensor([[*batch.prompts[row], *answer]])
        logprobs = policy.model(ids).logits.log_softmax(-1)
        start = len(batch.prompts[row])
        for place, token in enumerate(answer):
            loss = loss - advantage * logprobs[0, start + place - 1, token] / tokens
    loss.backward()
    expected = torch.cat([value.grad.flatten() for value in policy.trained.values()])
    assert torch.allclose(got, expected, atol=1e-6)
    assert expected.norm() > 1e-3


def test_the_logged_loss_is_that_of_the_batch(policy):
    """The loss equals −Σ A / N over its tokens, since every ratio is 1 before the first optimiser step."""
    batch, settings_ = lesson(policy), config(algorithm={"use": "dapo"})
    metrics = PolicyUpdater(settings_, policy, Optimizer(policy.trained, settings_.optimizer, 10), None).update(
        batch, 0
    )
    loss = tokens = 0.0
    for row, answer in enumerate(batch.completions):
        group = batch.rewards_B[batch.groups_B == batch.groups_B[row]]
        if batch.counts_B[row]:
            loss -= len(answer) * float((batch.rewards_B[row] - group.mean()) / (group.std() + 1e-4))
            tokens += len(answer)
    assert metrics["loss"] == pytest.approx(loss / tokens, abs=1e-5)
    assert abs(loss / tokens) > 1e-3


def spread(rewards):
    """Return GRPO's advantages."""
    return (rewards - rewards.mean()) / (rewards.std() + 1e-4)


def centred(rewards):
    """Return Dr. GRPO's advantages."""
    return rewards - rewards.mean()


def beside_the_others(rewards):
    """Return RLOO's advantages."""
    return rewards - (rewards.sum() - rewards) / (len(rewards) - 1)


def as_it_is(rewards):
    """Return REINFORCE++'s advantages, whose baseline is the batch."""
    return rewards


@pytest.mark.parametrize(
    ("algorithm", "advantage", "whitens", "averages"),
    [
        ("grpo", spread, False, "rows"),
        ("dr_grpo", centred, False, "longest"),
        ("bnpo", spread, False, "tokens"),
        ("dapo", spread, False, "tokens"),
        ("cispo", spread, False, "tokens"),
        ("gspo", spread, False, "rows"),
        ("sapo", spread, False, "rows"),
        ("rloo", beside_the_others, False, "tokens"),
        ("reinforce++", as_it_is, True, "tokens"),
        ("reinforce++-baseline", centred, True, "tokens"),
    ],
)
def test_every_algorithm_is_its_papers(policy, algorithm, advantage, whitens, averages):
    """In the first update each algorithm is −Σ A·log p·weight, with its own advantage and its own mean over tokens."""
    batch = lesson(policy)
    got = gradient(
        policy, config(algorithm={"use": algorithm}, rollout={"max_new_tokens": 20, "temperature": 0.7}), batch
    )
    rows = [row for row in range(12) if batch.counts_B[row]]
    lengths = {row: len(batch.completions[row]) for row in rows}
    advantages = {}
    for row in rows:
        group = batch.groups_B == batch.groups_B[row]
        place = int(group[:row].sum())
        advantages[row] = float(advantage(batch.rewards_B[group])[place])
    if whitens:
        every = torch.tensor([advantages[row] for row in rows for _ in range(lengths[row])])
        mean, std = float(every.mean()), float((every.var() + 1e-8).sqrt())
        advantages = {row: (value - mean) / std for row, value in advantages.items()}
    loss = 0.0
    for row in rows:
        said = policy.forward_logprobs([batch.sequence(row)], 0.7).logprobs_B_T.sum()
        weight = {"rows": 1 / (lengths[row] * 12), "tokens": 1 / sum(lengths.values()), "longest": 1 / (12 * 20)}[
            averages
        ]
        loss = loss - advantages[row] * said * weight
    loss.backward()
    expected = torch.cat([value.grad.flatten() for value in policy.trained.values()])
    assert torch.allclose(got, expected, atol=1e-6)
    assert expected.norm() > 1e-4


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    micro=st.integers(1, 400),
    algorithm=st.sampled_from(
        ["grpo", "dr_grpo", "bnpo", "dapo", "cispo", "gspo", "sapo", "rloo", "reinforce++", "reinforce++-baseline"]
    ),
    seed=st.integers(0, 5),
)
def test_the_gradient_does_not_depend_on_how_the_batch_is_cut(policy, micro, algorithm, seed):
    """Any size of micro-batches gives the gradient of the whole batch."""
    batch = lesson(policy, seed=seed)
    whole = gradient(policy, config(algorithm={"use": algorithm}, micro_batch_tokens=100_000), batch)
    cut = gradient(policy, config(algorithm={"use": algorithm}, micro_batch_tokens=micro), batch)
    assert torch.allclose(whole, cut, atol=1e-5, rtol=1e-5)
    assert whole.norm() > 0


@pytest.mark.parametrize("updates", [4, 5, 8])
@pytest.mark.parametrize("algorithm", ["dapo", "cispo"])
def test_more_updates_are_no_smaller_ones(policy, algorithm, updates):
    """Each of several updates of a batch is as large as one update of the whole batch."""
    batch = lesson(policy)
    rollout = {"temperature": 0.7}  # that of the log-probs before the first update, too: their ratio is 1
    whole = gradient(policy, config(algorithm={"use": algorithm}, rollout=rollout), batch)
    parts = gradient(policy, config(algorithm={"use": algorithm}, rollout=rollout, updates_per_epoch=updates), batch)
    assert torch.allclose(parts / updates, whole, atol=1e-6)
    assert whole.norm() > 1e-3


@pytest.mark.parametrize("several", [{"updates_per_epoch": 2}, {"epochs_per_batch": 2}])
def test_ratios_are_to_the_policy_before_the_first_update(policy, several):
    """In the second of two updates some ratios are outside of the clip range."""
    settings_ = config(optimizer={"lr": 0.05, "warmup_steps": 0}, **several)
    metrics = PolicyUpdater(settings_, policy, Optimizer(policy.trained, settings_.optimizer, 10), None).update(
        lesson(policy), 0
    )
    assert metrics["clipped_low"] + metrics["clipped_high"] > 0.05


def test_kl_is_of_the_completions_that_count(policy):
    """A completion that is masked as a whole does not count as a completion without KL."""
    settings_ = config(kl={"coefficient": 0.1})
    updater = PolicyUpdater(settings_, policy, Optimizer(policy.trained, settings_.optimizer, 10), policy)
    old = torch.tensor([[-1.0, -1.0], [-2.0, -1.0], [-1.0, -3.0]])
    ref = torch.tensor([[-1.5, -1.0], [-9.0, -9.0], [-2.0, -4.0]])
    mask = torch.tensor([[True, True], [False, False], [True, True]])
    metrics = updater.distances(old, old, ref, mask)
    assert metrics["kl"] == pytest.approx((0.5 + 2.0) / 2)


def test_kl_is_a_term_of_every_token_or_of_the_reward(policy):
    """In the loss KL is β times the estimate per token; in the reward it is β times its sum, before groups are compared."""
    batch = lesson(policy)
    reference = copy.deepcopy(policy)
    with torch.no_grad():
        for value in reference.trained.values():
            value.mul_(1.2)
    said = [policy.forward_logprobs([batch.sequence(row)]).logprobs_B_T[0] for row in range(12)]
    was = [reference.forward_logprobs([batch.sequence(row)]).logprobs_B_T[0].detach() for row in range(12)]
    tokens = sum(len(answer) for row, answer in enumerate(batch.completions) if batch.counts_B[row])
    for place, estimator, factor in (("loss", "k3", 1), ("loss", "k2", 0.5), ("reward", "k1", 1)):
        settings_ = config(
            kl={"coefficient": 0.5, "place": place, "estimator": estimator},
            algorithm={"use": "dapo"},
            correction={"kind": "none" if factor == 1 else "truncate"},
        )
        sampled = replace(
            batch, rollout_logprobs=[[value - math.log(factor) for value in row] for row in batch.rollout_logprobs]
        )
        found = []

        class Recorder(Optimizer):
            def step(self, step, found=found):
                found.append(torch.cat([value.grad.flatten() for value in self.parameters.values()]))
                self.adamw.zero_grad()
                return 0.0

        PolicyUpdater(settings_, policy, Recorder(policy.trained, settings_.optimizer, 10), reference).update(
            sampled, 0
        )
        rewards = batch.rewards_B.clone()
        if place == "reward":
            for row in range(12):
                if batch.counts_B[row]:
                    rewards[row] -= 0.5 * (said[row].detach() - was[row]).sum()
        loss = 0.0
        for row in range(12):
            if not batch.counts_B[row]:
                continue
            group = rewards[batch.groups_B == batch.groups_B[row]]
            advantage = (rewards[row] - group.mean()) / (group.std() + 1e-4)
            advantage = advantage if float(group.max() - group.min()) > 1e-6 else 0.0
            per_token = -factor * advantage * said[row]
            if place == "loss":
                apart = was[row] - said[row]
                ratio = (said[row] - said[row].detach()).exp()
                k3 = ratio * (apart.exp() - apart - 1)
                per_token = per_token + 0.5 * (k3 if estimator == "k3" else apart.square() / 2)
            loss = loss + per_token.sum() / tokens
        loss.backward(retain_graph=True)
        expected = torch.cat([value.grad.flatten() for value in policy.trained.values()])
        policy.model.zero_grad()
        assert torch.allclose(found[0], expected, atol=1e-5, rtol=1e-4), (place, estimator)


def test_the_correction_multiplies_the_loss_of_each_token(policy):
    """Truncated importance sampling gives less weight to tokens that the rollout engine finds likelier than the trainer."""
    batch = lesson(policy)
    plain = gradient(policy, config(algorithm={"use": "dapo"}), batch)
    off = replace(batch, rollout_logprobs=[[value + 0.7 for value in row] for row in batch.rollout_logprobs])
    corrected = gradient(policy, config(algorithm={"use": "dapo"}, correction={"kind": "truncate"}), off)
    assert torch.allclose(corrected, plain * math.exp(-0.7), atol=1e-6)
    masked = gradient(
        policy, config(algorithm={"use": "grpo"}, correction={"kind": "mask", "low": 0.4, "high": 2}), off
    )
    whole = gradient(policy, config(algorithm={"use": "grpo"}), batch)
    assert torch.allclose(masked, whole * math.exp(-0.7), atol=1e-6)


@pytest.mark.parametrize("target", [None, 0.5])
def test_the_coefficient_of_kl_follows_its_target(policy, target):
    """The coefficient follows the KL of the completions that count; without a target it is constant."""
    batch = lesson(policy)
    reference = copy.deepcopy(policy)
    with torch.no_grad():
        for value in reference.trained.values():
            value.mul_(1.5)
    settings_ = config(kl={"coefficient": 0.2, **({} if target is None else {"target": target, "horizon": 100})})
    updater = PolicyUpdater(settings_, policy, Optimizer(policy.trained, settings_.optimizer, 10), reference)
    metrics = updater.update(batch, 0)
    assert abs(metrics["kl"] / 0.5 - 1) > 0.2, "beyond where it is held"
    factor = 1 if target is None else 1 + (0.2 if metrics["kl"] > 0.5 else -0.2) * 11 / 100
    assert updater.kl.value == metrics["kl_coefficient"] == pytest.approx(0.2 * factor)


def test_each_pass_over_a_batch_is_shuffled_anew(policy):
    """Every row occurs once in an epoch, in another order each epoch, and in the same order when the step is repeated."""
    settings_ = config(epochs_per_batch=2, updates_per_epoch=3)
    updater = PolicyUpdater(settings_, policy, Optimizer(policy.trained, settings_.optimizer, 10), None)
    parts = updater.parts(9, step=4)
    assert [len(part) for part in parts] == [3] * 6
    first, second = (list(chain(*parts[start : start + 3])) for start in (0, 3))
    assert sorted(first) == sorted(second) == list(range(9))
    assert first != second
    assert parts == updater.parts(9, step=4) != updater.parts(9, step=5)


@pytest.mark.parametrize(
    ("rows", "updates", "sizes"), [(10, 4, [3, 3, 2, 2]), (12, 5, [3, 3, 2, 2, 2]), (3, 5, [1, 1, 1])]
)
def test_a_pass_is_divided_into_as_many_updates_as_asked(policy, rows, updates, sizes):
    """The parts are as equal as possible, and there are fewer only if there are fewer rows."""
    settings_ = config(updates_per_epoch=updates)
    updater = PolicyUpdater(settings_, policy, Optimizer(policy.trained, settings_.optimizer, 10), None)
    assert [len(part) for part in updater.parts(rows, step=0)] == sizes


def test_updates_that_rows_do_not_suffice_for_do_not_make_the_others_larger(policy):
    """Four rows make four updates, and a token has the weight that it has with four updates configured."""
    batch = lesson(policy, groups=2, size=2)
    batch = replace(batch, rewards_B=torch.tensor([0.0, 1.0, 0.0, 2.0]), counts_B=torch.ones(4, dtype=torch.bool))
    updates = []
    for asked in (4, 7):
        settings_ = config(algorithm={"use": "dapo"}, updates_per_epoch=asked)
        optimizer = Optimizer(policy.trained, settings_.optimizer, 10)
        optimizer.step = lambda _step, adamw=optimizer.adamw: adamw.zero_grad() or 0.0
        updates.append(PolicyUpdater(settings_, policy, optimizer, None).update(batch, 0)["loss"])
    assert updates[0] == pytest.approx(updates[1])
    assert updates[0] != pytest.approx(0)


def test_a_verifier_that_errs_gives_the_advantages_of_expected_verdicts(policy):
    """The rewards are replaced by probabilities, and divided by the standard deviation that true rewards would have."""
    noise = {"fp": 0.1, "fn": 0.3}
    batch = lesson(policy, groups=2)
    values_B = torch.tensor([1.0, 1.0, 0.0, 0.0, 1.0, 1.0, 1.0, 0.0])
    batch = replace(
        batch, rewards_B=0.25 + 0.5 * values_B, verdicts=Verdicts(values_B, torch.full((8,), 0.5), torch.arange(8))
    )
    updater = PolicyUpdater(config(correction={"verifier": noise}), policy, None, None)
    found_B_T, _ = updater.advantages(batch, batch.mask_B_T, None, None)
    right_B = expected_verdicts(values_B, batch.groups_B, **noise).right_B
    for rows in (slice(0, 4), slice(4, 8)):
        mean, hidden = right_B[rows].mean(), (right_B[rows] * (1 - right_B[rows])).mean() * 4 / 3
        std = (right_B[rows].var() + hidden).sqrt()
        advantages = 0.5 * (right_B[rows] - mean) / (0.5 * std + 1e-4)
        torch.testing.assert_close(found_B_T[rows, 0], advantages, atol=1e-4, rtol=1e-4)
