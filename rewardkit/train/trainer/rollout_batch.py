"""Scored completions as the tensors of an update."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from rewardkit.errors import RewardkitError
from rewardkit.language_models import steps_of_tokens, token_texts
from rewardkit.train.config import ProcessConfig, RlConfig
from rewardkit.train.models.policy import Tokens, TokenSpan
from rewardkit.train.rollout.generate import Sample
from rewardkit.train.rollout.verdicts import Verdicts, read_verdicts
from rewardkit.types import Score


@dataclass(frozen=True, slots=True)
class RolloutBatch:
    """Scored completions of one training step."""

    prompts: Sequence[Tokens]
    completions: Sequence[Tokens]
    rollout_logprobs: Sequence[Sequence[float]]
    """Log-probabilities of the completions' tokens that the rollout engine reported."""
    rewards_B: Tensor
    groups_B: Tensor
    """int64. Equal for completions of the same prompt."""
    counts_B: Tensor
    """bool. True if the completion's tokens are in the loss."""

    steps: Sequence[Sequence[float]] | None = None
    """Process rewards: one value per step of a completion."""
    step_of_token: Sequence[Sequence[int]] | None = None
    """The step that each token of a completion belongs to, from 0."""
    written: Sequence[Sequence[bool] | None] | None = None
    """For each completion, True for the tokens that the policy wrote. None: all of them."""
    verdicts: Verdicts | None = None
    """The verifier's verdicts, if they are corrected for its error rates."""

    @property
    def mask_B_T(self) -> Tensor:
        """bool, shape (B, T). True for tokens in the loss."""
        masks = self.written or [None] * len(self.completions)
        rows = [
            torch.ones(len(tokens), dtype=torch.bool) if written is None else torch.tensor(written, dtype=torch.bool)
            for tokens, written in zip(self.completions, masks, strict=True)
        ]
        return pad_sequence(rows, batch_first=True) & self.counts_B[:, None]

    @property
    def rollout_logprobs_B_T(self) -> Tensor:
        """Shape (B, T), padded with 0."""
        return pad_sequence([torch.tensor(row) for row in self.rollout_logprobs], batch_first=True)

    def sequence(self, row: int) -> TokenSpan:
        """Return the prompt and completion of a row."""
        return TokenSpan((*self.prompts[row], *self.completions[row]), len(self.prompts[row]))

    def lengths(self, rows: Sequence[int]) -> list[int]:
        """Return the number of tokens of rows, including their prompts."""
        return [len(self.prompts[row]) + len(self.completions[row]) for row in rows]


def build_rollout_batch(samples: Sequence[Sample], config: RlConfig, decode: Callable[[Tokens], str]) -> RolloutBatch:
    """Build the batch of an update.

    Args:
        samples: Scored completions with rewards (see ``training_rewards``).
        config: Says whether rewards belong to steps, and whether truncated completions count.
        decode: Returns the text of tokens.

    Raises:
        RewardkitError: A component gives another number of rewards than a completion has steps.
    """
    process = config.algorithm.process
    steps = step_of_token = None
    if process is not None:
        texts = [token_texts(sample.completion.tokens, decode) for sample in samples]
        step_of_token = [steps_of_tokens(tokens, process.separator) for tokens in texts]
        steps = [
            step_rewards(sample, process, max(own) + 1) for sample, own in zip(samples, step_of_token, strict=True)
        ]
    masks_truncated = config.filter.truncated == "mask"
    rewards = [sample.scored.reward for sample in samples]
    assert None not in rewards  # noqa: S101 - the unscored completions have been removed
    return RolloutBatch(
        prompts=[sample.prompt.tokens for sample in samples],
        completions=[sample.completion.tokens for sample in samples],
        rollout_logprobs=[sample.completion.logprobs for sample in samples],
        written=[sample.completion.mask for sample in samples],
        rewards_B=torch.tensor(rewards, dtype=torch.float32),
        groups_B=torch.tensor([sample.group for sample in samples], dtype=torch.long),
        counts_B=torch.tensor(
            [not (masks_truncated and sample.completion.finish_reason == "length") for sample in samples],
            dtype=torch.bool,
        ),
        steps=steps,
        step_of_token=step_of_token,
        verdicts=None if config.correction.verifier is None else read_verdicts(samples, config.correction.verifier),
    )


def training_rewards(sample: Sample, process: ProcessConfig | None) -> Sequence[float]:
    """Return the rewards that a sample's advantages are computed from: its reward, or the rewards of its steps.

    The result is empty if the sample could not be scored, or if the component was skipped.
    """
    if sample.scored.reward is None:
        return ()
    if process is None:
        return (sample.scored.reward,)
    outcome = sample.scored.outcomes[process.component]
    return (outcome.steps or (outcome.value,)) if isinstance(outcome, Score) else ()


def step_rewards(sample: Sample, process: ProcessConfig, count: int) -> Sequence[float]:
    """Return one reward for each of the ``count`` steps of a completion.

    Raises:
        RewardkitError: The component gives another number of rewards.
    """
    outcome = sample.scored.outcomes[process.component]
    found = outcome.steps if isinstance(outcome, Score) and outcome.steps is not None else []
    if len(found) != count:
        raise RewardkitError(
            f"{sample.prompt.place}: component {process.component!r} gives {len(found)} step rewards, but algorithm.process.separator "
            f"{process.separator!r} divides the completion into {count} steps"
        )
    return found
