"""Scores batches of rollouts by a composite reward.

For each batch: components whose conditions can be decided are started, all on their executors at once; the gate is decided as soon as
what it refers to is known, and what it shuts out is never started; at the end the values become one number per rollout. Reads no files
and prints nothing.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Hashable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rewardkit.composite import combine
from rewardkit.composite.cache import ScoreCache, component_key, unit_key
from rewardkit.composite.runners import (
    AsyncRunner,
    DeviceRunner,
    EventLoop,
    InlineRunner,
    Outcomes,
    ProcessRunner,
    Runner,
    who,
)
from rewardkit.composite.workers import WorkerPool, default_workers
from rewardkit.composite.zygote import ComponentOrder
from rewardkit.config.expression import EvaluationError, Expression
from rewardkit.config.params import plain_params
from rewardkit.config.spec import Component, Composite, RewardConfig, parse_config, read_config
from rewardkit.errors import ConfigError, TooManyUnscoredError, UsageError
from rewardkit.registry import Registry
from rewardkit.types import Outcome, Rollout, Score, ScoredRollout, Skipped, Unscored

logger = logging.getLogger(__name__)


def load_reward(
    source: Path | str, *, registry: Registry | None = None, workers: int | None = None, cache: ScoreCache | None = None
) -> CompositeReward:
    """A composite reward, ready to score, from a YAML file (or from YAML text, if it holds a newline).

    Args:
        source: The file's path, or the text.
        registry: The plugins to look in; by default those installed.
        workers: Worker processes for rewards that need them; by default one per core.
        cache: Where deterministic rewards' scores are kept; by default nowhere.

    Raises:
        ConfigError: Anything is wrong with the file or with a parameter.
    """
    registry = registry or Registry.load()
    read = parse_config if isinstance(source, str) and "\n" in source else read_config
    return CompositeReward(read(source, registry), registry=registry, workers=workers, cache=cache)  # type: ignore[arg-type]


def group_of(rollout: Rollout) -> Hashable:
    """What rollouts of one prompt have in common: their group, or else the prompt itself."""
    return rollout.group if rollout.group is not None else rollout.prompt_text


class CompositeReward:
    """A configured reward with its plugins built. Use it as a context manager, or call ``close``.

    Raises:
        ConfigError: A reward refuses its parameters.
    """

    def __init__(
        self,
        config: RewardConfig,
        *,
        registry: Registry | None = None,
        step: int = 0,
        workers: int | None = None,
        cache: ScoreCache | None = None,
    ) -> None:
        self.config = config
        self.step = step
        """The training step that weights are taken from unless ``score`` is told another."""
        self._registry = registry
        self._cache = cache
        self._workers = workers or default_workers()
        self._lock = threading.Lock()
        self._pool: WorkerPool | None = None
        self._loop: EventLoop | None = None
        self._device: ThreadPoolExecutor | None = None
        self._closed = False
        self._reward_id = config.reward_id
        self._runners: dict[tuple[str, str], Runner] = {}
        self._keys: dict[tuple[str, str], bytes] = {}
        self.timings: dict[str, float] = dict.fromkeys(config.component_names, 0.0)
        """Seconds spent by each component so far, added over threads and workers."""
        self._build()

    @property
    def is_inline(self) -> bool:
        """Whether everything runs in the calling thread."""
        return all(component.offer.type.executor == "inline" for _, component in self._components())

    def score(self, rollouts: Sequence[Rollout], *, step: int | None = None) -> list[ScoredRollout]:
        """Score a batch. Safe to call from several threads at once.

        Args:
            rollouts: Any number; with whole groups where ``config.needs_groups``.
            step: The training step for weight schedules.

        Returns:
            As many, in the same order.

        Raises:
            DataError: No route takes a rollout.
            TooManyUnscoredError: The policy is ``fail`` and a rollout could not be scored.
            WorkerError: Worker processes can't be started.
            UsageError: The reward has been closed.
        """
        if self._closed:
            raise UsageError("this reward has been closed; load it again to score more")
        step = self.step if step is None else step
        if len(self.config.composites) == 1 and not self.config.routes:
            composite = next(iter(self.config.composites.values()))
            scored = self._score_composite(composite, rollouts, step)
        else:
            scored = self._score_routed(rollouts, step)
        if self.config.policy == "fail":
            for item in scored:
                if item.unscored is not None:
                    raise TooManyUnscoredError(
                        f"a rollout could not be scored ({item.unscored.kind}): {item.unscored.message}; "
                        "the policy in the reward file is 'fail'"
                    )
        self._observe(scored, step)
        return scored

    def close(self) -> None:
        """End workers, threads and plugins. Scoring is over. Closing again does nothing."""
        with self._lock:
            closed, self._closed = self._closed, True
        if closed:
            return
        for runner in self._runners.values():
            runner.close()
        if self._pool is not None:
            self._pool.close()
        if self._loop is not None:
            self._loop.close()
        if self._device is not None:
            self._device.shutdown(cancel_futures=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _components(self) -> Iterator[tuple[Composite, Component]]:
        for composite in self.config.composites.values():
            for component in composite.components:
                yield composite, component

    def _build(self) -> None:
        """Make a runner for every component. Worker processes start importing the plugins right away."""
        process: dict[tuple[str, str], Component] = {}
        problems = []
        for composite, component in self._components():
            key = composite.name, component.name
            if component.offer.type.deterministic and self._cache is not None:
                self._keys[key] = component_key(component)
            if component.offer.type.executor == "process":
                if problem := _unreachable(component):
                    problems.append((component.location, problem))
                process[key] = component
                continue
            try:
                function = component.offer.type.build(component.params)
            except ValueError as error:  # its parameters contradict each other
                problems.append((component.location, f"{component.offer.type.name}: {error}"))
                continue
            # The boundary: building runs a plugin's own code, which may lack a module, a file, a device …
            except Exception as error:
                logger.debug("%s can't be built", who(component), exc_info=True)
                text = f"{who(component)} can't be built: {type(error).__name__}: {error}"
                problems.append((component.location, text))
                continue
            match component.offer.type.executor:
                case "inline":
                    self._runners[key] = InlineRunner(component, function)
                case "async":
                    self._loop = self._loop or EventLoop()
                    self._runners[key] = AsyncRunner(component, function, self._loop)
                case "device":
                    self._device = self._device or ThreadPoolExecutor(1, thread_name_prefix="rewardkit-device")
                    self._runners[key] = DeviceRunner(component, function, self._device)
        if problems:
            self.close()
            raise ConfigError(*problems)
        if process:
            self._pool = WorkerPool({"/".join(key): _order(item) for key, item in process.items()}, self._workers)
            for key, component in process.items():
                self._runners[key] = ProcessRunner(component, self._pool, "/".join(key))

    def _score_routed(self, rollouts: Sequence[Rollout], step: int) -> list[ScoredRollout]:
        chosen: dict[str, list[int]] = {}
        for index, rollout in enumerate(rollouts):
            chosen.setdefault(self.config.composite_for(rollout).name, []).append(index)
        result: dict[int, ScoredRollout] = {}
        names = self.config.component_names
        for name, indices in chosen.items():
            elsewhere = Skipped(f"not part of composite {name!r}")
            for index, item in zip(
                indices,
                self._score_composite(self.config.composites[name], [rollouts[index] for index in indices], step),
                strict=True,
            ):
                result[index] = ScoredRollout(
                    item.rollout,
                    item.reward,
                    {part: item.outcomes.get(part, elsewhere) for part in names},
                    {part: item.weights.get(part, 0.0) for part in names},
                    {part: item.contributions.get(part) for part in names},
                    item.reward_id,
                    item.unscored,
                )
        return [result[index] for index in range(len(rollouts))]

    def _score_composite(self, composite: Composite, rollouts: Sequence[Rollout], step: int) -> list[ScoredRollout]:
        batch = _Batch(self, composite, rollouts)
        batch.run()
        return batch.scored(step)

    def start(self, composite: Composite, component: Component, units: Sequence[Sequence[Rollout]]) -> Future[Outcomes]:
        """Start scoring units by one component, taking from the cache what it knows."""
        key = composite.name, component.name
        runner = self._runners[key]
        if key not in self._keys or self._cache is None:
            return runner.submit(units)
        # A unit that has no key is known by its position, which nothing is kept under.
        keys: list[Hashable] = [unit_key(self._keys[key], unit) or index for index, unit in enumerate(units)]
        known: dict[Any, Sequence[Outcome]] = dict(self._cache.get([unit for unit in keys if isinstance(unit, bytes)]))
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
            # What a callback raises is only logged, and whoever waits would do so for ever.
            except BaseException as error:  # noqa: BLE001
                done.set_exception(error)

        runner.submit([units[position] for position in missing.values()]).add_done_callback(finish)
        return done

    def _keep(self, fresh: Mapping[bytes, Sequence[Outcome]]) -> None:
        if self._cache is not None:
            scores = {key: [item for item in unit if isinstance(item, Score)] for key, unit in fresh.items()}
            self._cache.put({key: unit for key, unit in scores.items() if unit and len(unit) == len(fresh[key])})

    def spent(self, name: str, seconds: float) -> None:
        """Add to a component's time."""
        with self._lock:
            self.timings[name] += seconds

    @property
    def reward_id(self) -> str:
        """Identifies the resolved configuration and the plugins' versions."""
        return self._reward_id

    def _observe(self, scored: Sequence[ScoredRollout], step: int) -> None:
        if self._registry is None or not self._registry.observes_scoring:
            return
        try:
            self._registry.hook.rollouts_scored(rollouts=scored, step=step)
        # The boundary: an observer's failure is told and must not touch the scores.
        except Exception:
            logger.exception("a plugin's rollouts_scored failed")


