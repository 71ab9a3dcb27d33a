"""A composite reward as a reward of verifiers (v1).

By configuration, with the environment variable ``REWARDKIT_REWARD=/path/to/reward.yaml``:

    [env.taskset.task.rewards.rewardkit]
    fn = "rewardkit.integrations.verifiers:reward"
    [env.taskset.task.metrics.rewardkit_components]
    fn = "rewardkit.integrations.verifiers:components"

or in a task of your own:

    @vf.reward
    async def correct(self, task, trace) -> float:
        return await score(task, trace, "reward.yaml")

A rollout that could not be scored raises: verifiers records the error on its trace, which is no training sample.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rewardkit.integrations.common import (
    NotScoredError,
    component_value,
    file_from_environment,
    refuse_groups,
    refuse_missing,
    refuse_schedules,
    shared_reward,
)
from rewardkit.types import Rollout, Unscored

FINISH_REASONS = {"stop": "stop", "length": "length", "tool_calls": "stop"}
KEY = "rewardkit"
"""The key of ``trace.info`` that holds the result, with its reward_id and the kind of a failure."""


async def score(task: Any, trace: Any, file: str | Path) -> float:
    """Score a trace.

    Args:
        task: The task's data; its fields are the columns of the row.
        trace: The finished trace.
        file: The reward file.

    Returns:
        The reward.

    Raises:
        NotScoredError: The trace could not be scored.
        UsageError: The reward compares the rollouts of a group: verifiers scores one trace at a time.
        DataError: The task lacks a column that the reward reads.
    """
    found = await _result(task, trace, file)
    if found["reward"] is None:
        raise NotScoredError(Unscored(**found["unscored"]))
    return float(found["reward"])


async def reward(task: Any, trace: Any) -> float:
    """Score a trace with the reward file that ``REWARDKIT_REWARD`` names; see `score`."""
    return await score(task, trace, file_from_environment())


async def components(task: Any, trace: Any) -> Mapping[str, float]:
    """Return each component's value, as a metric: as rewards they would be added up, without weights, gate and clips."""
    found = await _result(task, trace, file_from_environment())
    return {f"rewardkit/{name}": value for name, value in found["components"].items() if value is not None}


async def _result(task: Any, trace: Any, file: str | Path) -> dict[str, Any]:
    """Score a trace once, whoever asks."""
    composite = shared_reward(file)
    known: dict[str, Any] | None = trace.info.get(KEY)
    if known is not None and known["reward_id"] == composite.reward_id:
        return known
    refuse_groups(composite, "verifiers")
    refuse_schedules(composite, "verifiers")
    rollout = to_rollout(task, trace)
    refuse_missing(composite, rollout.fields, "the task's data")
    item = await composite.ascore(rollout)
    unscored = item.unscored
    found = {
        "reward": item.reward,
        "reward_id": item.reward_id,
        "unscored": None if unscored is None else {"kind": unscored.kind, "message": unscored.message},
        "components": {name: component_value(item, name) for name in item.outcomes},
    }
    trace.info[KEY] = found
    return found


def to_rollout(task: Any, trace: Any) -> Rollout:
    """Return a trace as a rollout: all messages before the first reply are the prompt."""
    data = task.model_dump(mode="json", exclude_none=True)
    messages = [message.model_dump(mode="json", exclude_none=True) for message in trace.messages]
    first = next((number for number, message in enumerate(messages) if message["role"] == "assistant"), len(messages))
    calls = [call for call in trace.calls if call.error is None]
    return Rollout(
        messages[:first],
        messages[first:],
        {name: value for name, value in data.items() if name != "prompt"},
        num_tokens=trace.num_output_tokens or None,
        finish_reason=FINISH_REASONS.get(calls[-1].finish_reason) if calls else None,
    )
