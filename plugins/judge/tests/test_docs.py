"""The README and the examples of this plugin keep their promises."""

from pathlib import Path

from rewardkit.testing import DocsContract


class TestDocs(DocsContract):
    """Reward files and examples can be copied, and everything is described."""

    plugin = "judge"
    readme = Path(__file__).parents[1] / "README.md"
