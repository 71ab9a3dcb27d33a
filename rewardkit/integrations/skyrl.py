"""A composite reward as an environment of SkyRL (skyrl-gym), for tasks of one turn.

    from rewardkit.integrations.skyrl import register

    register()   # before the trainer is made; rows of the data set then say env_class: rewardkit

with ``environment.skyrl_gym.rewardkit.file=/path/to/reward.yaml``, or ``REWARDKIT_REWARD`` in the environment. SkyRL has no value for a
rollout without a score, so one ends the run.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rewardkit.integrations.common import (
    component_value,
    file_from_environment,
    refuse_groups,
    refuse_schedules,
    refuse_unknown,
    reward_or_raise,
    row_fields,
    score_patiently,
    shared_reward,
)
from rewardkit.types import Rollout

try:
    from skyrl_gym.envs.base_text_env import BaseTextEnv
except ImportError:
    BaseTextEnv = object

RETRY_FOR_S = 150.0
NAME = "rewardkit"


def register(name: str = NAME) -> None:
    """Make the environment known to skyrl-gym.

    Args:
        name: The ``env_class`` of the rows.
    """
    from skyrl_gym.envs.registration import register as make_known

    make_known(id=name, entry_point="rewardkit.integrations.skyrl:RewardkitEnv")


class RewardkitEnv(BaseTextEnv):  # type: ignore[misc]  # Any where skyrl-gym is not installed
    """One prompt, one answer, and its reward.

    Args:
        env_config: Has ``file``, the reward file; may have ``reference``, the column that ``reward_spec.ground_truth`` stands for (by
            default the only one that the reward reads), and ``retry_for_s``, seconds for which failures of services are tried again.
        extras: The other columns of the row.

    Raises:
        UsageError: There is no reward file, or the reward needs what SkyRL does not tell: groups, tokens, the finish reason.
        DataError: The row lacks a column that the reward reads.
    """

    def __init__(self, env_config: Any = None, extras: Any = None) -> None:
        super().__init__()
        options = dict(env_config or {})
        self._file = Path(options.get("file") or file_from_environment()).resolve()
        self._retry_for_s = float(options.get("retry_for_s", RETRY_FOR_S))
        reward = shared_reward(self._file)
        refuse_groups(reward, "SkyRL")
        refuse_schedules(reward, "SkyRL")
        refuse_unknown(reward, "SkyRL")
        columns = dict(extras or {})
        truth = dict(columns.get("reward_spec") or {})
        label = truth.get("ground_truth", columns)
        self._fields = row_fields(reward, label, options.get("reference"), "SkyRL's row", columns)
        self._prompt: Any = ""
        self._values: dict[str, float] = {}

    def init(self, prompt: Any) -> tuple[Any, dict[str, Any]]:
        """Keep the prompt, and return it as it is."""
        self._prompt = prompt
        return prompt, {}

    def step(self, action: str) -> dict[str, Any]:
        """Score the answer.

        Args:
            action: The answer.

        Returns:
            What SkyRL's environments return, with ``done`` true.

        Raises:
            NotScoredError: The answer could not be scored.
        """
        (item,) = score_patiently(self._file, [Rollout(self._prompt, action, self._fields)], self._retry_for_s)
        values = {name: component_value(item, name) for name in item.outcomes}
        self._values = {f"rewardkit/{name}": value for name, value in values.items() if value is not None}
        metadata = {"reward_id": item.reward_id, **self._values}
        return {"observations": [], "reward": reward_or_raise(item), "done": True, "metadata": metadata}

    def get_metrics(self) -> dict[str, Any]:
        """Return each component's value."""
        return dict(self._values)
