"""What is learned from: scored completions as tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from rewardkit.errors import RewardkitError
from rewardkit.train.config import ProcessConfig, RlConfig
from rewardkit.train.losses.advantages import steps_of_tokens
from rewardkit.train.models.policy import Passage, Tokens
from rewardkit.train.rollout.generate import Sample
from rewardkit.types import Score


@dataclass(frozen=True, slots=True)
class RolloutBatch:
    """Completions with their rewards; every one of them is scored."""

    prompts: Sequence[Tokens]
    completions: Sequence[Tokens]
    rollout_logprobs: Sequence[Sequence[float]]
    """The sampler's, of the completions' tokens."""
    rewards_B: Tensor
    groups_B: Tensor
    """int64. Equal for completions of one prompt."""
    counts_B: Tensor
    """bool. True: the completion's tokens are in the loss."""

    steps: Sequence[Sequence[float]] | None = None
    """Of process rewards: one value per step of a completion."""
    step_of_token: Sequence[Sequence[int]] | None = None
    """Which step each token of a completion belongs to, from 0."""

    @property
    def mask_B_T(self) -> Tensor:
        """True: a token that counts."""
        lengths_B = torch.tensor([len(tokens) for tokens in self.completions])
        columns = torch.arange(int(lengths_B.max()))
        return (columns[None, :] < lengths_B[:, None]) & self.counts_B[:, None]

    @property
    def rollout_logprobs_B_T(self) -> Tensor:
        """Padded with 0."""
        return pad_sequence([torch.tensor(row) for row in self.rollout_logprobs], batch_first=True)

    def sequence(self, row: int) -> Passage:
        """Prompt and completion of a row."""
        return Passage((*self.prompts[row], *self.completions[row]), len(self.prompts[row]))

    def lengths(self, rows: Sequence[int]) -> list[int]:
        """Tokens of rows, prompts included."""
        return [len(self.prompts[row]) + len(self.completions[row]) for row in rows]


def build_rollout_batch(samples: Sequence[Sample], config: RlConfig, decode: Callable[[Tokens], str]) -> RolloutBatch:
    """What a updater needs of scored rollouts.

    Args:
        samples: Every one of them has rewards to learn from (see ``rewards_learned``).
        config: Whether rewards are of steps, and whether truncated completions count.
        decode: Text of tokens.

    Raises:
        RewardkitError: A component does not reward as many steps as a completion has.
    """
    process = config.algorithm.process
    steps = step_of_token = None
    if process is not None:
        texts = [[decode([token]) for token in sample.completion.tokens] for sample in samples]
        step_of_token = [steps_of_tokens(tokens, process.separator) for tokens in texts]
        steps = [
            rewards_of_steps(sample, process, max(own) + 1) for sample, own in zip(samples, step_of_token, strict=True)
        ]
    masks_truncated = config.filter.truncated == "mask"
    rewards = [sample.scored.reward for sample in samples]
    assert None not in rewards  # noqa: S101 - unscored ones have been taken out
    return RolloutBatch(
        prompts=[sample.prompt.tokens for sample in samples],
        completions=[sample.completion.tokens for sample in samples],
        rollout_logprobs=[sample.completion.logprobs for sample in samples],
        rewards_B=torch.tensor(rewards, dtype=torch.float32),
        groups_B=torch.tensor([sample.group for sample in samples], dtype=torch.long),
        counts_B=torch.tensor(
            [not (masks_truncated and sample.completion.finish_reason == "length") for sample in samples],
            dtype=torch.bool,
        ),
        steps=steps,
        step_of_token=step_of_token,
    )


def rewards_learned(sample: Sample, process: ProcessConfig | None) -> Sequence[float]:
    """What a sample's advantages are made of: its reward, or those of its steps. None where that could not be scored or was not asked."""
    if sample.scored.reward is None:
        return ()
    if process is None:
        return (sample.scored.reward,)
    outcome = sample.scored.outcomes[process.component]
    return (outcome.steps or (outcome.value,)) if isinstance(outcome, Score) else ()


def rewards_of_steps(sample: Sample, process: ProcessConfig, count: int) -> Sequence[float]:
    """One reward per step of a completion that has ``count`` steps. Raises RewardkitError where the component gives another number."""
    outcome = sample.scored.outcomes[process.component]
    found = outcome.steps if isinstance(outcome, Score) and outcome.steps is not None else []
    if len(found) != count:
        raise RewardkitError(
            f"{sample.prompt.place}: component {process.component!r} rewards {len(found)} steps of a completion that "
            f"algorithm.process.separator {process.separator!r} divides into {count}"
        )
    return found
