"""Evaluates a policy on held-out prompts during training: accuracy, reward, components, length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from rewardkit.composite import CompositeReward
from rewardkit.config.expression import Expression
from rewardkit.rollout_engine import RolloutEngine, Sampling
from rewardkit.train.data.tokenization import Prompt
from rewardkit.train.evaluation.correctness import is_correct
from rewardkit.train.models.policy import Policy
from rewardkit.train.rollout.generate import Sample, collect
from rewardkit.train.seeds import step_seed
from rewardkit.types import Score


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The completions of an evaluation."""

    samples: Sequence[Sample]
    condition: Expression | None

    def summary(self) -> dict[str, float]:
        """Return the mean metrics, for the log."""
        rewards = [sample.scored.reward for sample in self.samples if sample.scored.reward is not None]
        result = {}
        if self.condition is not None:
            verdicts = [is_correct(sample.scored, self.condition) for sample in self.samples]
            known = [verdict for verdict in verdicts if verdict is not None]
            result["accuracy"] = fmean(known) if known else float("nan")
        result["reward"] = fmean(rewards) if rewards else float("nan")
        for name in self.samples[0].scored.outcomes:
            values = [
                outcome.value for sample in self.samples if isinstance(outcome := sample.scored.outcomes[name], Score)
            ]
            if values:
                result[f"component/{name}"] = fmean(values)
        result["length"] = fmean(len(sample.completion.written) for sample in self.samples)
        result["truncated"] = fmean(sample.completion.finish_reason == "length" for sample in self.samples)
        result["unscored"] = fmean(sample.scored.unscored is not None for sample in self.samples)
        return result


def evaluate(
    policy: Policy,
    engine: RolloutEngine,
    reward: CompositeReward,
    prompts: Sequence[Prompt],
    sampling: Sampling,
    *,
    condition: Expression | None = None,
    samples: int = 1,
    seed: int = 0,
    step: int = 0,
) -> Evaluation:
    """Sample completions of every prompt, and score them.

    Args:
        policy: The policy, whose tokenizer decodes the completions.
        engine: The rollout engine.
        reward: The reward.
        prompts: The held-out prompts.
        sampling: How completions are drawn; temperature 0 is greedy.
        condition: The condition for a correct completion.
        samples: The number of completions per prompt.
        seed: The seed of the random numbers.
        step: The training step, for weight schedules.

    Returns:
        The scored completions.
    """
    seeds = [[step_seed(seed, "eval", index, place) for place in range(samples)] for index in range(len(prompts))]
    return Evaluation(collect(engine, reward, policy.decode, prompts, seeds, sampling, step), condition)
