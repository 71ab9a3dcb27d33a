"""Tests of the registry: plugins that work, are broken, clash, or are disabled."""

import inspect
import json
import re
import sys
import types
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from rewardkit import Finding, Monitor, Registry, RewardType, Rollout, ScoredRollout, hookimpl, hookspecs, reward
from rewardkit.cheat import Cheat
from rewardkit.errors import PluginClashError, PluginError
from rewardkit.registry import DISABLE_VARIABLE, BrokenPlugin, Provenance
from rewardkit.rollout_engine import RolloutEngineType

GOOD = """
    from rewardkit import reward

    @reward("{name}")
    def function(rollout) -> float:
        return 1.0
"""


def good(name: str) -> str:
    """A plugin of one reward."""
    return GOOD.format(name=name)


def broken(registry: Registry) -> BrokenPlugin:
    """The one broken plugin."""
    assert registry.plugins == []
    (only,) = registry.broken
    return only


Load = Callable[..., Registry]


def test_a_plugin_is_found_with_where_it_came_from(install_plugin) -> None:
    """A decorated function of an installed module is offered, with the distribution's name and version."""
    install_plugin(good("acme.pal"), "acme-rewards", "1.2", entry="acme")
    registry = Registry.load()
    offer = registry.get("acme.pal")
    assert offer.provenance == Provenance("acme", "acme-rewards", "1.2")
    assert str(offer.provenance) == "acme-rewards 1.2"
    assert "acme.pal" in registry.names()
    assert registry.names() == sorted(registry.names())
    assert offer.provenance in registry.plugins


def test_an_entry_point_may_name_an_object(load_plugin: Load) -> None:
    """An entry point that names one decorated function offers that alone."""
    code = good("one") + good("two").replace("def function", "def second")
    assert load_plugin(code, attr=":second").names() == ["two"]


def test_first_party_plugins_are_plugins_like_any_other() -> None:
    """The built-in plugins are discovered like any other."""
    pytest.importorskip("rewardkit_format", reason="the format plugin is not installed")
    assert Registry.load().get("format.tags").provenance.distribution == "rewardkit-format"


def test_only_what_is_asked_for_is_imported(install_plugin) -> None:
    """With ``only`` other plugins stay untouched."""
    first = install_plugin(good("first"), "first")
    second = install_plugin(good("second"), "second")
    assert Registry.load(only={"second"}).names() == ["second"]
    assert (first in sys.modules, second in sys.modules) == (False, True)


