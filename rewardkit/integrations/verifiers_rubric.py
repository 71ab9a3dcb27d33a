"""A composite reward as a Rubric of verifiers up to 0.3. For verifiers 0.4 (v1), see `rewardkit.integrations.verifiers`.

    from rewardkit.integrations.verifiers_rubric import rubric

    environment = vf.SingleTurnEnv(dataset=…, rubric=rubric("reward.yaml"))

A Rubric turns exceptions of its functions into 0. This one has no functions: a rollout that could not be scored gets ``state["error"]``,
the mean of its scored siblings and the advantage 0, so that neither it nor the others learn from the failure.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rewardkit.composite import CompositeReward
from rewardkit.config.paths import add_field_paths
from rewardkit.errors import UsageError
from rewardkit.integrations.common import (
    component_value,
    plain,
    refuse_groups,
    refuse_missing,
    refuse_schedules,
    reward_or_raise,
    shared_reward,
)
from rewardkit.types import Rollout


def rubric(file: str | Path, *, reference: str = "answer", parser: Any = None) -> Any:
    """Return a Rubric.

    Args:
        file: The reward file.
        reference: The column that a state's answer stands for.
        parser: As of ``vf.Rubric``.

    Raises:
        ConfigError: The reward file is wrong.
        UsageError: verifiers is missing, or has no Rubric any more.
    """
    try:
        from verifiers.rubrics.rubric import Rubric
    except ImportError:
        raise UsageError(
            "verifiers with Rubrics is not installed: pip install 'verifiers<0.4'. For later versions, see "
            "rewardkit.integrations.verifiers"
        ) from None
    path = Path(file).resolve()
    refuse_schedules(shared_reward(path), "verifiers")

    class RewardkitRubric(Rubric):  # type: ignore[misc, unused-ignore]
        async def score_rollout(self, state: Any) -> None:
            refuse_groups(shared_reward(path), "verifiers without score_group")
            await _score(path, [state], reference)

        async def score_group(self, states: list[Any]) -> None:
            await _score(path, states, reference)

    return RewardkitRubric(funcs=[], parser=parser)


async def _score(path: Path, states: list[Any], reference: str) -> None:
    """Set reward, advantage and metrics of the states of one prompt.

    Raises:
        NotScoredError: None of them could be scored.
    """
    if not states:
        return
    reward = shared_reward(path)
    rollouts = [to_rollout(reward, state, reference) for state in states]
    for rollout in rollouts:
        refuse_missing(reward, rollout.fields, "the state")
    scored = await reward.ascore(rollouts)
    known = [item.reward for item in scored if item.reward is not None]
    mean = math.fsum(known) / len(known) if known else reward_or_raise(scored[0])
    for state, item in zip(states, scored, strict=True):
        values = {name: component_value(item, name) for name in item.outcomes}
        state["reward"] = mean if item.reward is None else item.reward
        state["advantage"] = state["reward"] - mean
        state["metrics"] = {f"rewardkit/{name}": value for name, value in values.items() if value is not None}
        for step in state.get("trajectory") or ():
            step["reward"] = state["reward"] if step.get("reward") is None else step["reward"]
            step["advantage"] = state["advantage"] if step.get("advantage") is None else step["advantage"]
        if item.unscored is not None and item.reward is None:
            from verifiers.errors import InfraError

            state["error"] = InfraError(f"not scored ({item.unscored.kind}): {item.unscored.message}")


def to_rollout(reward: CompositeReward, state: Mapping[str, Any], reference: str) -> Rollout:
    """Return a state as a rollout.

    Args:
        reward: The reward, whose columns the state has.
        state: The finished state.
        reference: The column that its answer stands for.
    """
    row = {name: value for name, value in (state.get("input") or {}).items() if name != "prompt"}
    info = state.get("info") or row.get("info") or {}
    fields = plain({**(info if isinstance(info, Mapping) else {}), **row, reference: state.get("answer") or None})
    add_field_paths(fields, reward.config.field_paths)
    turns = [step["tokens"] for step in state.get("trajectory") or () if step.get("tokens")]
    tokens = sum(len(turn["completion_ids"]) for turn in turns) or None
    reason = "length" if state.get("is_truncated") else None
    return Rollout(plain(state["prompt"]), plain(state["completion"]), fields, 0, tokens, reason)
