"""The rewards that a reward file configures, and YAML with the place of every mistake."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rewardkit.config import read_config
from rewardkit.config import yaml as yaml_files
from rewardkit.config.params import plain_params
from rewardkit.config.spec import Component
from rewardkit.errors import ConfigError
from rewardkit.registry import Registry
from rewardkit.types import RewardFunction


@dataclass(frozen=True, slots=True)
class ConfiguredReward:
    """A component of a reward file."""

    name: str
    """The name of the component."""
    use: str
    """The name of the reward."""
    params: Any
    """Its parameters, an instance of the reward's own class."""
    settings: dict[str, Any]
    """The parameters as JSON data, including defaults."""
    _component: Component

    def build(self) -> RewardFunction:
        """Return the reward, ready to use.

        Raises:
            ConfigError: It refuses its parameters.
        """
        try:
            return self._component.offer.type.build(self._component.params)
        except ValueError as error:
            raise ConfigError((self._component.location, f"{self.use}: {error}")) from None


def configured_rewards(file: Path | str) -> list[ConfiguredReward]:
    """Return the components of a reward file, of all its composites.

    Args:
        file: The reward file.

    Raises:
        ConfigError: The file is not valid; every problem has its file, line and column.
    """
    config = read_config(file, Registry.load())
    return [
        ConfiguredReward(item.name, item.offer.type.name, item.params, plain_params(item.params), item)
        for composite in config.composites.values()
        for item in composite.components
    ]


def read_yaml(file: Path | str) -> Any:
    """Return the data of a file in YAML or JSON.

    Args:
        file: The file.

    Raises:
        ConfigError: It can't be read or is not valid.
    """
    return yaml_files.read_yaml(file).data
