"""What a checked reward file describes: composites of components, and the routes of rows to them."""

from __future__ import annotations

import fnmatch
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from rewardkit.config.expression import EvaluationError, Expression
from rewardkit.config.schedule import Schedule
from rewardkit.errors import DataError, Location
from rewardkit.registry import OfferedReward
from rewardkit.types import LACKING_ATTRIBUTE, CallLimits, Rollout

Combine = Literal["sum", "mean", "product", "min", "normalized_sum"]


@dataclass(frozen=True, slots=True)
class Scale:
    """The rescaling of a component's raw values."""

    kind: Literal["zscore", "minmax", "range"]
    """``zscore`` and ``minmax`` rescale within a group of rollouts; ``range`` maps ``low`` to 0 and ``high`` to 1."""
    low: float = 0.0
    high: float = 1.0


@dataclass(frozen=True, slots=True)
class Component:
    """One component of a composite."""

    name: str
    """The key under ``components``."""
    offer: OfferedReward
    """The reward type, with the plugin that offers it."""
    params: Any
    """An instance of the reward type's ``params``."""
    weight: Schedule
    """The weight by training step."""
    when: Expression | None = None
    """The component runs only where this is true."""
    scale: Scale | None = None
    """The rescaling of its values; None for none."""
    clip: tuple[float, float] | None = None
    """The lowest and the highest value after rescaling."""
    timeout_s: float | None = None
    """The time limit per rollout, in seconds."""
    limits: CallLimits | None = None
    """The limits of its calls; None if it calls no service."""
    location: Location | None = None
    """The place of its ``use`` in the file."""

    @property
    def needs(self) -> tuple[str, ...]:
        """The columns that the component and its condition read."""
        own = self.offer.type.needed_fields(self.params)
        return tuple(dict.fromkeys((*own, *(self.when.fields if self.when else ()))))

    @property
    def compares_groups(self) -> bool:
        """True if its value for a rollout depends on the other rollouts of the group."""
        return self.offer.type.scope == "group" or (self.scale is not None and self.scale.kind != "range")


@dataclass(frozen=True, slots=True)
class Composite:
    """Components, and how their values are combined into one reward."""

    name: str
    """The key under ``composites``; empty if the file has only one composite."""
    components: tuple[Component, ...]
    """In the order of the file."""
    gate: Expression | None = None
    """Where this is false, the reward is ``gate_value``."""
    gate_value: float = 0.0
    """The reward where the gate is false."""
    combine: Combine = "sum"
    """How the weighted values are combined."""
    clip: tuple[float, float] | None = None
    """The lowest and the highest reward."""
    gate_location: Location | None = None
    """The place of the gate in the file."""

    @property
    def needs_groups(self) -> bool:
        """True if the reward of a rollout depends on the other rollouts of its group."""
        return self.combine == "normalized_sum" or any(component.compares_groups for component in self.components)


@dataclass(frozen=True, slots=True)
class Route:
    """A rule that selects the composite of a row."""

    match: Mapping[str, str]
    """Glob patterns by column; all of them must match."""
    composite: str
    """The name of the composite that scores the rows."""
    location: Location | None = None
    """The place of ``match`` in the file."""

    def takes(self, fields: Mapping[str, Any]) -> bool:
        """Return True if every pattern matches. A row that lacks a column does not match."""
        return all(
            field in fields and fnmatch.fnmatchcase(str(fields[field]), glob) for field, glob in self.match.items()
        )


