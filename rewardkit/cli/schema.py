"""``rewardkit schema``: prints the JSON Schema of reward files and training configurations, or a table of keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
import orjson

from rewardkit.cli import load_registry
from rewardkit.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rewardkit.train.config.reference import Key

REWARD = "reward"
STAGES = ("sft", "reward_model", "dpo", "grpo", "ppo")


@click.command("schema")
@click.argument("kind", type=click.Choice([REWARD, *STAGES]), default=REWARD)
@click.option("--keys", is_flag=True, help="Print a table of the keys of a training configuration instead.")
def command(kind: str, keys: bool) -> None:
    """Print the JSON Schema of reward files, or of the training configurations of a stage, for editors.

    The schema of reward files includes the parameters of every installed plugin. For VS Code with the YAML extension, write it
    to a file and name the file in the first line of reward.yaml:

    \b
      rewardkit schema > reward.schema.json
      # yaml-language-server: $schema=reward.schema.json
    """  # noqa: D301 - click takes \b itself for "leave these lines as they are"
    if kind == REWARD:
        if keys:
            raise UsageError(f"--keys is for training configurations: rewardkit schema {'|'.join(STAGES)} --keys")
        from rewardkit.config import reward_schema

        click.echo(orjson.dumps(reward_schema(load_registry()), option=orjson.OPT_INDENT_2).decode())
        return
    from rewardkit.train.config.reference import keys_of, schema_of
    from rewardkit.train.config.stages import STAGES as FOUND

    config = FOUND[kind].config_class()
    if keys:
        _show(keys_of(config))
    else:
        click.echo(orjson.dumps(schema_of(config), option=orjson.OPT_INDENT_2).decode())


def _show(keys: Sequence[Key]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("key", overflow="fold")
    table.add_column("default", overflow="fold", max_width=14)
    table.add_column("description", overflow="fold", ratio=1)
    for key in keys:
        is_section = "section" in key.kind
        default = "" if is_section else key.default or "required"
        words = Text(key.meaning)
        if not is_section or key.default == "null":
            words = Text.assemble((key.kind, "dim"), ("  " if key.meaning else ""), key.meaning)
        table.add_row(Text(key.name, "bold" if is_section else "cyan"), Text(default), words)
    Console().print(table)
