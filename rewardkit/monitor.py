"""The type of a monitor: a bound on a metric of reinforcement learning. An alarm is raised when the metric is out of bounds.

A plugin offers monitors with the hook ``register_monitors``, and a training configuration sets their bounds by name::

    monitors: {plugins: {my_monitor: 0.2}}
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Monitor:
    """A monitor raises an alarm when its metric has been out of bounds for ``monitors.patience`` steps in a row."""

    name: str
    """The key that sets the bound in a configuration, and the name of the alarm."""
    metric: str | Sequence[str]
    """The metric of ``metrics.jsonl``. If there are several, their sum is compared with the bound."""
    bound: float | None
    """The default bound. None switches the monitor off until a configuration sets a bound."""
    description: str
    """What the bound means, for the table of configuration keys."""
    meaning: str
    """What it may mean that the metric is out of bounds, for the alarm's message."""
    is_upper: bool = True
    """True if the metric is out of bounds above the bound, False if below it."""
    measure: Literal["value", "rise", "share_of_first"] = "value"
    """The quantity that is compared with the bound. ``value``: the metric. ``rise``: the share of the distance from the first value
    of the metric to 1 that it has covered. ``share_of_first``: the metric divided by its first value."""
    silent_if_reward_rose: bool = False
    """True if no alarm is raised while the mean reward is above that of the first step."""
    kind: Literal["share", "positive", "any"] = "any"
    """The bounds that are allowed. ``share``: 0 to 1. ``positive``: above 0."""

    @property
    def metrics(self) -> tuple[str, ...]:
        """The names of the metrics, as a tuple."""
        return (self.metric,) if isinstance(self.metric, str) else tuple(self.metric)