@dataclass(frozen=True, slots=True)
class Requirements:
    """What a reward reads of the rollouts. Each is the tuple of what needs it, which is empty if nothing does."""

    columns: tuple[str, ...]
    """The columns that components, conditions, gates and routes read, sorted."""
    tokens: tuple[str, ...]
    """The components that read ``num_tokens``, themselves or in their condition; ``gate`` for a gate."""
    finish_reason: tuple[str, ...]
    """Likewise for ``finish_reason``."""
    groups: tuple[str, ...]
    """The components that compare the rollouts of a group, which must be scored together; ``combine`` for ``normalized_sum``."""

    @classmethod
    def of(cls, composites: Iterable[Composite], routes: Iterable[Route]) -> Requirements:
        """Return what composites and routes read."""
        columns = {name for route in routes for name in route.match}
        readers: dict[str, dict[str, None]] = {"num_tokens": {}, "finish_reason": {}}
        groups: dict[str, None] = {}
        for composite in composites:
            if composite.combine == "normalized_sum":
                groups["combine"] = None
            if composite.gate is not None:
                columns |= set(composite.gate.fields)
                for name in composite.gate.attributes:
                    readers[name]["gate"] = None
            for component in composite.components:
                columns |= set(component.needs)
                own = component.offer.type.needed_attributes(component.params)
                for name in (*own, *(component.when.attributes if component.when else ())):
                    readers[name][component.name] = None
                if component.compares_groups:
                    groups[component.name] = None
        return cls(tuple(sorted(columns)), tuple(readers["num_tokens"]), tuple(readers["finish_reason"]), tuple(groups))


