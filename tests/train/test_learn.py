"""What a policy learns from a batch: the gradient is that of the formula, however the batch is cut."""

from __future__ import annotations

import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rewardkit.train.config import GrpoConfig
from rewardkit.train.learn import Learner
from rewardkit.train.lesson import Lesson
from rewardkit.train.optim import Optimizer
from rewardkit.train.policy import Passage


def config(**changes):
    """A GRPO configuration."""
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
    """Random completions of uneven length with random rewards, and the sampler's log-probs for them."""
    generator = torch.Generator().manual_seed(seed)
    rows = groups * size
    prompts = [tuple(torch.randint(2, 50, (3 + row // size,), generator=generator).tolist()) for row in range(rows)]
    completions = [
        tuple(torch.randint(2, 50, (int(torch.randint(1, 12, (), generator=generator)),), generator=generator).tolist())
        for _ in range(rows)
    ]
    with torch.no_grad():
        rollout = [
            policy.judge([Passage((*prompt, *answer), len(prompt))]).logprobs_B_T[0].tolist()
            for prompt, answer in zip(prompts, completions, strict=True)
        ]
    rewards = torch.randint(0, 3, (rows,), generator=generator).float()
    rewards[:size] = 1.0  # a group without spread
    counts = torch.ones(rows, dtype=torch.bool)
    counts[size] = False  # a truncated completion that is masked
    return Lesson(prompts, completions, rollout, rewards, torch.arange(groups).repeat_interleave(size), counts)


def gradient(policy, settings_, batch):
    """The gradient that one update would apply."""
    found = {}

    class Recorder(Optimizer):
        def step(self, step):
            found.update({name: value.grad.clone() for name, value in self.parameters.items()})
            self.adamw.zero_grad()
            return 0.0

    learner = Learner(settings_, policy, Recorder(policy.trained, settings_.optimizer, 10), None)
    learner.learn(batch, 0)
    return torch.cat([value.flatten() for value in found.values()])


def test_the_gradient_is_that_of_the_formula(policy):
    """Against −Σ A·lp / N written out row by row, with advantages by hand."""
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


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    micro=st.integers(1, 400),
    algorithm=st.sampled_from(
        ["grpo", "dr_grpo", "bnpo", "dapo", "cispo", "gspo", "sapo", "rloo", "reinforce++", "reinforce++-baseline"]
    ),
    seed=st.integers(0, 5),
)
def test_the_gradient_does_not_depend_on_how_the_batch_is_cut(policy, micro, algorithm, seed):
    """Any size of micro-batches gives the gradient of the whole batch at once."""
    batch = lesson(policy, seed=seed)
    whole = gradient(policy, config(algorithm={"use": algorithm}, micro_batch_tokens=100_000), batch)
    cut = gradient(policy, config(algorithm={"use": algorithm}, micro_batch_tokens=micro), batch)
    assert torch.allclose(whole, cut, atol=1e-5, rtol=1e-5)
    assert whole.norm() > 0
