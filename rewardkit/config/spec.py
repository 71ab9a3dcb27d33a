"""From a YAML file to a checked, frozen description of a reward. Builds no plugin and runs nothing."""

from __future__ import annotations

import fnmatch
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rewardkit.config.expression import RESERVED, Expression, ExpressionError, parse_expression
from rewardkit.config.params import make_params, plain_params
from rewardkit.config.schedule import Schedule
from rewardkit.config.schema import reward_schema
from rewardkit.config.validate import did_you_mean, schema_problems
from rewardkit.config.yaml import Document, Path_, parse_yaml, read_yaml
from rewardkit.errors import ConfigError, DataError, Location, PluginError
from rewardkit.registry import OfferedReward, Registry
from rewardkit.types import Rollout

Combine = Literal["sum", "mean", "product", "min", "normalized_sum"]
Problem = tuple[Location | None, str]


@dataclass(frozen=True, slots=True)
class Scale:
    """The rescaling of a component's raw values."""

    kind: Literal["zscore", "minmax", "range"]
    """``zscore`` and ``minmax`` over the rollouts of a group; ``range`` maps fixed bounds to 0 and 1."""
    low: float = 0.0
    high: float = 1.0


@dataclass(frozen=True, slots=True)
class Component:
    """One named part of a composite."""

    name: str
    offer: OfferedReward
    params: Any
    weight: Schedule
    when: Expression | None = None
    scale: Scale | None = None
    clip: tuple[float, float] | None = None
    timeout_s: float | None = None
    location: Location | None = None

    @property
    def needs(self) -> tuple[str, ...]:
        """The row's fields that it reads, its condition included."""
        own = self.offer.type.needed_fields(self.params)
        return tuple(dict.fromkeys((*own, *(self.when.fields if self.when else ()))))


@dataclass(frozen=True, slots=True)
class Composite:
    """Components and how they become one number."""

    name: str
    """Its name under ``composites``; empty for the only one."""
    components: tuple[Component, ...]
    """In the order of the file."""
    gate: Expression | None = None
    gate_value: float = 0.0
    combine: Combine = "sum"
    clip: tuple[float, float] | None = None

    @property
    def needs_groups(self) -> bool:
        """Return whether a rollout's reward depends on the others of its group."""
        return self.combine == "normalized_sum" or any(
            component.offer.type.scope == "group" or (component.scale is not None and component.scale.kind != "range")
            for component in self.components
        )


@dataclass(frozen=True, slots=True)
class Route:
    """The rows that a composite applies to."""

    match: Mapping[str, str]
    composite: str

    def takes(self, fields: Mapping[str, Any]) -> bool:
        """Return whether every glob matches. A row without the field does not match."""
        return all(
            field in fields and fnmatch.fnmatchcase(str(fields[field]), glob) for field, glob in self.match.items()
        )


