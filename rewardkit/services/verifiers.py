"""Rubrics of verifiers as rewards: each reward function of a rubric is called, weighted and added up.

A rubric itself counts a function that raises as 0. Here the row is then unscored.
"""

from __future__ import annotations

import importlib.util
import inspect
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rewardkit.types import RewardFunction, RewardType, Rollout, Score, Unscored
from rewardkit.user_functions import PATTERN, FunctionCaller, FunctionParams, load_object

TIMEOUT_S = 60.0
"""Seconds that a row may take by default."""
_OF_GROUPS = frozenset({"states", "prompts", "completions", "answers", "tasks", "infos"})
"""Parameters of functions that compare the rollouts of a group."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RubricParams:
    """The settings of a rubric under ``with``."""

    rubric: str = field(
        metadata={
            "doc": "The rubric as package.module:name or /path/to/file.py:name: a Rubric, an Environment, or a function that returns one."
        }
    )
    args: dict[str, Any] = field(default_factory=dict, metadata={"doc": "The keyword arguments of that function."})
    reference: str = field(default="answer", metadata={"doc": "The column with the reference answer."})

    def __post_init__(self) -> None:
        if importlib.util.find_spec("verifiers") is None:
            raise ValueError("verifiers.rubric needs the package verifiers: pip install 'verifiers<0.4'")
        if not re.match(PATTERN, self.rubric):
            raise ValueError(f"rubric must be package.module:name or file.py:name, not {self.rubric!r}")


@dataclass(frozen=True, slots=True)
class _Part:
    """One reward function of a rubric."""

    name: str
    weight: float
    call: FunctionCaller


class Rubric:
    """Calls the functions of a rubric for each row.

    Args:
        params: The settings.

    Raises:
        ValueError: There is no such rubric, or it compares the rollouts of a group.
    """

    def __init__(self, params: RubricParams) -> None:
        where, _, name = params.rubric.rpartition(":")
        target = f"{Path(where).resolve()}:{name}" if where.endswith(".py") else params.rubric
        found = load_object(target)
        if not _is_rubric(found) and not hasattr(found, "rubric") and callable(found):
            found = found(**params.args)
        found = getattr(found, "rubric", found)
        if not _is_rubric(found):
            raise ValueError(f"{params.rubric} is a {type(found).__name__} and no Rubric of verifiers")
        self._parts = list(_parts(found, params))
        if not self._parts:
            raise ValueError(f"the rubric {params.rubric} has no reward functions")

    def __call__(self, rollouts: Sequence[Rollout], /) -> list[Any]:
        """Score rows one by one."""
        return [self._one(rollout) for rollout in rollouts]

    def _one(self, rollout: Rollout) -> Any:
        values = {}
        for part in self._parts:
            (result,) = part.call([rollout])
            if isinstance(result, Unscored):
                return Unscored(result.kind, f"{part.name}: {result.message}")
            values[part.name] = float(result.value if isinstance(result, Score) else result)
        total = math.fsum(part.weight * values[part.name] for part in self._parts)
        return Score(total, metrics=values)


def _is_rubric(value: Any) -> bool:
    return not inspect.isclass(value) and (hasattr(value, "rubrics") or {"funcs", "weights"} <= set(dir(value)))


def _parts(rubric: Any, params: RubricParams) -> Iterator[_Part]:
    """Yield the functions of a rubric, or of each rubric of a group of them."""
    for inner in getattr(rubric, "rubrics", ()):
        yield from _parts(inner, params)
    if hasattr(rubric, "rubrics"):
        return
    objects = dict(getattr(rubric, "class_objects", None) or {})
    settings = FunctionParams(style="verifiers", reference=params.reference)
    for function, weight in zip(rubric.funcs, rubric.weights, strict=True):
        name = getattr(function, "__name__", type(function).__name__)
        if _OF_GROUPS & inspect.signature(function).parameters.keys():
            raise ValueError(f"{name} of {params.rubric} compares the rollouts of a group, which is not supported")
        yield _Part(name, float(weight), FunctionCaller(function, name, settings, objects))


def _build(params: RubricParams) -> RewardFunction:
    return Rubric(params)


RUBRIC = RewardType(
    name="verifiers.rubric",
    params=RubricParams,
    build=_build,
    executor="process",
    timeout_s=TIMEOUT_S,
    doc="""The reward of a Rubric of verifiers (0.3 and earlier): the weighted sum of its functions, each of which is a metric.

A function that raises leaves the row unscored; verifiers itself would count it as 0.""",
    example='rubric: {use: verifiers.rubric, with: {rubric: "my_environment:load_environment"}}',
    origin=f"{__name__}:RUBRIC",
)
