"""What the studies share: stages run from YAML, their figures, how spreads are told, and the look of the plots."""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import fmean
from types import ModuleType
from typing import Any

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
"""Warms up a model of random weights; a study sets the paths, the seed and the steps."""


def arguments(name: str, doc: str | None, *more: tuple[str, dict[str, Any]]) -> argparse.Namespace:
    """The options that every study has, and where it keeps its runs (``out``).

    Args:
        name: Of the study.
        doc: The script's docstring.
        more: Options of this study alone.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a reduced size that only shows that all runs")
    parser.add_argument("--out", type=Path, help="where runs, table and plot are kept; a rerun goes on there")
    parser.add_argument("--fresh", action="store_true", help="remove what is there")
    for option, settings in more:
        parser.add_argument(option, **settings)
    found = parser.parse_args()
    found.out = (found.out or HERE / "out" / (f"{name}-quick" if found.quick else name)).resolve()
    if found.fresh and found.out.exists():
        shutil.rmtree(found.out)
    found.out.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    return found


def configuration(
    yaml: str, folder: Path, registry: Registry, changes: Mapping[str, object] | None = None
) -> TrainFile:
    """A stage's configuration, checked as ``rewardkit train`` does.

    Args:
        yaml: What all runs have in common; written to a file beside ``folder``.
        folder: Of the run.
        registry: The plugins that its reward may use.
        changes: Values put over the configuration's, by dotted path.
    """
    file = folder.parent / f"{folder.name}.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(yaml, encoding="utf-8")
    overrides = {"output": json.dumps(str(folder)), "threads": "1"}
    overrides |= {key: json.dumps(value, default=str) for key, value in (changes or {}).items()}
    return read_train_config(file, registry, overrides)


def train(yaml: str, folder: Path, registry: Registry, changes: Mapping[str, object] | None = None) -> Path:
    """Run a stage as ``rewardkit train`` does, going on with what its folder holds; returns the folder of the model."""
    from rewardkit.train.trainer.launch import launch  # noqa: PLC0415 - heavy

    file = configuration(yaml, folder, registry, changes)
    return launch(file, STAGES[stage_of(file.document)].runner())


def figures(folder: Path, kind: str = "train") -> list[dict[str, float]]:
    """What a run has written down of its steps, or of its evaluations."""
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [line for line in map(json.loads, lines) if line["kind"] == kind]


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Share of right answers to held-out prompts."""

    greedy: float
    sampled: float
    """At the configuration's temperature; NaN where none were sampled."""


def accuracy(file: TrainFile, model: Path, samples: int = 0) -> Accuracy:
    """Let a model answer the held-out prompts of an RL stage's configuration, as ``rewardkit eval`` does.

    Args:
        file: Its data.eval, rollout, reward and evaluate.correct are used; answers are kept in its output folder.
        model: A folder.
        samples: Sampled answers to each prompt, beside the greedy one.
    """
    from rewardkit.train.evaluation.evaluator import examine  # noqa: PLC0415 - heavy
    from rewardkit.train.trainer.launch import quiet  # noqa: PLC0415

    quiet()
    (exam,) = examine(file, [str(model)], samples, file.config.output)
    counts = exam.counts().values()
    sampled = sum(right for _, right in counts) / sum(number for number, _ in counts) if samples else math.nan
    return Accuracy(exam.greedy_accuracy().value, sampled)


@cache
def build() -> ModuleType:
    """examples/train/build.py: a model of random weights with a character tokenizer, and sums to add up."""
    spec = importlib.util.spec_from_file_location("rewardkit_example_build", ROOT / "examples/train/build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def write_lines(file: Path, rows: Sequence[Mapping[str, object]]) -> Path:
    """JSONL."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


def spread(values: Sequence[float], form: str = ".2f") -> str:
    """Mean, and the least and the greatest of the seeds."""
    if len(values) == 1:
        return f"{values[0]:{form}}"
    return f"{fmean(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def smooth(values: Sequence[float], width: int) -> list[float]:
    """Means over ``width`` neighbours; at the ends over those that there are."""
    reach = width // 2
    return [fmean(values[max(place - reach, 0) : place + reach + 1]) for place in range(len(values))]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns with a line below their heads; the first to the left, the others to the right."""
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]

    def line(cells: Sequence[str]) -> str:
        rest = (cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True))
        return "  ".join((cells[0].ljust(widths[0]), *rest)).rstrip()

    return "\n".join((line(head), "  ".join("─" * width for width in widths), *map(line, rows)))


def report(out: Path, text: str, results: object) -> None:
    """Print a study's findings, and keep them as text and as JSON."""
    print(f"\n{text}")
    (out / "report.txt").write_text(text + "\n", encoding="utf-8")
    (out / "results.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def plot(file: Path, columns: int, draw: Callable[[Sequence[Any]], None], height: float = 4.0) -> None:
    """Draw into panels side by side, and write a PNG."""
    try:
        import matplotlib as mpl  # noqa: PLC0415 - optional
    except ImportError:
        print("no plot: pip install matplotlib", file=sys.stderr)
        return
    mpl.use("agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

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
