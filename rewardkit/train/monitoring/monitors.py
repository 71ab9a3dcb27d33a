"""Watches a run for reward hacking and collapse: a metric that leaves its bounds for some steps in a row raises an alarm.

The default bounds are rules of thumb, not theory. Each can be changed, or switched off with null.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean, pstdev
from typing import Any

from rewardkit.monitor import Monitor
from rewardkit.train.config import MonitorsConfig
from rewardkit.train.config.monitors import GOLD_DROP, MONITORS, bound_of

FALSE_ALARMS = 0.05
"""The probability of a false alarm of ``gold_drop`` in a run with a sound reward that must not be exceeded."""
LEAST_NOISE = 2.0
"""With few evaluations, too, the held-out reward must fall by this many standard errors: with few prompts they are rough."""


@dataclass(frozen=True, slots=True)
class Alarm:
    """Something that a person should look at."""

    name: str
    """The monitor's name."""
    message: str
    """The measured value, and what it may mean."""
    metrics: tuple[str, ...] = ()
    """The metrics that the monitor watches."""


def standard_error(values: Sequence[float]) -> float:
    """Return the standard error of the mean of ``values``."""
    return pstdev(values) / math.sqrt(len(values))


def noise(evaluations: int) -> float:
    """Return by how many standard errors the held-out reward must fall to raise an alarm.

    If nothing changes, an evaluation is that much worse than a given other one with a probability p, and in half of these cases the
    trained reward of the same answers is no lower. Among n evaluations this happens with a probability of at most n·p/2 (Bonferroni),
    which is ``FALSE_ALARMS``. That the best of many evaluations is partly the luckiest adds to it; that a sound reward falls together
    with the held-out one takes more away. For a reward that is hardly related to the held-out one false alarms are more frequent.

    Args:
        evaluations: The number of evaluations of the run after the first.
    """
    return max(-NormalDist().inv_cdf(2 * FALSE_ALARMS / max(evaluations, 1)), LEAST_NOISE)


