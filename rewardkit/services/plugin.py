"""The plugin with the rewards of the core itself, which call services and other packages."""

from __future__ import annotations

from rewardkit.hookspecs import hookimpl
from rewardkit.services.http import Http, HttpGroup, OpenRlhf
from rewardkit.services.verifiers import RUBRIC
from rewardkit.types import RewardType

__all__ = ["Http", "HttpGroup", "OpenRlhf"]


@hookimpl
def register_rewards() -> list[RewardType]:
    """Offer the reward types that no decorator makes."""
    return [RUBRIC]
