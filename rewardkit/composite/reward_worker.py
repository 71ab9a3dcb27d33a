"""The rewards that run in worker processes: how a worker finds, builds and calls them."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rewardkit.authoring import reward_type_of
from rewardkit.composite.async_runner import AsyncReward, AsyncRunner
from rewardkit.composite.plugin_calls import call_group, call_reward, close_reward
from rewardkit.config.params import make_params
from rewardkit.registry import Registry
from rewardkit.types import CallLimits, Outcome, RewardFunction, RewardType, Rollout, Scope
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
    limits: CallLimits | None = None
    """The limits of a coroutine function's calls in one worker; None for other rewards."""
    timeout_s: float | None = None
    """The time limit of one rollout."""

    def reward_type(self) -> RewardType:
        """Return the reward type, from the plugin's entry point or from the module that decorated it.

        Raises:
            PluginError: The plugin no longer offers it.
            TypeError: What `origin` names is not decorated.
        """
        if self.plugin:
            return Registry.load(only={self.plugin}).get(self.use).type
        if is_function(self.use):
            return function_type(self.use, FunctionSource(self.origin, "", None, is_async=self.limits is not None))
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
            build = functools.partial(reward_type.build, make_params(reward_type, component.params))
            function = build()
            start = None
            if component.limits is not None:
                how = AsyncReward(name, component.who, build, component.limits, component.timeout_s)
                start = functools.partial(AsyncRunner, how, function)
            built[name] = _Built(function, reward_type.scope, component.who, start)
        return RewardWorker(built)


@dataclass(frozen=True, slots=True)
class _Built:
    """A component that is ready to be called."""

    function: RewardFunction
    scope: Scope
    who: str
    start: Callable[[], AsyncRunner] | None = None
    """Starts what calls a coroutine function. A worker is forked after it was loaded, and threads don't survive that."""


class RewardWorker:
    """Scores units (one rollout, or one group) in a worker process."""

    def __init__(self, components: Mapping[str, _Built]) -> None:
        self._components = components
        self._runners: dict[str, AsyncRunner] = {}

    def __call__(self, task: tuple[str, Sequence[Rollout]]) -> list[Outcome]:
        """Score one unit, or several rollouts side by side by a coroutine function.

        Args:
            task: The component's name, and the rollouts.
        """
        name, unit = task
        built = self._components[name]
        if built.start is not None:
            if name not in self._runners:
                self._runners[name] = built.start()
            outcomes, _ = self._runners[name].submit([[rollout] for rollout in unit]).result()
            return [outcome for found in outcomes for outcome in found]
        call = call_group if built.scope == "group" else call_reward
        return call(built.function, unit, built.who)

    def close(self) -> None:
        """Close every reward."""
        for name, built in self._components.items():
            if name in self._runners:
                self._runners[name].close()
            else:
                close_reward(built.function, built.who)
