"""A registry of three small rewards, so that nothing here depends on which plugins are installed."""

import dataclasses
from typing import Annotated, Literal

import pytest
from annotated_types import Ge, Le

from rewardkit import FieldName, Registry, reward


@dataclasses.dataclass(frozen=True)
class Limits:
    """A nested parameter."""

    low: float = 0.0
    high: float = 1.0


@reward("tags")
def tags(
    rollout,
    *,
    names: list[str],
    strict: bool = False,
    mode: Literal["any", "all"] = "all",
    limits: Limits | None = None,
    share: Annotated[float, Ge(0), Le(1)] = 0.5,
) -> float:
    """Tags."""
    return 1.0


@reward("exact", deterministic=True)
def exact(rollout, *, reference: FieldName = "answer") -> float:
    """Score 1 if the completion equals the reference."""
    return float(rollout.completion_text == rollout.fields[reference])


@reward("slow", executor="process", timeout_s=10)
def slow(rollout, *, depth: int = 1) -> float:
    """Takes its time."""
    return 0.5


@reward("size")
class Size:
    """Refuses parameters that contradict each other."""

    def __init__(self, *, low: int = 0, high: int = 10) -> None:
        if low > high:
            raise ValueError("low is above high")

    def __call__(self, rollouts):
        """Score."""
        return [1.0] * len(rollouts)


@pytest.fixture(scope="session")
def registry() -> Registry:
    """The three, registered by hand."""
    made = Registry()
    for plugin in (tags, exact, slow, Size):
        made.register(plugin)
    assert not made.broken
    return made
