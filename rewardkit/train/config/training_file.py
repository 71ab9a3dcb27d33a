"""A training configuration that has been read and checked. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass

from rewardkit.config import RewardConfig
from rewardkit.config.yaml import Document
from rewardkit.errors import Location
from rewardkit.registry import Registry
from rewardkit.train.config import RunConfig
from rewardkit.train.config.engines import ChosenEngine


@dataclass(frozen=True, slots=True)
class TrainFile:
    """A checked training configuration, with the place of every value in its file."""

    config: RunConfig
    document: Document
    reward: RewardConfig | None
    """The reward, for stages that use one."""
    gold: RewardConfig | None
    """The reward of ``evaluate.gold``, which is only measured."""
    registry: Registry
    engine: ChosenEngine | None = None
    """The rollout engine, for stages that sample."""

    def where(self, *path: str | int) -> Location:
        """Return the place of a value in the file, for messages."""
        return self.document.where(path)
