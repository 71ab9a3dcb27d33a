"""``rewardkit check``: is this reward file or training configuration right, and do the data fit it? Runs no reward."""

from __future__ import annotations

from typing import Any

import click

from rewardkit.cli.check_reward import _check_reward
from rewardkit.errors import UsageError


@click.command("check")
@click.argument("file", type=click.Path())
@click.option(
    "--data", "data", multiple=True, help="Rollouts to hold the reward against: a file, a glob, or - for stdin."
)
@click.option("--map", "maps", multiple=True, metavar="NEW=OLD", help="Rename a column, as for `rewardkit score`.")
@click.option("--explode", default="", metavar="COL,…", help="List columns that go along with a list of completions.")
@click.option("--limit", type=click.IntRange(1), help="Look at no more than this many rows.")
@click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Put a value over a training configuration's."
)
@click.option("--json", "as_json", is_flag=True, help="Print what was found as JSON.")
def command(
    file: str,
    data: tuple[str, ...],
    maps: tuple[str, ...],
    explode: str,
    limit: int | None,
    overrides: tuple[str, ...],
    as_json: bool,
) -> None:
    """Check a reward file, and hold it against data; or check a training configuration with the data that it names.

    Of a reward file: mistakes in the YAML and, with --data, columns that are missing, rows that can't be read, rows without a route,
    and references that can't be understood.

    Of a training configuration (it has a stage): mistakes in the YAML, a row in colours that tell what is in the loss, what a step
    costs, and what is odd: prompts in the loss, templates, duplicates, lengths, truncation, held-out rows that are trained on.

    No reward is run and nothing is trained. What would be refused ends with exit code 2; what is only odd does not.
    """
    from rewardkit.config import read_yaml  # noqa: PLC0415 - heavy

    if _is_training(read_yaml(file).data):
        if data or maps or explode:
            raise UsageError(
                "--data, --map and --explode are for reward files; a training configuration names its data"
            )
        from rewardkit.cli.check_training import check_training  # noqa: PLC0415 - heavy
        from rewardkit.cli.loading import split_overrides  # noqa: PLC0415

        check_training(file, split_overrides(overrides), limit, as_json=as_json)
        return
    if overrides:
        raise UsageError("--set is for training configurations")
    _check_reward(file, data, maps, explode, limit, as_json=as_json)


def _is_training(document: Any) -> bool:
    """Whether a document is a training configuration, though its stage may be forgotten."""
    return isinstance(document, dict) and bool({"stage", "model", "output"} & document.keys())