@dataclass(frozen=True, slots=True)
class RewardConfig:
    """Everything a reward file says, resolved."""

    composites: Mapping[str, Composite]
    routes: tuple[Route, ...]
    """Empty where there is only one composite."""
    policy: Literal["exclude", "zero", "fail"]
    abort_above: float
    resolved: Mapping[str, Any]
    """The file with every default filled in, and the versions of the plugins: what ``reward_id`` is the hash of."""
    file: str

    @property
    def reward_id(self) -> str:
        """Twelve hexadecimal digits that stand for the resolved configuration and the plugins' versions."""
        text = json.dumps(self.resolved, sort_keys=True, separators=(",", ":"))
        return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=6).hexdigest()

    @property
    def component_names(self) -> tuple[str, ...]:
        """The names of all components of all composites, in the order of the file."""
        return tuple(
            dict.fromkeys(item.name for composite in self.composites.values() for item in composite.components)
        )

    @property
    def needs_groups(self) -> bool:
        """Return whether whole groups must be scored together."""
        return any(composite.needs_groups for composite in self.composites.values())

    def composite_for(self, rollout: Rollout) -> Composite:
        """The composite that a rollout is scored by.

        Raises:
            DataError: No route takes it.
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
        raise DataError(f"{self.file}: no route takes a row with {found}; add one, or a last route with 'match: {{}}'")

    def row_problems(self, rollout: Rollout) -> list[tuple[str, str]]:
        """Return the problems that would keep a rollout from being scored, as (component, problem) pairs, without running a reward.

        Looks for the fields that are read and asks each reward's own ``check``.

        Raises:
            DataError: No route takes it.
        """
        problems = []
        for component in self.composite_for(rollout).components:
            kind = component.offer.type
            missing = [name for name in component.needs if rollout.fields.get(name) is None]
            problems += [(component.name, f"the row has no value in column {name!r}") for name in missing]
            if missing or kind.check is None:
                continue
            try:
                wrong = kind.check(component.params, rollout)
            # The boundary: it is the plugin's code, and the row may hold anything.
            except Exception as error:  # noqa: BLE001
                wrong = (
                    f"the check of {kind.name} ({component.offer.provenance}) raised {type(error).__name__}: {error}"
                )
            if wrong:
                problems.append((component.name, wrong))
        return problems

    def row_kinds(self, rollout: Rollout) -> list[tuple[str, str]]:
        """Return what kind of row each reward sees in a rollout, as (component, kind) pairs.

        Raises:
            DataError: No route takes it.
        """
        kinds = []
        for component in self.composite_for(rollout).components:
            describe = component.offer.type.describe
            try:
                kind = describe(component.params, rollout) if describe else None
            # The boundary: it is the plugin's code, and `row_problems` tells what is wrong with the row.
            except Exception:  # noqa: BLE001
                kind = None
            if kind:
                kinds.append((component.name, kind))
        return kinds

    def needed_fields(self) -> dict[str, list[tuple[Composite, str, Location | None]]]:
        """Each field that is read, with who reads it: composite, what part of it, and where that stands."""
        needed: dict[str, list[tuple[Composite, str, Location | None]]] = {}
        for composite in self.composites.values():
            for component in composite.components:
                for field in component.needs:
                    needed.setdefault(field, []).append(
                        (composite, f"component {component.name!r}", component.location)
                    )
            for field in composite.gate.fields if composite.gate else ():
                needed.setdefault(field, []).append((composite, "the gate", None))
        return needed


def read_config(file: Path | str, registry: Registry) -> RewardConfig:
    """Read and check a reward file.

    Raises:
        ConfigError: Anything is wrong with it; every problem is listed with file, line and column.
    """
    return resolve(read_yaml(file), registry)


def parse_config(text: str, registry: Registry, file: str = "<string>") -> RewardConfig:
    """The same from a string."""
    return resolve(parse_yaml(text, file), registry)


def resolve(document: Document, registry: Registry) -> RewardConfig:
    """Check a document and make a reward's description of it. Raises ConfigError."""
    if not isinstance(document.data, dict):
        raise ConfigError((document.where(()), "must be a mapping with the keys 'version' and 'components'"))
    unknown = list(_unknown_rewards(document, registry))
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


def _unknown_rewards(document: Document, registry: Registry) -> Iterator[Problem]:
    """Rewards that nobody offers, in the registry's words; the schema could only list what there is."""
    for path in _component_paths(document.data):
        component = _at(document.data, path)
        if isinstance(component, dict) and isinstance(component.get("use"), str):
            try:
                registry.get(component["use"])
            except PluginError as error:
                yield document.where((*path, "use")), str(error)


class _Resolver:
    """Collects all problems before it gives up."""

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
        )

    def component(self, name: str, data: dict[str, Any], path: Path_, known: list[str]) -> Component:
        if name in RESERVED:
            self.problem(path, f"{name!r} has a meaning of its own in conditions; choose another name", key=path)
        offer = self.registry.get(data["use"])
        params: Any = None
        try:
            params = make_params(offer.type, data.get("with", {}))
            offer.type.needed_fields(params)
        except ValueError as error:
            self.problem((*path, "with"), f"{data['use']}: {error}")
        # The boundary: the parameters' own checks are the plugin's code.
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
                f"{data['use']} runs {offer.type.executor}, where nothing can stop it; only rewards that run in worker "
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
            location=self.document.where((*path, "use")),
        )

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
        """The place of a character of a text."""
        where = self.document.where(path)
        if where.line is None or where.column is None or where.line > len(self.document.lines):
            return where
        line, start = self.document.lines[where.line - 1], where.column - 1
        start += line[start : start + 1] in {"'", '"'}
        # Folded, escaped or tagged, the text looks otherwise in the file, and only its beginning is known.
        return Location(where.file, where.line, start + 1 + position) if line.startswith(text, start) else where

    def refuse_circles(self, components: tuple[Component, ...], path: Path_) -> None:
        needs = {item.name: list(item.when.components if item.when else ()) for item in components}
        done: set[str] = set()
        reported: set[frozenset[str]] = set()

        def visit(name: str, trail: list[str]) -> None:
            if name in trail:
                circle = [*trail[trail.index(name) :], name]
                if frozenset(circle) not in reported:
                    reported.add(frozenset(circle))
                    text = (
                        f"the condition of {name!r} refers to itself"
                        if len(circle) == 2
                        else f"these conditions wait for each other: {' → '.join(circle)}"
                    )
                    self.problem((*path, name, "when"), text)
                return
            if name in done:
                return
            for other in needs.get(name, []):
                visit(other, [*trail, name])
            done.add(name)

        for item in components:
            visit(item.name, [])

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
        return Route(dict(data["match"]), data["composite"])

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
            }
            for item in composite.components
        },
        "gate": composite.gate.text if composite.gate else None,
        "gate_value": composite.gate_value,
        "combine": composite.combine,
        "clip": composite.clip,
    }
