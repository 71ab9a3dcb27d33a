"""The verdicts of a verifier that errs: what it said of scored completions, and what it says when it is asked again."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from rewardkit.composite import CompositeReward
from rewardkit.errors import RewardkitError
from rewardkit.train.config import VerifierNoise
from rewardkit.train.distributed import collectives
from rewardkit.train.distributed.failure_propagation import raise_on_all_ranks
from rewardkit.train.losses.verifier_noise import ExpectedVerdicts, expected_verdicts
from rewardkit.train.rollout.final_answer import final_answer
from rewardkit.train.rollout.generate import Sample
from rewardkit.types import Score, ScoredRollout

DOUBT = (0.05, 0.95)
"""Completions that are right with a probability in between are asked about again."""


@dataclass(frozen=True, slots=True)
class Verdicts:
    """What a verifier said of each completion. Shapes: (B,)."""

    values_B: Tensor
    """1: accepted · 0: rejected · NaN: not judged, such as where a gate is closed."""
    effects_B: Tensor
    """What a verdict of 1 adds to the reward."""
    texts_B: Tensor
    """int64. Equal for completions of equal tokens."""
    answers_B: Tensor | None = None
    """int64. Equal for completions with the same final answer, of which at most one per prompt is right; None: nothing is known of
    answers."""
    further_B_2: Tensor | None = None
    """The numbers of further rejections and acceptances of each completion, shape (B, 2); None: the verifier was asked once."""

    def expected(self, groups_B: Tensor, noise: VerifierNoise) -> ExpectedVerdicts:
        """Estimate how likely each completion is right, and how much the true verdicts of a group vary."""
        return expected_verdicts(
            self.values_B,
            groups_B,
            fp=noise.fp,
            fn=noise.fn,
            texts_B=self.texts_B,
            answers_B=self.answers_B,
            further_B_2=self.further_B_2,
            is_redrawn=noise.repeated,
        )


def read_verdicts(samples: Sequence[Sample], noise: VerifierNoise) -> Verdicts:
    """Return what the verifier said of scored completions.

    Args:
        samples: The completions.
        noise: Says which component is the verifier, and how final answers are read.

    Raises:
        RewardkitError: A verdict is neither 0 nor 1.
    """
    values, effects = [], []
    for sample in samples:
        value = _verdict(sample.scored, noise.component)
        if value not in {0, 1} and not math.isnan(value):
            subject = "the reward" if noise.component is None else f"component {noise.component!r}"
            remedy = (
                "name the component that is the verifier"
                if noise.component is None
                else "name a component whose values are 0 and 1"
            )
            raise RewardkitError(
                f"{sample.prompt.place}: {subject} gives {value:g}, but correction.verifier corrects verdicts of 0 and 1; {remedy} "
                "(correction.verifier.component), or remove the correction"
            )
        values.append(value)
        if math.isnan(value):
            effects.append(0.0)
        else:
            effects.append(1.0 if noise.component is None else sample.scored.weights[noise.component])
    texts = [tuple(sample.completion.tokens) for sample in samples]
    answers = None
    if noise.answer is not None:
        found = [final_answer(sample.scored.rollout.completion_text, noise.answer) for sample in samples]
        # A completion without an answer has the same answer as equal completions only.
        answers = [text if answer is None else answer.strip() for text, answer in zip(texts, found, strict=True)]
    return Verdicts(
        torch.tensor(values, dtype=torch.float32),
        torch.tensor(effects, dtype=torch.float32),
        _numbered(texts),
        None if answers is None else _numbered(answers),
    )


def ask_again(
    verdicts: Verdicts,
    groups_B: Tensor,
    samples: Sequence[Sample],
    reward: CompositeReward,
    noise: VerifierNoise,
    step: int,
) -> Verdicts:
    """Score completions again whose verdicts leave it in doubt whether they are right.

    In each of ``noise.ask − 1`` rounds, one completion is scored of each answer (or of each text, if answers are not read) that is right
    with a probability between those of ``DOUBT``. Each process scores some of them, and all processes get all verdicts.

    Args:
        verdicts: What the verifier said of the completions when they were first scored.
        groups_B: Integers; equal for completions of one prompt.
        samples: The completions.
        reward: The reward.
        noise: The verifier's error rates.
        step: The training step, for weight schedules.
    """
    low, high = DOUBT
    classes_B = verdicts.texts_B if verdicts.answers_B is None else verdicts.answers_B
    further_B_2 = torch.zeros(len(samples), 2)
    for _ in range(noise.ask - 1):
        verdicts = replace(verdicts, further_B_2=further_B_2)
        right_B = verdicts.expected(groups_B, noise).right_B
        doubted_B = (right_B > low) & (right_B < high) & ~verdicts.values_B.isnan()
        rows = doubted_B.nonzero()[:, 0].tolist()
        first = {(int(groups_B[row]), int(classes_B[row])): row for row in reversed(rows)}
        if not first:
            break
        own = collectives.local_shard(sorted(first.values()))
        with raise_on_all_ranks():
            scored = reward.score([samples[row].scored.rollout for row in own], step=step) if own else []
        asked = [(row, _verdict(one, noise.component)) for row, one in zip(own, scored, strict=True)]
        for row, value in collectives.all_gather(asked):
            if value in {0, 1}:
                further_B_2[row, int(value)] += 1
    return replace(verdicts, further_B_2=further_B_2)


def _verdict(scored: ScoredRollout, component: str | None) -> float:
    """Return the value of the verifier: NaN where it has not judged, or where the completion could not be scored."""
    if component is None:
        return math.nan if scored.reward is None else scored.reward
    outcome = scored.outcomes[component]
    has_value = isinstance(outcome, Score) and scored.contributions[component] is not None
    return outcome.value if isinstance(outcome, Score) and has_value else math.nan


def _numbered(values: Iterable[Hashable]) -> Tensor:
    """Return integers that are equal where values are. Shape: (B,)."""
    numbers: dict[Hashable, int] = {}
    return torch.tensor([numbers.setdefault(value, len(numbers)) for value in values])
