"""``rewardkit eval``: evaluates a model on held-out prompts, or compares two models."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
import orjson

from rewardkit.cli.support.loading import split_overrides
from rewardkit.errors import UsageError

if TYPE_CHECKING:
    from rewardkit.train.config.training_file import TrainFile

SAMPLES, SAMPLES_TO_COMPARE = 16, 64


@click.command("eval")
@click.argument("config", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--model", help="Evaluate this folder or hub model instead of the one that CONFIG names.")
@click.option(
    "--compare",
    nargs=2,
    metavar="BASE TRAINED",
    help="Evaluate two models on the same prompts and compare them.",
)
@click.option(
    "--samples",
    type=click.IntRange(0),
    help=f"The number of sampled answers per prompt, which is the largest k of pass@k; 0 evaluates greedy answers only.  "
    f"[default: {SAMPLES}; {SAMPLES_TO_COMPARE} with --compare]",
)
@click.option(
    "--by",
    metavar="COLUMN",
    help="The column with the class of each problem, for a comparison by class, or with the subset of each row, for a reward model.",
)
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a value of CONFIG.")
@click.option("--json", "as_json", is_flag=True, help="Print all metrics as JSON.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="The folder for the answers, eval.json and eval.html.  [default: the output of CONFIG, followed by -eval]",
)
def command(
    config: Path,
    model: str | None,
    compare: tuple[str, str] | None,
    samples: int | None,
    by: str | None,
    overrides: tuple[str, ...],
    as_json: bool,
    out: Path | None,
) -> None:
    """Evaluate on the held-out data of CONFIG, the configuration of a GRPO, PPO or reward model run.

    Of GRPO and PPO it uses data.eval, reward, rollout and evaluate. It reports greedy accuracy, unbiased pass@k and, if
    evaluate.answer is set, majority@k, each with a 95 % interval.

    Answers are saved as they come: the same command resumes an interrupted evaluation, and a run with more --samples draws only
    the missing ones.

    Of a reward model it reports the accuracy on the held-out pairs or steps: of the model in the folder output/final, unless
    --model names another. With --by, or data.subset, each subset has a row, and there is a mean over subsets.
    """
    if compare is not None and model is not None:
        raise UsageError("use either --model or --compare")
    number = samples if samples is not None else SAMPLES_TO_COMPARE if compare else SAMPLES
    if compare is not None and number < 2:
        raise UsageError("--compare needs at least 2 samples of each prompt: one half says what is within reach")
    from rewardkit.cli.support.loading import exit_on_interrupt
    from rewardkit.train import evaluate
    from rewardkit.train.config import RewardModelConfig
    from rewardkit.train.config.reading import read_train_config
    from rewardkit.train.config.stages import import_heavy

    file = read_train_config(config, overrides=split_overrides(overrides))
    with exit_on_interrupt():
        import_heavy()
    from rewardkit.cli.support.eval_view import Bar, show

    if isinstance(file.config, RewardModelConfig):
        _evaluate_reward_model(file, model, by, compare, samples, out, as_json=as_json)
        return
    if by is not None and compare is None:
        raise UsageError("--by is for --compare")
    folder = out or file.config.output.with_name(f"{file.config.output.name}-eval")
    with Bar() as bar:
        try:
            found = evaluate(file, compare or (model,), samples=number, by=by, out=folder, progress=bar.tell)
        except KeyboardInterrupt:
            bar.say(f"the answers so far are saved in {folder}: run the same command again to resume")
            raise
    if as_json:
        click.echo(orjson.dumps(found.record, option=orjson.OPT_INDENT_2).decode())
        return
    show(found.all_answers, found.labelled, found.changes)
    click.echo(f"\n{found.page}")


def _evaluate_reward_model(
    file: TrainFile,
    model: str | None,
    by: str | None,
    compare: tuple[str, str] | None,
    samples: int | None,
    out: Path | None,
    *,
    as_json: bool,
) -> None:
    """Evaluate a reward model, and print and write its accuracy."""
    if compare is not None or samples is not None:
        raise UsageError(f"{'--compare' if compare is not None else '--samples'} has no effect on a reward model")
    from rewardkit.cli.support.loading import exit_on_interrupt
    from rewardkit.train import evaluate_reward_model

    with exit_on_interrupt():
        found = evaluate_reward_model(file, model, by=by, out=out)
    if as_json:
        click.echo(orjson.dumps(found.record, option=orjson.OPT_INDENT_2).decode())
        return
    from rich.console import Console

    console = Console()
    for table in found.tables:
        console.print(table)
    click.echo(f"\n{found.page}")
