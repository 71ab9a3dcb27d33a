"""Completions with several turns: tool output is read by the policy and the reward, and is not trained on."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pytest
import torch

from rewardkit import Rollout, reward
from rewardkit.errors import EngineError
from rewardkit.registry import OfferedEngine, Provenance, Registry
from rewardkit.rollout_engine import Completion, RolloutEngineType, Segment
from rewardkit.train.config import ModelConfig
from rewardkit.train.config.reading import read_train_config
from rewardkit.train.models.policy import Policy
from rewardkit.train.rollout.engines.hf import HfEngine
from rewardkit.train.stages.grpo import train_grpo
from rewardkit.train.trainer.launch import launch

CONFIG = """
version: 1
stage: grpo
output: {output}
model: {{path: {work}/base}}
data: {{train: {work}/train.jsonl}}
reward: {{components: {{main: {{use: asks_and_answers}}}}}}
steps: 2
rollout: {{prompts_per_step: 2, group_size: 4, max_new_tokens: 5, engine: {engine}}}
optimizer: {{lr: 1.0e-2}}
updates_per_epoch: 2
log: {{samples: 8}}
monitors: {{prompt_independence: null}}
"""
SEEN: list[Rollout] = []
TOOL = "789"


@reward("asks_and_answers")
def asks_and_answers(rollout: Rollout) -> float:
    """Reward digits in the policy's own turns."""
    SEEN.append(rollout)
    own = "".join(turn["content"] for turn in rollout.completion if turn["role"] == "assistant")
    return sum(map(str.isdigit, own)) / max(len(own), 1)


@dataclass(frozen=True)
class Params:
    """The engine's parameters."""

    breaks: bool = False


class TwoTurns:
    """Sample a first turn, append the output of a tool, and sample a second turn."""

    tolerance = 1e-3

    def __init__(self, params: Params, setup) -> None:
        self.params = params
        self.inner = HfEngine(setup.policy, setup.batch)
        self.tool = tuple(setup.policy.tokenizer(TOOL, add_special_tokens=False)["input_ids"])
        self.syncs = -1

    def generate(self, requests, sampling):
        """Yield completions of two turns with the tool's output between them."""
        for index, request in enumerate(requests):
            completions = []
            for seed in request.seeds:
                first = self._one(request.prompt, seed, sampling)
                second = self._one((*request.prompt, *first.tokens, *self.tool), seed + 1, sampling)
                ends = (len(first.tokens), len(first.tokens) + len(self.tool))
                tokens = (*first.tokens, *self.tool, *second.tokens)
                completions.append(
                    Completion(
                        tokens,
                        (*first.logprobs, *[-77.0] * len(self.tool), *second.logprobs),
                        second.finish_reason,
                        mask=tuple(not ends[0] <= place < ends[1] for place in range(len(tokens))),
                        versions=(self.syncs,) * (len(tokens) - self.params.breaks),
                        segments=(
                            Segment("assistant", 0, ends[0]),
                            Segment("tool", *ends, {"name": "calculator"}),
                            Segment("assistant", ends[1], len(tokens)),
                        ),
                    )
                )
            yield [(index, completions)]

    def _one(self, prompt, seed, sampling):
        [(_, [completion])] = next(iter(self.inner.generate([_Request(prompt, [seed])], sampling)))
        return completion

    def sync(self):
        """Count the syncs: each follows a training step."""
        self.syncs += 1

    def sleep(self):
        """Do nothing."""

    wake = close = sleep


@dataclass(frozen=True)
class _Request:
    prompt: tuple
    seeds: list


@pytest.fixture
def registry():
    """Return a registry with the reward and the engine."""
    found = Registry()
    found.register(asks_and_answers)
    kind = RolloutEngineType("two_turns", TwoTurns, Params, shares_weights=True)
    found.engines["two_turns"] = [OfferedEngine(kind, Provenance("two_turns", "two_turns", "1"))]
    return found


