"""Compare GRPO and PPO on the same verifiable task with the same number of rollouts: accuracy, time, memory.

    python benchmarks/literature/grpo_vs_ppo.py [--quick]

GRPO (https://arxiv.org/abs/2402.03300) takes the mean of a group as its baseline, where PPO (https://arxiv.org/abs/1707.06347)
trains a critic. The claim is the same quality without the critic's time and memory. The task is column addition with the math reward,
from a model after SFT; 256 rollouts per step for each: 32 prompts × 8 for GRPO, 256 prompts × 1 for PPO. PPO runs with
a separate critic (as large as the policy), and with a value head on the policy. As in the shipped examples it trains two epochs on each
batch, and starts with a warm-up of the critic. There is no KL penalty, and the learning rate is the same.

Each run has its own process. Time is the median of CPU seconds per training step. Memory is the peak of the process above its size at the
start of training, and the bytes of trained weights, gradients and optimiser state, which dominate for large models. The study takes ten
minutes on one core.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, median
from typing import Any, Literal

from common import SEEDS, SFT, arguments, build, metrics, plot, report, smooth, spread, table, train

from rewardkit.registry import Registry

ARMS = {"grpo": "GRPO", "ppo_own": "PPO, own critic", "ppo_head": "PPO, head as critic"}
BYTES_PER_PARAMETER = 16
"""Bytes per trained parameter: weight, gradient and two moments of Adam, in fp32."""

SHARED = """
version: 1
output: set
model: {path: set}
data: {train: set, eval: set}
reward:
  components:
    format:  {use: format.boxed, weight: 0.0}
    correct: {use: math, with: {reference: answer}}
  gate: "format > 0"
steps: 50
optimizer: {lr: 1.0e-4, warmup_steps: 5}
micro_batch_tokens: 2048
evaluate: {every: 20, correct: "correct == 1", limit: 200}
checkpoint: {every: 0}
log: {samples: 1}
"""
STAGE = {
    "grpo": "stage: grpo\nrollout: {prompts_per_step: 32, group_size: 8, max_new_tokens: 56}\nalgorithm: {use: dapo}\n",
    "ppo_own": "stage: ppo\nrollout: {prompts_per_step: 256, max_new_tokens: 56}\nkl: {coefficient: 0.0}\nepochs_per_batch: 2\n"
    "critic: {kind: own, lr: 1.0e-3, warmup_steps: 5}\n",
    "ppo_head": "stage: ppo\nrollout: {prompts_per_step: 256, max_new_tokens: 56}\nkl: {coefficient: 0.0}\nepochs_per_batch: 2\n"
    "critic: {kind: head, warmup_steps: 5}\n",
}


@dataclass(frozen=True, slots=True)
class Size:
    """The size of the study."""

    seeds: Sequence[int] = SEEDS
    sft_steps: int = 100
    steps: int = 30
    prompts: int = 256
    """Number of rollouts per step."""
    limit: int = 200


QUICK = Size(seeds=(0,), sft_steps=10, steps=2, prompts=16, limit=10)


@dataclass(frozen=True, slots=True)
class Finding:
    """The results of one run."""

    arm: str
    seed: int
    rewards: list[float]
    """Mean reward of each step's rollouts."""
    accuracy: list[tuple[int, float]]
    """Greedy accuracy on held-out sums by step."""
    cpu_s: float
    """CPU seconds per step."""
    peak_mb: float
    """Peak memory above that before training, in MB."""
    trained: int
    """Number of trained parameters."""


def changes_for(folder: Path, arm: str, seed: int, size: Size) -> Mapping[str, object]:
    """Return the overrides of an arm's configuration."""
    group = 8 if arm == "grpo" else 1
    return {
        "seed": seed,
        "model.path": folder / "sft/final",
        "data.train": folder / "train.jsonl",
        "data.eval": folder / "heldout.jsonl",
        "steps": size.steps,
        "rollout.prompts_per_step": size.prompts // group,
        "evaluate.limit": size.limit,
    }


def run_one(folder: Path, arm: str, seed: int, size: Size) -> None:
    """Do one run in this process, and write its measurements to a file."""
    from rewardkit.train.trainer.policy_update import PolicyUpdater
    from rewardkit.train.trainer.reinforcement import Trainer

    seconds: list[float] = []
    trained: set[int] = set()
    before = memory_mb("VmRSS")
    untimed = Trainer.step

    def timed(self: Trainer, step: int) -> None:
        if not seconds:
            forget_peak()
            updater: PolicyUpdater = self.updater
            parts = (
                parameter for parameters, _ in updater.checkpoint_parts().values() for parameter in parameters.values()
            )
            trained.add(sum(parameter.numel() for parameter in parts))
        began = time.process_time()
        untimed(self, step)
        seconds.append(time.process_time() - began)

    Trainer.step = timed  # type: ignore[method-assign]
    train(SHARED + STAGE[arm], folder / arm, Registry.load(), changes_for(folder, arm, seed, size))
    if seconds:  # none where the run had been done before
        found = {"cpu_s": median(seconds), "peak_mb": memory_mb("VmHWM") - before, "trained": max(trained)}
        (folder / f"{arm}.json").write_text(json.dumps(found), encoding="utf-8")


