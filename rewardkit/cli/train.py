"""``rewardkit train``: run a stage of training."""

from __future__ import annotations

from pathlib import Path

import click

from rewardkit.cli.support.loading import split_overrides


@click.command("train")
@click.argument("config", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Override a value of CONFIG, such as optimizer.lr=3e-5.",
)
@click.option("--fresh", is_flag=True, help="Discard an earlier run in the output folder and start over.")
def command(config: Path, overrides: tuple[str, ...], fresh: bool) -> None:
    r"""Train a model as configured in CONFIG (a YAML file).

    If the output folder contains an earlier run, training resumes from its last checkpoint. If CONFIG now has more steps, the run is
    lengthened. Relative paths are relative to the folder of CONFIG. `rewardkit check CONFIG` checks the data first.
    """
    from rewardkit.cli.support.loading import exit_on_interrupt
    from rewardkit.train import train
    from rewardkit.train.config.reading import read_train_config
    from rewardkit.train.config.stages import import_heavy
    from rewardkit.train.data.input_check import check_inputs

    file = read_train_config(config, overrides=split_overrides(overrides))
    check_inputs(file, "train", "eval")
    with exit_on_interrupt():
        import_heavy()
    from rich.console import Console

    from rewardkit.train.distributed import collectives
    from rewardkit.train.monitoring.run_summary import held_out_changes

    run = train(file, fresh=fresh)
    if collectives.is_main_process():
        console = Console(stderr=True)
        if (table := held_out_changes(run.folder)) is not None:
            console.print(table)
        console.print(
            f"Curves, samples and configuration: {run.folder / 'report.html'}", highlight=False, soft_wrap=True
        )
        click.echo(str(run.model))
