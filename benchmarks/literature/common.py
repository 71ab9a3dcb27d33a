"""Code that the studies share: running stages from YAML, reading metrics, printing tables and drawing plots."""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from statistics import fmean
from types import ModuleType
from typing import Any, Protocol, TypeVar

from rewardkit.registry import Registry
from rewardkit.train.config.reading import read_train_config, stage_of
from rewardkit.train.config.stages import STAGES
from rewardkit.train.config.training_file import TrainFile

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
SEEDS = (0, 1, 2)
SFT = """
version: 1
stage: sft
output: set
model: {path: set}
data: {train: set}
steps: 1
batch_size: 64
optimizer: {lr: 3.0e-3, warmup_steps: 20, schedule: cosine}
checkpoint: {every: 0}
"""
"""SFT of a model with random weights. A study sets the paths, the seed and the steps."""


def arguments(name: str, doc: str | None, *more: tuple[str, dict[str, Any]]) -> argparse.Namespace:
    """Parse the options of a study, and create its output folder ``out``.

    Args:
        name: The study's name.
        doc: The script's docstring.
        more: Further options.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a reduced size that only checks that everything runs")
    parser.add_argument("--out", type=Path, help="the folder of runs, table and plot; a rerun resumes there")
    parser.add_argument("--fresh", action="store_true", help="empty the folder first")
    for option, settings in more:
        parser.add_argument(option, **settings)
    found = parser.parse_args()
    found.out = (found.out or HERE / "out" / (f"{name}-quick" if found.quick else name)).resolve()
    if found.fresh and found.out.exists():
        shutil.rmtree(found.out)
    found.out.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    return found


class Sized(Protocol):
    """The size of a study."""

    @property
    def seeds(self) -> Sequence[int]:
        """The seeds."""


S = TypeVar("S", bound=Sized)
F = TypeVar("F")


def run_study(
    name: str,
    doc: str | None,
    sizes: tuple[S, S],
    study: Callable[[Path, int, Registry, S], Sequence[F]],
    findings: Callable[[Sequence[F], S], str],
    draw: Callable[[Sequence[F], S, Sequence[Any]], None],
    *,
    columns: int = 2,
    rewards: ModuleType | None = None,
) -> None:
    """Run every seed of a study, print and save its table, and draw its plot.

    Args:
        name: The study's name.
        doc: The script's docstring.
        sizes: The full size, and that of ``--quick``.
        study: Runs a seed in a folder, and returns its results, which are dataclasses.
        findings: Returns the table and the conclusions.
        draw: Draws the plot.
        columns: The panels of the plot.
        rewards: A module whose rewards are registered beside the installed ones.
    """
    options = arguments(name, doc)
    size = sizes[options.quick]
    registry = Registry.load()
    if rewards is not None:
        registry.register(rewards)
    found = [one for seed in size.seeds for one in study(options.out / f"seed{seed}", seed, registry, size)]
    report(options.out, findings(found, size), [asdict(one) for one in found])  # type: ignore[call-overload]
    plot(options.out / f"{name}.png", columns, lambda axes: draw(found, size, axes))


def configuration(
    yaml: str, folder: Path, registry: Registry, changes: Mapping[str, object] | None = None
) -> TrainFile:
    """Read a stage's configuration.

    Args:
        yaml: The configuration that all runs share. It is written to a file beside ``folder``.
        folder: The run's folder.
        registry: The plugins.
        changes: Overrides by dotted path.
    """
    file = folder.parent / f"{folder.name}.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(yaml, encoding="utf-8")
    overrides = {"output": json.dumps(str(folder)), "threads": "1"}
    overrides |= {key: json.dumps(value, default=str) for key, value in (changes or {}).items()}
    return read_train_config(file, registry, overrides)


def train(yaml: str, folder: Path, registry: Registry, changes: Mapping[str, object] | None = None) -> Path:
    """Run or resume a stage, and return the folder of the model."""
    from rewardkit.train.trainer.launch import launch

    file = configuration(yaml, folder, registry, changes)
    return launch(file, STAGES[stage_of(file.document)].runner())


def metrics(folder: Path, kind: str = "train") -> list[dict[str, float]]:
    """Return the logged metrics of a run's steps, or of its evaluations."""
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [line for line in map(json.loads, lines) if line["kind"] == kind]


@dataclass(frozen=True, slots=True)
class Accuracy:
    """The share of right answers to held-out prompts."""

    greedy: float
    sampled: float
    """At the configuration's temperature; NaN if no answers were sampled."""


def accuracy(file: TrainFile, model: Path, samples: int = 0) -> Accuracy:
    """Evaluate a model on the held-out prompts of an RL configuration.

    Args:
        file: Its data.eval, rollout, reward and evaluate.correct are used; answers are saved in its output folder.
        model: The model's folder.
        samples: Number of sampled answers per prompt, beside the greedy one.
    """
    from rewardkit.train.evaluation.evaluator import evaluate_models
    from rewardkit.train.trainer.launch import quiet

    quiet()
    (model_answers,) = evaluate_models(file, [str(model)], samples, file.config.output)
    counts = model_answers.counts().values()
    sampled = sum(right for _, right in counts) / sum(number for number, _ in counts) if samples else math.nan
    return Accuracy(model_answers.greedy_accuracy().value, sampled)


@cache
def build() -> ModuleType:
    """Import examples/train/build.py, which makes a model with random weights, a character tokenizer, and sums."""
    spec = importlib.util.spec_from_file_location("rewardkit_example_build", ROOT / "examples/train/build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def write_lines(file: Path, rows: Sequence[Mapping[str, object]]) -> Path:
    """Write JSON Lines."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


def spread(values: Sequence[float], form: str = ".2f") -> str:
    """Format the mean, minimum and maximum over seeds."""
    if len(values) == 1:
        return f"{values[0]:{form}}"
    return f"{fmean(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def smooth(values: Sequence[float], width: int) -> list[float]:
    """Return moving averages over ``width`` neighbours, fewer at the ends."""
    reach = width // 2
    return [fmean(values[max(place - reach, 0) : place + reach + 1]) for place in range(len(values))]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Format a table whose first column is left-aligned and the others right-aligned."""
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]

    def line(cells: Sequence[str]) -> str:
        rest = (cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True))
        return "  ".join((cells[0].ljust(widths[0]), *rest)).rstrip()

    return "\n".join((line(head), "  ".join("─" * width for width in widths), *map(line, rows)))


def report(out: Path, text: str, results: object) -> None:
    """Print a study's findings, and save them as text and JSON."""
    print(f"\n{text}")
    (out / "report.txt").write_text(text + "\n", encoding="utf-8")
    (out / "results.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def plot(file: Path, columns: int, draw: Callable[[Sequence[Any]], None], height: float = 4.0) -> None:
    """Draw panels side by side into a PNG file."""
    try:
        import matplotlib as mpl
    except ImportError:
        print("no plot: pip install matplotlib", file=sys.stderr)
        return
    mpl.use("agg")
    from matplotlib import pyplot as plt

    style: dict[Any, Any] = {
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.alpha": 0.25,
        "font.size": 10,
        "legend.frameon": False,
    }
    with plt.rc_context(style):
        figure, axes = plt.subplots(1, columns, figsize=(5.2 * columns, height), layout="constrained", squeeze=False)
        draw(list(axes[0]))
        figure.savefig(file, dpi=130)
        plt.close(figure)
    print(f"plot: {file}")
