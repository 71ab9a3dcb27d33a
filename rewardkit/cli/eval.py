"""``rewardkit eval``: how good a model is on held-out prompts, and what training changed."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import click
import orjson

from rewardkit.cli.train import split_overrides
from rewardkit.errors import DataError, OutputError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console

    from rewardkit.train.answers import Exam
    from rewardkit.train.comparison import Change
    from rewardkit.train.exam import Progress as ExamProgress
    from rewardkit.train.math.metrics import Estimate

SAMPLES, SAMPLES_TO_COMPARE = 16, 64
SHOWN_CLASSES = 20
"""Classes of problems in the terminal; all are on the page."""


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
    from rewardkit.train.stages import read_train_config, require_torch  # noqa: PLC0415 - heavy

    file = read_train_config(config, overrides=split_overrides(overrides))
    require_torch()
    from rewardkit.train.exam import classes_of, examine, examined  # noqa: PLC0415 - needs torch
    from rewardkit.train.launch import quiet  # noqa: PLC0415

    quiet()
    settings, _ = examined(file)
    classes = classes_of(settings, by)
    folder = out or settings.output.with_name(f"{settings.output.name}-eval")
    models = [_absolute(item) for item in (compare or (model,))]
    with _Bar() as bar:
        try:
            exams = examine(file, models, number, folder, bar.tell)
        except KeyboardInterrupt:
            bar.say(f"all answers so far are in {folder}: run the same command again to go on")
            raise
    from rewardkit.train.comparison import compare as compare_exams  # noqa: PLC0415
    from rewardkit.train.comparison import plain  # noqa: PLC0415
    from rewardkit.train.exam_page import write_page  # noqa: PLC0415

    figures = [_figures(exam, number) for exam in exams]
    changes = compare_exams(exams[0], exams[1], classes) if compare else []
    found = {
        "samples": number,
        "models": [{"model": exam.model, **of} for exam, of in zip(exams, figures, strict=True)],
        "changes": [_change(change) for change in changes],
    }
    written = orjson.dumps(plain(found), option=orjson.OPT_INDENT_2).decode()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "eval.json").write_text(written + "\n", encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{folder} can't be written: {error.strerror}") from None
    page = write_page(folder / "eval.html", [_labelled(of) for of in figures], exams, changes)
    if as_json:
        click.echo(written)
        return
    _show(exams, figures, changes)
    click.echo(f"\n{page}")


class _Bar:
    """How far the models are: a bar on a terminal, elsewhere a line for each model. A context manager."""

    def __init__(self) -> None:
        from rich.console import Console  # noqa: PLC0415 - heavy
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn  # noqa: PLC0415

        self.console = Console(stderr=True)
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self.console,
            disable=not self.console.is_terminal,
        )
        self.tasks: dict[str, Any] = {}

    def __enter__(self) -> Self:
        self.progress.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.progress.stop()

    def say(self, words: str) -> None:
        """A line of its own."""
        self.console.print(words, highlight=False, markup=False, soft_wrap=True)

    def tell(self, progress: ExamProgress) -> None:
        """Move on."""
        from rewardkit.train.exam_page import short  # noqa: PLC0415 - needs torch

        if progress.model not in self.tasks:
            self.tasks[progress.model] = self.progress.add_task(short(progress.model), total=progress.total)
            if not self.console.is_terminal:
                kept = f", {progress.done:,} of them kept from before" if progress.done else ""
                self.say(f"{progress.model}: {progress.total:,} answers{kept}")
        self.progress.update(self.tasks[progress.model], completed=progress.done)


def _absolute(model: str | None) -> str | None:
    """Folders on the command line are relative to where one stands; other names are the hub's."""
    is_path = model is not None and (Path(model).exists() or model.startswith((".", "/", "~")))
    return str(Path(model).expanduser().resolve()) if model is not None and is_path else model


def _figures(exam: Exam, samples: int) -> dict[str, Any]:
    """All figures of one model."""
    from rewardkit.train.answers import means  # noqa: PLC0415
    from rewardkit.train.comparison import majorities, passes, shown_ks  # noqa: PLC0415 - needs torch

    found: dict[str, Any] = {"greedy": {"accuracy": exam.greedy_accuracy(), **means(exam.greedy)}}
    if samples:
        drawn = [answer for answers in exam.by_prompt.values() for answer in answers]
        ks = shown_ks(samples)
        counted = exam.counts()
        if not counted:
            raise DataError(f"{exam.model}: of no problem all {samples} samples could be scored")
        found["sampled"] = {
            **means(drawn),
            "problems": len(counted),
            "problems_left_out": len(exam.prompts) - len(counted),
            "pass_at": passes(exam, ks),
            "majority_at": majorities(exam, ks),
        }
    return found


