"""Discovers the installed plugins and registers their rewards, rollout engines, monitors and commands.

A plugin that can't be imported or that misspells a hook is listed as broken, with the cause, and does not affect other plugins.
If two distributions offer the same name, asking for that name raises an error that names both.
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
from rewardkit.cheat import Cheat
from rewardkit.errors import PluginClashError, PluginError
from rewardkit.monitor import Monitor
from rewardkit.rollout_engine import RolloutEngineType
from rewardkit.types import Finding, RewardType

if TYPE_CHECKING:
    import click

DISABLE_VARIABLE = "REWARDKIT_DISABLE_PLUGINS"

OWN = "services"
"""The name of the plugin with the rewards of the core itself."""
FIRST_PARTY = ("format", "length", "math", "code", "reward_model")
"""The plugins that an extra of the core installs. Error messages about a missing reward name the extra."""


@dataclass(frozen=True, slots=True)
class Provenance:
    """The origin of a plugin: its distribution, version and entry point."""

    plugin: str
    """The entry point's name."""
    distribution: str
    """The distribution that has the entry point."""
    version: str
    """The version of the distribution. For an editable install it includes a hash of the sources, so that an edit is a new version."""
    installed: bool = True
    """False if the program registered the plugin with ``Registry.register``."""

    def __str__(self) -> str:
        return f"{self.distribution} {self.version}"


@dataclass(frozen=True, slots=True)
class OfferedReward:
    """A reward type with the plugin that offers it."""

    type: RewardType
    provenance: Provenance


@dataclass(frozen=True, slots=True)
class OfferedEngine:
    """A type of rollout engine with the plugin that offers it."""

    type: RolloutEngineType
    provenance: Provenance


@dataclass(frozen=True, slots=True)
class BrokenPlugin:
    """A plugin that is installed but can't be used."""

    provenance: Provenance
    cause: str
    """The cause in one line."""
    traceback: str
    """The traceback, for the author of the plugin."""


