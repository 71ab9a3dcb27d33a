"""``rewardkit check``: checks a reward file or a training configuration together with its data. Runs no reward."""

from __future__ import annotations

from typing import Any

import click

from rewardkit.cli.support.check_reward import check_reward
from rewardkit.errors import UsageError


@click.command("check")
@click.argument("file", type=click.Path())
@click.option(
    "--data",
    "data",
    multiple=True,
    help="Rollouts to check against the reward: a file, a glob, or - for standard input.",
)
@click.option(
    "--map", "maps", multiple=True, metavar="NEW=OLD", help="Read column OLD as NEW, as for `rewardkit score`."
)
@click.option("--parse", default="", metavar="COL,…", help="Columns whose text is JSON to be read.")
@click.option("--explode", default="", metavar="COL,…", help="Other list columns with one value per completion.")
@click.option("--limit", type=click.IntRange(1), help="Check only the first N rows.", metavar="N")
@click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a value of a training configuration."
)
@click.option(
    "--trust", is_flag=True, help="Import the functions that the reward file names, in a process of their own."
)
@click.option(
    "--processes",
    type=click.IntRange(1),
    help="Estimate the memory of each of N training processes on this machine.",
    metavar="N",
)
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
def command(
    file: str,
    data: tuple[str, ...],
    maps: tuple[str, ...],
    parse: str,
    explode: str,
    limit: int | None,
    overrides: tuple[str, ...],
    trust: bool,
    processes: int | None,
    as_json: bool,
) -> None:
    """Check a reward file against data, or a training configuration with its data.

    For a reward file, `check` reports mistakes in the YAML and, with --data, everything that `rewardkit score` would refuse:
    missing columns, rows that can't be read, rows without a route, and references that can't be read.

    For a training configuration (it has a `stage`), it reports mistakes in the YAML, shows one sample with the tokens in the
    loss in colour, estimates the cost and the peak memory of a step, and warns about prompts in the loss, chat templates,
    duplicates, lengths, truncation, held-out rows in the training data, and too little memory.

    Functions that a reward file names (`use: ./my.py:fn`) are read and not imported, unless --trust is given.

    No reward is run and nothing is trained. Exits with 2 if `score` or `train` would refuse the input; warnings alone exit with 0.
    """
    from rewardkit.config import read_yaml
    from rewardkit.scoring.columns.columns import Columns

    if _is_training(read_yaml(file).data):
        if trust:
            raise UsageError("--trust is an option for reward files")
        if data or maps or explode or parse:
            raise UsageError(
                "--data, --map, --parse and --explode are options for reward files; a training configuration names its own data"
            )
        from rewardkit.cli.support.check_training import check_training
        from rewardkit.cli.support.loading import split_overrides

        check_training(file, split_overrides(overrides), limit, processes=processes or 1, as_json=as_json)
        return
    if processes is not None:
        raise UsageError("--processes is an option for training configurations")
    if overrides:
        raise UsageError("--set is an option for training configurations")
    check_reward(file, data, Columns.parse(maps, [explode], [parse]), limit, as_json=as_json, trust=trust)


def _is_training(document: Any) -> bool:
    """Return whether a document is a training configuration, even if it lacks its stage."""
    return isinstance(document, dict) and bool({"stage", "model", "output"} & document.keys())
