"""Reads and checks a reward file, and returns it as frozen dataclasses. No reward is built or run."""

from __future__ import annotations

import copy
import fnmatch
import graphlib
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from rewardkit.config.content import component_content
from rewardkit.config.expression import RESERVED, EvaluationError, Expression, ExpressionError, parse_expression
from rewardkit.config.params import make_params, plain_params
from rewardkit.config.schedule import Schedule
from rewardkit.config.schema import reward_schema
from rewardkit.config.validate import did_you_mean, schema_problems
from rewardkit.config.yaml import Document, Path_, parse_yaml, read_yaml
from rewardkit.errors import ConfigError, DataError, Location, PluginError
from rewardkit.registry import OfferedReward, Provenance, Registry
from rewardkit.types import LACKING_ATTRIBUTE, CallLimits, Rollout
from rewardkit.user_functions import FunctionSource, function_type, is_function

Combine = Literal["sum", "mean", "product", "min", "normalized_sum"]
Problem = tuple[Location | None, str]


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


def read_config(file: Path | str, registry: Registry) -> RewardConfig:
    """Read and check a reward file.

    Args:
        file: The YAML file.
        registry: The plugins whose rewards it may use.

    Raises:
        ConfigError: The file is not valid. Every problem is listed with its file, line and column.
    """
    return resolve(read_yaml(file), registry)


def parse_config(text: str, registry: Registry, file: str = "<string>") -> RewardConfig:
    """Parse and check the text of a reward file.

    Args:
        text: The text in YAML.
        registry: The plugins whose rewards it may use.
        file: The name of the file in messages.

    Raises:
        ConfigError: The text is not valid. Every problem is listed with its file, line and column.
    """
    return resolve(parse_yaml(text, file), registry)


def resolve(document: Document, registry: Registry) -> RewardConfig:
    """Check the data of a reward file and build its description.

    Args:
        document: The data, with the place of each value.
        registry: The plugins whose rewards it may use.

    Raises:
        ConfigError: The data are not valid. Every problem is listed with its file, line and column.
    """
    if not isinstance(document.data, dict):
        raise ConfigError((document.where(()), "must be a mapping with the keys 'version' and 'components'"))
    registry, missing = _with_functions(document, registry)
    unknown = missing + list(_unknown_rewards(document, registry))
    known_places = {str(place) for place, _ in unknown}
    problems = unknown + [
        problem for problem in schema_problems(document, reward_schema(registry)) if str(problem[0]) not in known_places
    ]
    if problems:
        raise ConfigError(*problems)
    return _Resolver(document, registry).resolve()


def _component_paths(data: Any) -> Iterator[Path_]:
    if not isinstance(data, dict):
        return
    holders: list[tuple[Path_, Any]] = [((), data)]
    if isinstance(data.get("composites"), dict):
        holders += [(("composites", name), value) for name, value in data["composites"].items()]
    for path, holder in holders:
        if isinstance(holder, dict) and isinstance(holder.get("components"), dict):
            yield from ((*path, "components", name) for name in holder["components"])


def _at(data: Any, path: Path_) -> Any:
    for part in path:
        data = data[part]
    return data


def _with_functions(document: Document, registry: Registry) -> tuple[Registry, list[Problem]]:
    """Return a registry that also offers the functions that a document names, and a problem for each that can't be found."""
    found: dict[str, list[OfferedReward]] = {}
    problems: list[Problem] = []
    folder = Path(document.file).parent
    for path in _component_paths(document.data):
        component = _at(document.data, path)
        use = component.get("use") if isinstance(component, dict) else None
        if isinstance(use, str) and is_function(use):
            try:
                source = FunctionSource.find(use, folder)
            except ValueError as error:
                problems.append((document.where((*path, "use")), str(error)))
                continue
            # By its hash, the file is part of the reward_id. No entry point offers it.
            provenance = Provenance("", use.rpartition(":")[0], source.version)
            found[use] = [OfferedReward(function_type(use, source), provenance)]
    if found:
        registry = copy.copy(registry)
        registry.rewards = {**registry.rewards, **found}
    return registry, problems


def _unknown_rewards(document: Document, registry: Registry) -> Iterator[Problem]:
    """Yield a problem for each ``use`` that no plugin offers. The registry's message is better than a list of all names."""
    for path in _component_paths(document.data):
        component = _at(document.data, path)
        use = component.get("use") if isinstance(component, dict) else None
        if isinstance(use, str) and not is_function(use):
            try:
                registry.get(use)
            except PluginError as error:
                yield document.where((*path, "use")), str(error)


