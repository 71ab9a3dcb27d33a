"""Scores one batch of rollouts with one composite.

All components whose conditions can be decided run at the same time. The gate is decided as soon as the components that it refers to
are done; components are not run for rollouts that it shuts out. At the end the values are combined into one reward per rollout.

A reward of scope ``group`` gets the members of a group for which its condition and the gate are true.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from operator import attrgetter
from typing import Any

from rewardkit.composite import combine
from rewardkit.composite.components import Components
from rewardkit.composite.runners import Outcomes
from rewardkit.composite.scored_batch import ScoredBatch
from rewardkit.config.expression import EvaluationError, Expression
from rewardkit.config.spec import Component, Composite, RewardConfig
from rewardkit.errors import UsageError
from rewardkit.read_only import have_values
from rewardkit.types import (
    LACKING_ATTRIBUTE,
    NotApplicable,
    Outcome,
    Rollout,
    Score,
    Skipped,
    Unscored,
)


def group_of(rollout: Rollout) -> Hashable:
    """Return the key that rollouts of one prompt share: their group, or the prompt if they have none.

    Rollouts of different groups are never merged, even if their prompts are equal.
    """
    return ("group", rollout.group) if rollout.group is not None else ("prompt", rollout.prompt_text)


def gate_needs(composite: Composite) -> frozenset[str]:
    """Return the components that the gate refers to, directly or through conditions."""
    needs = {item.name: item.when.components if item.when else () for item in composite.components}
    wanted: set[str] = set()
    pending = list(composite.gate.components) if composite.gate else []
    while pending:
        name = pending.pop()
        if name not in wanted:
            wanted.add(name)
            pending.extend(needs[name])
    return frozenset(wanted)


class _Kinds(dict[str, set[type[Outcome]]]):
    """For each component that is done the types of its outcomes, found out when they are asked for."""

    def __init__(self, outcomes: Mapping[str, Sequence[Outcome]]) -> None:
        super().__init__()
        self._outcomes = outcomes

    def __missing__(self, name: str) -> set[type[Outcome]]:
        found = self[name] = set(map(type, self._outcomes[name]))
        return found


class Batch:
    """The state of scoring one batch with one composite."""

    def __init__(
        self, components: Components, config: RewardConfig, composite: Composite, rollouts: Sequence[Rollout]
    ) -> None:
        self.components = components
        self.config = config
        self.composite = composite
        self.rollouts = rollouts
        self.outcomes: dict[str, list[Outcome]] = {}
        """For each component that is done, an outcome per rollout."""
        self.kinds = _Kinds(self.outcomes)
        self.gate: list[bool | Unscored] | None = None
        """For each rollout True if the gate is open, False if it is shut, Unscored if it can't be decided; None before that is known."""
        if composite.gate is None:
            self.gate = [True] * len(rollouts)

    def run(self) -> Iterator[list[Future[Any]]]:
        """Run every component as early as its condition and the gate allow.

        Yields:
            Futures whenever there is nothing to do until one of them is done.

        Raises:
            UsageError: The reward was closed meanwhile.
        """
        waiting = list(self.composite.components)
        running: dict[Future[Outcomes], tuple[Component, list[list[int]], list[Outcome | None]]] = {}
        first = gate_needs(self.composite)
        while waiting or running:
            if self.gate is None and first <= self.outcomes.keys():
                self.gate = [self.decide_gate(index) for index in range(len(self.rollouts))]
            ready = [
                item
                for item in waiting
                if all(name in self.outcomes for name in (item.when.components if item.when else ()))
                and (self.gate is not None or item.name in first)
            ]
            # Inline components run last, while the others wait for processes and services.
            for component in sorted(ready, key=lambda item: item.offer.type.executor == "inline"):
                waiting.remove(component)
                outcomes, active = self.select(component, gated=component.name not in first)
                rollouts = self.rollouts
                if len(active) < len(rollouts):
                    rollouts = [rollouts[index] for index in active]
                scored_here = self.components.score_here(self.composite, component, rollouts)
                if scored_here is not None:
                    self.finish(component, outcomes, active, *scored_here)
                    continue
                units = self.units(component, active)
                future = self.components.start(
                    self.composite, component, [[self.rollouts[index] for index in unit] for unit in units]
                )
                running[future] = component, units, outcomes
            done = [future for future in running if future.done()]
            if not done and running and not ready:
                yield [*running, self.components.closing]
                done = [future for future in running if future.done()]
                if not done:
                    raise UsageError("the reward was closed while it scored")
            for future in done:
                component, units, outcomes = running.pop(future)
                results, seconds = future.result()
                for unit, unit_results in zip(units, results, strict=True):
                    for index, outcome in zip(unit, unit_results, strict=True):
                        outcomes[index] = outcome
                self.outcomes[component.name] = outcomes  # type: ignore[assignment]  # every place is filled by now
                self.components.spent(component.name, seconds)
        if self.gate is None:
            self.gate = [self.decide_gate(index) for index in range(len(self.rollouts))]

    def finish(
        self,
        component: Component,
        outcomes: list[Outcome | None],
        active: Sequence[int],
        found: list[Outcome],
        seconds: float,
    ) -> None:
        """Take in the outcomes of a component for the rollouts that it was run for."""
        if len(active) == len(outcomes):
            self.outcomes[component.name] = found
        else:
            for index, outcome in zip(active, found, strict=True):
                outcomes[index] = outcome
            self.outcomes[component.name] = outcomes  # type: ignore[assignment]  # every place is filled by now
        self.components.spent(component.name, seconds)

    def select(self, component: Component, *, gated: bool) -> tuple[list[Outcome | None], Sequence[int]]:
        """Return the outcomes that are decided without running a component, and the indices of the rollouts that it must run for."""
        outcomes: list[Outcome | None] = [None] * len(self.rollouts)
        needs = component.offer.type.needed_fields(component.params)
        attributes = component.offer.type.needed_attributes(component.params)
        when = component.when
        gate = self.gate if gated and self.composite.gate is not None else None
        if (
            when is None
            and gate is None
            and all(have_values([rollout.fields.get(name) for rollout in self.rollouts]) for name in needs)
            and all(None not in map(attrgetter(name), self.rollouts) for name in attributes)
        ):
            return outcomes, range(len(self.rollouts))
        active: list[int] = []
        for index, rollout in enumerate(self.rollouts):
            outcome = self.decided(index, rollout, gate, when, needs, attributes, component)
            outcomes[index] = outcome
            if outcome is None:
                active.append(index)
        return outcomes, active

    def units(self, component: Component, active: Sequence[int]) -> list[list[int]]:
        """Return the indices of rollouts that a component scores together: those of one group, or each by itself."""
        if component.offer.type.scope != "group":
            return [[index] for index in active]
        groups: dict[Hashable, list[int]] = {}
        for index in active:
            groups.setdefault(group_of(self.rollouts[index]), []).append(index)
        return list(groups.values())

    def decided(
        self,
        index: int,
        rollout: Rollout,
        gate: list[bool | Unscored] | None,
        when: Expression | None,
        needs: Sequence[str],
        attributes: Sequence[str],
        component: Component,
    ) -> Outcome | None:
        """Return the outcome of a component for a rollout without running it, or None if it must be run."""
        if gate is not None and gate[index] is not True:
            state = "undecided" if isinstance(gate[index], Unscored) else "shut"
            return Skipped(f"gate {state}")
        if when is not None:
            holds = self.evaluate(when, index)
            if isinstance(holds, Unscored):
                return holds
            if not holds:
                return Skipped(f"not {when.text}" if when.text.isidentifier() else f"not ({when.text})")
        if not all(map(rollout.has_value, needs)):
            for field in component.offer.type.fields_without_value(component.params, rollout):
                return Unscored("input", f"the row has no value in column {field!r}")
        for name in attributes:
            if getattr(rollout, name) is None:
                return Unscored("input", LACKING_ATTRIBUTE[name])
        return None

    def evaluate(self, expression: Expression, index: int) -> bool | Unscored:
        """Evaluate a condition for a rollout. Returns Unscored if a component that it refers to is unscored."""
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
        """Evaluate the gate for a rollout."""
        return True if self.composite.gate is None else self.evaluate(self.composite.gate, index)

    def scored(self, step: int) -> ScoredBatch:
        """Combine the outcomes into one reward per rollout."""
        composite = self.composite
        names = [component.name for component in composite.components]
        weights = {component.name: component.weight.at(step) for component in composite.components}
        columns = {
            component.name: self.contributions(component, weights[component.name]) for component in composite.components
        }
        rewards: list[float | None] = [
            *combine.combined_rows(list(columns.values()), list(weights.values()), composite.combine, composite.clip)
        ]
        unscored = self.failures([name for name in names if weights[name] != 0])
        if any(NotApplicable in self.kinds[name] for name in names):
            for index in range(len(rewards)):
                if index not in unscored:
                    is_open = self.gate is None or self.gate[index] is True
                    if (nothing := self.nothing_applies(index, weights, is_open=is_open)) is not None:
                        unscored[index] = nothing
        shut: set[int] = set()
        if composite.gate is not None and self.gate is not None:
            shut = {index for index, is_open in enumerate(self.gate) if not is_open and index not in unscored}
        if not all(map(math.isfinite, rewards)):  # type: ignore[arg-type]  # none of them is None yet
            for index, reward in enumerate(rewards):
                if index not in unscored and index not in shut and not math.isfinite(reward or 0.0):
                    unscored[index] = Unscored(
                        "plugin", f"the components combine to {reward}, which is not a finite number"
                    )
        for index in (*unscored, *shut):
            rewards[index] = composite.gate_value if index in shut else 0.0 if self.config.policy == "zero" else None
            for column in columns.values():
                column[index] = None
        return ScoredBatch(
            self.rollouts,
            rewards,
            unscored,
            {name: self.outcomes[name] for name in names},
            [weights] * len(rewards),
            columns,
            self.config.reward_id,
        )

    def nothing_applies(self, index: int, weights: Mapping[str, float], *, is_open: bool) -> Unscored | None:
        """Return why a rollout has no reward if nothing that decides it has a score and one of these components does not apply.

        Where the gate is open, the components with a weight decide; where it is shut, those that the gate reads.
        """
        gate = self.composite.gate
        deciding = (
            [name for name, weight in weights.items() if weight != 0] if is_open or gate is None else gate.components
        )
        outcomes = {name: self.outcomes[name][index] for name in deciding}
        reasons = {name: outcome.reason for name, outcome in outcomes.items() if isinstance(outcome, NotApplicable)}
        if not reasons or any(isinstance(outcome, Score) for outcome in outcomes.values()):
            return None
        told = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
        return Unscored("input", f"no component applies to this row ({told})")

    def failures(self, counted: Sequence[str]) -> dict[int, Unscored]:
        """Return why rollouts have no reward, by index: an undecided gate, or the first component in ``counted`` that is unscored."""
        found: dict[int, Unscored] = {}
        if self.composite.gate is not None:
            found.update(
                (index, opened) for index, opened in enumerate(self.gate or ()) if isinstance(opened, Unscored)
            )
        for name in counted:
            if Unscored not in self.kinds[name]:
                continue
            for index, outcome in enumerate(self.outcomes[name]):
                if type(outcome) is Unscored and index not in found and (self.gate is None or self.gate[index]):
                    found[index] = outcome
        return found

    def contributions(self, component: Component, weight: float) -> list[float | None]:
        """Return weight × value of one component for every rollout, scaled and clipped; None where it has no value."""
        outcomes: list[Any] = self.outcomes[component.name]
        is_whole = self.kinds[component.name] == {Score}
        values: Sequence[Any] = (
            [outcome.value for outcome in outcomes]
            if is_whole
            else [outcome.value if isinstance(outcome, Score) else None for outcome in outcomes]
        )
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
