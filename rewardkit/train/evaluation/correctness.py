"""Todo: say what this is."""

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
