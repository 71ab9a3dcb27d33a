"""Rewards from demonstrations: SFT, then reinforcement learning on the log-ratio of SFT and its base, against SFT alone.

    python benchmarks/literature/demonstrations.py [--quick]

The log-ratio log(π_SFT(y|x) / π_base(y|x)) of a model after SFT to the model before is a reward that nobody labelled: it is learned
from demonstrations (the implicit reward of https://arxiv.org/abs/2305.18290, with SFT in the place of DPO). The task is column addition
with working. The base has seen many sums of which most are done wrongly: carries are forgotten or a digit is misread. SFT then sees few
right ones. From the model after SFT, and from the same demonstrations, three ways lead on: as many further steps of SFT, or GRPO on the
log-ratio of the whole completion (sequence), or on its mean per token (length-normalised). The gold reward, whether the answer is right,
has weight 0: it is measured on every sample, never learned from. GRPO has no KL penalty, so that it also shows where the reward is gamed.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Sequence
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

ARMS = {
    "base": "base",
    "sft": "SFT",
    "more": "SFT, as many steps more",
    "sequence": "GRPO on the log-ratio",
    "mean": "GRPO on its mean per token",
}
WRONG = 0.6
"""The share of the base's sums that are done wrongly."""
WINDOW = 5

GRPO = """
version: 1
stage: grpo
output: set
model: {path: set}
data: {train: set, eval: set}
reward:
  components:
    log_ratio: {use: reward_model.log_ratio, with: {model: set, reference: set}}
    gold:      {use: sums.gold, weight: 0.0}
    working:   {use: sums.working, weight: 0.0}
steps: 25
rollout: {prompts_per_step: 16, group_size: 8, max_new_tokens: 52, temperature: 1.0}
algorithm: {use: dr_grpo}
optimizer: {lr: 3.0e-4, warmup_steps: 5}
monitors: {length_correlation: null, repetition: null, truncated: null, entropy_share: null}
evaluate: {every: 0, correct: "gold == 1", limit: 200}
checkpoint: {every: 0}
log: {samples: 1}
"""


@dataclass(frozen=True, slots=True)
class Size:
    """The size of the study."""

    seeds: Sequence[int] = SEEDS
    base_steps: int = 110
    demonstrations: int = 300
    sft_steps: int = 30
    steps: int = 25
    held_out: int = 150


QUICK = Size(seeds=(0,), base_steps=10, demonstrations=32, sft_steps=3, steps=2, held_out=8)


@dataclass(frozen=True, slots=True)
class Finding:
    """The results of one arm."""

    arm: str
    seed: int
    greedy: float
    """Greedy accuracy on held-out sums."""
    sampled: float
    """The share of right answers among one sample per held-out sum."""
    log_ratio: list[float]
    """The mean log-ratio of each step's samples, in nats per completion or per token; empty without GRPO."""
    gold: list[float]
    """The share of right answers of the same."""
    length: list[float]
    """Their mean number of tokens."""


@reward("sums.gold")
def gold(rollout: Rollout) -> float:
    """Return 1 if the answer is right, else 0."""
    first, second = map(int, str(rollout.prompt).removesuffix("=?").split("+"))
    return float(rollout.completion_text.endswith(f"\\boxed{{{first + second}}}"))


@reward("sums.working")
def working(rollout: Rollout) -> Score:
    """Return 1 if the whole completion is the right working."""
    first, second = map(int, str(rollout.prompt).removesuffix("=?").split("+"))
    return Score(float(rollout.completion_text == build().row(first, second)["completion"]))


def wrong(first: int, second: int, draw: random.Random) -> str:
    """Return a working with a mistake: one digit of a column, or every carry forgotten."""
    if draw.random() < 0.5:
        units, tens = first % 10 + second % 10, first // 10 + second // 10
        steps = f"{first % 10}+{second % 10}+0={units},{first // 10}+{second // 10}+0={tens}"
        return f"<think>{steps}</think>\\boxed{{{tens}{units % 10}}}"
    misread = min(max(first + draw.choice((-10, -1, 1, 10)), 10), 99)
    return str(build().row(misread, second)["completion"])


def write_data(folder: Path, seed: int, size: Size) -> None:
    """Write the base's sums, the demonstrations, and held-out sums, of which none occurs elsewhere."""
    draw = random.Random(seed)  # noqa: S311 - no secrets here
    pairs = [(first, second) for first in range(10, 100) for second in range(10, 100)]
    draw.shuffle(pairs)
    held_out, shown, rest = (
        pairs[: size.held_out],
        pairs[size.held_out : size.held_out + size.demonstrations],
        pairs[size.held_out + size.demonstrations :],
    )
    rows = [build().row(*pair) for pair in rest]
    mixed = [
        {**row, "completion": wrong(*pair, draw)} if draw.random() < WRONG else row
        for row, pair in zip(rows, rest, strict=True)
    ]
    write_lines(folder / "base.jsonl", mixed)
    write_lines(folder / "demonstrations.jsonl", [build().row(*pair) for pair in shown])
    write_lines(folder / "prompts.jsonl", [{"prompt": build().row(*pair)["prompt"]} for pair in shown])
    write_lines(folder / "heldout.jsonl", [{"prompt": build().row(*pair)["prompt"]} for pair in held_out])


