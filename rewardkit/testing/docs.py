"""The contract of a plugin's documentation: its examples are valid, and every reward and parameter is described."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from rewardkit.config.params import params_schema
from rewardkit.config.reading import parse_config
from rewardkit.errors import ConfigError
from rewardkit.registry import Registry
from rewardkit.testing.contract import ContractBrokenError
from rewardkit.types import RewardType

_YAML = re.compile(r"^(?P<indent>[ \t]*)```ya?ml[^\n]*\n(?P<text>.*?)^[ \t]*```", re.DOTALL | re.MULTILINE)


class DocsContract:
    """The tests of a plugin's documentation. Inherit it as ``class TestDocs(DocsContract)``, set the attributes, and run pytest.

    Reward files in the README may use rewards of other plugins if those are installed where the tests run.
    """

    plugin: ClassVar[str]
    """The name of the entry point."""
    readme: ClassVar[Path]
    """The README of the plugin. Each fenced block marked ``yaml`` in it is a reward file."""

    def test_every_reward_file_in_the_readme_is_accepted(self) -> None:
        """Every reward file in the README is valid."""
        registry = Registry.load()
        text = self.readme.read_text(encoding="utf-8")
        for block in _YAML.finditer(text):
            line = text.count("\n", 0, block.start("text"))
            # The block is preceded by as many lines as in the README, so that errors name the line of the README.
            try:
                parse_config("\n" * line + block["text"], registry, file=str(self.readme))
            except ConfigError as error:
                raise ContractBrokenError(f"a reward file in the README is refused: {error}") from error

    def test_every_example_is_accepted(self) -> None:
        """Every example that ``rewardkit plugins NAME`` prints is valid."""
        registry = Registry.load()
        for kind in self._rewards(registry):
            lines = kind.example.strip().splitlines()
            if not lines:
                continue
            try:
                parse_config("\n".join(["version: 1", "components:", *(f"  {line}" for line in lines)]), registry)
            except ConfigError as error:
                raise ContractBrokenError(f"the example of {kind.name!r} is refused: {error}") from error

    def test_everything_is_described(self) -> None:
        """Every reward and every parameter has a description, and the README names every reward."""
        text = self.readme.read_text(encoding="utf-8")
        missing = []
        for kind in self._rewards(Registry.load()):
            if not kind.doc:
                missing.append(f"{kind.name!r} has no description")
            if f"`{kind.name}`" not in text and f"use: {kind.name}" not in text:
                missing.append(f"{self.readme} does not name `{kind.name}`")
            for name, schema in params_schema(kind).get("properties", {}).items():
                if not schema.get("description"):
                    missing.append(f"parameter {name!r} of {kind.name!r} has no description")
        if missing:
            raise ContractBrokenError("; ".join(missing))

    def _rewards(self, registry: Registry) -> Iterator[RewardType]:
        """Yield the rewards of the plugin. Raises ContractBrokenError if there are none."""
        found = [
            offer.type
            for name in registry.names()
            for offer in registry.rewards[name]
            if offer.provenance.plugin == self.plugin
        ]
        if not found:
            known = ", ".join(sorted({item.plugin for item in registry.plugins})) or "none"
            raise ContractBrokenError(f"no installed plugin {self.plugin!r} offers a reward; installed are {known}")
        yield from found
