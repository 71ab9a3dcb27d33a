"""The rewards that run in worker processes: how a worker finds, builds and calls them."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rewardkit.authoring import reward_type_of
from rewardkit.composite.plugin_calls import call_group, call_reward, close_reward
from rewardkit.config.params import make_params
from rewardkit.registry import Registry
from rewardkit.types import Outcome, RewardFunction, RewardType, Rollout, Scope
from rewardkit.user_functions import FunctionSource, function_type, is_function


@dataclass(frozen=True, slots=True)
class ComponentSpec:
    """How to find and build one component."""

    use: str
    """The reward's name."""
    plugin: str
    """The entry point that offers the reward; empty for a reward that this program registered itself."""
    origin: str
    """``module:name`` of what ``@reward`` decorated, or of a function that the reward file names."""
    params: Any
    """The parameters as JSON data."""
    who: str
    """The reward and its distribution, for messages."""

    def reward_type(self) -> RewardType:
        """Return the reward type, from the plugin's entry point or from the module that decorated it.

        Raises:
            PluginError: The plugin no longer offers it.
            TypeError: What `origin` names is not decorated.
        """
        if self.plugin:
            return Registry.load(only={self.plugin}).get(self.use).type
        if is_function(self.use):
            return function_type(self.use, FunctionSource(self.origin, "", None))
        module, _, name = self.origin.partition(":")
        target: Any = importlib.import_module(module)
        for part in name.split("."):
            target = getattr(target, part)
        found = reward_type_of(target)
        if found is None:
            raise TypeError(f"{self.origin} is not decorated with @reward")
        return found


@dataclass(frozen=True, slots=True)
class WorkerSpec:
    """The components that the workers of a process pool score. See `rewardkit.process_pool.Program`."""

    components: Mapping[str, ComponentSpec]

    def load(self) -> RewardWorker:
        """Import the plugins and build every component."""
        built: dict[str, _Built] = {}
        for name, component in self.components.items():
            reward_type = component.reward_type()
            function = reward_type.build(make_params(reward_type, component.params))
            built[name] = _Built(function, reward_type.scope, component.who)
        return RewardWorker(built)


@dataclass(frozen=True, slots=True)
class _Built:
    """A component that is ready to be called."""

    function: RewardFunction
    scope: Scope
    who: str


class RewardWorker:
    """Scores units (one rollout, or one group) in a worker process."""

    def __init__(self, components: Mapping[str, _Built]) -> None:
        self._components = components

    def __call__(self, task: tuple[str, Sequence[Rollout]]) -> list[Outcome]:
        """Score one unit.

        Args:
            task: The component's name, and the rollouts of the unit.
        """
        name, unit = task
        built = self._components[name]
        call = call_group if built.scope == "group" else call_reward
        return call(built.function, unit, built.who)

    def close(self) -> None:
        """Close every reward."""
        for built in self._components.values():
            close_reward(built.function, built.who)
