"""Decides whether a completion is correct, by the condition ``evaluate.correct``."""

from __future__ import annotations

from collections.abc import Sequence

from rewardkit.config import RewardConfig
from rewardkit.config.expression import EvaluationError, Expression, ExpressionError, parse_expression
from rewardkit.config.validate import did_you_mean
from rewardkit.errors import ConfigError, DataError, Location
from rewardkit.train.config import RlConfig
from rewardkit.types import Score, ScoredRollout


def correct_condition(
    text: str | None, components: Sequence[str], location: Location | None = None
) -> Expression | None:
    """Parse the condition under which a completion is correct. Raises ConfigError if it is malformed or names no component."""
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


def evaluation_warning(config: RlConfig, reward: RewardConfig) -> str | None:
    """Return a warning if the reward can't evaluate single completions, else None."""
    measure = config.evaluate
    if config.data.eval is None or measure.correct is not None or measure.gold is not None or not reward.needs_groups:
        return None
    return (
        "the reward compares the completions of a prompt, but an evaluation has one per prompt, so its reward and the choice of the "
        "best model mean little; set evaluate.correct or evaluate.gold"
    )


def is_correct(scored: ScoredRollout, condition: Expression) -> bool | None:
    """Return whether a completion is correct; None if a component that the condition needs could not be scored."""
    outcomes = {name: scored.outcomes.get(name) for name in condition.components}
    values = {name: outcome.value if isinstance(outcome, Score) else None for name, outcome in outcomes.items()}
    if scored.unscored is not None and None in values.values():
        return None
    try:
        return bool(condition(values, scored.rollout))
    except EvaluationError as error:
        raise DataError(f"{condition.text!r} can't be decided: {error}") from None