@dataclass
class Registry:
    """The plugins and what they offer. ``Registry.load()`` discovers the installed plugins; ``Registry()`` is empty.

    Args:
        rewards: Reward types by name. Several entries under one name are a clash.
        engines: Rollout engines by name, without those of the core. Several entries under one name are a clash.
        commands: Commands that plugins add to the command line, by name. Several entries under one name are a clash.
        broken: Plugins that can't be used.
        disabled: Plugins that ``REWARDKIT_DISABLE_PLUGINS`` disables.
        plugins: Plugins that work, sorted by name.
    """

    rewards: dict[str, list[OfferedReward]] = field(default_factory=dict)
    engines: dict[str, list[OfferedEngine]] = field(default_factory=dict)
    commands: dict[str, list[tuple[click.Command, Provenance]]] = field(default_factory=dict)
    broken: list[BrokenPlugin] = field(default_factory=list)
    disabled: list[Provenance] = field(default_factory=list)
    plugins: list[Provenance] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._manager = pluggy.PluginManager(hookspecs.PROJECT)
        self._manager.add_hookspecs(hookspecs)
        self._monitors: dict[str, list[tuple[Monitor, Provenance]]] = {}
        self.cheats: list[Cheat] = []
        """The cheats that plugins offer."""
        self._provenances: dict[str, Provenance] = {}
        """By the name under which pluggy registered the plugin."""

    @classmethod
    def load(cls, only: Collection[str] | None = None) -> Registry:
        """Discover the installed plugins, except for those that the environment variable ``REWARDKIT_DISABLE_PLUGINS`` names.

        The variable is a comma-separated list of entry points or distributions; ``*`` matches any characters.

        Args:
            only: Load only the entry points of these names; None loads all.

        Returns:
            A registry with the plugins. Plugins that can't be loaded are in ``broken``.
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
                continue  # A source folder on sys.path lists the installed distribution a second time.
            seen.add(key)
            version = (entry_point.dist and entry_point.dist.version) or "0"
            provenance = Provenance(entry_point.name, distribution, version)
            if _is_disabled(provenance, patterns):
                registry.disabled.append(provenance)
                continue
            try:
                plugin = entry_point.load()
            # Importing a plugin may raise anything, including SystemExit and the panic of a Rust extension.
            except BaseException as error:
                if isinstance(error, KeyboardInterrupt):
                    raise
                registry.broken.append(_broken(provenance, error))
                continue
            if entry_point.dist and (sources := _editable_sources(entry_point.dist, plugin)):
                provenance = Provenance(entry_point.name, distribution, f"{version}+{sources}")
            registry.register(plugin, provenance)
        if only is None or OWN in only:
            registry._register_own(patterns)
        return registry

    def _register_own(self, disabled: Iterable[str]) -> None:
        """Register the rewards of the core, which call services and other packages, unless a pattern disables them."""
        from rewardkit import __version__
        from rewardkit.services import plugin

        provenance = Provenance(OWN, "rewardkit", __version__)
        if _is_disabled(provenance, disabled):
            self.disabled.append(provenance)
        else:
            self.register(plugin, provenance)

    def register(self, plugin: object, provenance: Provenance | None = None) -> None:
        """Register a plugin. If it misspells a hook or offers something of the wrong type, it is added to ``broken``.

        Args:
            plugin: A module, an object with hook implementations, or a function or class decorated with ``@reward``.
            provenance: The origin of the plugin; by default this program.
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
            cheats = self._offers("register_cheats", plugin)
            _refuse_other_types("register_cheats", cheats, Cheat)
            commands = self._offers("register_commands", plugin)
            _refuse_other_commands(commands)
        # The same boundary: an exception in the plugin's code makes this plugin broken, and affects no other.
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
        self.cheats += cheats
        for command in commands:
            self.commands.setdefault(str(command.name), []).append((command, provenance))

    def _offers(self, hook: str, plugin: object) -> list[Any]:
        """Return what one plugin registers with a hook."""
        others = [other for other in self._manager.get_plugins() if other is not plugin]
        return [item for items in self._manager.subset_hook_caller(hook, others)() for item in items]

    @property
    def hook(self) -> Any:
        """Calls the hooks of all plugins that work, as in ``registry.hook.rollouts_scored(…)``."""
        return self._manager.hook

    @cached_property
    def _observed(self) -> bool:
        return bool(self._manager.hook.rollouts_scored.get_hookimpls())

    @property
    def observes_scoring(self) -> bool:
        """True if any plugin implements ``rollouts_scored``."""
        return self._observed

    def tell(self, hook: str, **facts: object) -> list[tuple[Provenance, Exception]]:
        """Call an observing hook of each plugin.

        Args:
            hook: The name of the hook.
            facts: The arguments of the hook; each plugin gets those that it declares.

        Returns:
            The plugins whose implementation raised an exception, each with the exception.
        """
        failed = []
        for implementation in getattr(self._manager.hook, hook).get_hookimpls():
            try:
                implementation.function(*(facts[name] for name in implementation.argnames))
            # The boundary: an exception in an observer's code is reported and changes nothing.
            except Exception as error:  # noqa: BLE001
                failed.append((self._provenances[implementation.plugin_name], error))
        return failed

    def diagnoses(self) -> list[tuple[Provenance, Callable[[], Iterable[Finding]]]]:
        """Return the plugins that implement ``diagnose``, each with its implementation, which may raise anything."""
        found: list[tuple[Provenance, Callable[[], Iterable[Finding]]]] = [
            (
                self._provenances[implementation.plugin_name],
                cast("Callable[[], Iterable[Finding]]", implementation.function),
            )
            for implementation in self._manager.hook.diagnose.get_hookimpls()
        ]
        return sorted(found, key=lambda item: item[0].plugin)

    def names(self) -> list[str]:
        """Return the names of all rewards, sorted."""
        return sorted(self.rewards)

    def clashes(self) -> list[str]:
        """Return a message for each name that two distributions offer."""
        rewards = {name: [offer.provenance for offer in offers] for name, offers in sorted(self.rewards.items())}
        engines = {name: [offer.provenance for offer in offers] for name, offers in sorted(self.engines.items())}
        commands = {name: [provenance for _, provenance in offers] for name, offers in sorted(self.commands.items())}
        return [
            _clash(what, name, offers)
            for what, names in (("reward", rewards), ("rollout engine", engines), ("command", commands))
            for name, offers in names.items()
            if len(offers) > 1
        ]

    def get(self, name: str) -> OfferedReward:
        """Return the reward of a name.

        Args:
            name: The name, such as ``format.tags``.

        Raises:
            PluginClashError: Two distributions offer it. The message names both.
            PluginError: No plugin offers it. The message names similar rewards, broken or disabled plugins, or the extra to install.
        """
        offers = self.rewards.get(name, [])
        if len(offers) == 1:
            return offers[0]
        if offers:
            raise PluginClashError(_clash("reward", name, [offer.provenance for offer in offers]))
        raise PluginError(self._unknown(name))

    def engine(self, name: str) -> OfferedEngine:
        """Return the rollout engine of a name.

        Args:
            name: The name.

        Raises:
            PluginClashError: Two distributions offer it. The message names both.
            PluginError: No plugin offers it. The message names similar engines and broken plugins.
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
            builtin: The names of built-in monitors, which no plugin may use.

        Raises:
            PluginClashError: Two plugins offer a monitor of one name, or a plugin offers a built-in name.
        """
        for name, offers in self._monitors.items():
            if name in builtin:
                raise PluginClashError(
                    f"plugin {offers[0][1]} offers a monitor {name!r}, which is the name of a built-in one"
                )
            if len(offers) > 1:
                raise PluginClashError(_clash("monitor", name, [provenance for _, provenance in offers]))
        return [offers[0][0] for _, offers in sorted(self._monitors.items())]

    def command(self, name: str) -> click.Command | None:
        """Return the command that a plugin adds under a name, or None if no plugin does.

        Args:
            name: The name of the command.

        Raises:
            PluginClashError: Two distributions offer it. The message names both.
        """
        offers = self.commands.get(name, [])
        if len(offers) > 1:
            raise PluginClashError(_clash("command", name, [provenance for _, provenance in offers]))
        return offers[0][0] if offers else None

    def _unknown(self, name: str) -> str:
        family = name.split(".", maxsplit=1)[0]
        for broken in self.broken:
            if family in _plausible_names(broken.provenance):
                return f"reward {name!r} can't be used: plugin {broken.provenance} is broken: {broken.cause}"
        for provenance in self.disabled:
            if family in _plausible_names(provenance):
                return f"reward {name!r} can't be used: {provenance} is disabled by {DISABLE_VARIABLE}"
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
        """Return the part of a message that names the broken plugins, one of which may offer what is missing."""
        causes = "; ".join(f"{item.provenance}: {item.cause}" for item in self.broken)
        return f" (broken plugins, which might: {causes})" if causes else ""