def study(folder: Path, seed: int, registry: Registry, size: Size) -> list[Finding]:
    """Run one seed."""
    if not (folder / "base.jsonl").exists():
        build().write_model(folder / "random", hidden=128, layers=3, seed=seed)
        write_data(folder, seed, size)
    settings = {"seed": seed, "data.train": folder / "base.jsonl", "model.path": folder / "random"}
    base = train(SFT, folder / "base", registry, {**settings, "steps": size.base_steps})
    shown = {"seed": seed, "data.train": folder / "demonstrations.jsonl", "optimizer.lr": 1e-3}
    sft = train(SFT, folder / "sft", registry, {**shown, "model.path": base, "steps": size.sft_steps})
    more = train(SFT, folder / "more", registry, {**shown, "model.path": sft, "steps": size.steps})
    shared: dict[str, Any] = {
        "seed": seed,
        "model.path": sft,
        "data.train": folder / "prompts.jsonl",
        "data.eval": folder / "heldout.jsonl",
        "steps": size.steps,
        "evaluate.limit": size.held_out,
        "reward.components.log_ratio.with": {"model": str(sft), "reference": str(base)},
    }
    models, curves = {"base": base, "sft": sft, "more": more}, {}
    for arm in ("sequence", "mean"):
        ratio = {**shared["reward.components.log_ratio.with"], "length_normalized": arm == "mean"}
        models[arm] = train(GRPO, folder / arm, registry, {**shared, "reward.components.log_ratio.with": ratio})
        curves[arm] = metrics(folder / arm)
    found = []
    for arm, model in models.items():
        file = configuration(GRPO, folder / "answers" / arm, registry, shared)
        reached = accuracy(file, model, 1)
        lines = curves.get(arm, [])
        found.append(
            Finding(
                arm,
                seed,
                reached.greedy,
                reached.sampled,
                [line["component/log_ratio"] for line in lines],
                [line["component/gold"] for line in lines],
                [line["length"] for line in lines],
            )
        )
    return found


def findings(found: Sequence[Finding], size: Size) -> str:
    """Return the table and its conclusions."""
    rows = []
    for arm, name in ARMS.items():
        own = [one for one in found if one.arm == arm]
        curves = [["–"] * 3] if not own[0].log_ratio else []
        if own[0].log_ratio:
            form = ".1f" if arm == "sequence" else ".2f"
            values = ([one.log_ratio for one in own], [one.length for one in own])
            curves = [
                [
                    f"{fmean(fmean(course[:WINDOW]) for course in courses):{shape}} → "
                    f"{fmean(fmean(course[-WINDOW:]) for course in courses):{shape}}"
                    for courses, shape in zip(values, (form, ".1f"), strict=True)
                ]
            ]
        rows.append(
            [name, spread([one.greedy for one in own]), spread([one.sampled for one in own]), *(curves[0] + ["–"])[:2]]
        )
    by_seed = {(one.arm, one.seed): one for one in found}
    seeds = size.seeds
    lines = [
        table(["", "greedy accuracy", "sampled accuracy", "log-ratio of samples", "tokens"], rows),
        "",
        f"Means over {len(seeds)} seeds (least to greatest); log-ratio and tokens of the first and last {WINDOW} steps.",
    ]
    for arm in ("sequence", "mean"):
        for other in ("sft", "more"):
            wins = sum(by_seed[arm, seed].sampled > by_seed[other, seed].sampled for seed in seeds)
            lines.append(f"{ARMS[arm]}: sampled accuracy above that of {ARMS[other]} in {wins} of {len(seeds)}.")
    return "\n".join(lines)


def draw(found: Sequence[Finding], _: Size, axes: Sequence[Any]) -> None:
    """Draw the reward that is learned from, and the gold reward, over steps."""
    for one in found:
        if not one.log_ratio:
            continue
        colour = f"C{list(ARMS).index(one.arm) - 3}"
        name = ARMS[one.arm] if one.seed == found[0].seed else None
        largest = max(map(abs, one.log_ratio)) or 1.0
        axes[0].plot(smooth([value / largest for value in one.log_ratio], WINDOW), color=colour, label=name)
        axes[1].plot(smooth(one.gold, WINDOW), color=colour)
    for axis, title in zip(axes, ("log-ratio, as a share of its largest", "share of right answers"), strict=True):
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("step")
    axes[0].legend()


def main() -> None:
    """Run every seed."""
    run_study("demonstrations", __doc__, (Size(), QUICK), study, findings, draw, rewards=sys.modules[__name__])


if __name__ == "__main__":
    main()