def run(work, folder, registry, engine="two_turns"):
    """Train, and return the metrics and samples."""
    SEEN.clear()
    config = folder / "config.yaml"
    config.write_text(CONFIG.format(output=folder / "out", work=work, engine=engine))
    launch(read_train_config(config, registry), train_grpo)
    return [
        [json.loads(line) for line in (folder / "out" / name).read_text().splitlines()]
        for name in ("metrics.jsonl", "samples.jsonl")
    ]


def test_turns_are_trained_on_and_tools_are_not(work, tmp_path, registry):
    """The reward gets all messages; log-probs agree across the seam; only the policy's tokens count in metrics."""
    metrics, samples = run(work, tmp_path, registry)
    assert [[turn["role"] for turn in rollout.completion] for rollout in SEEN] == [
        ["assistant", "tool", "assistant"]
    ] * 16
    assert all(rollout.completion[1]["content"] == TOOL for rollout in SEEN)
    assert all(rollout.completion[1]["name"] == "calculator" for rollout in SEEN)
    for line in metrics:
        assert line["sampling_logp_difference_max"] < 1e-4  # the tool's -77 would show
        assert line["staleness"] == 0
        assert line["length"] <= 10
        assert line["tokens"] == pytest.approx(8 * line["length"])
    assert [turn["role"] for turn in samples[0]["completion"]] == ["assistant", "tool", "assistant"]
    assert samples[0]["tokens"] == SEEN[0].num_tokens


def test_an_inconsistent_completion_stops_the_run(work, tmp_path, registry):
    """The message says what does not fit."""
    with pytest.raises(EngineError, match=r"inconsistent completion: \d+ tokens with \d+ versions"):
        run(work, tmp_path, registry, "{use: two_turns, with: {breaks: true}}")


def test_tokens_of_a_tool_have_no_gradient(work):
    """The gradient of a batch is that of the sum over the policy's tokens, computed by hand."""
    from rewardkit.train.config import GrpoConfig
    from rewardkit.train.trainer.optimizer import Optimizer
    from rewardkit.train.trainer.policy_update import PolicyUpdater
    from rewardkit.train.trainer.rollout_batch import RolloutBatch

    policy = Policy.load(ModelConfig(path=f"{work}/base"))
    config = GrpoConfig.model_validate(
        {
            "version": 1,
            "stage": "grpo",
            "output": "out",
            "model": {"path": "m"},
            "data": {"train": "a.jsonl"},
            "reward": "r.yaml",
            "steps": 1,
            "algorithm": {"use": "dr_grpo", "reduction": "bnpo"},
            "optimizer": {"max_grad_norm": None},
        }
    )
    mask = (True, True, False, False, True)
    batch = RolloutBatch(
        prompts=[(5, 6), (5, 6)],
        completions=[(7, 8, 9, 10, 11), (12, 13, 14, 15, 16)],
        rollout_logprobs=[(0.0,) * 5] * 2,
        rewards_B=torch.tensor([1.0, 0.0]),
        groups_B=torch.tensor([0, 0]),
        counts_B=torch.tensor([True, True]),
        written=[mask, mask],
    )
    spans = [batch.sequence(row) for row in range(2)]
    logprobs = policy.forward_logprobs(spans, 1.0).logprobs_B_T
    expected_loss = -(logprobs * torch.tensor([[0.5], [-0.5]]) * torch.tensor([mask, mask])).sum() / 6
    expected = torch.autograd.grad(expected_loss, list(policy.trained.values()), allow_unused=True)

    updater = PolicyUpdater(config, policy, Optimizer(policy.trained, config.optimizer, 1, None), None)
    taken = {}
    updater.optimizer.step = lambda _step: (
        taken.update({n: p.grad.clone() for n, p in policy.trained.items() if p.grad is not None}) or 0.0
    )
    updater.update(batch, 0)
    for (name, _), wanted in zip(policy.trained.items(), expected, strict=True):
        if wanted is not None:
            torch.testing.assert_close(taken[name], wanted, atol=1e-6, rtol=1e-4)
