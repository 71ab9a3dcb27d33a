"""How good a policy is on held-out prompts while it is trained: accuracy, reward and its components, length."""

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
    """All completions of an evaluation."""

    samples: Sequence[Sample]
    condition: Expression | None

    def summary(self) -> dict[str, float]:
        """Means, for the log."""
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
        result["length"] = fmean(len(sample.completion.tokens) for sample in self.samples)
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
    """Answer every prompt ``samples`` times and score the answers.

    Args:
        policy: For its tokenizer.
        engine: Samples.
        reward: Scores.
        prompts: The held-out prompts.
        sampling: With temperature 0 greedy.
        condition: When a completion counts as right.
        samples: Completions of each prompt.
        seed: Of the random numbers.
        step: For weight schedules.
    """
    seeds = [[step_seed(seed, "eval", index, place) for place in range(samples)] for index in range(len(prompts))]
    return Evaluation(collect(engine, reward, policy.decode, prompts, seeds, sampling, step), condition)
