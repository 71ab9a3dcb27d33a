"""Rollout engines name the packages that they need, and their versions."""

from dataclasses import dataclass
from importlib.metadata import version

import pytest

from rewardkit.errors import UsageError
from rewardkit.registry import OfferedEngine, Provenance
from rewardkit.rollout_engine import RolloutEngineType
from rewardkit.train.config.engines import ChosenEngine


@dataclass(frozen=True)
class NoParams:
    """No parameters."""


def engine(**settings):
    """Return an engine that needs the package click."""
    kind = RolloutEngineType("mine", lambda *_: None, NoParams, **settings)
    return ChosenEngine(OfferedEngine(kind, Provenance("mine", "mine", "1")), NoParams())


def test_a_supported_version_is_accepted():
    """Installed packages in range are fine, and engines may name no versions."""
    engine(modules={"click": "pip install click"}, versions={"click": ">=8,<9"}).require()
    engine(modules={"click": "pip install click"}).require()


def test_another_version_is_refused():
    """The message names what is installed, what is supported, and the command that installs it."""
    words = rf"mine supports click >=99, but click {version('click')} is installed; .*: pip install 'click>=99'"
    with pytest.raises(UsageError, match=words):
        engine(modules={"click": "pip install click"}, versions={"click": ">=99"}).require()


def test_a_missing_package_is_refused():
    """The message has the command that installs it."""
    with pytest.raises(
        UsageError, match="mine needs no_such_module, which is not installed; install it with: pip install it"
    ):
        engine(modules={"no_such_module": "pip install it"}, versions={"no_such_module": ">=1"}).require()