def _labelled(figures: Mapping[str, Any]) -> dict[str, float | Estimate]:
    """Figures by the words that a person reads."""
    greedy, sampled = figures["greedy"], figures.get("sampled")
    found: dict[str, float | Estimate] = {"greedy accuracy": greedy["accuracy"]}
    if sampled:
        found |= {f"pass@{k}": value for k, value in sampled["pass_at"].items()}
        found |= {f"majority@{k}": value for k, value in sampled["majority_at"].items() if k > 1}
    for name, value in greedy.items():
        if name.startswith("component/"):
            found[f"{name.removeprefix('component/')} (greedy)"] = value
    found |= {"tokens (greedy)": greedy["length"], "cut off (greedy)": greedy["truncated"]}
    if greedy["unscored"] or (sampled and sampled["unscored"]):
        found["unscored"] = sampled["unscored"] if sampled else greedy["unscored"]
        if sampled:
            found["problems left out"] = sampled["problems_left_out"]
    return found


def _change(change: Change) -> dict[str, Any]:
    from rewardkit.train.comparison import shown_ks  # noqa: PLC0415

    ks = shown_ks(change.samples)
    curves = {name: {k: getattr(change, name)[k - 1] for k in ks} for name in ("base", "trained", "gain")}
    names = ["name", "problems", "samples", "reach", "crossover", "within", "elicited", "created", "elicited_share"]
    names += ["new", "luck", "new_beyond_luck", "lost"]
    return {name: getattr(change, name) for name in names} | curves


def _show(exams: Sequence[Exam], figures: Sequence[Mapping[str, Any]], changes: Sequence[Change]) -> None:
    from rich.console import Console  # noqa: PLC0415 - heavy
    from rich.table import Table  # noqa: PLC0415

    from rewardkit.train.exam_page import differences, short  # noqa: PLC0415

    console = Console()
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("")
    for exam in exams:
        table.add_column(short(exam.model), justify="right", overflow="fold")
    if changes:
        table.add_column("difference", justify="right")
    labelled = [_labelled(of) for of in figures]
    gains = differences(changes)
    for label in labelled[0]:
        cells = [_words(of.get(label)) for of in labelled]
        table.add_row(label, *cells, *([_words(gains.get(label), sign=True)] if changes else []))
    console.print(table)
    if changes:
        _show_changes(console, changes)


def _words(value: float | Estimate | None, *, sign: bool = False) -> str:
    from rewardkit.train.math.metrics import Estimate  # noqa: PLC0415

    style = "+.3f" if sign else ".3f"
    if isinstance(value, Estimate):
        return f"{value.value:{style}} [dim]{value.low:{style}}…{value.high:{style}}[/dim]"
    if value is None:
        return ""
    return "–" if math.isnan(value) else f"{value:{style}}"  # of what no answer has


def _show_changes(console: Console, changes: Sequence[Change]) -> None:
    from rich.markup import escape  # noqa: PLC0415 - heavy
    from rich.table import Table  # noqa: PLC0415

    from rewardkit.train.exam_page import sentences  # noqa: PLC0415

    console.print("\n[bold]What training changed[/bold]")
    points = Table.grid(padding=(0, 1))
    for sentence in sentences(changes[0]):
        points.add_row("·", escape(sentence))
    console.print(points)
    table = Table(box=None, pad_edge=False, header_style="bold", show_footer=False)
    table.add_column("problems", overflow="ellipsis", max_width=18)
    for name in ("", "pass@1", "gain within reach", "gain out of reach", "new − luck"):
        table.add_column(name, justify="right")
    for change in changes[: SHOWN_CLASSES + 1]:
        table.add_row(
            escape(change.name),
            str(change.problems),
            f"{change.base[0].value:.2f} → {change.trained[0].value:.2f}",
            *(_gain(value) for value in (change.elicited, change.created, change.new_beyond_luck)),
        )
    console.print()
    console.print(table)
    hidden = len(changes) - SHOWN_CLASSES - 1
    more = f" {hidden} more classes are on the page." if hidden > 0 else ""
    console.print(
        f"[dim]Within reach: the base model solves it in {changes[0].reach} tries. Gain within reach is elicitation, gain out of "
        f"reach and new problems beyond luck are creation. Intervals: 95 %, over problems.{more}[/dim]",
        highlight=False,
    )


def _gain(value: Estimate) -> str:
    if math.isnan(value.value):  # there are no such problems
        return "–"
    return f"{value.value:+.2f} [dim]±{(value.high - value.low) / 2:.2f}[/dim]"
