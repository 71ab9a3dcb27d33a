r"""Compare token-weighted with plain SFT: more weight on the tokens that decide whether a worked answer is right.

    python benchmarks/literature/token_weighted_sft.py [--quick]

Most tokens of a worked sum are format: tags, signs, digits copied from the question. The results, the carries and the answer decide
whether it is right. Weights by pattern (``loss.weights``) put the loss there, after work on critical tokens such as "Rho-1: Not all tokens
are what you need" (https://arxiv.org/abs/2404.07965). Column addition, three ways from the same random weights, with the same
batches, steps and learning rate: plain; decisive tokens times three; and, as a control, all other tokens times three. A batch's
weights are divided by their sum, so that none of the three has a longer gradient to begin with. Greedy accuracy on held-out sums
by the math reward.
Four minutes of one core.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from common import SEEDS, SFT, accuracy, build, configuration, run_study, spread, table, train

from rewardkit.registry import Registry

DECISIVE = r"(?<==)\d+|(?<=\{)\d+|(?<=\+)\d(?==)"
"""Patterns of results, the boxed answer and carries."""
WEIGHT = 3.0
ARMS = {
    "plain": [],
    "decisive": [{"pattern": DECISIVE, "weight": WEIGHT}],
    "others": [{"pattern": r"(?s).+", "weight": WEIGHT}, {"pattern": DECISIVE, "weight": 1.0}],
}
NAMES = {"plain": "plain", "decisive": f"decisive tokens × {WEIGHT:g}", "others": f"all others × {WEIGHT:g}"}

EVALUATION = """
version: 1
stage: grpo
output: set
model: {path: set}
data: {train: set, eval: set}
reward:
  components:
    correct: {use: math, with: {reference: answer}}
steps: 1
rollout: {max_new_tokens: 56}
evaluate: {correct: "correct == 1"}
"""


@dataclass(frozen=True, slots=True)
class Size:
    """The size of the study."""

    seeds: Sequence[int] = SEEDS
    lengths: Sequence[int] = (140,)
    held_out: int = 300


QUICK = Size(seeds=(0,), lengths=(2,), held_out=8)


@dataclass(frozen=True, slots=True)
class Finding:
    """The results of one run."""

    arm: str
    seed: int
    steps: int
    accuracy: float


def study(folder: Path, seed: int, registry: Registry, size: Size) -> list[Finding]:
    """Run all arms and lengths from the same random weights."""
    build().write_data(folder)
    build().write_model(folder / "base", hidden=96, layers=3, seed=seed)
    found = []
    for steps in size.lengths:
        for arm, weights in ARMS.items():
            changes = {
                "seed": seed,
                "model.path": folder / "base",
                "data.train": folder / "sft.jsonl",
                "steps": steps,
                "loss.weights": weights,
            }
            final = train(SFT, folder / f"{arm}-{steps}", registry, changes)
            model_answers = {
                "model.path": final,
                "data.train": folder / "train.jsonl",
                "data.eval": folder / "heldout.jsonl",
                "evaluate.limit": size.held_out,
            }
            file = configuration(EVALUATION, folder / "model_answers", registry, model_answers)
            found.append(Finding(arm, seed, steps, accuracy(file, final).greedy))
    return found


def findings(found: Sequence[Finding], size: Size) -> str:
    """Return the table and its conclusions."""

    def of(arm: str, steps: int) -> list[float]:
        return [item.accuracy for item in found if item.arm == arm and item.steps == steps]

    rows = [
        [NAMES[arm], *(spread([100 * value for value in of(arm, steps)], ".0f") for steps in size.lengths)]
        for arm in ARMS
    ]
    lines = [
        table(["greedy accuracy, %", *(f"{steps} steps" for steps in size.lengths)], rows),
        "",
        f"Means over {len(size.seeds)} seeds (least to greatest), {size.held_out} held-out sums.",
    ]
    for arm in ("decisive", "others"):
        pairs = [pair for steps in size.lengths for pair in zip(of(arm, steps), of("plain", steps), strict=True)]
        higher = sum(mine > plain for mine, plain in pairs)
        by = 100 * fmean(mine - plain for mine, plain in pairs)
        lines.append(f"{NAMES[arm]}: above plain in {higher} of {len(pairs)} runs, by {by:+.1f} points on average.")
    return "\n".join(lines)


def draw(found: Sequence[Finding], size: Size, axes: Sequence[Any]) -> None:
    """Draw the accuracy of every run, with lines through the means."""
    for colour, steps in enumerate(size.lengths):
        for place, arm in enumerate(ARMS):
            values = [item.accuracy for item in found if item.arm == arm and item.steps == steps]
            label = f"{steps} steps" if place == 0 else None
            axes[0].scatter([place] * len(values), values, color=f"C{colour}", zorder=3, label=label)
            axes[0].hlines(fmean(values), place - 0.2, place + 0.2, color=f"C{colour}")
    axes[0].set_xticks(range(len(ARMS)), list(NAMES.values()))
    axes[0].set_ylabel("greedy accuracy on held-out sums")
    axes[0].set_ylim(0, 1)
    axes[0].legend()


def main() -> None:
    """Run every seed."""
    run_study("token_weighted_sft", __doc__, (Size(), QUICK), study, findings, draw, columns=1)


if __name__ == "__main__":
    main()
