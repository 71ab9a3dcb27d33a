"""The tree of exceptions."""

import inspect

import pytest

from rewardkit import errors
from rewardkit.errors import ConfigError, Location, RewardkitError

CLASSES = [item for item in vars(errors).values() if inspect.isclass(item) and issubclass(item, RewardkitError)]


@pytest.mark.parametrize("kind", CLASSES)
def test_the_tree_in_the_docstring_is_true(kind: type[RewardkitError]) -> None:
    """Every exception stands in the module's docstring with its exit code."""
    lines = [line for line in errors.__doc__.splitlines() if f"{kind.__name__} " in line]
    assert any(f" {kind.exit_code} " in line for line in lines), kind


def test_problems_have_places() -> None:
    """A ConfigError lists every problem in a line of its own, with its place where it has one."""
    error = ConfigError((Location("f.yaml", 3, 7), "is odd"), (Location("f.yaml"), "is old"), (None, "is gone"))
    assert str(error) == "f.yaml:3:7: is odd\nf.yaml: is old\nis gone"
