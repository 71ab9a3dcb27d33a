"""What the tests of the adapters share, and the table of what becomes of failures.

Each system's test runs a group of four of which one can't be scored (25 %), and hands what came of it to the fixture ``truth``.
That compares it with the system's row in docs/integrations/index.md; with REWARDKIT_WRITE_TRUTH=1 it writes the row.
"""

import os
import re
import statistics
from importlib.metadata import version
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


def advantages(rewards: list[float], epsilon: float = 1e-4) -> list[float]:
    """GRPO's advantages of one group."""
    mean, spread = statistics.mean(rewards), statistics.stdev(rewards)
    return [(reward - mean) / (spread + epsilon) for reward in rewards]


PAGE = Path(__file__).parents[2] / "docs" / "integrations" / "index.md"
HEAD = "| System | Version | A rollout without a score | Its scored siblings | Trained as 0 |"
RULE = "|---|---|---|---|---|"


def truth_rows() -> dict[str, list[str]]:
    """The cells of each system's row of the table."""
    lines = PAGE.read_text().partition(HEAD)[2].split("\n\n")[0].splitlines()[2:]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {row[0]: row for row in cells}


@pytest.fixture
def truth():
    """Return a function that compares what became of a failure with the system's row."""

    def check(
        system: str, distribution: str | None, failed: str, siblings=None, *, wanted=None, kind="advantages"
    ) -> None:
        """Compare.

        ``failed`` says what became of the rollout without a score. ``siblings`` are the advantages (or ``kind``) of the scored ones, and
        ``wanted`` those of a group without the failed rollout; where the run stops there are none.
        """
        if siblings is None:
            others = "none: the run stops"
        else:
            assert siblings == pytest.approx(advantages(SCORED) if wanted is None else wanted, abs=1e-6)
            others = f"{kind} as without it, to 1e-6"
        known = "its documented protocol" if distribution is None else distribution
        row = [system, known if re.match(r"its|[0-9]", known) else version(known), failed, others, "no"]
        if os.environ.get("REWARDKIT_WRITE_TRUTH"):
            text = PAGE.read_text()
            start = rf"(?m)^\| {re.escape(system)} \|.*\n"
            line = f"| {' | '.join(row)} |\n"
            if re.search(start, text):
                text = re.sub(start, lambda _: line, text)
            else:
                text = text.replace(f"{HEAD}\n{RULE}\n", f"{HEAD}\n{RULE}\n{line}")
            PAGE.write_text(text)
        found = truth_rows().get(system)
        assert found is not None, f"{PAGE.name} has no row {system!r}: run make truth-table"
        assert [found[0], *found[2:]] == [row[0], *row[2:]], "the page tells otherwise: run make truth-table"

    return check
