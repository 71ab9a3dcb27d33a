"""Finds the installed plugins and keeps what they offer, with where each came from.

A plugin that can't be imported or that misspells a hook is kept as broken, with its cause, and does not disturb the others.
Two distributions that offer one name clash: the clash is reported wherever that name is asked for, naming both.
"""

from __future__ import annotations

import difflib
import fnmatch
import hashlib
import importlib.metadata
import json
import os
import re
import sys
import traceback
import urllib.parse
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

import pluggy

from rewardkit import hookspecs
from rewardkit.authoring import reward_type_of
from rewardkit.errors import PluginClashError, PluginError
from rewardkit.monitor import Monitor
from rewardkit.rollout_engine import RolloutEngineType
from rewardkit.types import Finding, RewardType

if TYPE_CHECKING:
    import click

DISABLE_VARIABLE = "REWARDKIT_DISABLE_PLUGINS"

FIRST_PARTY = ("format", "length", "math", "code", "reward_model")
"""Plugins that come with an extra of the core, to be named where one is asked for and missing."""


@dataclass(frozen=True, slots=True)
class Provenance:
    """The origin of a plugin: its distribution, version and entry point."""

    plugin: str
    """The entry point's name."""
    distribution: str
    """The installed distribution that has the entry point."""
    version: str
    """Its version; of an editable install with a hash of its sources, so that editing it is a new version."""
    installed: bool = True
    """False for what a program registered by itself."""

    def __str__(self) -> str:
        return f"{self.distribution} {self.version}"


@dataclass(frozen=True, slots=True)
class OfferedReward:
    """A reward type together with who offers it."""

    type: RewardType
    provenance: Provenance


@dataclass(frozen=True, slots=True)
class OfferedEngine:
    """A rollout engine together with who offers it."""

    type: RolloutEngineType
    provenance: Provenance


@dataclass(frozen=True, slots=True)
class BrokenPlugin:
    """A plugin that is installed and can't be used."""

    provenance: Provenance
    cause: str
    """One line: what went wrong."""
    traceback: str
    """All of it, for the plugin's author."""


