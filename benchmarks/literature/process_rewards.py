"""Process rewards: what a reward on each step teaches that a reward on the answer alone does not.

    python benchmarks/literature/process_rewards.py [--quick]

After "Let's verify step by step" (https://arxiv.org/abs/2305.20050) and section 4.1.3 of DeepSeekMath (https://arxiv.org/abs/2402.03300).
The task is the addition of two numbers of two digits, worked out column by column: ``8+4+0=12,3+2+1=6`` is digit + digit + carry = sum,
and the last step also says the answer. The model that training starts from has learned from workings of which three in ten have the
wrong carry in their second column, though its sum and the answer are right: what the answer alone can't tell. Its own workings to other
sums are labelled step by step; a step is right if its digits, its carry and its sum are. A process reward model (stage ``reward_model``,
``level: step``) learns these labels. GRPO then trains, from the same model with as many rollouts, on the answer alone (1 if it is right),
on the mean of the steps' probabilities as the reward of the completion, on the reward of each step (``algorithm.process``, the formula
of DeepSeekMath), or on the answer and the mean of the steps together. The true shares of right steps and of right carries have weight 0:
they are measured on every sample, never learned from.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from common import (
    SEEDS,
    SFT,
    accuracy,
    build,
    configuration,
    metrics,
    run_study,
    smooth,
    spread,
    table,
    train,
    write_lines,
)

from rewardkit import Rollout, Score, reward
from rewardkit.registry import Registry

DIGITS = 2
ARMS = {
    "outcome": "GRPO on the answer",
    "mean": "GRPO on the mean of the steps",
    "process": "GRPO on each step (algorithm.process)",
    "both": "GRPO on the answer and the mean of the steps",
}
WINDOW = 5
WRONG_CARRY = 0.3
"""The share of workings for SFT whose second column has the wrong carry."""

PROCESS = """
version: 1
stage: reward_model
level: step
output: set
model: {path: set}
data: {train: set, eval_share: 0.2, separator: ","}
steps: 120
batch_size: 32
optimizer: {lr: 2.0e-3, warmup_steps: 10, schedule: cosine}
evaluate: {every: 0}
checkpoint: {every: 0}
"""
GRPO = """
version: 1
stage: grpo
output: set
model: {path: set}
data: {train: set, eval: set}
reward:
  components:
    answer: {use: sums.answer}
    true_steps: {use: sums.steps, weight: 0.0}
    true_carry: {use: sums.carry, weight: 0.0}
steps: 30
rollout: {prompts_per_step: 32, group_size: 8, max_new_tokens: 32, temperature: 1.0}
algorithm: {use: grpo}
optimizer: {lr: 1.0e-4, warmup_steps: 5}
evaluate: {every: 0, correct: "answer == 1", limit: 200}
checkpoint: {every: 0}
log: {samples: 1}
"""
STEPS: Mapping[str, Mapping[str, object]] = {
    "outcome": {},
    "mean": {
        "reward.components.steps.use": "reward_model.steps",
        "reward.components.steps.weight": 1.0,
        "reward.components.answer.weight": 0.0,
    },
    "process": {
        "reward.components.steps.use": "reward_model.steps",
        "reward.components.steps.weight": 0.0,
        "algorithm.process": {"component": "steps", "separator": ","},
    },
    "both": {"reward.components.steps.use": "reward_model.steps", "reward.components.steps.weight": 1.0},
}
"""What each arm changes."""


@dataclass(frozen=True, slots=True)
class Size:
    """The size of the study."""

    seeds: Sequence[int] = SEEDS
    sft_steps: int = 240
    labelled: int = 800
    """The number of sums whose sampled workings are labelled."""
    samples: int = 1
    process_steps: int = 300
    steps: int = 20
    held_out: int = 100


QUICK = Size(seeds=(0,), sft_steps=20, labelled=24, samples=1, process_steps=6, steps=2, held_out=8)


@dataclass(frozen=True, slots=True)
class Finding:
    """The results of one arm."""

    arm: str
    seed: int
    accuracy: float
    """Greedy accuracy on held-out sums after training."""
    before: float
    carries: list[float]
    """The share of right carries of each training step's samples."""
    right_steps: list[float]
    """The true share of right steps of each training step's samples."""
    answers: list[float]
    """The share of right answers of the same."""
    auc: float
    """The area under the ROC curve of the process reward model on held-out workings."""
    step_accuracy: float