def _nearest(name: str, known: Iterable[str]) -> list[str]:
    """Return the most similar known name, and others only if they are about as similar."""
    close = difflib.get_close_matches(name, list(known), n=3, cutoff=0.6)
    ratios = [difflib.SequenceMatcher(None, name, item).ratio() for item in close]
    return [item for item, ratio in zip(close, ratios, strict=True) if ratio >= ratios[0] - 0.05]


def _decorated(plugin: object) -> Iterator[RewardType]:
    """Return what ``@reward`` decorated: the plugin itself, or the members of a module that come from the same package.

    A plugin that imports the reward of another plugin does not register it a second time.
    """
    if (own := reward_type_of(plugin)) is not None:
        yield own
    elif isinstance(plugin, ModuleType):
        package = plugin.__name__.partition(".")[0]
        for value in vars(plugin).values():
            found = reward_type_of(value)
            if found is not None and found.origin.partition(":")[0].partition(".")[0] == package:
                yield found


def _is_disabled(provenance: Provenance, patterns: Iterable[str]) -> bool:
    """Return True if a pattern matches the entry point or the distribution of a plugin."""
    names = {provenance.plugin.lower(), _canonical(provenance.distribution)}
    return any(fnmatch.fnmatchcase(name, _canonical(pattern)) for name in names for pattern in patterns)


def _plausible_names(provenance: Provenance) -> set[str]:
    """Return the families of rewards that a plugin that is not loaded probably offers."""
    distribution = _canonical(provenance.distribution)
    return {provenance.plugin, distribution, distribution.removeprefix("rewardkit-")}


def _clash(what: str, name: str, offers: Iterable[Provenance]) -> str:
    who = " and ".join(f"{offer} (plugin {offer.plugin!r})" for offer in offers)
    return f"{what} {name!r} is offered by more than one plugin: {who}; uninstall one, or disable it with {DISABLE_VARIABLE}=DISTRIBUTION"


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
    """Return pluggy's message about an unknown hook, with the name that was probably meant."""
    if unknown := re.search(r"unknown hook '(\w+)'", message):
        known = _hook_names()
        close = difflib.get_close_matches(unknown[1], known, n=1)
        return f"there is no hook {unknown[1]!r}; " + (
            f"did you mean {close[0]!r}?" if close else f"hooks are {', '.join(known)}"
        )
    return message


def _refuse_unmarked_hooks(plugin: object) -> None:
    """Raise TypeError for a function that has the name of a hook but lacks the decorator, which pluggy would ignore silently."""
    for name in _hook_names():
        implementation = getattr(plugin, name, None)
        if callable(implementation) and not hasattr(implementation, f"{hookspecs.PROJECT}_impl"):
            raise TypeError(f"{name} is not marked as a hook; put @rewardkit.hookimpl above it")


def _refuse_other_types(hook: str, offered: Iterable[object], kind: type) -> None:
    for item in offered:
        if not isinstance(item, kind):
            raise TypeError(f"{hook} returned a {type(item).__name__}, not a {kind.__name__}")


def _refuse_other_commands(commands: Iterable[object]) -> None:
    for item in commands:
        import click

        if not isinstance(item, click.Command):
            raise TypeError(f"register_commands returned a {type(item).__name__}, not a click command")
        if not item.name:
            raise ValueError("register_commands returned a command without a name")


def _canonical(name: str) -> str:
    """Return the normalized name of a distribution (PEP 503)."""
    return name.lower().replace("_", "-").replace(".", "-")


def _editable_sources(distribution: importlib.metadata.Distribution, plugin: object) -> str | None:
    """Return a short hash of the sources of an editable install, so that no cached score outlives an edit; otherwise None."""
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
    # The folder of the package, or the file of a single module.
    package = root / file.relative_to(root).parts[0]
    if package.name == "src" and package.is_dir():
        package = package / file.relative_to(package).parts[0]
    digest = hashlib.blake2b(digest_size=4)
    for source in sorted(package.rglob("*.py")) if package.is_dir() else [file]:
        digest.update(source.read_bytes())
    return digest.hexdigest()
