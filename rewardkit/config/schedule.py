"""A component's weight over the training steps: constant, linear, cosine, or in steps."""

from __future__ import annotations

import bisect
import itertools
import math
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["constant", "linear", "cosine", "steps"]


@dataclass(frozen=True, slots=True)
class Schedule:
    """Points (step, weight) in the order of their steps, and how to go from one to the next."""

    kind: Kind
    points: tuple[tuple[int, float], ...]

    @classmethod
    def constant(cls, weight: float) -> Schedule:
        """The same weight at every step."""
        return cls("constant", ((0, weight),))

    @classmethod
    def from_data(cls, data: Any) -> Schedule:
        """From what YAML holds, once the schema has passed it.

        Raises:
            ValueError: Steps don't ascend.
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
        """The weight at a step; before the first point that of the first, after the last that of the last."""
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