@dataclass
class Registry:
    """The offers of plugins. ``Registry.load()`` finds the installed plugins; ``Registry()`` is empty."""

    rewards: dict[str, list[OfferedReward]] = field(default_factory=dict)
    """By name; more than one offer under a name is a clash."""
    engines: dict[str, list[OfferedEngine]] = field(default_factory=dict)
    """Rollout engines, by name; those of the core join them where a training configuration is read."""
    commands: dict[str, list[tuple[click.Command, Provenance]]] = field(default_factory=dict)
    """Verbs that plugins add, by name."""
    broken: list[BrokenPlugin] = field(default_factory=list)
    disabled: list[Provenance] = field(default_factory=list)
    plugins: list[Provenance] = field(default_factory=list)
    """Those that work, in the order of their names."""

    def __post_init__(self) -> None:
        self._manager = pluggy.PluginManager(hookspecs.PROJECT)
        self._manager.add_hookspecs(hookspecs)
        self._monitors: dict[str, list[tuple[Monitor, Provenance]]] = {}
        self._provenances: dict[str, Provenance] = {}
        """By the name that pluggy knows a plugin by."""

    @classmethod
    def load(cls, only: Collection[str] | None = None) -> Registry:
        """Discover the plugins of this environment, less those that ``REWARDKIT_DISABLE_PLUGINS`` names.

        The variable is a comma-separated list of entry-point or distribution names; ``*`` stands for any characters.

        Args:
            only: Look at entry points of these names alone.
        """
        registry = cls()
        patterns = [part.strip().lower() for part in os.environ.get(DISABLE_VARIABLE, "").split(",") if part.strip()]
        seen: set[tuple[str, str, str]] = set()
        for entry_point in sorted(importlib.metadata.entry_points(group=hookspecs.PROJECT), key=lambda item: item.name):
            if only is not None and entry_point.name not in only:
                continue
            # The metadata of a distribution that is damaged, or just being installed, may lack its name and version.
            distribution = (entry_point.dist and entry_point.dist.name) or "unknown distribution"
            if (key := (entry_point.name, entry_point.value, distribution)) in seen:
                continue  # a source folder on sys.path shows the installed distribution a second time
            seen.add(key)
            version = (entry_point.dist and entry_point.dist.version) or "0"
            provenance = Provenance(entry_point.name, distribution, version)
            names = {entry_point.name.lower(), _canonical(distribution)}
            if any(fnmatch.fnmatchcase(name, _canonical(pattern)) for name in names for pattern in patterns):
                registry.disabled.append(provenance)
                continue
            try:
                plugin = entry_point.load()
            # A plugin's import may raise anything, SystemExit and the panic of a Rust extension included.
            except BaseException as error:
                if isinstance(error, KeyboardInterrupt):
                    raise
                registry.broken.append(_broken(provenance, error))
                continue
            if entry_point.dist and (sources := _editable_sources(entry_point.dist, plugin)):
                provenance = Provenance(entry_point.name, distribution, f"{version}+{sources}")
            registry.register(plugin, provenance)
        return registry

    def register(self, plugin: object, provenance: Provenance | None = None) -> None:
        """Take in one plugin: a module, an object with hook implementations, or a function decorated with ``@reward``.

        A plugin that misspells a hook or offers what is no reward type is kept as broken. Without a provenance it counts as
        this program's own.
        """
        provenance = provenance or Provenance(
            getattr(plugin, "__name__", type(plugin).__name__), "this program", "0", installed=False
        )
        registered = False
        try:
            _refuse_unmarked_hooks(plugin)
            name = f"{provenance.distribution}:{provenance.plugin}:{id(plugin)}"
            self._manager.register(plugin, name=name)
            registered = True
            self._manager.check_pending()
            offered = [*_decorated(plugin), *self._offers("register_rewards", plugin)]
            _refuse_other_types("register_rewards", offered, RewardType)
            engines = self._offers("register_rollout_engines", plugin)
            _refuse_other_types("register_rollout_engines", engines, RolloutEngineType)
            monitors = self._offers("register_monitors", plugin)
            _refuse_other_types("register_monitors", monitors, Monitor)
            commands = self._offers("register_commands", plugin)
            _refuse_other_commands(commands)
        # The same boundary: what a plugin's own code raises makes that plugin broken, and nothing else.
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            if registered:
                self._manager.unregister(plugin)
            self.broken.append(_broken(provenance, error))
            return
        self.plugins.append(provenance)
        self._provenances[name] = provenance
        for reward_type in {id(item): item for item in offered}.values():
            self.rewards.setdefault(reward_type.name, []).append(OfferedReward(reward_type, provenance))
        for engine in engines:
            self.engines.setdefault(engine.name, []).append(OfferedEngine(engine, provenance))
        for monitor in monitors:
            self._monitors.setdefault(monitor.name, []).append((monitor, provenance))
        for command in commands:
            self.commands.setdefault(str(command.name), []).append((command, provenance))

    def _offers(self, hook: str, plugin: object) -> list[Any]:
        """Return the offers of one plugin for a hook that registers."""
        others = [other for other in self._manager.get_plugins() if other is not plugin]
        return [item for items in self._manager.subset_hook_caller(hook, others)() for item in items]

    @property
    def hook(self) -> Any:
        """Calls the observing hooks of every plugin that works: ``registry.hook.rollouts_scored(…)``."""
        return self._manager.hook

    @cached_property
    def _observed(self) -> bool:
        return bool(self._manager.hook.rollouts_scored.get_hookimpls())

    @property
    def observes_scoring(self) -> bool:
        """Return whether any plugin implements ``rollouts_scored``."""
        return self._observed

    def tell(self, hook: str, **facts: object) -> list[tuple[Provenance, Exception]]:
        """Call an observing hook of one plugin after the other; returns who raised what."""
        failed = []
        for implementation in getattr(self._manager.hook, hook).get_hookimpls():
            try:
                implementation.function(*(facts[name] for name in implementation.argnames))
            # The boundary: what an observer's own code raises is told, and touches nothing.
            except Exception as error:  # noqa: BLE001
                failed.append((self._provenances[implementation.plugin_name], error))
        return failed

    def diagnoses(self) -> list[tuple[Provenance, Callable[[], Iterable[Finding]]]]:
        """Each plugin that implements ``diagnose``, with its implementation, which may raise anything."""
        found: list[tuple[Provenance, Callable[[], Iterable[Finding]]]] = [
            (
                self._provenances[implementation.plugin_name],
                cast("Callable[[], Iterable[Finding]]", implementation.function),
            )
            for implementation in self._manager.hook.diagnose.get_hookimpls()
        ]
        return sorted(found, key=lambda item: item[0].plugin)

    def names(self) -> list[str]:
        """All rewards' names, sorted."""
        return sorted(self.rewards)

    def clashes(self) -> list[str]:
        """A line for every name that two distributions offer."""
        rewards = {name: [offer.provenance for offer in offers] for name, offers in sorted(self.rewards.items())}
        engines = {name: [offer.provenance for offer in offers] for name, offers in sorted(self.engines.items())}
        verbs = {name: [provenance for _, provenance in offers] for name, offers in sorted(self.commands.items())}
        return [
            _clash(what, name, offers)
            for what, names in (("reward", rewards), ("rollout engine", engines), ("verb", verbs))
            for name, offers in names.items()
            if len(offers) > 1
        ]

    def get(self, name: str) -> OfferedReward:
        """The reward of that name.

        Raises:
            PluginClashError: Two distributions offer it; both are named.
            PluginError: Nobody offers it; says what is alike, broken, switched off, or installable.
        """
        offers = self.rewards.get(name, [])
        if len(offers) == 1:
            return offers[0]
        if offers:
            raise PluginClashError(_clash("reward", name, [offer.provenance for offer in offers]))
        raise PluginError(self._unknown(name))

    def engine(self, name: str) -> OfferedEngine:
        """The rollout engine of that name.

        Raises:
            PluginClashError: Two distributions offer it; both are named.
            PluginError: Nobody offers it; says what is alike or broken.
        """
        offers = self.engines.get(name, [])
        if len(offers) > 1:
            raise PluginClashError(_clash("rollout engine", name, [offer.provenance for offer in offers]))
        if offers:
            return offers[0]
        message = f"no plugin offers a rollout engine {name!r}"
        if close := _nearest(name, self.engines):
            message += f"; did you mean {' or '.join(close)}?"
        else:
            message += f"; there are {', '.join(sorted(self.engines))}"
        raise PluginError(message + self._broken_ones())

    def monitors(self, builtin: Collection[str] = ()) -> list[Monitor]:
        """Return the monitors that plugins offer, sorted by name.

        Args:
            builtin: Names that no plugin may use.

        Raises:
            PluginClashError: Two plugins offer a monitor of one name, or a plugin offers a built-in name.
        """
        for name, offers in self._monitors.items():
            if name in builtin:
                raise PluginClashError(f"plugin {offers[0][1]} offers a monitor {name!r}, a name of rewardkit's own")
            if len(offers) > 1:
                raise PluginClashError(_clash("monitor", name, [provenance for _, provenance in offers]))
        return [offers[0][0] for _, offers in sorted(self._monitors.items())]

    def command(self, name: str) -> click.Command | None:
        """The verb that a plugin adds under that name; None where none does.

        Raises:
            PluginClashError: Two distributions offer it; both are named.
        """
        offers = self.commands.get(name, [])
        if len(offers) > 1:
            raise PluginClashError(_clash("verb", name, [provenance for _, provenance in offers]))
        return offers[0][0] if offers else None

    def _unknown(self, name: str) -> str:
        family = name.split(".", maxsplit=1)[0]
        for broken in self.broken:
            if family in _plausible_names(broken.provenance):
                return f"reward {name!r} can't be used: plugin {broken.provenance} is broken: {broken.cause}"
        for provenance in self.disabled:
            if family in _plausible_names(provenance):
                return f"reward {name!r} can't be used: {provenance} is switched off by {DISABLE_VARIABLE}"
        message = f"no plugin offers a reward {name!r}"
        members = [known for known in self.rewards if known.split(".", maxsplit=1)[0] == family]
        if close := _nearest(name, self.rewards):
            message += f"; did you mean {' or '.join(close)}?"
        elif members:
            message += f"; {family} has {', '.join(sorted(members))}"
        elif family in FIRST_PARTY:
            message += f"; install it with: pip install 'rewardkit[{family.replace('_', '-')}]'"
        elif self.rewards:
            message += f"; installed are {', '.join(self.names())}"
        else:
            message += "; no reward plugins are installed, try: pip install 'rewardkit[format,length,math]'"
        return message + self._broken_ones()

    def _broken_ones(self) -> str:
        """For a message about something that nobody offers."""
        causes = "; ".join(f"{item.provenance}: {item.cause}" for item in self.broken)
        return f" (broken plugins, which might: {causes})" if causes else ""