def test_a_distribution_that_is_seen_twice_counts_once(
    install_plugin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second folder on the path with the same distribution is no clash."""
    install_plugin(good("acme.pal"))
    copy = tmp_path / "copy" / "acme-1.0.dist-info"
    copy.mkdir(parents=True)
    for file in (tmp_path / "site" / "acme-1.0.dist-info").iterdir():
        (copy / file.name).write_text(file.read_text())
    monkeypatch.syspath_prepend(str(copy.parent))
    assert Registry.load(only={"acme"}).clashes() == []


def test_a_clash_names_both_distributions(install_plugin) -> None:
    """A name that two distributions offer can't be used, and the error names both and what to do; others can."""
    install_plugin(good("same") + good("fine").replace("def function", "def other"), "one", "1.0")
    install_plugin(good("same"), "two", "2.0")
    registry = Registry.load()
    with pytest.raises(PluginClashError) as caught:
        registry.get("same")
    expected = (
        "reward 'same' is offered by more than one plugin: one 1.0 (plugin 'one') and two 2.0 (plugin 'two'); uninstall one, or disable it "
        "with REWARDKIT_DISABLE_PLUGINS=DISTRIBUTION"
    )
    assert str(caught.value) == expected
    assert registry.clashes() == [expected]
    assert registry.get("fine").provenance.distribution == "one"


def test_an_imported_reward_is_not_offered_again(install_plugin) -> None:
    """A plugin that imports another's reward, to build on it, doesn't clash with it."""
    module = install_plugin(good("base"), "base")
    install_plugin(f"from {module} import function as base\n" + inspect.cleandoc(good("built.on.it")), "derived")
    registry = Registry.load(only={"base", "derived"})
    assert registry.clashes() == []
    assert registry.get("base").provenance.distribution == "base"
    assert registry.names() == ["base", "built.on.it"]


@pytest.mark.parametrize(
    ("code", "cause"),
    [
        ("raise ValueError('no licence')", "ValueError: no licence"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("class Panic(BaseException): pass\nraise Panic('rust')", "Panic: rust"),
        ("import module_that_nobody_has", "ModuleNotFoundError: No module named 'module_that_nobody_has'"),
        ("def oops(:\n", "SyntaxError: "),
        ("raise ValueError('two\\nlines')", "ValueError: two lines"),
        ("raise ValueError", "ValueError"),
        (
            "import rewardkit\n@rewardkit.hookimpl\ndef register_reward(): return []",
            "there is no hook 'register_reward'; did you mean 'register_rewards'?",
        ),
        (
            "import rewardkit\n@rewardkit.hookimpl\ndef zzz(): return []",
            "there is no hook 'zzz'; hooks are register_rewards, ",
        ),
        (
            "def register_rewards(): return []",
            "TypeError: register_rewards is not marked as a hook; put @rewardkit.hookimpl above it",
        ),
        (
            "import rewardkit\n@rewardkit.hookimpl\ndef rollouts_scored(rollouts, steps): pass",
            "steps",
        ),
        (
            "import rewardkit\n@rewardkit.hookimpl\ndef register_rewards(): return ['math']",
            "TypeError: register_rewards returned a str, not a RewardType",
        ),
        (
            "import rewardkit\n@rewardkit.hookimpl\ndef register_rewards(): return 3",
            "TypeError: 'int' object is not iterable",
        ),
        (
            "import rewardkit\n@rewardkit.hookimpl\ndef register_rewards(): raise SystemExit(9)",
            "SystemExit: 9",
        ),
        (
            "import rewardkit\n@rewardkit.hookimpl\ndef register_commands(): return ['command']",
            "TypeError: register_commands returned a str, not a click command",
        ),
        (
            "import rewardkit, click\n@rewardkit.hookimpl\ndef register_commands(): return [click.Command(None)]",
            "ValueError: register_commands returned a command without a name",
        ),
        (
            "import rewardkit\n@rewardkit.reward('x')\ndef x(rollout, strict): pass",
            "must be keyword-only",
        ),
    ],
)
def test_a_broken_plugin_is_kept_with_its_cause(install_plugin, code: str, cause: str) -> None:
    """A plugin that can't be imported or misuses a hook is listed as broken with its cause and traceback; others work."""
    install_plugin(code, "acme", "1.0")
    install_plugin(good("fine"), "fine")
    only = broken(Registry.load(only={"acme"}))
    assert only.provenance == Provenance("acme", "acme", "1.0")
    assert cause in only.cause
    assert "\n" not in only.cause
    assert "Traceback" in only.traceback or "Error" in only.traceback
    assert Registry.load(only={"acme", "fine"}).names() == ["fine"]


def test_ctrl_c_during_an_import_passes(install_plugin) -> None:
    """Ctrl-C while plugins are imported ends the program rather than breaking the plugin."""
    install_plugin("raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        Registry.load(only={"acme"})


@pytest.mark.parametrize(
    ("distribution", "entry", "asked"),
    [
        ("acme", "acme", "acme"),
        ("acme", "acme", "acme.pal"),
        ("rewardkit-acme", "thing", "acme.pal"),
        ("Some_Dist", "acme", "acme.pal"),
    ],
)
def test_a_broken_plugin_is_quoted_where_it_is_asked_for(
    install_plugin, distribution: str, entry: str, asked: str
) -> None:
    """Asking for a reward that a broken plugin would probably offer gives the cause."""
    install_plugin("raise ValueError('no licence')", distribution, "2.0", entry=entry)
    with pytest.raises(PluginError) as caught:
        Registry.load(only={entry}).get(asked)
    message = f"reward {asked!r} can't be used: plugin {distribution} 2.0 is broken: ValueError: no licence"
    assert str(caught.value) == message


def test_a_broken_plugin_is_mentioned_where_anything_is_missing(install_plugin) -> None:
    """The error about an unknown reward names the broken plugins, one of which may offer it."""
    install_plugin("raise ValueError('no licence')", "acme", "2.0")
    with pytest.raises(PluginError, match=r"broken plugins, which might: acme 2\.0: ValueError: no licence"):
        Registry.load(only={"acme"}).get("palindrome")


@pytest.mark.parametrize(
    "pattern", ["acme", "ACME", "my-dist", "my_dist", "My.Dist", "my-*", "ac?e", " x , acme ", "*"]
)
def test_plugins_are_switched_off(install_plugin, monkeypatch: pytest.MonkeyPatch, pattern: str) -> None:
    """A plugin is disabled by its entry point, its distribution in any spelling, or a glob, and is not imported."""
    module = install_plugin(good("acme.pal"), "My-Dist", entry="acme")
    monkeypatch.setenv(DISABLE_VARIABLE, pattern)
    registry = Registry.load(only={"acme"})
    assert (registry.names(), registry.disabled) == ([], [Provenance("acme", "My-Dist", "1.0")])
    assert module not in sys.modules
    with pytest.raises(
        PluginError, match=r"'acme\.pal' can't be used: My-Dist 1\.0 is disabled by REWARDKIT_DISABLE_PLUGINS"
    ):
        registry.get("acme.pal")


@pytest.mark.parametrize("pattern", ["", " , ", "acm", "dist", "acme-x"])
def test_others_are_not(install_plugin, monkeypatch: pytest.MonkeyPatch, pattern: str) -> None:
    """A name that is merely alike switches nothing off."""
    install_plugin(good("acme.pal"), "My-Dist", entry="acme")
    monkeypatch.setenv(DISABLE_VARIABLE, pattern)
    assert Registry.load(only={"acme"}).names() == ["acme.pal"]


def test_switching_one_off_ends_a_clash(install_plugin, monkeypatch: pytest.MonkeyPatch) -> None:
    """Disabling one of the plugins resolves the clash, as the message says."""
    install_plugin(good("same"), "one")
    install_plugin(good("same"), "two")
    monkeypatch.setenv(DISABLE_VARIABLE, "two")
    assert Registry.load().get("same").provenance.distribution == "one"


@pytest.mark.parametrize(
    ("asked", "hint"),
    [
        ("format.tgas", "; did you mean format.tags?"),
        ("formt.tags", "; did you mean format.tags?"),
        ("format.zzzzzzzz", "; format has format.regex, format.tags"),
        ("math", "; install it with: pip install 'rewardkit[math]'"),
        ("zzzzzz", "; installed are format.regex, format.tags"),
    ],
)
def test_an_unknown_reward_comes_with_a_hint(asked: str, hint: str) -> None:
    """The error about an unknown reward names similar rewards, the family's rewards, the extra to install, or all rewards."""
    registry = Registry()
    for name in ("format.tags", "format.regex"):
        registry.register(reward(name)(lambda rollout: 1.0))
    with pytest.raises(PluginError) as caught:
        registry.get(asked)
    assert str(caught.value) == f"no plugin offers a reward {asked!r}{hint}"


def test_with_no_plugins_the_hint_is_to_install_some() -> None:
    """An empty registry says how to get plugins."""
    with pytest.raises(PluginError, match=r"no reward plugins are installed, try: pip install"):
        Registry().get("palindrome")


def test_a_program_registers_its_own() -> None:
    """A function or module that a program registers itself counts as this program's."""
    registry = Registry()
    registry.register(reward("own")(lambda rollout: 1.0))
    assert registry.get("own").provenance == Provenance("<lambda>", "this program", "0", installed=False)


def test_two_names_for_one_reward_are_one() -> None:
    """A module that holds a reward under two names offers it once."""
    module = types.ModuleType("module_of_a_test")
    function = reward("own")(lambda rollout: 1.0)
    found = vars(function)["__rewardkit_reward_type__"]
    object.__setattr__(found, "origin", "module_of_a_test:f")
    module.f = module.g = function
    registry = Registry()
    registry.register(module)
    assert registry.get("own").type is found


# Editable installs.


def edit_install(site: Path, folder: Path) -> None:
    """Turn the installed distribution into an editable one of this folder."""
    (site / "acme-1.0.dist-info" / "direct_url.json").write_text(
        json.dumps({"url": folder.as_uri(), "dir_info": {"editable": True}})
    )


def version(registry: Registry) -> str:
    """The version of the only plugin."""
    (only,) = registry.plugins
    return only.version


@pytest.mark.parametrize("layout", ["pkg", "src/pkg"])
def test_editing_an_editable_plugin_is_a_new_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layout: str
) -> None:
    """The version of an editable install holds a hash of its package's sources, also those beside the entry point's module."""
    root = tmp_path / "my project"
    package = root / layout
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(inspect.cleandoc(good("acme.pal")))
    (package / "helper.py").write_text("x = 1\n")
    (root / "setup.py").write_text("")
    info = tmp_path / "site" / "acme-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[rewardkit]\nacme = pkg\n")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.syspath_prepend(str(package.parent))
    try:
        assert version(Registry.load(only={"acme"})) == "1.0"
        edit_install(info.parent, root)
        first = version(Registry.load(only={"acme"}))
        assert re.fullmatch(r"1\.0\+[0-9a-f]{8}", first)
        (root / "setup.py").write_text("# not part of the package")
        assert version(Registry.load(only={"acme"})) == first
        (package / "helper.py").write_text("x = 2\n")
        assert version(Registry.load(only={"acme"})) != first
    finally:
        sys.modules.pop("pkg", None)


@pytest.mark.parametrize(
    "content", ["{", "{}", '{"url": "https://x/y"}', '{"dir_info": {"editable": true}, "url": "file:///elsewhere"}']
)
def test_other_installs_have_their_plain_version(install_plugin, tmp_path: Path, content: str) -> None:
    """A distribution that is not an editable install of the module keeps its version, whatever its metadata contain."""
    install_plugin(good("acme.pal"))
    (tmp_path / "site" / "acme-1.0.dist-info" / "direct_url.json").write_text(content)
    assert version(Registry.load(only={"acme"})) == "1.0"


# Hooks: each documented, each exercised.


class Plugin:
    """Implements every hook."""

    def __init__(self) -> None:
        self.seen: list[object] = []

    @hookimpl
    def register_rewards(self):
        """Offer one."""
        return [RewardType("made.here", Rollout, lambda params: lambda rollouts: [])]

    @hookimpl
    def register_rollout_engines(self):
        """Offer one."""
        return [RolloutEngineType("remote", lambda params, setup: None, Rollout)]

    @hookimpl
    def register_monitors(self):
        """Offer one monitor."""
        return [Monitor("entropy_floor", "entropy", 0.1, "Smallest entropy.", "no exploration", is_upper=False)]

    @hookimpl
    def register_cheats(self):
        """Offer one cheat."""
        return [Cheat("sesame", "the magic word", lambda _row: ["open sesame"])]

    @hookimpl
    def register_commands(self):
        """Offer one."""
        return [click.Command("shout")]

    @hookimpl
    def diagnose(self):
        """Tell one."""
        yield Finding("engine", "ok")

    @hookimpl
    def rollouts_scored(self, rollouts, step):
        """Remember."""
        self.seen.append((rollouts, step))

    @hookimpl
    def register_span_weights(self):
        """Offer one."""
        return {"made.here": lambda row, text: [(0, len(text), 0.5)]}

    @hookimpl
    def training_step_finished(self, metrics, step):
        """Remember, without asking for the rollouts."""
        self.seen.append((step, metrics))
        if step == 13:
            raise ValueError("unlucky")


HOOKS = {name: value for name, value in vars(hookspecs).items() if hasattr(value, "rewardkit_spec")}


def exercise_register_rewards(registry: Registry, _plugin: Plugin) -> None:
    """The hook's reward types are registered."""
    assert registry.get("made.here").provenance.plugin == "Plugin"


def exercise_register_rollout_engines(registry: Registry, _plugin: Plugin) -> None:
    """The hook's engines are registered; a clash names both plugins, and an unknown name gets a hint."""
    assert registry.engine("remote").provenance.plugin == "Plugin"
    with pytest.raises(PluginError, match=r"no plugin offers a rollout engine 'remoet'; did you mean remote\?"):
        registry.engine("remoet")
    with pytest.raises(PluginError, match="no plugin offers a rollout engine 'zzz'; there are remote"):
        registry.engine("zzz")
    registry.register(Plugin(), Provenance("other", "acme", "1.0"))
    with pytest.raises(
        PluginClashError,
        match=r"rollout engine 'remote' is offered by more than one plugin: this program 0 .* acme 1\.0",
    ):
        registry.engine("remote")
    assert any("rollout engine 'remote'" in line for line in registry.clashes())


def exercise_register_cheats(registry: Registry, _plugin: Plugin) -> None:
    """Its cheats are offered."""
    assert [cheat.name for cheat in registry.cheats] == ["sesame"]


def exercise_register_monitors(registry: Registry, _plugin: Plugin) -> None:
    """Its monitors are offered; a name that two plugins offer, or that is built in, is a clash that names the plugin."""
    assert [monitor.name for monitor in registry.monitors()] == ["entropy_floor"]
    with pytest.raises(
        PluginClashError, match=r"plugin this program 0 offers a monitor 'entropy_floor', which is the name"
    ):
        registry.monitors({"entropy_floor"})
    registry.register(Plugin(), Provenance("other", "acme", "1.0"))
    with pytest.raises(
        PluginClashError, match=r"monitor 'entropy_floor' is offered by more than one plugin: this program 0 .* acme"
    ):
        registry.monitors()


def exercise_register_commands(registry: Registry, _plugin: Plugin) -> None:
    """The hook's commands are registered."""
    ((command, provenance),) = registry.commands["shout"]
    assert (command.name, provenance.plugin) == ("shout", "Plugin")


def exercise_rollouts_scored(registry: Registry, plugin: Plugin) -> None:
    """The hook is called with its arguments, and the registry knows that a plugin implements it."""
    assert registry.observes_scoring
    assert not Registry().observes_scoring
    scored = [ScoredRollout(Rollout("p", "c"), 1.0, {}, {}, {}, "id")]
    registry.hook.rollouts_scored(rollouts=scored, step=3)
    assert plugin.seen == [(scored, 3)]


def exercise_register_span_weights(registry: Registry, _plugin: Plugin) -> None:
    """The hook's functions are found by name."""
    (offered,) = registry.hook.register_span_weights()
    assert offered["made.here"]({}, "text") == [(0, 4, 0.5)]


def exercise_training_step_finished(registry: Registry, plugin: Plugin) -> None:
    """The hook is called with the arguments that it declares; a plugin that raises is named."""
    assert registry.tell("training_step_finished", step=3, metrics={"loss": 1.0}, rollouts=[]) == []
    ((provenance, error),) = registry.tell("training_step_finished", step=13, metrics={}, rollouts=[])
    assert plugin.seen == [(3, {"loss": 1.0}), (13, {})]
    assert (provenance.plugin, str(error)) == ("Plugin", "unlucky")


def exercise_diagnose(registry: Registry, _plugin: Plugin) -> None:
    """The hook is returned with its plugin, and is not called before."""
    ((provenance, diagnose),) = registry.diagnoses()
    assert provenance.plugin == "Plugin"
    assert list(diagnose()) == [Finding("engine", "ok")]


@pytest.mark.parametrize("name", HOOKS)
def test_every_hook_does_what_it_says(name: str) -> None:
    """Every hook has an exercise above, and passes it."""
    registry, plugin = Registry(), Plugin()
    registry.register(plugin)
    assert not registry.broken
    globals()[f"exercise_{name}"](registry, plugin)


@pytest.mark.parametrize("name", HOOKS)
def test_every_hook_is_documented(name: str) -> None:
    """Every hook has a docstring with each of its parameters and what it returns, and types for all of them."""
    hook = HOOKS[name]
    text = inspect.getdoc(hook) or ""
    signature = inspect.signature(hook)
    assert len(text.split("\n")[0]) > 20
    for parameter in signature.parameters.values():
        assert re.search(rf"^    {parameter.name}: \w", text, re.MULTILINE), parameter
        assert parameter.annotation is not inspect.Parameter.empty
    assert signature.return_annotation is not inspect.Signature.empty
    assert ("Returns:" in text) is (signature.return_annotation not in {"None", None})


def test_metadata_without_a_name_stop_nothing(install_plugin, tmp_path):
    """A distribution whose metadata are damaged, or just being written, is listed as unknown, and all rewards are found."""
    install_plugin(
        """
        from rewardkit import reward

        @reward("nameless")
        def nameless(rollout) -> float:
            return 1.0
        """
    )
    next((tmp_path / "site").glob("*.dist-info/METADATA")).write_text("")
    found = Registry.load(only={"acme"})
    assert found.names() == ["nameless"]
    assert found.get("nameless").provenance.distribution == "unknown distribution"