class Monitors:
    """Counts for how many steps each metric has been out of its bounds. Checkpoints keep the state, which is plain data."""

    def __init__(self, config: MonitorsConfig, monitors: Sequence[Monitor] = MONITORS, *, evaluations: int = 1) -> None:
        """Create the monitors.

        Args:
            config: The bounds, and how long a metric must be out of them.
            monitors: The monitors to run: the built-in ones, and those of plugins.
            evaluations: The number of evaluations of the run after the first.
        """
        self.config = config
        self.noise = noise(evaluations)
        self.monitors = [monitor for monitor in monitors if monitor.name != GOLD_DROP]
        self.gold_drop = next((monitor for monitor in monitors if monitor.name == GOLD_DROP), None)
        self.out_for: dict[str, int] = {}
        """For each monitor, the number of steps in a row for which its metric has been out of bounds."""
        self.first: dict[str, float] = {}
        """The first value of each metric that is compared with its first value."""
        self.best_gold: float | None = None
        self.best_golds: list[float | None] = []
        """The held-out reward of each prompt in the evaluation with the best mean."""
        self.reward_at_best_gold = -math.inf

    def watch(self, metrics: Mapping[str, float]) -> list[Alarm]:
        """Check the metrics of a training step.

        Args:
            metrics: The metrics by name.

        Returns:
            The alarms of the monitors whose metric has now been out of bounds for ``patience`` steps. Each is raised once.
        """
        reward = metrics.get("reward", math.nan)
        reward_rose = math.isfinite(reward) and reward > self.first.setdefault("reward", reward)
        alarms = []
        for monitor in self.monitors:
            bound = bound_of(self.config, monitor)
            if bound is None:
                continue
            measured = self._measure(monitor, metrics)
            if measured is None or (monitor.silent_if_reward_rose and reward_rose):
                self.out_for[monitor.name] = 0
                continue
            is_out = not math.isfinite(measured) or (measured > bound if monitor.is_upper else measured < bound)
            self.out_for[monitor.name] = self.out_for.get(monitor.name, 0) + 1 if is_out else 0
            if self.out_for[monitor.name] == self.config.patience:
                message = self._message(monitor, _value(monitor, metrics), bound)
                alarms.append(Alarm(monitor.name, message, monitor.metrics))
        return alarms

    def _measure(self, monitor: Monitor, metrics: Mapping[str, float]) -> float | None:
        """Return the number that is compared with the bound, or None if there is none in this step."""
        value = _value(monitor, metrics)
        if value is None or monitor.measure == "value" or not math.isfinite(value):
            return value
        key = _key(monitor)
        if monitor.measure == "share_of_first" and value == 0 and key not in self.first:
            return None  # nothing has been measured yet: during the critic's warm-up the policy has no gradient
        first = self.first.setdefault(key, value)
        if monitor.measure == "share_of_first":
            return value / first
        return (value - first) / (1 - first) if first < 1 else None

    def _message(self, monitor: Monitor, value: float | None, bound: float) -> str:
        """Return the message of an alarm."""
        first = self.first.get(_key(monitor), math.nan)
        comparison = {
            "value": f"{'above' if monitor.is_upper else 'below'} {bound:g}",
            "rise": f"up from {first:.3g} in the first step, more than {bound:g} of the way to 1",
            "share_of_first": f"less than {bound:g} times its value in the first step ({first:.3g})",
        }[monitor.measure]
        name = " + ".join(monitor.metrics)
        return f"{name} is {value:.3g}, {comparison}, for {self.config.patience} steps: {monitor.meaning}"

    def watch_gold(self, reward: float, golds: Sequence[float | None]) -> list[Alarm]:
        """Check an evaluation for reward hacking.

        The alarm is raised when the mean held-out reward has fallen by more than ``gold_drop`` below its best value, and by more than
        chance explains, while the trained reward is not below what it was at that best value. Chance is measured by the differences
        of the prompts' rewards between the two evaluations: greedy answers to most prompts stay the same, so a small fall is told from
        chance by fewer prompts than two independent samples would need. The more evaluations a run has, the more they must differ.

        Args:
            reward: Mean of the trained reward.
            golds: The held-out reward of each held-out prompt; None where it is unscored. At least one is scored.

        Returns:
            At most one alarm, raised once until the held-out reward reaches a new best value.
        """
        gold = fmean(value for value in golds if value is not None)
        if self.best_gold is None or gold >= self.best_gold:
            self.best_gold, self.best_golds, self.reward_at_best_gold = gold, list(golds), reward
            self.out_for[GOLD_DROP] = 0
            return []
        bound = None if self.gold_drop is None else bound_of(self.config, self.gold_drop)
        if self.gold_drop is None or bound is None or reward < self.reward_at_best_gold:
            return []
        pairs = zip(self.best_golds, golds, strict=True)
        changes = [best - value for best, value in pairs if best is not None and value is not None]
        # The best of many evaluations is partly the luckiest.
        if self.best_gold - gold <= max(bound, self.noise * standard_error(changes) if changes else 0.0):
            return []
        self.out_for[GOLD_DROP] = self.out_for.get(GOLD_DROP, 0) + 1
        if self.out_for[GOLD_DROP] > 1:
            return []
        rose = "stayed at" if reward == self.reward_at_best_gold else f"rose from {self.reward_at_best_gold:.3g} to"
        message = (
            f"the held-out reward fell from {self.best_gold:.3g} to {gold:.3g} while the trained reward {rose} {reward:.3g}: "
            f"{self.gold_drop.meaning}"
        )
        return [Alarm(GOLD_DROP, message, self.gold_drop.metrics)]

    @property
    def is_calm(self) -> bool:
        """True if every metric is within its bounds, so that a checkpoint saved now is a good one."""
        return not any(self.out_for.values())

    def state(self) -> dict[str, Any]:
        """Return the state as JSON data, for a checkpoint."""
        return {
            "out_for": self.out_for,
            "first": self.first,
            "best_gold": self.best_gold,
            "best_golds": self.best_golds,
            "reward_at_best_gold": self.reward_at_best_gold if self.best_gold is not None else None,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restore a state that ``state`` returned."""
        self.out_for = dict(state["out_for"])
        self.first = dict(state["first"])
        self.best_gold = state["best_gold"]
        self.best_golds = state["best_golds"]
        self.reward_at_best_gold = -math.inf if state["reward_at_best_gold"] is None else state["reward_at_best_gold"]


def _key(monitor: Monitor) -> str:
    return "+".join(monitor.metrics)


def _value(monitor: Monitor, metrics: Mapping[str, float]) -> float | None:
    """Return the sum of the watched metrics, or None if none was logged."""
    values = [metrics[name] for name in monitor.metrics if name in metrics]
    return math.fsum(values) if values else None
