"""Watches a run for reward hacking and collapse: figures that leave their bounds for some steps in a row raise an alarm.

Bounds are judgements, not theory: each can be set, or switched off with null.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import pstdev
from typing import Any, Literal

from rewardkit.train.config import MonitorsConfig

NOISE = 3.0
"""Standard errors that the held-out reward must fall by."""


@dataclass(frozen=True, slots=True)
class Alarm:
    """Something that a person should look at."""

    name: str
    """Of the monitor, as the configuration has it."""
    message: str
    """What was seen and what it may mean."""


@dataclass(frozen=True, slots=True)
class _Bound:
    figure: str
    """The figure that is watched."""
    is_upper: bool
    meaning: str
    kind: Literal["value", "rise", "share_of_first"] = "value"
    """value: as it is · rise: how far it came from its first value towards 1 · share_of_first: what is left of its first value."""


_BOUNDS: Mapping[str, _Bound] = {
    "kl": _Bound("kl_per_token", is_upper=True, meaning="the policy is far from the model that it started from"),
    "length_correlation": _Bound(
        "length_correlation", is_upper=True, meaning="longer answers are rewarded for being long"
    ),
    "repetition": _Bound("repetition", is_upper=True, kind="rise", meaning="completions repeat themselves"),
    "duplicates": _Bound(
        "duplicates",
        is_upper=True,
        kind="rise",
        meaning="a prompt is answered with one and the same completion, and the reward is no higher than at first",
    ),
    "copied": _Bound("copied", is_upper=True, kind="rise", meaning="different prompts get one and the same completion"),
    "truncated": _Bound("truncated", is_upper=True, meaning="completions are cut off before they end"),
    "clipped": _Bound(
        "clipped", is_upper=True, meaning="most tokens are clipped: updates are too large, or too many per batch"
    ),
    "mismatch_kl": _Bound("mismatch_kl", is_upper=True, meaning="sampler and trainer disagree about the policy"),
    "zero_spread": _Bound(
        "zero_spread",
        is_upper=True,
        meaning="nearly no group has any spread, and the reward is no higher than at first: there is hardly anything to learn",
    ),
    "entropy_share": _Bound(
        "entropy", is_upper=False, kind="share_of_first", meaning="the policy hardly explores any more"
    ),
    "mismatch_ess": _Bound("mismatch_ess", is_upper=False, meaning="few of the sampled tokens carry all of the weight"),
    "explained_variance": _Bound("explained_variance", is_upper=False, meaning="the critic is worse than a constant"),
}


FIGURES: Mapping[str, tuple[str, ...]] = {
    **{name: (bound.figure,) for name, bound in _BOUNDS.items()},
    "clipped": ("clipped_low", "clipped_high"),
    "gold_drop": ("gold", "reward"),
}
"""The logged figures that each monitor looks at."""


def standard_error(values: Sequence[float]) -> float:
    """Of the mean."""
    return pstdev(values) / math.sqrt(len(values))


class Monitors:
    """Keeps count of what is out of bounds. Its state is plain data, kept in checkpoints."""

    def __init__(self, config: MonitorsConfig) -> None:
        self.config = config
        self.out_for: dict[str, int] = {}
        """Steps in a row that each monitor has been out of its bound."""
        self.first: dict[str, float] = {}
        """Each figure that is held against its first value, and that value."""
        self.best_gold: float | None = None
        self.reward_at_best_gold = -math.inf

    def watch(self, metrics: Mapping[str, float]) -> list[Alarm]:
        """Look at a training step's figures. An alarm is raised once, when its monitor has been out for ``patience`` steps."""
        figures = dict(metrics)
        figures["clipped"] = metrics.get("clipped_low", 0.0) + metrics.get("clipped_high", 0.0)
        reward = metrics.get("reward", math.nan)
        if math.isfinite(reward) and reward > self.first.setdefault("reward", reward):
            # Groups are alike at the end of a task that has been learned, too.
            figures.pop("zero_spread", None)
            figures.pop("duplicates", None)
        alarms = []
        for name, bound in _BOUNDS.items():
            limit = getattr(self.config, name)
            if limit is None:
                continue
            value = self._watched(bound, figures.get(bound.figure))
            if value is None:
                self.out_for[name] = 0
                continue
            out = not math.isfinite(value) or (value > limit if bound.is_upper else value < limit)
            self.out_for[name] = self.out_for.get(name, 0) + 1 if out else 0
            if self.out_for[name] == self.config.patience:
                alarms.append(Alarm(name, self._words(name, bound, figures[bound.figure], limit)))
        return alarms

    def _watched(self, bound: _Bound, value: float | None) -> float | None:
        """What is held against the limit; None where there is nothing to hold."""
        if value is None or bound.kind == "value" or not math.isfinite(value):
            return value
        if bound.kind == "share_of_first" and value == 0 and bound.figure not in self.first:
            return None  # nothing has been measured yet: while a critic warms up, no policy is looked at
        first = self.first.setdefault(bound.figure, value)
        if bound.kind == "share_of_first":
            return value / first
        return (value - first) / (1 - first) if first < 1 else None

    def _words(self, name: str, bound: _Bound, value: float, limit: float) -> str:
        """An alarm's message."""
        first = self.first.get(bound.figure, math.nan)
        how = {
            "value": f"{'above' if bound.is_upper else 'below'} {limit:g}",
            "rise": f"up from {first:.3g} at first, more than {limit:g} of the way to 1",
            "share_of_first": f"less than {limit:g} of what it was at first ({first:.3g})",
        }[bound.kind]
        figure = name if name == "clipped" else bound.figure
        return f"{figure} is {value:.3g}, {how}, for {self.config.patience} steps: {bound.meaning}"

    def watch_gold(self, reward: float, gold: float, noise: float = 0.0) -> list[Alarm]:
        """Look at an evaluation's rewards by the training reward and by the one that is held out.

        The alarm is about hacking: gold has fallen by more than ``gold_drop`` below its best, and by more than chance, while the
        reward that is trained on is higher than it was then.

        Args:
            reward: Mean of the reward that is trained on.
            gold: Mean of the other.
            noise: Standard error of ``gold``.
        """
        if self.best_gold is None or gold >= self.best_gold:
            self.best_gold, self.reward_at_best_gold = gold, reward
            self.out_for["gold_drop"] = 0
            return []
        limit = self.config.gold_drop
        if limit is None or reward <= self.reward_at_best_gold:
            return []
        # The best of many evaluations is partly the luckiest.
        if self.best_gold - gold <= max(limit, NOISE * noise):
            return []
        self.out_for["gold_drop"] = self.out_for.get("gold_drop", 0) + 1
        if self.out_for["gold_drop"] > 1:
            return []
        return [
            Alarm(
                "gold_drop",
                f"the held-out reward fell from {self.best_gold:.3g} to {gold:.3g} while the trained reward rose from "
                f"{self.reward_at_best_gold:.3g} to {reward:.3g}: the policy is likely exploiting the reward",
            )
        ]

    @property
    def is_calm(self) -> bool:
        """Whether nothing is out of its bound: a checkpoint of now is a good one."""
        return not any(self.out_for.values())

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {
            "out_for": self.out_for,
            "first": self.first,
            "best_gold": self.best_gold,
            "reward_at_best_gold": self.reward_at_best_gold if self.best_gold is not None else None,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """From a checkpoint."""
        self.out_for = dict(state["out_for"])
        self.first = dict(state["first"])
        self.best_gold = state["best_gold"]
        self.reward_at_best_gold = -math.inf if state["reward_at_best_gold"] is None else state["reward_at_best_gold"]
