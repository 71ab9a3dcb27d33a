"""Rubrics of verifiers as rewards. The package itself is not needed: a rubric has functions, weights and objects."""

import importlib.util
from pathlib import Path

import pytest

from rewardkit import Rollout, Score, Unscored, load_reward
from rewardkit.errors import ConfigError
from rewardkit.services.verifiers import Rubric, RubricParams

RUBRICS = """
class Rubric:
    def __init__(self, funcs, weights):
        self.funcs, self.weights, self.class_objects = funcs, weights, {"parser": str.strip}


class Group:
    def __init__(self, *rubrics):
        self.rubrics = rubrics


class Environment:
    def __init__(self, rubric):
        self.rubric = rubric


async def right(completion, answer, parser):
    return float(parser(completion[-1]["content"]) == answer)


def long(state, **kwargs):
    return len(state["completion"][-1]["content"])


def raises(completion):
    raise RuntimeError("mine")


def compares(completions):
    return []


def load_environment(weight=0.1):
    return Environment(Group(Rubric([right], [1.0]), Rubric([long], [weight])))


broken = Rubric([right, raises], [1.0, 0.0])
group = Rubric([compares], [1.0])
nothing = 3
"""


@pytest.fixture
def rubric(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Return a function that builds a rubric of the file; verifiers counts as installed."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: object())
    (tmp_path / "rubrics.py").write_text(RUBRICS)
    return lambda name, **more: Rubric(RubricParams(rubric=f"{tmp_path / 'rubrics.py'}:{name}", **more))


def test_functions_are_weighted_and_told(rubric) -> None:
    """Of all rubrics of a group; the function that makes an environment gets its arguments, functions get the rubric's objects."""
    found = rubric("load_environment", args={"weight": 0.5})([Rollout("q", " 5 ", {"answer": "5"})])
    assert found == [Score(1.0 + 0.5 * 3, metrics={"right": 1.0, "long": 3.0})]


def test_a_function_that_raises_is_not_0(rubric) -> None:
    """The exception leaves the row unscored; verifiers would count 0."""
    with pytest.raises(RuntimeError, match="mine"):
        rubric("broken")([Rollout("q", "5", {"answer": "5"})])


def test_none_is_unscored(rubric, tmp_path: Path) -> None:
    """With the function's name."""
    (tmp_path / "rubrics.py").write_text(
        RUBRICS + "\n\ndef none(completion):\n    return None\n\n\nmute = Rubric([none], [1.0])\n"
    )
    (found,) = rubric("mute")([Rollout("q", "5")])
    assert isinstance(found, Unscored)
    assert found.message.startswith("none: ")


@pytest.mark.parametrize(
    ("name", "message"),
    [("group", "compares the rollouts of a group"), ("nothing", "no Rubric"), ("missing", "no Rubric")],
)
def test_what_is_no_rubric_is_refused(rubric, name: str, message: str) -> None:
    """The message names it."""
    with pytest.raises(ValueError, match=message):
        rubric(name)


@pytest.mark.skipif(importlib.util.find_spec("verifiers") is not None, reason="verifiers is installed")
def test_a_missing_package_has_its_place() -> None:
    """The reward file is refused, with what to install."""
    with pytest.raises(ConfigError, match=r"needs the package verifiers: pip install 'verifiers<0.4'"):
        load_reward({"version": 1, "components": {"c": {"use": "verifiers.rubric", "with": {"rubric": "a:b"}}}})
