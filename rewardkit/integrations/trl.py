"""A composite reward as a reward function of TRL's trainers (GRPO, RLOO and AsyncGRPO).

    from rewardkit.integrations.trl import reward_funcs

    trainer = GRPOTrainer(..., reward_funcs=reward_funcs("reward.yaml", num_generations=8, max_completion_length=512))

An unscored rollout is None to TRL, which leaves it out of its group's baseline. TRL does so only where every function says
None, so the composite is one function, and its components are logged, not returned.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rewardkit.composite import CompositeReward, load_reward
from rewardkit.errors import DataError, TooManyUnscoredError, UsageError
from rewardkit.types import Rollout, Score, ScoredRollout

MIN_ROWS_TO_ABORT = 200
"""Below this many rollouts the share of unscored ones says too little to end a run."""
OLDEST_TRL = (1, 6)
"""Earlier versions count None as a reward of 0."""


class TrlReward:
    """One reward function for TRL. It pickles by the path of its file and is rebuilt in every process that calls it.

    Raises:
        UsageError: The installed TRL is too old, or the reward compares the rollouts of a group and ``num_generations`` is missing.
        ConfigError: The reward file is wrong.
    """

    def __init__(self, reward: str | Path, num_generations: int | None, max_completion_length: int | None) -> None:
        _refuse_old_trl()
        self.__name__ = "rewardkit"
        self.path = Path(reward).resolve()
        self.num_generations = num_generations
        self.max_completion_length = max_completion_length
        self._built: tuple[int, CompositeReward] | None = None
        self._rows = self._unscored = 0
        if self.reward.config.needs_groups and num_generations is None:
            raise UsageError(f"{reward} compares the rollouts of a group: pass num_generations, as in GRPOConfig")

    @property
    def reward(self) -> CompositeReward:
        """The composite reward, built in this process: threads and workers of a parent don't survive a fork."""
        if self._built is None or self._built[0] != os.getpid():
            self._built = os.getpid(), load_reward(self.path)
        return self._built[1]

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_built": None}

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
        """Score a batch as TRL asks for it.

        Args:
            prompts: N prompts, as text or chat messages.
            completions: N completions, likewise.
            completion_ids: The tokens of each completion.
            trainer_state: Its ``global_step`` is the step of weight schedules.
            log_extra: Logs a list of N values.
            log_metric: Logs a number.
            columns: The other columns of the data set, N values each.

        Returns:
            N rewards; None where a rollout could not be scored.

        Raises:
            DataError: A column that the reward reads is missing.
            UsageError: A group-relative reward got a part of a group.
            TooManyUnscoredError: More rollouts than the reward file allows could not be scored.
        """
        fields = {
            name: values for name, values in columns.items() if isinstance(values, list) and name != "environments"
        }
        if missing := [name for name in self.reward.config.needed_fields() if name not in fields]:
            raise DataError(f"the data set has no column {', '.join(map(repr, missing))}, which {self.path.name} reads")
        rollouts = [
            Rollout(
                prompt,
                completion,
                {name: values[index] for name, values in fields.items()},
                group=self._group(prompts, index),
                num_tokens=None if completion_ids is None else len(completion_ids[index]),
                finish_reason=None if completion_ids is None else self._finish_reason(len(completion_ids[index])),
            )
            for index, (prompt, completion) in enumerate(zip(prompts, completions, strict=True))
        ]
        scored = self.reward.score(rollouts, step=getattr(trainer_state, "global_step", 0))
        _log(scored, log_extra, log_metric)
        self._refuse_too_many_unscored(scored)
        return [item.reward for item in scored]

    def _refuse_too_many_unscored(self, scored: Sequence[ScoredRollout]) -> None:
        """End the run where the share of unscored rollouts so far exceeds ``abort_above``."""
        failures = [item.unscored for item in scored if item.unscored is not None]
        self._rows += len(scored)
        self._unscored += len(failures)
        share, most = self._unscored / max(self._rows, 1), self.reward.config.abort_above
        if failures and self._rows >= MIN_ROWS_TO_ABORT and share > most:
            raise TooManyUnscoredError(
                f"{share:.0%} of {self._rows:,} rollouts could not be scored ({self.path.name} allows {most:.0%}); "
                f"the last: {failures[-1].kind}: {failures[-1].message}"
            )

    def _finish_reason(self, tokens: int) -> str | None:
        if self.max_completion_length is None:
            return None
        return "length" if tokens >= self.max_completion_length else "stop"

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
    """Return what TRL's ``reward_funcs`` takes.

    Args:
        reward: The reward file.
        num_generations: As in ``GRPOConfig``; needed where the reward compares the rollouts of a group.
        max_completion_length: As in ``GRPOConfig``; without it, rewards don't know which completions were truncated.

    Raises:
        UsageError: The installed TRL is too old, or ``num_generations`` is needed and missing.
        ConfigError: The reward file is wrong.
    """
    return [TrlReward(reward, num_generations, max_completion_length)]


def _refuse_old_trl() -> None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        found = version("trl")
    except PackageNotFoundError:
        raise UsageError("TRL is not installed: pip install 'trl>=1.6'") from None
    if tuple(int(part) for part in found.split(".")[:2]) < OLDEST_TRL:
        raise UsageError(f"TRL {found} counts rollouts without a score as 0: pip install 'trl>=1.6'")


def _log(
    scored: Sequence[ScoredRollout],
    log_extra: Callable[[str, list[Any]], None] | None,
    log_metric: Callable[[str, float], None] | None,
) -> None:
    """Log every component, and the share of rollouts without a score."""
    for name in scored[0].outcomes if scored else ():
        outcomes = [item.outcomes[name] for item in scored]
        values = [outcome.value if isinstance(outcome, Score) else None for outcome in outcomes]
        if log_extra is not None:
            log_extra(name, values)
        present = [value for value in values if value is not None]
        if log_metric is not None and present:
            log_metric(f"rewardkit/{name}", math.fsum(present) / len(present))
    if log_metric is not None and scored:
        log_metric("rewardkit/unscored", sum(item.unscored is not None for item in scored) / len(scored))