def columns(first: int, second: int) -> list[str]:
    """Return the right steps of a sum, units first; the last has the answer."""
    found, carry = [], 0
    for one, other in zip(reversed(f"{first:0{DIGITS}d}"), reversed(f"{second:0{DIGITS}d}"), strict=True):
        total = int(one) + int(other) + carry
        found.append(f"{one}+{other}+{carry}={total}")
        carry = total // 10
    found[-1] += f";{first + second}"
    return found


def carelessly(steps: Sequence[str], draw: random.Random) -> str:
    """Return a working, perhaps with the wrong carry in its second column, whose sum is right nevertheless."""
    first, second, *rest = steps
    if draw.random() < WRONG_CARRY:
        before, _, total = second.partition("=")
        second = f"{before[:-1]}{1 - int(before[-1])}={total}"
    return ",".join((first, second, *rest))


def labels(prompt: str, completion: str) -> list[bool]:
    """Return for each step of a working whether it is right: the digits, the carry and the sum of its column."""
    right = columns(*map(int, prompt.removesuffix("=?").split("+")))
    steps = [step for step in completion.split(",") if step.strip()] or [""]
    return [index < len(right) and step == right[index] for index, step in enumerate(steps)]


@reward("sums.answer")
def answer(rollout: Rollout) -> float:
    """Return 1 if the answer at the end is right, else 0."""
    first, second = map(int, str(rollout.prompt).removesuffix("=?").split("+"))
    return float(rollout.completion_text.rpartition(";")[2] == str(first + second))


@reward("sums.steps")
def true_steps(rollout: Rollout) -> Score:
    """Return the share of the columns whose step is right."""
    return Score(sum(labels(str(rollout.prompt), rollout.completion_text)[:DIGITS]) / DIGITS)


@reward("sums.carry")
def true_carry(rollout: Rollout) -> float:
    """Return 1 if the carry of the second column is right, else 0."""
    right = columns(*map(int, str(rollout.prompt).removesuffix("=?").split("+")))[1]
    return float(rollout.completion_text.partition(",")[2][:5] == right[:5])


def write_data(folder: Path, seed: int, size: Size) -> None:
    """Write sums for SFT, for labels, for GRPO, and held-out ones; no sum occurs twice."""
    draw = random.Random(seed)  # noqa: S311 - no secrets here
    least, most = 10 ** (DIGITS - 1), 10**DIGITS - 1
    pairs = list(dict.fromkeys((draw.randint(least, most), draw.randint(least, most)) for _ in range(20000)))
    parts = {"heldout": size.held_out, "label": size.labelled, "train": 1000, "sft": 6000}
    for name, count in parts.items():
        own, pairs = pairs[:count], pairs[count:]
        rows = [{"prompt": f"{one}+{two}=?", "completion": carelessly(columns(one, two), draw)} for one, two in own]
        write_lines(folder / f"{name}.jsonl", rows if name == "sft" else [{"prompt": row["prompt"]} for row in rows])


def label(folder: Path, registry: Registry, size: Size) -> Path:
    """Sample workings of the starting model, and write their steps with labels."""
    changes: dict[str, object] = {"model.path": folder / "sft/final", "evaluate.limit": None}
    changes |= {"data.train": folder / "label.jsonl", "data.eval": folder / "label.jsonl"}
    file = configuration(GRPO, folder / "workings", registry, changes)
    accuracy(file, folder / "sft/final", size.samples)
    prompts = [json.loads(line)["prompt"] for line in (folder / "label.jsonl").read_text(encoding="utf-8").splitlines()]
    rows = []
    for answers in sorted((folder / "workings").glob("*.jsonl")):
        for line in map(json.loads, answers.read_text(encoding="utf-8").splitlines()):
            prompt, text = prompts[line["prompt"]], line["text"]
            if text.strip(", "):
                rows.append({"prompt": prompt, "completion": text, "labels": labels(prompt, text)})
    return write_lines(folder / "labelled.jsonl", rows)


