"""``rewardkit eval``: how good a model is on held-out prompts, and what training changed."""

from __future__ import annotations

from pathlib import Path

import click
import orjson

from rewardkit.cli.loading import split_overrides
from rewardkit.errors import UsageError

SAMPLES, SAMPLES_TO_COMPARE = 16, 64


@click.command("eval")
@click.argument("config", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--model", help="Evaluate this folder or hub model instead of the one that CONFIG names.")
@click.option(
    "--compare",
    nargs=2,
    metavar="BASE TRAINED",
    help="Evaluate two models on the same prompts, and say what training changed.",
)
@click.option(
    "--samples",
    type=click.IntRange(0),
    help=f"Sampled answers to each prompt, which is the largest k of pass@k; 0: only greedy.  "
    f"[default: {SAMPLES}; {SAMPLES_TO_COMPARE} with --compare]",
)
@click.option("--by", metavar="COLUMN", help="A column of the rows that tells the class of a problem, for --compare.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Put a value over the file's.")
@click.option("--json", "as_json", is_flag=True, help="Print all figures as JSON.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for the answers, eval.json and eval.html.  [default: the output of CONFIG with -eval at its end]",
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
    """Evaluate on the held-out data of CONFIG, the configuration of a GRPO or PPO run.

    Reads data.eval, reward, rollout and evaluate from it: greedy accuracy, and over the samples of each prompt unbiased pass@k and
    majority@k (where evaluate.answer is set), all with 95 % intervals.

    Answers are kept as they come: an evaluation that was interrupted goes on where it was, and one of more samples draws only those
    that are missing.
    """
    if compare is not None and model is not None:
        raise UsageError("use either --model or --compare")
    if by is not None and compare is None:
        raise UsageError("--by is for --compare")
    number = samples if samples is not None else SAMPLES_TO_COMPARE if compare else SAMPLES
    if compare is not None and number < 2:
        raise UsageError("--compare needs at least 2 samples of each prompt: one half says what is within reach")
    from rewardkit.cli.loading import exit_on_interrupt  # noqa: PLC0415 - imports this package
    from rewardkit.train import evaluate  # noqa: PLC0415 - heavy
    from rewardkit.train.config.reading import read_train_config  # noqa: PLC0415 - heavy
    from rewardkit.train.config.stages import import_heavy  # noqa: PLC0415 - heavy

    file = read_train_config(config, overrides=split_overrides(overrides))
    with exit_on_interrupt():
        import_heavy()
    from rewardkit.cli.eval_view import Bar, show  # noqa: PLC0415 - needs torch

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
    show(found.exams, found.labelled, found.changes)
    click.echo(f"\n{found.page}")