class _Resolver:
    """Builds the description of a reward, and collects all problems before it raises an error."""

    def __init__(self, document: Document, registry: Registry) -> None:
        self.document = document
        self.registry = registry
        self.problems: list[Problem] = []

    def resolve(self) -> RewardConfig:
        data = self.document.data
        if "composites" in data:
            for key in ("components", "gate", "gate_value", "combine", "clip"):
                if key in data:
                    self.problem(("composites",), f"{key!r} belongs inside each of the composites", key=(key,))
            composites = {
                name: self.composite(name, value, ("composites", name)) for name, value in data["composites"].items()
            }
        else:
            composites = {"": self.composite("", data, ())}
        routes = tuple(
            self.route(value, ("routes", index), composites) for index, value in enumerate(data.get("routes", ()))
        )
        if self.problems:
            raise ConfigError(*self.problems)
        unscored = {"policy": "exclude", "abort_above": 0.1, **data.get("unscored", {})}
        return RewardConfig(
            composites=composites,
            routes=routes,
            policy=unscored["policy"],
            abort_above=float(unscored["abort_above"]),
            resolved=self.resolved(composites, routes, unscored),
            file=self.document.file,
        )

    def problem(self, path: Path_, text: str, key: Path_ | None = None) -> None:
        where = self.document.where_key(key) if key is not None else self.document.where(path)
        self.problems.append((where, text))

    def composite(self, name: str, data: dict[str, Any], path: Path_) -> Composite:
        known = list(data["components"])
        components = tuple(
            self.component(key, value, (*path, "components", key), known) for key, value in data["components"].items()
        )
        self.refuse_circles(components, (*path, "components"))
        return Composite(
            name=name,
            components=components,
            gate=self.expression(data.get("gate"), (*path, "gate"), known),
            gate_value=float(data.get("gate_value", 0.0)),
            combine=data.get("combine", "sum"),
            clip=self.clip(data, path),
            gate_location=self.document.where((*path, "gate")) if "gate" in data else None,
        )

    def component(self, name: str, data: dict[str, Any], path: Path_, known: list[str]) -> Component:
        if name in RESERVED:
            self.problem(path, f"{name!r} is a reserved word in conditions; choose another name", key=path)
        offer = self.registry.get(data["use"])
        params: Any = None
        try:
            params = make_params(offer.type, data.get("with", {}))
            offer.type.needed_fields(params)
            offer.type.needed_attributes(params)
        except ValueError as error:
            self.problem((*path, "with"), f"{data['use']}: {error}")
        # The boundary: the checks of the parameters are the plugin's code.
        except Exception as error:  # noqa: BLE001
            self.problem((*path, "with"), f"{data['use']} ({offer.provenance}) raised {type(error).__name__}: {error}")
        weight = Schedule.constant(1.0)
        try:
            weight = Schedule.from_data(data.get("weight", 1.0))
        except ValueError as error:
            self.problem((*path, "weight"), str(error))
        if data.get("timeout") is not None and offer.type.executor not in {"process", "async"}:
            self.problem(
                (*path, "timeout"),
                f"{data['use']} runs {offer.type.executor} and can't be interrupted; only rewards that run in worker "
                "processes or wait for services take a timeout",
            )
        return Component(
            name=name,
            offer=offer,
            params=params,
            weight=weight,
            when=self.expression(data.get("when"), (*path, "when"), known),
            scale=self.scale(data.get("scale"), (*path, "scale")),
            clip=self.clip(data, path),
            timeout_s=data.get("timeout", offer.type.timeout_s),
            limits=self.limits(offer, params, data, path),
            location=self.document.where((*path, "use")),
        )

    def limits(self, offer: OfferedReward, params: Any, data: Mapping[str, Any], path: Path_) -> CallLimits | None:
        """Return the limits of a component's calls: those of its reward type, changed as the file says."""
        own: CallLimits | None = None
        if params is not None:
            try:
                own = offer.type.call_limits(params)
            # The boundary: this may be the plugin's code.
            except Exception as error:  # noqa: BLE001
                self.problem(
                    (*path, "with"), f"{data['use']} ({offer.provenance}) raised {type(error).__name__}: {error}"
                )
                return None
        if "limits" not in data:
            return own
        if own is None:
            if params is not None:
                text = f"{data['use']} does not wait for a service: only coroutine functions ('async def') take limits"
                self.problem((*path, "limits"), text)
            return None
        if data["limits"].get("batch", 1) > 1 and (offer.type.scope == "group" or offer.type.rowwise):
            what = "whole groups" if offer.type.scope == "group" else "one rollout"
            self.problem((*path, "limits", "batch"), f"{data['use']} takes {what} per call, so 'batch' has no effect")
        whole = {"concurrency", "batch", "tries", "down_after"}
        given: dict[str, Any] = {key: int(value) if key in whole else value for key, value in data["limits"].items()}
        return replace(own, **given)

    def expression(self, text: str | None, path: Path_, known: list[str]) -> Expression | None:
        if text is None:
            return None
        try:
            expression = parse_expression(text)
        except ExpressionError as error:
            self.problems.append((self.inside(path, text, error.position), str(error)))
            return None
        for name, position in expression.positions.items():
            if name not in known:
                hint = did_you_mean(name, known) or f"; there are {', '.join(known)}"
                text_ = f"there is no component {name!r}{hint} (a column of the row is written fields.{name})"
                self.problems.append((self.inside(path, text, position), text_))
                return None
        return expression

    def inside(self, path: Path_, text: str, position: int) -> Location:
        """Return the place of a character of a value that is text."""
        where = self.document.where(path)
        if where.line is None or where.column is None or where.line > len(self.document.lines):
            return where
        line, start = self.document.lines[where.line - 1], where.column - 1
        start += line[start : start + 1] in {"'", '"'}
        # A folded, escaped or tagged text differs from the text in the file, so only its beginning is known.
        return Location(where.file, where.line, start + 1 + position) if line.startswith(text, start) else where

    def refuse_circles(self, components: tuple[Component, ...], path: Path_) -> None:
        needs = {item.name: list(item.when.components if item.when else ()) for item in components}
        order = list(needs)
        while True:
            try:
                graphlib.TopologicalSorter(needs).prepare()
            except graphlib.CycleError as error:
                # It names each node before those that depend on it, with the first one again at the end.
                circle = list(reversed(error.args[1][1:]))
                start = min(range(len(circle)), key=lambda index: order.index(circle[index]))
                circle = [*circle[start:], *circle[:start]]
                name = circle[0]
                text = (
                    f"the condition of {name!r} depends on itself"
                    if len(circle) == 1
                    else f"these conditions depend on each other: {' → '.join([*circle, name])}"
                )
                self.problem((*path, name, "when"), text)
                needs[name].remove(circle[1 % len(circle)])
            else:
                return

    def clip(self, data: dict[str, Any], path: Path_) -> tuple[float, float] | None:
        if "clip" not in data:
            return None
        low, high = data["clip"]
        if low >= high:
            self.problem(
                (*path, "clip"), f"clip must be [lowest, highest], found [{low}, {high}]; did you mean [{high}, {low}]?"
            )
        return float(low), float(high)

    def scale(self, data: Any, path: Path_) -> Scale | None:
        if data is None:
            return None
        if isinstance(data, str):
            return Scale("zscore" if data == "zscore" else "minmax")
        low, high = data["minmax"]
        if low >= high:
            self.problem((*path, "minmax"), f"minmax must be [low, high], found [{low}, {high}]")
        return Scale("range", float(low), float(high))

    def route(self, data: dict[str, Any], path: Path_, composites: Mapping[str, Composite]) -> Route:
        if data["composite"] not in composites:
            hint = did_you_mean(data["composite"], composites) or f"; there are {', '.join(composites)}"
            self.problem((*path, "composite"), f"there is no composite {data['composite']!r}{hint}")
        return Route(dict(data["match"]), data["composite"], self.document.where((*path, "match")))

    def resolved(
        self, composites: Mapping[str, Composite], routes: Iterable[Route], unscored: dict[str, Any]
    ) -> dict[str, Any]:
        plugins = {
            str(item.offer.provenance.distribution): item.offer.provenance.version
            for composite in composites.values()
            for item in composite.components
        }
        return {
            "version": 1,
            "composites": {name: _resolved_composite(composite) for name, composite in composites.items()},
            "routes": [{"match": dict(route.match), "composite": route.composite} for route in routes],
            "unscored": unscored,
            "plugins": plugins,
        }


def _resolved_composite(composite: Composite) -> dict[str, Any]:
    return {
        "components": {
            item.name: {
                "use": item.offer.type.name,
                "with": plain_params(item.params),
                "weight": {item.weight.kind: [list(point) for point in item.weight.points]},
                "when": item.when.text if item.when else None,
                "scale": [item.scale.kind, item.scale.low, item.scale.high] if item.scale else None,
                "clip": item.clip,
                "timeout": item.timeout_s,
                **component_content(item.offer, item.params, plain_params(item.params)),
            }
            for item in composite.components
        },
        "gate": composite.gate.text if composite.gate else None,
        "gate_value": composite.gate_value,
        "combine": composite.combine,
        "clip": composite.clip,
    }
