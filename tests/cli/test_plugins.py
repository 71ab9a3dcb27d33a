"""``rewardkit plugins``."""

import json

import pytest

from rewardkit.cli import run

PLUGIN = '''
    from typing import Annotated, Literal
    from annotated_types import Ge
    from rewardkit import FieldName, reward


    @reward("acme.pal", timeout_s=2.5, executor="process", deterministic=True)
    def palindrome(rollout, *, reference: FieldName, mode: Literal["any", "all"] = "all", depth: Annotated[int, Ge(1)] = 3,
                   names: list[str] | None = None) -> float:
        """Score 1 if a completion reads the same `backwards` [and] forwards.

        More of it.

        Args:
            rollout: The rollout.
            reference: Where the answer [stands].
            mode: How.
        """
        return 1.0


    @reward("acme.plain", scope="group", example="mine: {use: acme.plain}")
    def plain(rollouts) -> list[float]:
        """Plain."""
        return [1.0] * len(rollouts)
'''


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal of a fixed width, and no plugins but the test's own."""
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("REWARDKIT_DISABLE_PLUGINS", "rewardkit-*")


def said(capsys: pytest.CaptureFixture, *arguments: str) -> str:
    """Return what the command prints as one line."""
    assert run(["plugins", *arguments]) == 0
    return " ".join(capsys.readouterr().out.split())


def test_the_list_has_everything(install_plugin, capsys: pytest.CaptureFixture) -> None:
    """The list shows each reward with its distribution, executor and summary, the broken ones with their cause, the disabled ones."""
    install_plugin(PLUGIN, "acme", "1.5")
    install_plugin("raise ValueError('no [licence]')", "bad", "2.0")
    out = said(capsys)
    assert "acme 1.5 acme.pal process Score 1 if a completion reads the same backwards [and] forwards." in out
    assert "acme.plain inline Plain." in out
    assert "broken bad from bad 2.0: ValueError: no [licence]" in out
    assert "disabled" in out


