"""A composite reward in OpenRLHF, as the Python file of ``--reward.remote_url``. For the service, see ``rewardkit serve``.

    # reward_func.py
    from rewardkit.integrations.openrlhf import reward_function
    reward_func = reward_function("reward.yaml")

OpenRLHF logs an exception of the function and goes on with a sample without reward, which later ends the run. So a rollout that a
service or a time-out left unscored is scored again until it has a score or ``retry_for_s`` is over.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from rewardkit.integrations.common import (
    NotScoredError,
    completion_of,
    label_column,
    refuse_groups,
    refuse_schedules,
    refuse_unknown,
    row_fields,
    score_patiently,
    shared_reward,
    token_counter,
)
from rewardkit.types import Rollout, ScoredRollout


def reward_function(
    file: str | Path,
    *,
    label: str | None = None,
    unscored: Literal["fail"] | float = "fail",
    retry_for_s: float = 150.0,
    tokenizer: Any = None,
) -> Callable[..., dict[str, Any]]:
    """Return what OpenRLHF calls ``reward_func``.

    Args:
        file: The reward file.
        label: The column that a label stands for; by default the only one that the reward reads. A label that is an object holds all
            columns.
        unscored: ``"fail"`` raises for a rollout that could not be scored, which ends the run; a number trains it with that number.
        retry_for_s: Seconds for which rollouts that a service or a time-out left unscored are scored again.
        tokenizer: Counts the tokens of completions for rewards that need their number, which OpenRLHF does not tell: the name or folder of
            a tokenizer, a tokenizer, or a function of a text.

    Raises:
        ConfigError: The reward file is wrong.
        UsageError: The reward compares the rollouts of a group, reads the finish reason, or counts tokens and ``tokenizer`` is missing; or
            several columns are read and ``label`` is missing.
    """
    path = Path(file).resolve()
    reward = shared_reward(path)
    refuse_groups(reward, "OpenRLHF")
    refuse_schedules(reward, "OpenRLHF")
    refuse_unknown(reward, "OpenRLHF", tokenizer)
    count = None if tokenizer is None else token_counter(tokenizer)
    column = label_column(reward, label)

    def reward_func(queries: Sequence[str], prompts: Sequence[str], labels: Sequence[Any], **_: Any) -> dict[str, Any]:
        rollouts = []
        for query, prompt, value in zip(queries, prompts, labels, strict=True):
            fields = row_fields(shared_reward(path), value, column, "OpenRLHF's label")
            completion = completion_of(query, prompt)
            tokens = None if count is None else count(completion)
            rollouts.append(Rollout(prompt, completion, fields, num_tokens=tokens))
        scored = score_patiently(path, rollouts, retry_for_s)
        rewards = [_reward_of(item, unscored) for item in scored]
        logs = {
            name: [item.contributions.get(name) or 0.0 for item in scored] for name in reward.config.component_names
        }
        failed = [float(item.unscored is not None) for item in scored]
        return {
            "rewards": _tensor(rewards),
            "scores": _tensor(rewards),
            "extra_logs": {**_tensors(logs), "unscored": _tensor(failed)},
        }

    return reward_func


def _reward_of(item: ScoredRollout, unscored: Literal["fail"] | float) -> float:
    if item.unscored is None or item.reward is not None:
        return float(item.reward or 0.0)
    if unscored == "fail":
        raise NotScoredError(item.unscored)
    return float(unscored)


def _tensor(values: list[float]) -> Any:
    import torch

    return torch.tensor(values)


def _tensors(values: dict[str, list[float]]) -> dict[str, Any]:
    return {name: _tensor(items) for name, items in values.items()}
