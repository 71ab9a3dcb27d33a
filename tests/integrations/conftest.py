"""What the tests of the adapters share."""

import statistics
from pathlib import Path

import pytest

from rewardkit.integrations import common

BROKEN = "\\frac{1}{"
"""A reference that can't be understood, so that the row is unscored."""
MATH = "version: 1\ncomponents:\n  right: {use: math, with: {reference: answer}}\n"
TOKENS = MATH + "  short: {use: length.overlong, with: {max_tokens: 16, buffer: 8}}\n"
GROUPS = "version: 1\ncomponents:\n  right: {use: math, with: {reference: answer}, scale: zscore}\n"
ANSWERS = [BROKEN, "5", "5", "5"]
"""The references of a group of four, of which one is broken (25 %)."""
COMPLETIONS = ["\\boxed{5}", "\\boxed{5}", "\\boxed{6}", "\\boxed{5}"]
SCORED = [1.0, 0.0, 1.0]
"""The rewards of the three that can be scored."""


@pytest.fixture
def file(tmp_path: Path):
    """Return a function that writes a reward file."""

    def write(text: str = MATH) -> str:
        (tmp_path / "reward.yaml").write_text(text)
        return str(tmp_path / "reward.yaml")

    yield write
    for reward in common._loaded.values():
        reward.close()
    common._loaded.clear()


@pytest.fixture(autouse=True)
def own_prepared():
    """No test sees a reward that another loaded."""
    from rewardkit.integrations import verl

    yield
    verl._prepared.cache_clear()


def advantages(rewards: list[float]) -> list[float]:
    """GRPO's advantages of one group."""
    mean, spread = statistics.mean(rewards), statistics.stdev(rewards)
    return [(reward - mean) / (spread + 1e-4) for reward in rewards]
