"""From YAML to a checked description of a reward: reading, schema, messages with places, conditions, schedules."""

from rewardkit.config.schema import reward_schema
from rewardkit.config.spec import Component, Composite, RewardConfig, parse_config, read_config
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
