"""``rewardkit eval``: how good a model is on held-out prompts, and what training changed."""

from __future__ import annotations

from pathlib import Path

import click
import orjson

from rewardkit.cli.loading import split_overrides
from rewardkit.errors import OutputError, UsageError

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
    from rewardkit.train.config.reading import read_train_config  # noqa: PLC0415 - heavy
    from rewardkit.train.config.stages import import_heavy  # noqa: PLC0415 - heavy

    file = read_train_config(config, overrides=split_overrides(overrides))
    with exit_on_interrupt():
        import_heavy()
    from rewardkit.cli.eval_view import Bar, show  # noqa: PLC0415 - needs torch, as do these
    from rewardkit.train.evaluation.evaluator import classes_of, examine, examined  # noqa: PLC0415
    from rewardkit.train.evaluation.metrics import figures_of, labelled, record_of  # noqa: PLC0415
    from rewardkit.train.evaluation.pass_at_k import compare as compare_exams  # noqa: PLC0415
    from rewardkit.train.reports.evaluation_report import write_page  # noqa: PLC0415
    from rewardkit.train.trainer.launch import quiet  # noqa: PLC0415

    quiet()
    settings, _ = examined(file)
    file.require_data("eval")
    classes = classes_of(settings, by)
    folder = out or settings.output.with_name(f"{settings.output.name}-eval")
    models = [_absolute(item) for item in (compare or (model,))]
    with Bar() as bar:
        try:
            exams = examine(file, models, number, folder, bar.tell)
        except KeyboardInterrupt:
            bar.say(f"all answers so far are in {folder}: run the same command again to go on")
            raise
    figures = [figures_of(exam, number) for exam in exams]
    shown = [labelled(of) for of in figures]
    changes = compare_exams(exams[0], exams[1], classes) if compare else []
    written = orjson.dumps(record_of(number, exams, figures, changes), option=orjson.OPT_INDENT_2).decode()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "eval.json").write_text(written + "\n", encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{folder} can't be written: {error.strerror}") from None
    page = write_page(folder / "eval.html", shown, exams, changes)
    if as_json:
        click.echo(written)
        return
    show(exams, shown, changes)
    click.echo(f"\n{page}")


def _absolute(model: str | None) -> str | None:
    """Folders on the command line are relative to where one stands; other names are the hub's."""
    from rewardkit.train.config.base import model_source  # noqa: PLC0415 - heavy

    if model is None:
        return None
    source = model_source(model, Path.cwd())
    return str(Path(source).resolve()) if Path(source).is_absolute() else source
