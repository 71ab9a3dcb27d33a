"""Measure what a verifier that errs at random costs GRPO, and how much of it the correction for known error rates brings back.

    python benchmarks/literature/noisy_verifier.py [--quick]

After Cai et al., "Reinforcement learning with verifiable yet noisy rewards under imperfect verifiers"
(https://arxiv.org/abs/2510.00915). The task is the demo's: column addition with the math reward, from a model after SFT. Each verdict on
a right sum is turned into a rejection with the rate fn, and each on a wrong one into an acceptance with the rate fp, independently of each
other. Runs: without errors; with errors; with errors and ``correction.verifier`` with their rates; the same with ``answer``, so that
verdicts on completions with the same answer count together; and with ``ask: 4``, which scores completions in doubt again. All runs of a
seed start from one model and see the same prompts in the same order. Accuracy is measured without errors: of the samples of the last
ten steps, and of greedy answers to held-out sums. Half an hour of one core.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from common import SFT, build, metrics, run_study, smooth, spread, table, train

from rewardkit import Rollout, reward
from rewardkit.registry import Registry

LAST = 10
"""Number of last steps whose samples are averaged."""

ROLLOUTS = 256
"""Rollouts of a step."""
BOXED = r"\\boxed\{([^{}]*)\}"

GRPO = """
version: 1
stage: grpo
output: set
model: {path: set}
data: {train: set, eval: set}
reward:
  components:
    verdict: {use: sums.verdict, with: {fp: 0.0, fn: 0.0, seed: 0}}
    right:   {use: sums.verdict, weight: 0.0}
steps: 40
rollout: {prompts_per_step: 32, group_size: 8, max_new_tokens: 56}
algorithm: {use: dapo}
optimizer: {lr: 2.0e-4, warmup_steps: 5}
micro_batch_tokens: 4096
evaluate: {every: 20, correct: "right == 1", limit: 300}
monitors: {prompt_independence: null}
checkpoint: {every: 0}
log: {samples: 1}
"""


@dataclass(frozen=True, slots=True)
class Arm:
    """Error rates, and whether they are corrected."""

    name: str
    fp: float = 0.0
    fn: float = 0.0
    is_corrected: bool = False
    answer: str | None = None
    """How the correction reads answers."""
    ask: int = 1
    """The most verdicts on a completion."""


ARMS = (
    Arm("no errors"),
    Arm("fp 0.1, fn 0.2", fp=0.1, fn=0.2),
    Arm("fp 0.1, fn 0.2, corrected", fp=0.1, fn=0.2, is_corrected=True),
    Arm("fp 0.1, fn 0.2, corrected by answers", fp=0.1, fn=0.2, is_corrected=True, answer=BOXED),
    Arm("fp 0.1, fn 0.2, corrected by answers, asked 4 times", fp=0.1, fn=0.2, is_corrected=True, answer=BOXED, ask=4),
)


@dataclass(frozen=True, slots=True)
class Size:
    """The size of the study."""

    seeds: Sequence[int] = (0, 1, 2, 3, 4)
    arms: Sequence[Arm] = ARMS
    sft_steps: int = 114
    steps: int = 40
    limit: int = 300


QUICK = Size(seeds=(0,), sft_steps=10, steps=3, limit=10)


@dataclass(frozen=True, slots=True)
class Finding:
    """The results of one run."""

    arm: str
    seed: int
    sampled: list[float]
    """The share of right samples of each step."""
    greedy: list[tuple[int, float]]
    """Greedy accuracy on held-out sums by step."""
    further: float
    """Further verdicts of a step, as a share of its completions."""


def verdict() -> Callable[..., float]:
    """Return a reward that errs at given rates. Each sample has its own draw, and equal runs draw alike."""
    drawn: Counter[tuple[int, str, str]] = Counter()

    def score(rollout: Rollout, *, fp: float = 0.0, fn: float = 0.0, seed: int = -1) -> float:
        """Compare a sum's box with the answer, and err at the rates."""
        key = (seed, str(rollout.prompt), rollout.completion_text)
        is_right = rollout.completion_text.endswith(f"\\boxed{{{rollout.fields['answer']}}}")
        drawn[key] += 1
        errs = random.Random(f"{key}{drawn[key]}").random() < (fn if is_right else fp)  # noqa: S311 - no secrets here
        return float(is_right != errs)

    return score


