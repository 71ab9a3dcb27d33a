"""A composite reward as a scorer of Inspect (inspect_ai).

    from rewardkit.integrations.inspect import reward_scorer

    Task(dataset=…, solver=…, scorer=reward_scorer("reward.yaml"))

A sample that could not be scored is ``Score.unscored``: it is counted, and no metric takes it for a 0.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rewardkit.composite import CompositeReward
from rewardkit.integrations.common import (
    component_value,
    label_column,
    refuse_groups,
    refuse_missing,
    require,
    shared_reward,
)
from rewardkit.types import Rollout, Unscored

if TYPE_CHECKING:
    from inspect_ai.scorer import Score, Scorer, Target
    from inspect_ai.solver import TaskState

OLDEST_INSPECT = (0, 3, 200)
FINISH_REASONS = {"stop": "stop", "tool_calls": "stop", "max_tokens": "length", "model_length": "length"}


def reward_scorer(file: str | Path, *, reference: str | None = None) -> Scorer:
    """Return a scorer with the metrics mean and stderr of the reward and of each component.

    Args:
        file: The reward file.
        reference: The column that a sample's target stands for; by default the only one that the reward reads. Metadata that has a
            column of that name goes first.

    Raises:
        ConfigError: The reward file is wrong.
        UsageError: inspect_ai is missing or too old, or the reward compares the rollouts of a group.
    """
    require("inspect-ai", OLDEST_INSPECT, "has no word for samples without a score")
    from inspect_ai.scorer import mean, scorer, stderr

    path = Path(file).resolve()
    reward = shared_reward(path)
    refuse_groups(reward, "Inspect")
    column = label_column(reward, reference)
    metrics = {name: [mean(), stderr()] for name in ("reward", *reward.config.component_names)}

    @scorer(metrics=metrics, name="rewardkit")  # type: ignore[untyped-decorator, unused-ignore]
    def rewardkit(file: str, reference: str) -> Scorer:
        async def score(state: TaskState, target: Target) -> Score:
            return await _score(shared_reward(file), to_rollout(state, target, reference), state.output.completion)

        return score

    return rewardkit(file=str(path), reference=column)


def to_rollout(state: TaskState, target: Target, reference: str) -> Rollout:
    """Return a sample as a rollout: the first messages are the prompt, the model's and the tools' turns the completion."""
    messages = [{"role": message.role, "content": message.text} for message in state.messages]
    first = next((number for number, item in enumerate(messages) if item["role"] == "assistant"), len(messages))
    fields = {reference: target.text or None, "sample_id": state.sample_id, **state.metadata}
    output = state.output
    return Rollout(
        messages[:first] or state.input_text,
        messages[first:] or output.completion,
        fields,
        num_tokens=output.usage.output_tokens if output.usage else None,
        finish_reason=FINISH_REASONS.get(output.stop_reason) if output.choices else None,
    )


async def _score(reward: CompositeReward, rollout: Rollout, answer: str) -> Score:
    from inspect_ai.scorer import Score

    refuse_missing(reward, rollout.fields, "the sample")
    item = await reward.ascore(rollout)
    metadata: dict[str, Any] = {"reward_id": item.reward_id}
    reasons = []
    for name, outcome in item.outcomes.items():
        reasons.append(f"{name}: {outcome.message if isinstance(outcome, Unscored) else outcome.reason}")
    explanation = "; ".join(reasons)
    if item.unscored is not None and item.reward is None:
        metadata["unscored"] = {"kind": item.unscored.kind, "message": item.unscored.message}
        return Score.unscored(answer=answer, explanation=explanation, metadata=metadata)
    values = {name: component_value(item, name) for name in item.outcomes}
    numbers = {name: math.nan if value is None else value for name, value in values.items()}
    return Score(value={"reward": item.reward, **numbers}, answer=answer, explanation=explanation, metadata=metadata)