def memory_mb(kind: Literal["VmRSS", "VmHWM"]) -> float:
    """Return the memory of this process, or its peak since ``forget_peak``, in MB (Linux)."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(kind)) / 1024


def forget_peak() -> None:
    """Reset the peak. ``ru_maxrss`` can't be reset, and starts with the peak of the parent process."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def study(folder: Path, seed: int, size: Size, quick: Sequence[str]) -> list[Finding]:
    """Run one seed: the start, and each algorithm from there."""
    build().write_data(folder)
    build().write_model(folder / "base", hidden=96, layers=3, seed=seed)
    start = {"seed": seed, "model.path": folder / "base", "data.train": folder / "sft.jsonl", "steps": size.sft_steps}
    train(SFT, folder / "sft", Registry.load(), {**start, "optimizer.schedule": "constant"})
    found = []
    for arm in ARMS:
        one = [sys.executable, __file__, "--out", str(folder), "--only", arm, "--seed", str(seed), *quick]
        subprocess.run(one, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
        kept: dict[str, Any] = json.loads((folder / f"{arm}.json").read_text(encoding="utf-8"))
        all_answers = [(int(line["step"]), line["accuracy"]) for line in metrics(folder / arm, "eval")]
        found.append(Finding(arm, seed, [line["reward"] for line in metrics(folder / arm)], all_answers, **kept))
    return found


def findings(found: Sequence[Finding], size: Size) -> str:
    """Return the table and its conclusions."""
    by_arm = {arm: [item for item in found if item.arm == arm] for arm in ARMS}
    rows = [
        [
            ARMS[arm],
            spread([100 * item.accuracy[0][1] for item in own], ".0f"),
            spread([100 * item.accuracy[-1][1] for item in own], ".0f"),
            spread([fmean(item.rewards[-5:]) for item in own]),
            spread([item.cpu_s for item in own]),
            spread([item.peak_mb for item in own], ".0f"),
            f"{own[0].trained * BYTES_PER_PARAMETER / 1e6:.1f}",
        ]
        for arm, own in by_arm.items()
    ]
    head = [
        "",
        "greedy % before",
        "greedy % after",
        "reward, last 5 steps",
        "CPU s/step",
        "peak MB more",
        "weights, Adam MB",
    ]
    lines = [
        table(head, rows),
        "",
        f"Means over {len(size.seeds)} seeds (least to greatest); {size.steps} steps of {size.prompts} rollouts.",
    ]
    for arm in ("ppo_own", "ppo_head"):
        pairs = list(zip(by_arm["grpo"], by_arm[arm], strict=True))
        higher = sum(one.accuracy[-1][1] > other.accuracy[-1][1] for one, other in pairs)
        time_share = fmean(one.cpu_s / other.cpu_s for one, other in pairs)
        lines.append(
            f"GRPO ends above {ARMS[arm]} in {higher} of {len(pairs)}, in {time_share:.2f} of its time per step."
        )
    return "\n".join(lines)


def draw(found: Sequence[Finding], axes: Sequence[Any]) -> None:
    """Draw sampled reward and greedy accuracy over steps."""
    for item in found:
        colour = f"C{list(ARMS).index(item.arm)}"
        label = ARMS[item.arm] if item.seed == found[0].seed else None
        axes[0].plot(smooth(item.rewards, 5), color=colour, linewidth=1.3, alpha=0.8, label=label)
        axes[1].plot(*zip(*item.accuracy, strict=True), "o-", color=colour, linewidth=1.3, markersize=3, alpha=0.8)
    axes[0].set_ylabel("reward of the step's rollouts (mean of 5 steps)")
    axes[1].set_ylabel("greedy accuracy on held-out sums")
    for axis in axes:
        axis.set_xlabel("step")
    axes[0].legend()


def main() -> None:
    """Run every seed and algorithm."""
    hidden = {"help": argparse.SUPPRESS}
    only: tuple[str, dict[str, Any]] = ("--only", {"choices": list(ARMS), **hidden})
    options = arguments("grpo_vs_ppo", __doc__, only, ("--seed", {"type": int, "default": 0, **hidden}))
    size = QUICK if options.quick else Size()
    if options.only:
        run_one(options.out, options.only, options.seed, size)
        return
    quick = ["--quick"] if options.quick else []
    found = [item for seed in size.seeds for item in study(options.out / f"seed{seed}", seed, size, quick)]
    report(options.out, findings(found, size), [asdict(item) for item in found])
    plot(options.out / "grpo_vs_ppo.png", 2, lambda axes: draw(found, axes))


if __name__ == "__main__":
    main()
