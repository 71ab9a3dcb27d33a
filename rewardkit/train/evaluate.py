"""How good a policy is on held-out prompts while it is trained: accuracy, reward and its components, length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from rewardkit.composite import CompositeReward
from rewardkit.config import RewardConfig
from rewardkit.config.expression import EvaluationError, Expression, ExpressionError, parse_expression
from rewardkit.config.validate import did_you_mean
from rewardkit.errors import ConfigError, DataError, Location
from rewardkit.rollout_engine import RolloutEngine, Sampling
from rewardkit.train.config import RlConfig
from rewardkit.train.data import Prompt
from rewardkit.train.policy import Policy
from rewardkit.train.rollouts import Sample, collect
from rewardkit.train.seeds import step_seed
from rewardkit.types import Score, ScoredRollout


def correct_condition(
    text: str | None, components: Sequence[str], location: Location | None = None
) -> Expression | None:
    """The condition under which a completion counts as right. Raises ConfigError where it refers to no component."""
    if text is None:
        return None
    try:
        expression = parse_expression(text)
    except ExpressionError as error:
        raise ConfigError((location, str(error))) from None
    for name in expression.components:
        if name not in components:
            hint = did_you_mean(name, components) or f"; there are {', '.join(components)}"
            raise ConfigError((location, f"there is no component {name!r}{hint}"))
    return expression


def doubt(config: RlConfig, reward: RewardConfig) -> str | None:
    """What to warn of before evaluations whose reward says little; None where it says what it should."""
    measure = config.evaluate
    if config.data.eval is None or measure.correct is not None or measure.gold is not None or not reward.needs_groups:
        return None
    return (
        "the reward compares the completions of a prompt, and an evaluation has one of each: what it then says of a model, and "
        "which is the best, means little; set evaluate.correct or evaluate.gold"
    )


def is_correct(scored: ScoredRollout, condition: Expression) -> bool | None:
    """Whether a completion is right; None where a component that decides it could not be scored."""
    outcomes = {name: scored.outcomes.get(name) for name in condition.components}
    values = {name: outcome.value if isinstance(outcome, Score) else None for name, outcome in outcomes.items()}
    if scored.unscored is not None and None in values.values():
        return None
    try:
        return bool(condition(values, scored.rollout))
    except EvaluationError as error:
        raise DataError(f"{condition.text!r} can't be decided: {error}") from None


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