def _nearest(name: str, known: Iterable[str]) -> list[str]:
    """The known name that is most alike, and others only if they are about as near."""
    close = difflib.get_close_matches(name, list(known), n=3, cutoff=0.6)
    ratios = [difflib.SequenceMatcher(None, name, item).ratio() for item in close]
    return [item for item, ratio in zip(close, ratios, strict=True) if ratio >= ratios[0] - 0.05]


def _decorated(plugin: object) -> Iterator[RewardType]:
    """Return what ``@reward`` decorated: the plugin itself, or the members of a module that come from the same package.

    A plugin that imports another's reward, to make something of it, doesn't offer that a second time.
    """
    if (own := reward_type_of(plugin)) is not None:
        yield own
    elif isinstance(plugin, ModuleType):
        package = plugin.__name__.partition(".")[0]
        for value in vars(plugin).values():
            found = reward_type_of(value)
            if found is not None and found.origin.partition(":")[0].partition(".")[0] == package:
                yield found


def _plausible_names(provenance: Provenance) -> set[str]:
    """Families of rewards that a plugin which could not be asked may be expected to offer."""
    distribution = _canonical(provenance.distribution)
    return {provenance.plugin, distribution, distribution.removeprefix("rewardkit-")}


def _clash(what: str, name: str, offers: Iterable[Provenance]) -> str:
    who = " and ".join(f"{offer} (plugin {offer.plugin!r})" for offer in offers)
    return f"{what} {name!r} is offered twice, by {who}; uninstall one, or switch it off with {DISABLE_VARIABLE}=DISTRIBUTION"


