"""Defines a monitor: a bound on one metric of reinforcement learning, and the alarm that leaving it raises.

This is the contract for plugins; it needs the standard library alone. A plugin offers monitors with the hook
``register_monitors``, and a training configuration changes their bounds by name::

    monitors: {plugins: {my_monitor: 0.2}}
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Monitor:
    """One monitor. An alarm is raised when its metric has been out of bounds for ``monitors.patience`` steps in a row."""

    name: str
    """The key that sets the bound in a configuration, and the name of the alarm."""
    metric: str | Sequence[str]
    """The metric of ``metrics.jsonl`` that is watched. Several metrics are added up."""
    bound: float | None
    """The default bound. None switches the monitor off until a configuration sets a bound."""
    description: str
    """What the bound means, for the table of configuration keys."""
    meaning: str
    """What it may mean that the metric is out of bounds, for the alarm's message."""
    is_upper: bool = True
    """Whether the metric is out of bounds above the bound, rather than below it."""
    measure: Literal["value", "rise", "share_of_first"] = "value"
    """What is compared with the bound. value: the metric. rise: how far the metric has come from its first value towards 1, as a
    share of that distance. share_of_first: the metric as a share of its first value."""
    silent_if_reward_rose: bool = False
    """Whether the monitor is silent while the mean reward is above that of the first step."""
    kind: Literal["share", "positive", "any"] = "any"
    """Which bounds are allowed. share: 0 to 1. positive: above 0."""

    @property
    def metrics(self) -> tuple[str, ...]:
        """The watched metrics."""
        return (self.metric,) if isinstance(self.metric, str) else tuple(self.metric)
