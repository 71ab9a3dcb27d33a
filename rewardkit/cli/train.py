"""``rewardkit train``: run a stage of training."""

from __future__ import annotations

from pathlib import Path

import click

from rewardkit.errors import UsageError


@click.command("train")
@click.argument("config", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Put a value over the file's, such as optimizer.lr=3e-5.",
)
@click.option("--fresh", is_flag=True, help="Start over where the output folder holds a run: what it wrote is removed.")
def command(config: Path, overrides: tuple[str, ...], fresh: bool) -> None:
    r"""Train a model as CONFIG (a YAML file) says.

    What is there of an earlier run of the same output folder is gone on from. Relative paths are taken from the folder of
    CONFIG. `rewardkit check CONFIG` looks at the data before.
    """
    from rewardkit.cli.loading import leaving_at_once  # noqa: PLC0415 - imports this package
    from rewardkit.train.stages import STAGES, import_heavy, read_train_config, stage_of  # noqa: PLC0415 - heavy

    file = read_train_config(config, overrides=split_overrides(overrides))
    file.require_data("train", "eval")
    with leaving_at_once():
        import_heavy()
        runner = STAGES[stage_of(file.document)].runner()
    from rich.console import Console  # noqa: PLC0415 - heavy

    from rewardkit.train import parallel  # noqa: PLC0415 - needs torch
    from rewardkit.train.launch import launch  # noqa: PLC0415
    from rewardkit.train.outcome import before_and_after  # noqa: PLC0415

    folder = launch(file, runner, fresh=fresh)
    if parallel.is_first():
        console = Console(stderr=True)
        if (table := before_and_after(file.config.output)) is not None:
            console.print(table)
        console.print(
            f"Curves, samples and settings: {file.config.output / 'report.html'}", highlight=False, soft_wrap=True
        )
        click.echo(str(folder))


def split_overrides(overrides: tuple[str, ...]) -> dict[str, str]:
    """``KEY=VALUE`` as given on the command line."""
    result = {}
    for text in overrides:
        key, sign, value = text.partition("=")
        if not sign or not key:
            raise UsageError(f"--set wants KEY=VALUE, found {text!r}")
        result[key] = value
    return result
