"""A composite reward as a reward function of TRL's trainers (GRPO, RLOO and AsyncGRPO).

    from rewardkit.integrations.trl import reward_funcs

    trainer = GRPOTrainer(..., reward_funcs=reward_funcs("reward.yaml", num_generations=8, max_completion_length=512))

An unscored rollout is None to TRL, which leaves it out of its group's baseline if every function says None. So the composite is one
function, and its components are logged.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rewardkit.composite import CompositeReward
from rewardkit.errors import UsageError
from rewardkit.integrations import common
from rewardkit.types import Rollout


class TrlReward:
    """One reward function for TRL. It pickles by the path of its file and is rebuilt in every process that calls it.

    Raises:
        UsageError: TRL is too old, or the reward needs ``num_generations`` or ``max_completion_length`` and it is missing.
        ConfigError: The reward file is wrong.
    """

    def __init__(self, reward: str | Path, num_generations: int | None, max_completion_length: int | None) -> None:
        common.require("trl", (1, 6), "counts rollouts without a score as 0")
        self.__name__ = "rewardkit"
        self.path = Path(reward).resolve()
        self.num_generations = num_generations
        self.max_completion_length = max_completion_length
        self._share = common.UnscoredShare()
        if self.reward.config.needs_groups and num_generations is None:
            raise UsageError(f"{reward} compares the rollouts of a group: pass num_generations, as in GRPOConfig")
        if self.reward.requirements.finish_reason and max_completion_length is None:
            raise UsageError(f"{reward} reads the finish reason: pass max_completion_length, as in GRPOConfig")

    @property
    def reward(self) -> CompositeReward:
        """The composite reward, as this process has it."""
        return common.shared_reward(self.path)

    def __call__(
        self,
        prompts: Sequence[Any],
        completions: Sequence[Any],
        completion_ids: Sequence[Sequence[int]] | None = None,
        trainer_state: Any = None,
        log_extra: Callable[[str, list[Any]], None] | None = None,
        log_metric: Callable[[str, float], None] | None = None,
        **columns: Any,
    ) -> list[float | None]:
        """Return N rewards for a batch of TRL's; None where a rollout could not be scored.

        Args:
            prompts: N prompts, as text or chat messages.
            completions: N completions, likewise.
            completion_ids: The tokens of each completion.
            trainer_state: Its ``global_step`` is the step of weight schedules. AsyncGRPO gives none.
            log_extra: Logs a list of N values.
            log_metric: Logs a number.
            columns: The other columns of the data set, N values each.
        """
        fields = {name: cells for name, cells in columns.items() if isinstance(cells, list) and name != "environments"}
        common.refuse_missing(self.reward, fields, "the data set")
        if trainer_state is None:
            common.refuse_schedules(self.reward, "AsyncGRPO")
        rollouts = [
            Rollout(
                prompt,
                completion,
                {name: cells[index] for name, cells in fields.items()},
                group=self._group(prompts, index),
                num_tokens=None if completion_ids is None else len(completion_ids[index]),
                finish_reason=None if completion_ids is None else self._finish_reason(len(completion_ids[index])),
            )
            for index, (prompt, completion) in enumerate(zip(prompts, completions, strict=True))
        ]
        scored = self.reward.score(rollouts, step=getattr(trainer_state, "global_step", 0))
        common.log_components(scored, log_extra, log_metric)
        self._share.add(scored, self.reward)
        return [item.reward for item in scored]

    def _finish_reason(self, tokens: int) -> str | None:
        most = self.max_completion_length
        return None if most is None else "length" if tokens >= most else "stop"

    def _group(self, prompts: Sequence[Any], index: int) -> int | None:
        """Return the number of a row's group: TRL hands over the generations of a prompt side by side."""
        size = self.num_generations
        if size is None:
            return None
        first = index - index % size
        if self.reward.config.needs_groups and prompts[first : first + size] != [prompts[first]] * size:
            raise UsageError(
                f"{self.path.name} compares the rollouts of a group, and this process got a part of one: make "
                "per_device_train_batch_size a multiple of num_generations, or remove the group-relative component"
            )
        return index // size


def reward_funcs(
    reward: str | Path, *, num_generations: int | None = None, max_completion_length: int | None = None
) -> list[TrlReward]:
    """Return what TRL's ``reward_funcs`` takes; it raises as `TrlReward` does.

    Args:
        reward: The reward file.
        num_generations: As in ``GRPOConfig``; needed where the reward compares the rollouts of a group.
        max_completion_length: As in ``GRPOConfig``; without it, rewards don't know which completions were truncated.
    """
    return [TrlReward(reward, num_generations, max_completion_length)]