def study(folder: Path, seed: int, registry: Registry, size: Size) -> list[Finding]:
    """Run one seed."""
    if not (folder / "sft.jsonl").exists():
        write_data(folder, seed, size)
        build().write_model(folder / "base", hidden=96, layers=3, seed=seed)
    sums = {"seed": seed, "data.train": folder / "sft.jsonl", "model.path": folder / "base", "steps": size.sft_steps}
    start = train(SFT, folder / "sft", registry, sums)
    if not (folder / "labelled.jsonl").exists():
        label(folder, registry, size)
    settings = {"seed": seed, "data.train": folder / "labelled.jsonl", "model.path": start}
    scorer = train(PROCESS, folder / "process_model", registry, {**settings, "steps": size.process_steps})
    judged = metrics(folder / "process_model", "eval")[-1]
    shared: dict[str, Any] = {"seed": seed, "model.path": start, "data.train": folder / "train.jsonl"}
    shared |= {"data.eval": folder / "heldout.jsonl", "steps": size.steps, "evaluate.limit": size.held_out}
    found = []
    for arm in ARMS:
        changes: dict[str, object] = {**shared, **STEPS[arm]}
        if STEPS[arm]:
            changes["reward.components.steps.with"] = {"model": str(scorer), "value": "mean"}
        train(GRPO, folder / arm, registry, changes)
        lines, evaluated = metrics(folder / arm), metrics(folder / arm, "eval")
        found.append(
            Finding(
                arm,
                seed,
                evaluated[-1]["accuracy"],
                evaluated[0]["accuracy"],
                [line["component/true_carry"] for line in lines],
                [line["component/true_steps"] for line in lines],
                [line["component/answer"] for line in lines],
                judged.get("auc", 0.5),
                judged["accuracy"],
            )
        )
    return found


def at_end(values: Sequence[float]) -> float:
    """Return the mean of the last steps."""
    return fmean(values[-WINDOW:])


def findings(found: Sequence[Finding], size: Size) -> str:
    """Return the table and its conclusions."""
    starts = [one for one in found if one.arm == "outcome"]
    rows = [
        [
            "before",
            spread([one.carries[0] for one in starts]),
            spread([one.right_steps[0] for one in starts]),
            spread([one.answers[0] for one in starts]),
            spread([one.before for one in starts]),
        ]
    ]
    for arm, name in ARMS.items():
        own = [one for one in found if one.arm == arm]
        rows.append(
            [
                name,
                spread([at_end(one.carries) for one in own]),
                spread([at_end(one.right_steps) for one in own]),
                spread([at_end(one.answers) for one in own]),
                spread([one.accuracy for one in own]),
            ]
        )
    by_seed = {(one.arm, one.seed): one for one in found}
    wins = {
        arm: sum(at_end(by_seed[arm, one.seed].carries) > at_end(one.carries) for one in starts)
        for arm in ARMS
        if arm != "outcome"
    }
    return "\n".join(
        [
            table(["", "right carries", "right steps", "right answers", "greedy accuracy"], rows),
            "",
            f"Means over {len(size.seeds)} seeds (least to greatest); shares of the samples of the last {WINDOW} steps.",
            f"Held-out steps that the process reward model has right: {spread([one.step_accuracy for one in starts])}.",
            f"Its area under the ROC curve: {spread([one.auc for one in starts])}.",
            *(
                f"{ARMS[arm]}: more carries are right than after {ARMS['outcome']} in {count} of {len(starts)}."
                for arm, count in wins.items()
            ),
        ]
    )


def draw(found: Sequence[Finding], _: Size, axes: Sequence[Any]) -> None:
    """Draw the shares of right carries and of right answers over steps."""
    for one in found:
        colour = f"C{list(ARMS).index(one.arm)}"
        name = ARMS[one.arm] if one.seed == found[0].seed else None
        for axis, values in zip(axes, (one.carries, one.answers), strict=True):
            axis.plot(smooth(values, WINDOW), color=colour, label=name, linewidth=1.5)
    for axis, title in zip(axes, ("share of right carries", "share of right answers"), strict=True):
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("step")
    axes[0].legend()


def main() -> None:
    """Run every seed."""
    run_study("process_rewards", __doc__, (Size(), QUICK), study, findings, draw, rewards=sys.modules[__name__])


if __name__ == "__main__":
    main()
