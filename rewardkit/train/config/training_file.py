"""The stages of training, and how a YAML file becomes the checked configuration of one. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass

from rewardkit.config import RewardConfig
from rewardkit.config.yaml import Document
from rewardkit.errors import ConfigError, Location
from rewardkit.registry import Registry
from rewardkit.train.config import RunConfig
from rewardkit.train.config.base import paths
from rewardkit.train.config.engines import ChosenEngine


@dataclass(frozen=True, slots=True)
class TrainFile:
    """A configuration that has been read, with where everything stood."""

    config: RunConfig
    document: Document
    reward: RewardConfig | None
    """The reward of a stage that has one."""
    gold: RewardConfig | None
    """A reward that is only measured."""
    registry: Registry
    engine: ChosenEngine | None = None
    """What samples, in a stage that does."""

    def where(self, *path: str | int) -> Location:
        """The place of a value, for messages."""
        return self.document.where(path)

    def require_data(self, *keys: str) -> None:
        """Raise ConfigError where a file of data is not there, before anything heavy is loaded.

        Args:
            keys: Of the section ``data``: ``train``, ``eval``.
        """
        missing = [
            (self.where("data", key, index), f"there is no file {file}")
            for key in keys
            for index, file in enumerate(paths(getattr(self.config.data, key)))
            if not file.exists()
        ]
        if missing:
            raise ConfigError(*missing)