def run(folder: Path, arm: Arm, seed: int, size: Size) -> Finding:
    """Do one run, or read its results if it has been done."""
    registry = Registry.load()
    registry.register(reward("sums.verdict")(verdict()))
    out = folder / "".join(character if character.isalnum() else "_" for character in arm.name)
    changes: Mapping[str, object] = {
        "seed": seed,
        "model.path": folder / "sft/final",
        "data.train": folder / "train.jsonl",
        "data.eval": folder / "heldout.jsonl",
        "reward.components.verdict.with": {"fp": arm.fp, "fn": arm.fn, "seed": seed},
        "steps": size.steps,
        "evaluate.limit": size.limit,
    }
    if arm.is_corrected:
        noise = {"fp": arm.fp, "fn": arm.fn, "repeated": True, "answer": arm.answer, "ask": arm.ask}
        changes = {**changes, "correction.verifier": noise}
    train(GRPO, out, registry, changes)
    lines = metrics(out)
    greedy = [(int(line["step"]), line["accuracy"]) for line in metrics(out, "eval")]
    further = fmean(line.get("further_verdicts", 0) / ROLLOUTS for line in lines)
    return Finding(arm.name, seed, [line["component/right"] for line in lines], greedy, further)


def findings(found: Sequence[Finding], size: Size) -> str:
    """Return the table and its conclusions."""
    by_arm = {arm.name: [item for item in found if item.arm == arm.name] for arm in size.arms}
    ends = {name: [fmean(item.sampled[-LAST:]) for item in own] for name, own in by_arm.items()}
    rows = [
        [
            name,
            spread([100 * item.greedy[0][1] for item in own], ".0f"),
            spread([100 * item.greedy[-1][1] for item in own], ".0f"),
            spread([100 * value for value in ends[name]], ".1f"),
            f"{1 + fmean(item.further for item in own):.2f}",
        ]
        for name, own in by_arm.items()
    ]
    lines = [
        table(["", "greedy % before", "greedy % after", f"right samples %, last {LAST} steps", "verdicts"], rows),
        "",
    ]
    clean = fmean(ends[size.arms[0].name])
    for arm in size.arms:
        if arm.is_corrected:
            plain = next(item for item in size.arms if (item.fp, item.fn) == (arm.fp, arm.fn) and not item.is_corrected)
            lost, back = clean - fmean(ends[plain.name]), fmean(ends[arm.name]) - fmean(ends[plain.name])
            share = f", {back / lost:.0%} of it" if lost > 0 else ""
            lines.append(
                f"{arm.name}: {100 * lost:.1f} points of right samples are lost; the correction brings {100 * back:.1f} back{share}."
            )
    lines.append(
        f"Means over {len(size.seeds)} seeds (least to greatest); {size.steps} steps of {ROLLOUTS} rollouts; verdicts per rollout."
    )
    return "\n".join(lines)


def draw(found: Sequence[Finding], _: Size, axes: Sequence[Any]) -> None:
    """Draw the share of right samples and greedy accuracy over steps, averaged over seeds."""
    for name in dict.fromkeys(item.arm for item in found):
        own = [item for item in found if item.arm == name]
        axes[0].plot(
            smooth([fmean(values) for values in zip(*(item.sampled for item in own), strict=True)], 5), label=name
        )
        steps = [step for step, _ in own[0].greedy]
        axes[1].plot(
            steps, [fmean(item.greedy[place][1] for item in own) for place in range(len(steps))], "o-", label=name
        )
    axes[0].set_ylabel("share of right samples (mean of 5 steps)")
    axes[1].set_ylabel("greedy accuracy on held-out sums")
    for axis in axes:
        axis.set_xlabel("step")
    axes[0].legend()


def study(folder: Path, seed: int, _: Registry, size: Size) -> list[Finding]:
    """Run every arm from one model. Each run has a registry of its own, since its verifier counts what it was asked."""
    build().write_data(folder)
    build().write_model(folder / "base", hidden=96, layers=3, seed=seed)
    start = {"seed": seed, "model.path": folder / "base", "data.train": folder / "sft.jsonl", "steps": size.sft_steps}
    train(SFT, folder / "sft", Registry.load(), {**start, "optimizer.schedule": "constant"})
    return [run(folder, arm, seed, size) for arm in size.arms]


def main() -> None:
    """Run every seed."""
    run_study("noisy_verifier", __doc__, (Size(), QUICK), study, findings, draw)


if __name__ == "__main__":
    main()
