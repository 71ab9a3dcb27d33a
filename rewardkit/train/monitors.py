"""Watches a run for reward hacking and collapse: figures that leave their bounds for some steps in a row raise an alarm.

Bounds are judgements, not theory: each can be set, or switched off with null.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rewardkit.train.config import MonitorsConfig


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


_BOUNDS: Mapping[str, _Bound] = {
    "kl": _Bound("kl_per_token", is_upper=True, meaning="the policy is far from the model that it started from"),
    "length_correlation": _Bound(
        "length_correlation", is_upper=True, meaning="longer answers are rewarded for being long"
    ),
    "repetition": _Bound("repetition", is_upper=True, meaning="completions repeat themselves"),
    "truncated": _Bound("truncated", is_upper=True, meaning="completions are cut off before they end"),
    "clipped": _Bound(
        "clipped", is_upper=True, meaning="most tokens are clipped: updates are too large, or too many per batch"
    ),
    "mismatch_kl": _Bound("mismatch_kl", is_upper=True, meaning="sampler and trainer disagree about the policy"),
    "zero_spread": _Bound(
        "zero_spread", is_upper=True, meaning="nearly no group has any spread: there is hardly anything to learn"
    ),
    "entropy_share": _Bound("entropy_share", is_upper=False, meaning="the policy hardly explores any more"),
    "mismatch_ess": _Bound("mismatch_ess", is_upper=False, meaning="few of the sampled tokens carry all of the weight"),
    "explained_variance": _Bound("explained_variance", is_upper=False, meaning="the critic is worse than a constant"),
}


FIGURES: Mapping[str, tuple[str, ...]] = {
    **{name: (bound.figure,) for name, bound in _BOUNDS.items()},
    "clipped": ("clipped_low", "clipped_high"),
    "entropy_share": ("entropy",),
    "gold_drop": ("gold", "reward"),
}
"""The logged figures that each monitor looks at."""


class Monitors:
    """Keeps count of what is out of bounds. Its state is plain data, kept in checkpoints."""

    def __init__(self, config: MonitorsConfig) -> None:
        self.config = config
        self.out_for: dict[str, int] = {}
        """Steps in a row that each monitor has been out of its bound."""
        self.first_entropy: float | None = None
        self.best_gold: float | None = None
        self.reward_at_best_gold = -math.inf

    def watch(self, metrics: Mapping[str, float]) -> list[Alarm]:
        """Look at a training step's figures. An alarm is raised once, when its monitor has been out for ``patience`` steps."""
        figures = dict(metrics)
        figures["clipped"] = metrics.get("clipped_low", 0.0) + metrics.get("clipped_high", 0.0)
        if "entropy" in metrics and metrics.get("rows_learned", 1):
            self.first_entropy = self.first_entropy or metrics["entropy"]
            figures["entropy_share"] = metrics["entropy"] / self.first_entropy if self.first_entropy else 1.0
        alarms = []
        for name, bound in _BOUNDS.items():
            limit = getattr(self.config, name)
            value = figures.get(bound.figure)
            if limit is None or value is None:
                continue
            out = not math.isfinite(value) or (value > limit if bound.is_upper else value < limit)
            self.out_for[name] = self.out_for.get(name, 0) + 1 if out else 0
            if self.out_for[name] == self.config.patience:
                side = "above" if bound.is_upper else "below"
                alarms.append(
                    Alarm(
                        name,
                        f"{bound.figure} is {value:.3g}, {side} {limit:g} for {self.config.patience} steps: {bound.meaning}",
                    )
                )
        return alarms

    def watch_gold(self, reward: float, gold: float) -> list[Alarm]:
        """Look at an evaluation's rewards by the training reward and by the one that is held out.

        The alarm is about hacking: gold has fallen by more than ``gold_drop`` below its best, while the reward that is
        trained on is higher than it was then.
        """
        if self.best_gold is None or gold >= self.best_gold:
            self.best_gold, self.reward_at_best_gold = gold, reward
            self.out_for["gold_drop"] = 0
            return []
        limit = self.config.gold_drop
        if limit is None or self.best_gold - gold <= limit or reward <= self.reward_at_best_gold:
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
            "first_entropy": self.first_entropy,
            "best_gold": self.best_gold,
            "reward_at_best_gold": self.reward_at_best_gold if self.best_gold is not None else None,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """From a checkpoint."""
        self.out_for = dict(state["out_for"])
        self.first_entropy = state["first_entropy"]
        self.best_gold = state["best_gold"]
        self.reward_at_best_gold = -math.inf if state["reward_at_best_gold"] is None else state["reward_at_best_gold"]
