"""Reads and checks reward files: YAML, JSON Schema, error messages with places, conditions and weight schedules."""

from rewardkit.config.reading import parse_config, read_config
from rewardkit.config.schema import reward_schema
from rewardkit.config.spec import Component, Composite, RewardConfig
from rewardkit.config.yaml import parse_yaml, read_yaml

__all__ = [
    "Component",
    "Composite",
    "RewardConfig",
    "parse_config",
    "parse_yaml",
    "read_config",
    "read_yaml",
    "reward_schema",
]