def test_without_plugins_it_says_how_to_get_some(
    capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An empty environment is told what to install."""
    monkeypatch.setenv("REWARDKIT_DISABLE_PLUGINS", "*")
    assert "No reward plugins are installed. Try: pip install 'rewardkit[format,length,math]'" in said(capsys)


def test_a_clash_is_listed_and_fails(install_plugin, capsys: pytest.CaptureFixture) -> None:
    """A clash is listed like the rest, named on stderr, and ends with 2."""
    install_plugin(PLUGIN, "one")
    install_plugin(PLUGIN, "two")
    assert run(["plugins"]) == 2
    out, err = capsys.readouterr()
    assert out.count("acme.pal") == 2
    assert (
        "reward 'acme.pal' is offered by more than one plugin: one 1.0 (plugin 'one') and two 1.0 (plugin 'two')" in err
    )


VERB = """
    import click
    from rewardkit import hookimpl

    @hookimpl
    def register_commands():
        return [click.Command("{name}")]
"""


def test_a_command_that_the_core_has_is_a_clash(install_plugin, capsys: pytest.CaptureFixture) -> None:
    """A plugin command that can never be called is reported, with exit code 2."""
    install_plugin(VERB.format(name="score"), "acme", "1.5")
    assert run(["plugins"]) == 2
    assert "command 'score' of acme 1.5 (plugin 'acme') can't be reached" in capsys.readouterr().err


def test_clashing_commands_are_reported(install_plugin, capsys: pytest.CaptureFixture) -> None:
    """Two plugins that add one command are named, as for rewards."""
    install_plugin(VERB.format(name="shine"), "one")
    install_plugin(VERB.format(name="shine"), "two")
    assert run(["plugins"]) == 2
    assert (
        "command 'shine' is offered by more than one plugin: one 1.0 (plugin 'one') and two 1.0"
        in capsys.readouterr().err
    )


ENGINE = """
    from rewardkit import RolloutEngineType, hookimpl

    @hookimpl
    def register_rollout_engines():
        return [RolloutEngineType("remote", lambda params, setup: None, dict)]
"""


def test_rollout_engines_are_listed(install_plugin, capsys: pytest.CaptureFixture) -> None:
    """With where they come from, as text and as JSON; two of one name are a clash."""
    install_plugin(ENGINE, "acme", "1.5")
    assert "rollout engine remote from acme 1.5" in said(capsys)
    assert run(["plugins", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rollout_engines"] == {"remote": "acme 1.5"}
    install_plugin(ENGINE, "other")
    assert run(["plugins"]) == 2
    assert "rollout engine 'remote' is offered by more than one plugin: acme 1.5" in capsys.readouterr().err


def test_a_reward_is_explained(install_plugin, capsys: pytest.CaptureFixture) -> None:
    """One reward is shown with its doc, parameters (type, default, what they do), needs, how it runs, and an example."""
    install_plugin(PLUGIN)
    out = said(capsys, "acme.pal")
    assert "Score 1 if a completion reads the same backwards [and] forwards. More of it." in out
    assert "parameter type default description reference text required Where the answer [stands]." in out
    assert 'mode any | all "all" How.' in out
    assert "depth whole number 3" in out
    assert "names list of text | null null" in out
    assert "reads <reference>" in out
    assert "runs process, on one rollout at a time, 2.5 s for each rollout" in out
    assert "example pal: {use: acme.pal, with: {reference: …}, weight: 1.0}" in out


def test_a_family_is_explained(install_plugin, capsys: pytest.CaptureFixture) -> None:
    """The name before the dot shows all members; a plugin's own example is used."""
    install_plugin(PLUGIN)
    out = said(capsys, "acme")
    assert "acme.pal acme 1.0" in out
    assert "It has no parameters." in out
    assert "reads prompt and completion only" in out
    assert "runs inline, on one group at a time example mine: {use: acme.plain}" in out


def test_json_holds_the_same(install_plugin, capsys: pytest.CaptureFixture) -> None:
    """--json gives the list as data, with schemas and tracebacks."""
    install_plugin(PLUGIN, "acme", "1.5")
    install_plugin("raise ValueError('no licence')", "bad", "2.0")
    assert run(["plugins", "--json"]) == 0
    listing = json.loads(capsys.readouterr().out)
    pal = listing["rewards"][0]
    assert (pal["name"], pal["distribution"], pal["version"], pal["needs"]) == (
        "acme.pal",
        "acme",
        "1.5",
        ["<reference>"],
    )
    assert (pal["executor"], pal["timeout_s"], pal["deterministic"], pal["scope"]) == ("process", 2.5, True, "rollout")
    assert pal["params"]["properties"]["depth"] == {"type": "integer", "minimum": 1, "default": 3}
    assert listing["broken"][0]["from"] == "bad 2.0"
    assert "Traceback" in listing["broken"][0]["traceback"]
    assert listing["clashes"] == []


def test_json_of_one(install_plugin, capsys: pytest.CaptureFixture) -> None:
    """--json with a name gives that reward alone."""
    install_plugin(PLUGIN)
    assert run(["plugins", "acme.plain", "--json"]) == 0
    assert [item["name"] for item in json.loads(capsys.readouterr().out)] == ["acme.plain"]


def test_an_unknown_name_is_2(install_plugin, capsys: pytest.CaptureFixture) -> None:
    """A name that nobody offers ends with 2 and a hint."""
    install_plugin(PLUGIN)
    assert run(["plugins", "acme.pall"]) == 2
    assert "no plugin offers a reward 'acme.pall'; did you mean acme.pal?" in capsys.readouterr().err


def test_a_broken_one_is_quoted(install_plugin, capsys: pytest.CaptureFixture) -> None:
    """Asking for a broken plugin gives its cause."""
    install_plugin("raise ValueError('no licence')", "bad", "2.0")
    assert run(["plugins", "bad"]) == 2
    assert "plugin bad 2.0 is broken: ValueError: no licence" in capsys.readouterr().err


def test_parameters_that_cannot_be_described(install_plugin, capsys: pytest.CaptureFixture) -> None:
    """A reward whose parameters have no schema is listed and explained all the same."""
    install_plugin("""
        import threading
        from rewardkit import reward

        @reward("odd")
        def odd(rollout, *, lock: threading.Thread | None = None) -> float:
            \"\"\"Odd.\"\"\"
            return 1.0
    """)
    assert "odd inline Odd." in said(capsys)
    assert "has no schema: " in said(capsys, "odd")
    assert run(["plugins", "--json"]) == 0
