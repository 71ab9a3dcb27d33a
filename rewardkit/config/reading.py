"""Reads and checks a reward file, and returns it as frozen dataclasses. No reward is built or run."""

from __future__ import annotations

import copy
import graphlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from rewardkit.config.content import component_content
from rewardkit.config.expression import RESERVED, Expression, ExpressionError, parse_expression
from rewardkit.config.params import make_params, plain_params
from rewardkit.config.schedule import Schedule
from rewardkit.config.schema import reward_schema
from rewardkit.config.spec import Component, Composite, RewardConfig, Route, Scale
from rewardkit.config.validate import did_you_mean, schema_problems
from rewardkit.config.yaml import Document, Path_, parse_yaml, read_yaml
from rewardkit.errors import ConfigError, Location, PluginError
from rewardkit.registry import OfferedReward, Provenance, Registry
from rewardkit.types import CallLimits
from rewardkit.user_functions import FunctionSource, function_type, is_function

Problem = tuple[Location | None, str]


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