def _unreachable(component: Component) -> str | None:
    """Why a worker process would not find a reward that this program registered by itself."""
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


def _order(component: Component) -> ComponentOrder:
    offer = component.offer
    return ComponentOrder(
        use=offer.type.name,
        plugin=offer.provenance.plugin if offer.provenance.installed else "",
        origin=offer.type.origin,
        params=plain_params(component.params),
        who=who(component),
    )


def _gate_needs(composite: Composite) -> frozenset[str]:
    """The components that must be known before the gate is decided, conditions of conditions included."""
    needs = {item.name: item.when.components if item.when else () for item in composite.components}
    wanted: set[str] = set()
    pending = list(composite.gate.components) if composite.gate else []
    while pending:
        name = pending.pop()
        if name not in wanted:
            wanted.add(name)
            pending.extend(needs[name])
    return frozenset(wanted)


class _Batch:
    """One batch on its way through one composite."""

    def __init__(self, engine: CompositeReward, composite: Composite, rollouts: Sequence[Rollout]) -> None:
        self.engine = engine
        self.composite = composite
        self.rollouts = rollouts
        self.outcomes: dict[str, list[Outcome]] = {}
        """By component, once it is done: one per rollout."""
        self.gate: list[bool | Unscored] | None = None
        """Per rollout: open, shut, or undecided; None while it is not known."""
        if composite.gate is None:
            self.gate = [True] * len(rollouts)

    def run(self) -> None:
        """Run every component, each as early as its condition and the gate allow."""
        waiting = list(self.composite.components)
        running: dict[Future[Outcomes], tuple[Component, list[list[int]], list[Outcome | None]]] = {}
        first = _gate_needs(self.composite)
        while waiting or running:
            if self.gate is None and first <= self.outcomes.keys():
                self.gate = [self.decide_gate(index) for index in range(len(self.rollouts))]
            ready = [
                item
                for item in waiting
                if all(name in self.outcomes for name in (item.when.components if item.when else ()))
                and (self.gate is not None or item.name in first)
            ]
            # What runs elsewhere is started first, so that inline work happens in the meantime.
            for component in sorted(ready, key=lambda item: item.offer.type.executor == "inline"):
                waiting.remove(component)
                outcomes, units = self.select(component, gated=component.name not in first)
                rollouts = self.rollouts
                future = self.engine.start(
                    self.composite, component, [[rollouts[index] for index in unit] for unit in units]
                )
                running[future] = component, units, outcomes
            done = [future for future in running if future.done()]
            if not done and running and not ready:
                done = list(wait(running, return_when=FIRST_COMPLETED).done)
            for future in done:
                component, units, outcomes = running.pop(future)
                results, seconds = future.result()
                for unit, unit_results in zip(units, results, strict=True):
                    for index, outcome in zip(unit, unit_results, strict=True):
                        outcomes[index] = outcome
                self.outcomes[component.name] = outcomes  # type: ignore[assignment]  # every place is filled by now
                self.engine.spent(component.name, seconds)
        if self.gate is None:
            self.gate = [self.decide_gate(index) for index in range(len(self.rollouts))]

    def select(self, component: Component, *, gated: bool) -> tuple[list[Outcome | None], list[list[int]]]:
        """What is decided without running the component, and the units of rollouts that it must be run for."""
        outcomes: list[Outcome | None] = [None] * len(self.rollouts)
        active: list[int] = []
        needs = component.offer.type.needed_fields(component.params)
        when = component.when
        gate = self.gate if gated and self.composite.gate is not None else None
        if not needs and when is None and gate is None:
            active = list(range(len(self.rollouts)))
        else:
            for index, rollout in enumerate(self.rollouts):
                outcome = self.decided(index, rollout, gate, when, needs)
                outcomes[index] = outcome
                if outcome is None:
                    active.append(index)
        if component.offer.type.scope == "group":
            groups: dict[Hashable, list[int]] = {}
            for index in active:
                groups.setdefault(group_of(self.rollouts[index]), []).append(index)
            return outcomes, list(groups.values())
        return outcomes, [[index] for index in active]

    def decided(
        self,
        index: int,
        rollout: Rollout,
        gate: list[bool | Unscored] | None,
        when: Expression | None,
        needs: Sequence[str],
    ) -> Outcome | None:
        """The outcome of a component that is not to be run for a rollout, or None if it is."""
        if gate is not None and gate[index] is not True:
            state = "undecided" if isinstance(gate[index], Unscored) else "shut"
            return Skipped(f"gate {state}")
        if when is not None:
            holds = self.evaluate(when, index)
            if isinstance(holds, Unscored):
                return holds
            if not holds:
                return Skipped(f"not {when.text}" if when.text.isidentifier() else f"not ({when.text})")
        for field in needs:
            if rollout.fields.get(field) is None:
                return Unscored("input", f"the row has no value in column {field!r}")
        return None

    def evaluate(self, expression: Expression, index: int) -> bool | Unscored:
        """Whether a condition holds for a rollout; Unscored where a component that it refers to is."""
        values: dict[str, float | None] = {}
        for name in expression.components:
            outcome = self.outcomes[name][index]
            if isinstance(outcome, Unscored):
                return Unscored(outcome.kind, f"{expression.text!r} can't be decided: {outcome.message}")
            values[name] = outcome.value if isinstance(outcome, Score) else None
        try:
            return expression(values, self.rollouts[index])
        except EvaluationError as error:
            return Unscored("input", str(error))

    def decide_gate(self, index: int) -> bool | Unscored:
        """Whether the gate is open for a rollout."""
        return True if self.composite.gate is None else self.evaluate(self.composite.gate, index)

    def scored(self, step: int) -> list[ScoredRollout]:
        """Combine the outcomes into one reward per rollout."""
        composite = self.composite
        names = [component.name for component in composite.components]
        weights = {component.name: component.weight.at(step) for component in composite.components}
        columns = [self.contributions(component, weights[component.name]) for component in composite.components]
        failures = self.failures([name for name in names if weights[name] != 0])
        none = dict.fromkeys(names)
        gate = self.gate or [True] * len(self.rollouts)
        reward_id, policy = self.engine.reward_id, self.engine.config.policy
        result: list[ScoredRollout] = []
        rows = zip(
            self.rollouts,
            gate,
            zip(*(self.outcomes[name] for name in names), strict=True),
            zip(*columns, strict=True),
            strict=True,
        )
        for index, (rollout, opened, outcomes, parts) in enumerate(rows):
            contributions: Mapping[str, float | None] = none
            reward: float | None
            unscored = failures.get(index)
            if unscored is not None:
                reward = 0.0 if policy == "zero" else None
            elif not opened:
                reward = composite.gate_value
            else:
                contributions = dict(zip(names, parts, strict=True))
                reward = combine.clip(combine.combined(contributions, weights, composite.combine), composite.clip)
                if not math.isfinite(reward):
                    unscored = Unscored("plugin", f"the components combine to {reward}, which is not a finite number")
                    reward, contributions = 0.0 if policy == "zero" else None, none
            result.append(
                ScoredRollout(
                    rollout,
                    reward,
                    dict(zip(names, outcomes, strict=True)),
                    weights,
                    contributions,
                    reward_id,
                    unscored,
                )
            )
        return result

    def failures(self, counted: Sequence[str]) -> dict[int, Unscored]:
        """Why rollouts have no reward, by index: an undecided gate, or the first component that counts and is unscored."""
        found: dict[int, Unscored] = {}
        if self.composite.gate is not None:
            found.update(
                (index, opened) for index, opened in enumerate(self.gate or ()) if isinstance(opened, Unscored)
            )
        for name in counted:
            for index, outcome in enumerate(self.outcomes[name]):
                if type(outcome) is Unscored and index not in found and (self.gate is None or self.gate[index]):
                    found[index] = outcome
        return found

    def contributions(self, component: Component, weight: float) -> list[float | None]:
        """Weight × value of one component for every rollout, scaled and clipped; None where it has no value."""
        values: Sequence[float | None] = [
            outcome.value if isinstance(outcome, Score) else None for outcome in self.outcomes[component.name]
        ]
        if self.composite.combine == "normalized_sum" or (component.scale and component.scale.kind != "range"):
            groups = [group_of(rollout) for rollout in self.rollouts]
        else:
            groups = []
        values = combine.scaled(values, component.scale, groups)
        if component.clip is not None:
            values = [None if value is None else combine.clip(value, component.clip) for value in values]
        if self.composite.combine == "normalized_sum":
            values = combine.in_group(values, groups, combine.zscore)
        return [None if value is None else weight * value for value in values]