@dataclass(frozen=True, slots=True)
class RewardConfig:
    """A checked reward file."""

    composites: Mapping[str, Composite]
    """The composites by name."""
    routes: tuple[Route, ...]
    """The routes in the order of the file; empty if there is only one composite."""
    policy: Literal["exclude", "zero", "fail"]
    """What to do with unscored rollouts."""
    abort_above: float
    """A run fails if a larger share of its rows is unscored."""
    resolved: Mapping[str, Any]
    """The file with all defaults filled in, and the versions of the plugins. ``reward_id`` is its hash."""
    file: str
    """The name of the file in messages."""

    @property
    def reward_id(self) -> str:
        """The hash of the resolved configuration and the plugins' versions: 12 hexadecimal digits."""
        text = json.dumps(self.resolved, sort_keys=True, separators=(",", ":"))
        return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=6).hexdigest()

    @property
    def component_names(self) -> tuple[str, ...]:
        """The names of all components, in the order of the file."""
        return tuple(
            dict.fromkeys(item.name for composite in self.composites.values() for item in composite.components)
        )

    @property
    def needs_groups(self) -> bool:
        """True if the rollouts of a group must be scored together."""
        return any(composite.needs_groups for composite in self.composites.values())

    @property
    def requirements(self) -> Requirements:
        """What the rollouts must tell."""
        return Requirements.of(self.composites.values(), self.routes)

    def composite_for(self, rollout: Rollout) -> Composite:
        """Return the composite that scores a rollout.

        Args:
            rollout: The rollout, whose columns the routes match.

        Raises:
            DataError: No route matches the rollout.
        """
        if not self.routes:
            return next(iter(self.composites.values()))
        for route in self.routes:
            if route.takes(rollout.fields):
                return self.composites[route.composite]
        names = dict.fromkeys(field for route in self.routes for field in route.match)
        found = ", ".join(
            f"{name}={rollout.fields[name]!r}" if name in rollout.fields else f"no {name}" for name in names
        )
        raise DataError(
            f"{self.file}: no route matches a row with {found}; add one, or a last route with 'match: {{}}'"
        )

    @property
    def field_paths(self) -> tuple[str, ...]:
        """The fields that are read by a path into nested columns, such as ``reward_model.ground_truth``."""
        return tuple(name for name in self.requirements.columns if "." in name)

    def row_problems(self, rollout: Rollout) -> list[tuple[str, str]]:
        """Return why a rollout could not be scored, without running a reward.

        Looks for the columns that are read, and calls the ``check`` of each reward type. A component is left out if its condition or
        the gate is known to be false for this row.

        Args:
            rollout: The rollout; only its row matters, not its completion.

        Returns:
            Pairs of a component's name (empty for the gate) and a problem.

        Raises:
            DataError: No route matches the rollout.
        """
        composite = self.composite_for(rollout)
        problems = []
        if composite.gate is not None:
            lacking = _lacking(composite.gate.fields, rollout)
            problems += [("", f"the row has no value in column {name!r}, which the gate reads") for name in lacking]
            if not lacking and _is_surely_false(composite.gate, rollout):
                return []
        for component in composite.components:
            if component.when is not None and _is_surely_false(component.when, rollout):
                continue
            kind = component.offer.type
            own = kind.fields_without_value(component.params, rollout)
            missing = list(dict.fromkeys([*own, *_lacking(component.when.fields if component.when else (), rollout)]))
            unknown = [name for name in kind.needed_attributes(component.params) if getattr(rollout, name) is None]
            problems += [(component.name, f"the row has no value in column {name!r}") for name in missing]
            problems += [(component.name, LACKING_ATTRIBUTE[name]) for name in unknown]
            if missing or unknown or kind.check is None:
                continue
            try:
                wrong = kind.check(component.params, rollout)
            # The boundary: the check is the plugin's code, and the row may hold anything.
            except Exception as error:  # noqa: BLE001
                wrong = (
                    f"the check of {kind.name} ({component.offer.provenance}) raised {type(error).__name__}: {error}"
                )
            if wrong:
                problems.append((component.name, wrong))
        return problems

    def row_kinds(self, rollout: Rollout) -> list[tuple[str, str]]:
        """Return how the ``describe`` of each reward type describes a rollout, such as the format of its tests.

        Args:
            rollout: The rollout.

        Returns:
            Pairs of a component's name and a description.

        Raises:
            DataError: No route matches the rollout.
        """
        kinds = []
        for component in self.composite_for(rollout).components:
            describe = component.offer.type.describe
            try:
                kind = describe(component.params, rollout) if describe else None
            # The boundary: this is the plugin's code, and `row_problems` reports what is wrong with the row.
            except Exception:  # noqa: BLE001
                kind = None
            if kind:
                kinds.append((component.name, kind))
        return kinds

    def readers(self, rollout: Rollout) -> Iterator[tuple[str, str, Location | None]]:
        """Yield what is read of a rollout. A component is left out if its condition or the gate is known to be false for the row.

        Args:
            rollout: The rollout.

        Yields:
            A column, the part of the reward that reads it in words, and the place of that part in the file.

        Raises:
            DataError: No route matches the rollout.
        """
        composite = self.composite_for(rollout)
        if composite.gate is not None:
            for name in composite.gate.fields:
                yield name, "the gate", composite.gate_location
            if _is_surely_false(composite.gate, rollout):
                return
        for component in composite.components:
            is_off = component.when is not None and _is_surely_false(component.when, rollout)
            for name in component.when.fields if component.when is not None and is_off else component.needs:
                yield name, f"component {component.name!r}", component.location

    def needed_fields(self) -> dict[str, list[tuple[Composite, str, Location | None]]]:
        """Return the columns that components, conditions and gates read.

        Returns:
            For each column its readers: the composite, the part of it in words, and the place in the file.
        """
        needed: dict[str, list[tuple[Composite, str, Location | None]]] = {}
        for composite in self.composites.values():
            for component in composite.components:
                for field in component.needs:
                    needed.setdefault(field, []).append(
                        (composite, f"component {component.name!r}", component.location)
                    )
            for field in composite.gate.fields if composite.gate else ():
                needed.setdefault(field, []).append((composite, "the gate", composite.gate_location))
        return needed

    def route_columns(self) -> dict[str, Location | None]:
        """Return the columns that routes match, each with the place of the first route that names it."""
        columns: dict[str, Location | None] = {}
        for route in self.routes:
            for name in route.match:
                columns.setdefault(name, route.location)
        return columns


def _lacking(names: Iterable[str], rollout: Rollout) -> list[str]:
    """Return the columns of a condition that a row lacks. An empty text is a value that a condition may ask for."""
    return [name for name in names if rollout.fields.get(name) is None]


def _is_surely_false(condition: Expression, rollout: Rollout) -> bool:
    """Return True if a condition is false for a row, whatever the values of the components are."""
    if condition.components or _lacking(condition.fields, rollout):
        return False
    try:
        return not condition({}, rollout)
    except EvaluationError:
        return False