def _broken(provenance: Provenance, error: BaseException) -> BrokenPlugin:
    if isinstance(error, pluggy.PluginValidationError):
        cause = _explain_hook(str(error))
    else:
        cause = f"{type(error).__name__}: {error}".strip().rstrip(":")
    text = "".join(traceback.format_exception(error))
    return BrokenPlugin(provenance, " ".join(cause.split()), text)


def _hook_names() -> list[str]:
    return [name for name, value in vars(hookspecs).items() if hasattr(value, f"{hookspecs.PROJECT}_spec")]


def _explain_hook(message: str) -> str:
    """Pluggy's text for an unknown hook, with the name that was probably meant."""
    if unknown := re.search(r"unknown hook '(\w+)'", message):
        known = _hook_names()
        close = difflib.get_close_matches(unknown[1], known, n=1)
        return f"there is no hook {unknown[1]!r}; " + (
            f"did you mean {close[0]!r}?" if close else f"hooks are {', '.join(known)}"
        )
    return message


def _refuse_unmarked_hooks(plugin: object) -> None:
    """A function with a hook's name that nothing marks would be passed over in silence."""
    for name in _hook_names():
        implementation = getattr(plugin, name, None)
        if callable(implementation) and not hasattr(implementation, f"{hookspecs.PROJECT}_impl"):
            raise TypeError(f"{name} is not marked as a hook; put @rewardkit.hookimpl above it")


def _refuse_other_types(hook: str, offered: Iterable[object], kind: type) -> None:
    for item in offered:
        if not isinstance(item, kind):
            raise TypeError(f"{hook} gave a {type(item).__name__}, not a {kind.__name__}")


def _refuse_other_commands(commands: Iterable[object]) -> None:
    for item in commands:
        import click

        if not isinstance(item, click.Command):
            raise TypeError(f"register_commands gave a {type(item).__name__}, not a click command")
        if not item.name:
            raise ValueError("register_commands gave a command without a name")


def _canonical(name: str) -> str:
    """A distribution's name as PEP 503 compares it."""
    return name.lower().replace("_", "-").replace(".", "-")


def _editable_sources(distribution: importlib.metadata.Distribution, plugin: object) -> str | None:
    """A short hash of a plugin's sources where it is installed editable, so that a cached score never outlives an edit."""
    try:
        direct_url: Mapping[str, Any] = json.loads(distribution.read_text("direct_url.json") or "{}")
    except json.JSONDecodeError:
        return None
    if not direct_url.get("dir_info", {}).get("editable"):
        return None
    root = Path(urllib.parse.unquote(urllib.parse.urlparse(str(direct_url.get("url", ""))).path))
    module = plugin if isinstance(plugin, ModuleType) else sys.modules.get(getattr(plugin, "__module__", ""))
    file = Path(getattr(module, "__file__", None) or "")
    if root not in file.parents:
        return None
    # The package's folder, or for a single module that file alone.
    package = root / file.relative_to(root).parts[0]
    if package.name == "src" and package.is_dir():
        package = package / file.relative_to(package).parts[0]
    digest = hashlib.blake2b(digest_size=4)
    for source in sorted(package.rglob("*.py")) if package.is_dir() else [file]:
        digest.update(source.read_bytes())
    return digest.hexdigest()
