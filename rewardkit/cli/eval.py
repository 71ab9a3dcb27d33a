"""``rewardkit eval``: how good a model is on held-out prompts, and what training changed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import orjson

from rewardkit.cli.train import split_overrides
from rewardkit.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from rewardkit.train.exam import Change


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
    default=16,
    show_default=True,
    help="Sampled completions of each prompt; 0: only greedy.",
)
@click.option("--by", help="A field of the rows that tells the class of a problem, for --compare.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Put a value over the file's.")
@click.option("--json", "as_json", is_flag=True, help="Print all figures as JSON.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Write all figures to this file as JSON.")
def command(
    config: Path,
    model: str | None,
    compare: tuple[str, str] | None,
    samples: int,
    by: str | None,
    overrides: tuple[str, ...],
    as_json: bool,
    out: Path | None,
) -> None:
    """Evaluate on the held-out data of CONFIG, the configuration of a GRPO or PPO run.

    Reads data.eval, reward, rollout and evaluate from it: greedy accuracy, and over --samples completions of each prompt the mean
    accuracy, unbiased pass@k and majority@k (where evaluate.answer is set), all with 95 % intervals.
    """
    if compare is not None and samples == 0:
        raise click.UsageError("--compare needs samples")
    if compare is not None and model is not None:
        raise click.UsageError("use either --model or --compare")
    from rich.console import Console  # noqa: PLC0415 - heavy

    from rewardkit.train.stages import read_train_config, require_torch  # noqa: PLC0415 - heavy

    file = read_train_config(config, overrides=split_overrides(overrides))
    require_torch()
    from rewardkit.train.exam import compare as compare_exams  # noqa: PLC0415 - needs torch
    from rewardkit.train.exam import examine  # noqa: PLC0415
    from rewardkit.train.launch import quiet  # noqa: PLC0415

    quiet()
    models = list(compare) if compare else [model]
    console = Console(stderr=as_json)
    status = Console(stderr=True).status("")
    with status:
        exams = examine(file, [_absolute(item) for item in models], samples, status.update)
    ks = [2**power for power in range(samples.bit_length()) if 2**power <= samples]
    answer = getattr(file.config, "evaluate").answer  # noqa: B009 - examine has checked that there is one
    found: dict[str, Any] = {"samples": samples, "models": [exam.summary(ks, answer) for exam in exams]}
    changes = compare_exams(exams[0], exams[1], by) if compare else []
    if compare:
        found["changes"] = [_plain(change) for change in changes]
    text = orjson.dumps(found, option=orjson.OPT_INDENT_2).decode()
    if out is not None:
        try:
            out.write_text(text + "\n", encoding="utf-8")
        except OSError as error:
            raise OutputError(f"{out} can't be written: {error.strerror}") from None
    if as_json:
        click.echo(text)
    else:
        _show(console, found["models"], samples)
        if changes:
            _show_changes(console, changes, samples)


def _absolute(model: str | None) -> str | None:
    """Folders on the command line are relative to where one stands; other names are the hub's."""
    return str(Path(model).resolve()) if model is not None and Path(model).exists() else model


def _plain(change: Change) -> dict[str, Any]:
    names = ("name", "problems", "elicited", "kept", "created", "lost", "beyond")
    estimates = {name: getattr(change, name) for name in ("base", "trained", "creation")}
    return {name: getattr(change, name) for name in names} | {
        name: [item.value, item.low, item.high] for name, item in estimates.items()
    }


def _show(console: Console, models: Sequence[dict[str, Any]], samples: int) -> None:
    from rich.table import Table  # noqa: PLC0415 - heavy

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("")
    for item in models:
        table.add_column(str(item["model"]), justify="right", overflow="fold")

    def add(label: str, values: Sequence[Any]) -> None:
        table.add_row(label, *(_words(value) for value in values))

    add("greedy accuracy", [item["greedy"]["accuracy"] for item in models])
    if samples:
        add(f"accuracy of {samples} samples", [item["sampled"]["accuracy"] for item in models])
        for kind, label in (("pass_at", "pass@"), ("majority_at", "majority@")):
            for k in models[0]["sampled"][kind]:
                add(f"{label}{k}", [item["sampled"][kind].get(k) for item in models])
    for name in [key for key in models[0]["greedy"] if key.startswith("component/")]:
        add(f"{name.removeprefix('component/')} (greedy mean)", [item["greedy"].get(name) for item in models])
    add("tokens (greedy mean)", [item["greedy"]["length"] for item in models])
    add("truncated", [item["greedy"]["truncated"] for item in models])
    add("unscored", [item["greedy"]["unscored"] for item in models])
    console.print(table)


def _words(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, list):
        return f"{value[0]:.3f} [dim]{value[1]:.3f}–{value[2]:.3f}[/dim]"
    return f"{value:.3f}"


def _show_changes(console: Console, changes: Sequence[Change], samples: int) -> None:
    from rich.markup import escape  # noqa: PLC0415 - heavy
    from rich.table import Table  # noqa: PLC0415

    table = Table(box=None, pad_edge=False, header_style="bold", title="what training changed", title_justify="left")
    for name in ("problems", "count", "base", "trained", "elicited", "kept", "created", "lost", "beyond"):
        table.add_column(name, justify="left" if name == "problems" else "right")
    for change in changes:
        counts = (change.elicited, change.kept, change.created, change.lost, change.beyond)
        table.add_row(
            escape(change.name),
            str(change.problems),
            f"{change.base.value:.3f}",
            f"{change.trained.value:.3f}",
            *map(str, counts),
        )
    console.print()
    console.print(table)
    for change in changes:
        reach = change.created + change.beyond
        console.print(
            f"[dim]{escape(change.name)}: of {reach} problems that none of {samples} samples of the base model solved, "
            f"{change.created} came within reach ({change.creation.low:.0%}–{change.creation.high:.0%} at 95 %)[/dim]",
            highlight=False,
        )
