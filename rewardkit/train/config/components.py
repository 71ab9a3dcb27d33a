"""Checks that settings which name a component of the reward fit the reward."""

from __future__ import annotations

from collections.abc import Iterator

from rewardkit.config import Component, RewardConfig
from rewardkit.config.validate import did_you_mean
from rewardkit.config.yaml import Document
from rewardkit.errors import ConfigError
from rewardkit.train.config.rl import RlConfig


def refuse_unfit_components(document: Document, config: RlConfig, reward: RewardConfig | None) -> None:
    """Raise ConfigError if a setting names a component that the reward lacks, or that can't be used as the setting asks."""
    if reward is None:
        return
    named = []
    if config.algorithm.process is not None:
        named.append((("algorithm", "process", "component"), config.algorithm.process.component))
    noise = config.correction.verifier
    if noise is not None and noise.component is not None:
        named.append((("correction", "verifier", "component"), noise.component))
    problems = [
        (document.where(path), f"there is no component {name!r}{_hint(name, reward)}")
        for path, name in named
        if name not in reward.component_names
    ]
    if not problems and noise is not None and noise.component is not None:
        place = document.where(("correction", "verifier", "component"))
        problems += [(place, text) for text in _not_a_verdict(noise.component, reward)]
    if problems:
        raise ConfigError(*problems)


def _hint(name: str, reward: RewardConfig) -> str:
    return did_you_mean(name, reward.component_names) or f"; there are {', '.join(reward.component_names)}"


def _not_a_verdict(name: str, reward: RewardConfig) -> Iterator[str]:
    """Yield why a flip of the component's value would not change the reward by the component's weight."""
    for composite in reward.composites.values():
        component: Component | None = next((item for item in composite.components if item.name == name), None)
        if component is None:
            continue
        where = f" of composite {composite.name!r}" if composite.name else ""
        if composite.combine != "sum":
            yield f"the components{where} are combined by {composite.combine!r}; correction.verifier.component needs 'sum'"
        if component.scale is not None or component.clip is not None:
            yield f"component {name!r}{where} is scaled or clipped, so its values are not verdicts of 0 and 1"
        if composite.clip is not None:
            yield f"the reward{where} is clipped, so the correction can't tell what a verdict adds to it; remove clip"
