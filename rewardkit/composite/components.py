"""Builds the components of a configuration, each on its executor, and scores units through the cache."""

from __future__ import annotations

import functools
import logging
import threading
from collections.abc import Hashable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from typing import Any

from rewardkit.composite.async_runner import AsyncReward, AsyncRunner
from rewardkit.composite.cache import ScoreCache, component_key, unit_key
from rewardkit.composite.event_loop import DaemonExecutor
from rewardkit.composite.plugin_calls import ending_forked_children
from rewardkit.composite.reward_worker import ComponentSpec, WorkerSpec
from rewardkit.composite.runners import (
    CLOSE_TIMEOUT_S,
    DeviceRunner,
    InlineRunner,
    Outcomes,
    ProcessRunner,
    Runner,
    share_of,
    who,
)
from rewardkit.config.params import plain_params
from rewardkit.config.spec import Component, Composite, RewardConfig
from rewardkit.errors import ConfigError
from rewardkit.process_pool import ProcessPool, default_workers
from rewardkit.types import CallLimits, NotApplicable, Outcome, RewardFunction, Rollout, Score

logger = logging.getLogger(__name__)


class Components:
    """The built components of a configuration. Safe to share between threads.

    Raises:
        ConfigError: A reward refuses its parameters.
    """

    def __init__(
        self,
        config: RewardConfig,
        workers: int | None = None,
        cache: ScoreCache | None = None,
        *,
        share_equal: bool = True,
    ) -> None:
        self._composites = tuple(config.composites.values())
        self._cache = cache
        self._share_equal = share_equal
        self._workers = workers or default_workers()
        self._lock = threading.Lock()
        self._keys_lock = threading.Lock()
        self._pool: ProcessPool | None = None
        self._device: DaemonExecutor | None = None
        self._runners: dict[tuple[str, str], Runner] = {}
        self._functions: dict[tuple[str, str], tuple[Component, RewardFunction]] = {}
        """The rewards that run in this process, as they were built first."""
        self._keys: dict[tuple[str, str], bytes | None] = {}
        self.closing: Future[None] = Future()
        """Done when ``close`` is called, so that nobody waits for what will never come."""
        self.timings: dict[str, float] = dict.fromkeys(config.component_names, 0.0)
        """Seconds spent by each component so far, added over threads and workers."""
        self._build()

    @property
    def is_inline(self) -> bool:
        """True if all components run in the calling thread."""
        return all(component.offer.type.executor == "inline" for _, component in self._components())

    def close(self) -> None:
        """Close the rewards and end their workers and threads. Batches that are being scored fail with UsageError."""
        if not self.closing.done():
            self.closing.set_result(None)
        for runner in self._runners.values():
            runner.close()
        if self._pool is not None:
            self._pool.close()
        if self._device is not None:
            self._device.end(CLOSE_TIMEOUT_S)

    def preflight(self) -> None:
        """Ask each reward that can tell whether it is able to score.

        Raises:
            ConfigError: One is not. Every problem is listed with the place of its component.
        """
        problems = []
        for component, function in self._functions.values():
            ask = getattr(function, "preflight", None)
            if ask is None:
                continue
            try:
                with ending_forked_children():
                    told = ask()
            # The boundary: this is the plugin's code.
            except Exception as error:
                logger.debug("%s can't tell whether it is able to score", who(component), exc_info=True)
                told = f"{type(error).__name__}: {error}"
            if told:
                problems.append((component.location, f"{who(component)} can't score: {told}"))
        if problems:
            raise ConfigError(*problems)

    def costs(self) -> dict[str, dict[str, float]]:
        """Return what the calls of each component have cost so far, as sums by name.

        A reward that was built again because it blocked its event loop counts with all that were built.
        """
        found: dict[str, dict[str, float]] = {}
        for component, function in self._ever_built():
            ask = getattr(function, "costs", None)
            if ask is None:
                continue
            try:
                told = {str(name): float(value) for name, value in ask().items()}
            # The boundary: this is the plugin's code, and a reward without known costs still scores.
            except Exception:
                logger.exception("%s can't tell its costs", who(component))
                continue
            sums = found.setdefault(component.name, {})
            for name, value in told.items():
                sums[name] = sums.get(name, 0.0) + value
        return found

    def _ever_built(self) -> Iterator[tuple[Component, RewardFunction]]:
        for key, (component, function) in self._functions.items():
            runner = self._runners[key]
            for built in runner.functions if isinstance(runner, AsyncRunner) else (function,):
                yield component, built

    def _components(self) -> Iterator[tuple[Composite, Component]]:
        for composite in self._composites:
            for component in composite.components:
                yield composite, component

    def _build(self) -> None:
        """Make a runner for every component. Worker processes start importing the plugins right away."""
        process: dict[tuple[str, str], Component] = {}
        problems = []
        for composite, component in self._components():
            key = composite.name, component.name
            if component.offer.type.executor == "process":
                if problem := _unreachable(component):
                    problems.append((component.location, problem))
                process[key] = component
                continue
            try:
                with ending_forked_children():
                    function = component.offer.type.build(component.params)
            except ValueError as error:  # its parameters contradict each other
                problems.append((component.location, f"{component.offer.type.name}: {error}"))
                continue
            # The boundary: building runs a plugin's own code, which may lack a module, a file or a device.
            except Exception as error:
                logger.debug("%s can't be built", who(component), exc_info=True)
                text = f"{who(component)} can't be built: {type(error).__name__}: {error}"
                problems.append((component.location, text))
                continue
            self._functions[key] = component, function
            match component.offer.type.executor:
                case "inline":
                    self._runners[key] = InlineRunner(component, function)
                case "async":
                    self._runners[key] = AsyncRunner(async_reward(component), function)
                case "device":
                    self._device = self._device or DaemonExecutor(1, "rewardkit-device")
                    self._runners[key] = DeviceRunner(component, function, self._device)
        if problems:
            self.close()
            raise ConfigError(*problems)
        if process:
            specs = {"/".join(key): _spec(item, self._workers) for key, item in process.items()}
            self._pool = ProcessPool(WorkerSpec(specs), self._workers)
            for key, component in process.items():
                self._runners[key] = ProcessRunner(component, self._pool, "/".join(key), self._workers)

    def start(self, composite: Composite, component: Component, units: Sequence[Sequence[Rollout]]) -> Future[Outcomes]:
        """Start scoring units by one component, taking from the cache what it knows."""
        runner = self._runners[composite.name, component.name]
        if not self._shares(component) or (known_as := self._key(composite, component)) is None:
            return runner.submit(units)
        looks_at = component.offer.type.content
        what = None if looks_at is None else functools.partial(looks_at, component.params)
        # A unit that has no key is known by its position, which nothing is kept under.
        keys: list[Hashable] = [unit_key(known_as, unit, what) or index for index, unit in enumerate(units)]
        known: dict[Any, Sequence[Outcome]] = {}
        if self._cache is not None:
            known |= self._cache.get([unit for unit in keys if isinstance(unit, bytes)])
        missing = {unit: position for position, unit in enumerate(keys) if unit not in known}
        order = list(missing)
        done: Future[Outcomes] = Future()

        def finish(future: Future[Outcomes]) -> None:
            try:
                results, seconds = future.result()
                fresh = dict(zip(order, results, strict=True))
                self._keep({unit: outcomes for unit, outcomes in fresh.items() if isinstance(unit, bytes)})
                found = known | fresh
                done.set_result(([list(found[unit]) for unit in keys], seconds))
            # An exception in a callback is only logged, and the caller would wait for ever.
            except BaseException as error:  # noqa: BLE001
                done.set_exception(error)

        runner.submit([units[position] for position in missing.values()]).add_done_callback(finish)
        return done

    def score_here(
        self, composite: Composite, component: Component, rollouts: Sequence[Rollout]
    ) -> tuple[list[Outcome], float] | None:
        """Score rollouts at once by a reward that needs neither another thread or process nor the cache.

        Returns:
            The outcomes and the seconds spent, or None if ``start`` must be used.
        """
        runner = self._runners[composite.name, component.name]
        if not isinstance(runner, InlineRunner) or component.offer.type.scope == "group" or self._shares(component):
            return None
        return runner.score(rollouts)

    def _shares(self, component: Component) -> bool:
        """True if equal units get one score: there is a cache, or the reward tells which part of a rollout matters."""
        kind = component.offer.type
        return self._share_equal and kind.deterministic and (self._cache is not None or kind.content is not None)

    def _key(self, composite: Composite, component: Component) -> bytes | None:
        """Return the cache key of a component, or None if its scores can't be kept. It is computed late, since it may take a while."""
        name = composite.name, component.name
        with self._keys_lock:
            if name not in self._keys:
                try:
                    self._keys[name] = component_key(component)
                # The boundary: a plugin that can't tell stops nothing; its scores are not kept.
                except Exception:
                    logger.exception("%s can't tell what its scores depend on; they are not kept", who(component))
                    self._keys[name] = None
            return self._keys[name]

    def _keep(self, fresh: Mapping[bytes, Sequence[Outcome]]) -> None:
        if self._cache is not None:
            scores = {
                key: [
                    item
                    for item in unit
                    if isinstance(item, NotApplicable) or (isinstance(item, Score) and item.repeatable)
                ]
                for key, unit in fresh.items()
            }
            self._cache.put({key: unit for key, unit in scores.items() if unit and len(unit) == len(fresh[key])})

    def spent(self, name: str, seconds: float) -> None:
        """Add to a component's time."""
        with self._lock:
            self.timings[name] += seconds


def async_reward(component: Component) -> AsyncReward:
    """Return how an async component is called."""
    kind = component.offer.type
    build = functools.partial(kind.build, component.params)
    limits = component.limits or CallLimits()
    return AsyncReward(component.name, who(component), build, limits, component.timeout_s, kind.scope)


def _unreachable(component: Component) -> str | None:
    """Return why a worker process could not import a reward that this program registered itself; None if it could."""
    if component.offer.provenance.installed:
        return None
    module, _, name = component.offer.type.origin.partition(":")
    if module in {"", "__main__"} or "<locals>" in name:
        place = f", not in {component.offer.type.origin}" if module else ""
        return (
            f"{component.offer.type.name} runs in worker processes, which import it: "
            f"define it with @reward at the top level of a module{place}"
        )
    return None


def _spec(component: Component, workers: int) -> ComponentSpec:
    offer = component.offer
    return ComponentSpec(
        use=offer.type.name,
        plugin=offer.provenance.plugin if offer.provenance.installed else "",
        origin=offer.type.origin,
        params=plain_params(component.params),
        who=who(component),
        limits=None if component.limits is None else share_of(component.limits, workers),
        timeout_s=component.timeout_s,
    )
