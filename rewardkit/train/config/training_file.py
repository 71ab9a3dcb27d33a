"""A training configuration that has been read and checked. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from rewardkit.config import RewardConfig
from rewardkit.config.yaml import Document
from rewardkit.errors import Location
from rewardkit.registry import Registry
from rewardkit.train.config import RunConfig
from rewardkit.train.config.engines import ChosenEngine

ConfigT = TypeVar("ConfigT", bound=RunConfig)


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

    def config_as(self, kind: type[ConfigT]) -> ConfigT:
        """Return the configuration as that of one stage.

        Raises:
            TypeError: It is that of another stage.
        """
        if not isinstance(self.config, kind):
            raise TypeError(f"the configuration is a {type(self.config).__name__}, not a {kind.__name__}")
        return self.config

    def where(self, *path: str | int) -> Location:
        """Return the place of a value in the file, for messages."""
        return self.document.where(path)
