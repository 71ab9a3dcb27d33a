"""Schedules of a component's weight over the training steps: constant, linear, cosine, or in steps."""

from __future__ import annotations

import bisect
import itertools
import math
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["constant", "linear", "cosine", "steps"]


@dataclass(frozen=True, slots=True)
class Schedule:
    """A weight that depends on the training step."""

    kind: Kind
    """How the weight changes between two points."""
    points: tuple[tuple[int, float], ...]
    """Pairs of a step and a weight, in ascending order of the steps."""

    @classmethod
    def constant(cls, weight: float) -> Schedule:
        """Return a schedule with the same weight at every step."""
        return cls("constant", ((0, weight),))

    @classmethod
    def from_data(cls, data: Any) -> Schedule:
        """Return the schedule that a reward file describes.

        Args:
            data: The value of ``weight``, which is valid according to the schema.

        Raises:
            ValueError: The steps are not in ascending order.
        """
        if not isinstance(data, dict):
            return cls.constant(float(data))
        kind, value = next(iter(data.items()))
        if kind == "steps":
            points = tuple((int(step), float(weight)) for step, weight in value)
        else:
            first, last = value["steps"]
            points = ((int(first), float(value["from"])), (int(last), float(value["to"])))
        if any(later[0] <= earlier[0] for earlier, later in itertools.pairwise(points)):
            raise ValueError(f"steps must ascend, found {', '.join(str(step) for step, _ in points)}")
        return cls(kind, points)

    def at(self, step: int) -> float:
        """Return the weight at a step. Before the first point it is that of the first point, and after the last that of the last."""
        steps = [point[0] for point in self.points]
        index = bisect.bisect_right(steps, step) - 1
        if index < 0:
            return self.points[0][1]
        if self.kind in {"constant", "steps"} or index == len(self.points) - 1:
            return self.points[index][1]
        (start, low), (end, high) = self.points[index], self.points[index + 1]
        share = (step - start) / (end - start)
        if self.kind == "cosine":
            share = (1 - math.cos(math.pi * share)) / 2
        return low + (high - low) * share
