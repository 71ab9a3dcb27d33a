"""Scored completions become the tensors of an update."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from rewardkit import Rollout, Score
from rewardkit.errors import RewardkitError
from rewardkit.rollout_engine import Completion
from rewardkit.train.config import GrpoConfig
from rewardkit.train.data.tokenization import Prompt
from rewardkit.train.rollout.generate import Sample
from rewardkit.train.trainer.rollout_batch import build_rollout_batch
from rewardkit.types import ScoredRollout


def config(**changes):
    """Return a GRPO configuration."""
    base = {
        "version": 1,
        "stage": "grpo",
        "output": "out",
        "model": {"path": "x"},
        "data": {"train": "x"},
        "reward": {},
    }
    return GrpoConfig.model_validate({**base, "steps": 1, **changes})


def sample(group, tokens, reward, finish="stop", steps=None):
    """Return one completion."""
    prompt = Prompt((1, 2, group), "p", {}, f"rows.jsonl:{group}")
    outcome = Score(reward, steps=steps)
    scored = ScoredRollout(Rollout("p", "c"), reward, {"main": outcome}, {"main": 1.0}, {"main": reward}, "id")
    return Sample(prompt, group, Completion(tuple(tokens), tuple(-0.1 * token for token in tokens), finish), scored)


SAMPLES = [sample(0, [5, 6], 1.0), sample(3, [7], 0.5, "length"), sample(3, [8, 9, 4], 0.25)]


def test_rows_keep_their_group_reward_and_log_probs():
    """Each row keeps its group, reward and log-probs, padded on the right."""
    batch = build_rollout_batch(SAMPLES, config(), str)
    assert batch.groups_B.tolist() == [0, 3, 3]
    assert batch.rewards_B.tolist() == [1.0, 0.5, 0.25]
    assert batch.mask_B_T.tolist() == [[True, True, False], [True, False, False], [True, True, True]]
    torch.testing.assert_close(
        batch.rollout_logprobs_B_T, torch.tensor([[-0.5, -0.6, 0.0], [-0.7, 0.0, 0.0], [-0.8, -0.9, -0.4]])
    )
    passage = batch.sequence(2)
    assert (tuple(passage.tokens), passage.start) == ((1, 2, 3, 8, 9, 4), 3)
    assert batch.lengths([2, 0]) == [6, 5]


def test_truncated_completions_can_be_masked():
    """Truncated completions are masked by their finish reason, not by their last token."""
    batch = build_rollout_batch(SAMPLES, config(filter={"truncated": "mask"}), str)
    assert batch.counts_B.tolist() == [True, False, True]
    assert batch.mask_B_T[1].tolist() == [False, False, False]


def test_rewards_of_steps_belong_to_tokens():
    """There are as many step rewards as the separator makes steps; another number is an error with both numbers and the row."""
    process = {"process": {"component": "main", "separator": "9"}}
    rows = [sample(0, [8, 9, 4], 1.0, steps=[0.5, 1.0]), sample(0, [8, 8], 0.0, steps=[0.25])]
    batch = build_rollout_batch(rows, config(algorithm=process), lambda tokens: "".join(map(str, tokens)))
    assert batch.steps == [[0.5, 1.0], [0.25]]
    assert batch.step_of_token == [[0, 0, 1], [0, 0]]
    wrong = [sample(7, [8, 9, 4], 1.0, steps=[0.5])]
    with pytest.raises(
        RewardkitError,
        match=r"rows\.jsonl:7: component 'main' gives 1 step rewards, but .* divides the completion into 2 steps",
    ):
        build_rollout_batch(wrong, config(algorithm=process), lambda tokens: "".join(map(str, tokens)))


NOISE = {"verifier": {"fp": 0.1, "fn": 0.2}}


def test_the_reward_is_the_verdict():
    """Without a component, rewards of 0 and 1 are verdicts that are worth 1."""
    rows = [sample(0, [5], 1.0), sample(0, [6], 0.0)]
    found = build_rollout_batch(rows, config(correction=NOISE), str).verdicts
    assert (found.values_B.tolist(), found.effects_B.tolist()) == ([1.0, 0.0], [1.0, 1.0])


def test_equal_completions_are_known_to_the_correction():
    """Equal tokens have equal numbers."""
    rows = [sample(0, [5, 6], 1.0), sample(0, [6], 0.0), sample(0, [5, 6], 0.0)]
    found = build_rollout_batch(rows, config(correction=NOISE), str).verdicts.texts_B.tolist()
    assert found[0] == found[2] != found[1]


def test_equal_answers_are_known_to_the_correction():
    """The last match counts, without spaces around it; where there is none, only equal completions have the same answer."""
    texts = ["is \\boxed{4}", "no \\boxed{5}, so \\boxed{ 4 }", "\\boxed{5}", "4", "4"]
    rows = [sample(0, [number], 1.0) for number in (5, 6, 7, 8, 9)]
    rows = [
        replace(row, scored=replace(row.scored, rollout=Rollout("p", text)))
        for row, text in zip(rows, texts, strict=True)
    ]
    noise = {"verifier": {"fp": 0.1, "answer": r"\\boxed\{([^{}]*)\}"}}
    found = build_rollout_batch(rows, config(correction=noise), str).verdicts.answers_B.tolist()
    assert found[0] == found[1]
    assert len({found[0], *found[2:]}) == 4


def test_a_component_is_the_verdict():
    """Its value is the verdict and its weight what a verdict of 1 adds; where a gate is closed there is no verdict."""
    rows = [sample(0, [5], 1.0), sample(0, [6], 0.0)]
    judged = replace(rows[0].scored, weights={"main": 0.5}, contributions={"main": 0.5}, reward=0.7)
    gated = replace(rows[1].scored, contributions={"main": None})
    rows = [replace(rows[0], scored=judged), replace(rows[1], scored=gated)]
    noise = {"verifier": {"fp": 0.1, "component": "main"}}
    found = build_rollout_batch(rows, config(correction=noise), str).verdicts
    assert (found.values_B.tolist()[0], found.effects_B.tolist()) == (1.0, [0.5, 0.0])
    assert found.values_B.isnan().tolist() == [False, True]


def test_rewards_between_0_and_1_are_no_verdicts():
    """The message names the row, the value and what to do."""
    with pytest.raises(RewardkitError, match=r"rows\.jsonl:3: the reward gives 0\.5, but .* name the component"):
        build_rollout_batch(SAMPLES, config(correction=NOISE), str)
