"""``rewardkit schema``: the JSON Schema of reward files with everything installed."""

from __future__ import annotations

import click
import orjson

from rewardkit.cli import load_registry


@click.command("schema")
def command() -> None:
    r"""Print the JSON Schema of reward files, for editors.

    It is made from the core and from the parameters of every installed plugin. In VS Code with the YAML extension:

    \b
      rewardkit schema > reward.schema.json
      # yaml-language-server: $schema=reward.schema.json      (first line of reward.yaml)
    """
    from rewardkit.config import reward_schema  # noqa: PLC0415 - heavy

    click.echo(orjson.dumps(reward_schema(load_registry()), option=orjson.OPT_INDENT_2).decode())
