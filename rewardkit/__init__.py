"""Rewards that can be verified, composed, trusted and trained on.

Everything a plugin author needs is importable from here, and importing it is cheap: the standard library and pluggy only.
What is heavier (reading YAML, scoring files) loads when it is first touched.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from rewardkit.authoring import FieldName, reward
from rewardkit.errors import RewardkitError
from rewardkit.hookspecs import hookimpl
from rewardkit.monitor import Monitor
from rewardkit.rollout_engine import Completion, EngineSetup, Request, RolloutEngine, RolloutEngineType, Sampling
from rewardkit.types import (
    CallLimits,
    Finding,
    NotApplicable,
    Outcome,
    RewardType,
    Rollout,
    Score,
    ScoredRollout,
    Skipped,
    Unscored,
)

if TYPE_CHECKING:
    from rewardkit.composite import CompositeReward, load_reward
    from rewardkit.registry import Registry

__version__ = "0.1.0"

_LAZY = {
    "CompositeReward": "rewardkit.composite",
    "load_reward": "rewardkit.composite",
    "Registry": "rewardkit.registry",
}

__all__ = [
    "CallLimits",
    "Completion",
    "CompositeReward",
    "EngineSetup",
    "FieldName",
    "Finding",
    "Monitor",
    "NotApplicable",
    "Outcome",
    "Registry",
    "Request",
    "RewardType",
    "RewardkitError",
    "Rollout",
    "RolloutEngine",
    "RolloutEngineType",
    "Sampling",
    "Score",
    "ScoredRollout",
    "Skipped",
    "Unscored",
    "__version__",
    "hookimpl",
    "load_reward",
    "reward",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
