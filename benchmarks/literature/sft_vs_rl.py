r"""Measure how SFT penalises right answers that were not demonstrated, and a verifiable reward does not.

    python benchmarks/literature/sft_vs_rl.py [--quick]

One question has several right phrasings, and the data demonstrate one of them: cross-entropy then takes probability from the
others, right though they are, where a verifiable reward treats all alike (compare Chu et al., "SFT memorizes, RL generalizes",
https://arxiv.org/abs/2501.17161, and Chen et al., "Retaining by doing", https://arxiv.org/abs/2510.18874). A small model first
learns to put four digits in order, in four phrasings, each a quarter of the data, until most sampled answers are right. From
there it goes on in three ways on the same questions: SFT on one phrasing, SFT on all four (what imitation could do if all were
shown), and GRPO with a reward that is 1 for any of the four phrasings with the right digits.

Of each model, on questions that none has seen: the exact probability of the four right answers, the entropy of the phrasing among
them (all alike: 1), the loss of the three right answers that were not demonstrated, and the accuracy of sampled and greedy
answers. Four minutes of one core.
"""

from __future__ import annotations

import math
import random
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
    run_study,
    spread,
    table,
    train,
    write_lines,
)

from rewardkit.registry import Registry

PHRASINGS = (r"so \boxed{%s}", r"thus \boxed{%s}", r"we get \boxed{%s}", r"it is \boxed{%s}")
"""The data demonstrate the first."""
HELD_OUT, QUESTIONS = 200, 4000
ARMS = {"start": "before", "sft_one": "SFT, one shown", "sft_all": "SFT, all shown", "grpo": "GRPO"}

GRPO = r"""
version: 1
stage: grpo
output: set
model: {path: set}
data: {train: set, eval: set}
reward:
  components:
    phrasing: {use: format.regex, with: {pattern: '(so|thus|we get|it is) \\boxed\{\d+\}', match: fullmatch}, weight: 0.0}
    correct:  {use: math, with: {reference: answer}}
  gate: "phrasing == 1"
steps: 60
rollout: {prompts_per_step: 32, group_size: 8, max_new_tokens: 20, temperature: 1.0}
algorithm: {use: dr_grpo}
optimizer: {lr: 1.0e-4, warmup_steps: 5}
evaluate: {every: 0, correct: "phrasing == 1 and correct == 1"}
checkpoint: {every: 0}
log: {samples: 2}
"""


@dataclass(frozen=True, slots=True)
class Size:
    """The size of the study."""

    seeds: Sequence[int] = SEEDS
    start_steps: int = 55
    sft_steps: int = 100
    grpo_steps: int = 120
    samples: int = 8
    held_out: int = HELD_OUT


QUICK = Size(seeds=(0,), start_steps=30, sft_steps=10, grpo_steps=4, samples=2, held_out=50)


@dataclass(frozen=True, slots=True)
class Finding:
    """The results of one model on held-out questions."""

    arm: str
    seed: int
    mass: float
    """Total probability of the four right answers."""
    shares: list[float]
    """The share of each phrasing in that probability."""
    entropy: float
    """Entropy of the phrasing as a share of log 4, averaged over questions."""
    other_loss: float
    """Mean −log p of right answers that were not demonstrated."""
    sampled: float
    greedy: float


def write_data(folder: Path, seed: int) -> None:
    """Write digits to sort. Held-out questions occur nowhere else."""
    draw = random.Random(seed)  # noqa: S311 - no secrets here
    questions = {"".join(draw.choices("123456789", k=4)) for _ in range(HELD_OUT + QUESTIONS)}
    rows = [{"prompt": f"{digits}: ", "answer": "".join(sorted(digits))} for digits in sorted(questions)]
    draw.shuffle(rows)
    write_lines(folder / "heldout.jsonl", rows[:HELD_OUT])
    known = rows[HELD_OUT:]
    write_lines(folder / "train.jsonl", known)
    for name, phrasings in (("one", PHRASINGS[:1]), ("all", PHRASINGS)):
        shown = [{**row, "completion": text % row["answer"]} for row in known for text in phrasings]
        write_lines(folder / f"{name}.jsonl", shown)


def evaluate_models(final: Path, arm: str, seed: int, folder: Path, registry: Registry, size: Size) -> Finding:
    """Compute exact probabilities, and sample answers."""
    import torch

    from rewardkit.train.config import ModelConfig
    from rewardkit.train.data.rows import read_rows
    from rewardkit.train.models.policy import Policy, TokenSpan

    file = configuration(GRPO, folder / f"exam_{arm}", registry, grpo_changes(folder, seed, size))
    answered = accuracy(file, final, size.samples)
    policy = Policy.load(ModelConfig(path=str(final)))
    policy.model.eval()
    losses: list[list[float]] = []
    for row in read_rows([folder / "heldout.jsonl"])[: size.held_out]:
        prompt = policy.tokenizer(row.get("prompt"))["input_ids"]
        answers = [policy.tokenizer(text % row.get("answer"))["input_ids"] for text in PHRASINGS]
        end = policy.tokenizer.eos_token_id
        with torch.no_grad():
            judged = policy.forward_logprobs([TokenSpan((*prompt, *answer, end), len(prompt)) for answer in answers])
        losses.append((-judged.logprobs_B_T.sum(1)).tolist())
    masses = [[math.exp(-loss) for loss in row] for row in losses]
    shares = [[mass / sum(row) for mass in row] for row in masses]
    return Finding(
        arm,
        seed,
        mass=fmean(map(sum, masses)),
        shares=[fmean(row[index] for row in shares) for index in range(len(PHRASINGS))],
        entropy=fmean(-sum(share * math.log(share) for share in row if share) for row in shares)
        / math.log(len(PHRASINGS)),
        other_loss=fmean(loss for row in losses for loss in row[1:]),
        sampled=answered.sampled,
        greedy=answered.greedy,
    )


def grpo_changes(folder: Path, seed: int, size: Size) -> Mapping[str, object]:
    """Return the overrides of GRPO's configuration."""
    return {
        "seed": seed,
        "model.path": folder / "start/final",
        "data.train": folder / "train.jsonl",
        "data.eval": folder / "heldout.jsonl",
        "steps": size.grpo_steps,
        "evaluate.limit": size.held_out,
    }


def study(folder: Path, seed: int, registry: Registry, size: Size) -> list[Finding]:
    """Run one seed: the start, and the three arms from there."""
    write_data(folder, seed)
    build().write_model(folder / "base", hidden=96, layers=3, seed=seed)
    base = {"seed": seed, "model.path": folder / "base", "data.train": folder / "all.jsonl", "steps": size.start_steps}
    start = train(SFT, folder / "start", registry, base)
    models = {"start": start}
    for name in ("one", "all"):
        data = {"seed": seed, "model.path": start, "data.train": folder / f"{name}.jsonl", "steps": size.sft_steps}
        models[f"sft_{name}"] = train(SFT, folder / f"sft_{name}", registry, {**data, "optimizer.lr": 1e-3})
    models["grpo"] = train(GRPO, folder / "grpo", registry, grpo_changes(folder, seed, size))
    return [evaluate_models(final, arm, seed, folder, registry, size) for arm, final in models.items()]


def findings(found: Sequence[Finding], size: Size) -> str:
    """Return the table and its conclusions."""
    seeds = len(size.seeds)
    by_arm = {arm: [item for item in found if item.arm == arm] for arm in ARMS}
    rows = [
        [
            ARMS[arm],
            *(
                spread([getattr(item, name) for item in own])
                for name in ("mass", "entropy", "other_loss", "sampled", "greedy")
            ),
        ]
        for arm, own in by_arm.items()
    ]
    head = ["", "mass of right", "entropy", "loss of undemonstrated", "sampled accuracy", "greedy accuracy"]
    start, one, rl = (by_arm[arm] for arm in ("start", "sft_one", "grpo"))
    dearer = sum(after.other_loss > before.other_loss + 1 for before, after in zip(start, one, strict=True))
    kept = sum(abs(after.other_loss - before.other_loss) <= 1 for before, after in zip(start, rl, strict=True))
    better = sum(after.sampled > before.sampled for before, after in zip(start, rl, strict=True))
    wider = sum(mine.entropy > theirs.entropy for mine, theirs in zip(rl, one, strict=True))
    return "\n".join(
        [
            table(head, rows),
            "",
            f"Means over {seeds} seeds (least to greatest); loss in nats per answer.",
            f"SFT on one phrasing makes the other right answers dearer by more than 1 nat in {dearer} of {seeds}.",
            f"GRPO leaves them within 1 nat of where they were in {kept} of {seeds}.",
            f"GRPO raises sampled accuracy in {better} of {seeds}, and keeps more entropy than SFT on one in {wider} of {seeds}.",
        ]
    )


def draw(found: Sequence[Finding], _: Size, axes: Sequence[Any]) -> None:
    """Draw where the probability is, and accuracy over the entropy of the phrasing."""
    for place, arm in enumerate(ARMS):
        own = [item for item in found if item.arm == arm]
        bottom = 0.0
        for index, text in enumerate(PHRASINGS):
            height = fmean(item.mass * item.shares[index] for item in own)
            label = (text % "…").replace("\\", "") if place == 0 else None
            axes[0].bar(place, height, bottom=bottom, color=f"C{index}", width=0.7, label=label)
            bottom += height
        axes[1].scatter(
            [item.entropy for item in own], [item.sampled for item in own], color=f"C{place + 4}", label=ARMS[arm]
        )
    axes[0].set_xticks(range(len(ARMS)), list(ARMS.values()), fontsize=8)
    axes[0].set_ylabel("probability of right answers")
    axes[0].set_ylim(0, 1.3)
    axes[0].legend(ncols=2, fontsize=8, loc="upper center")
    axes[1].set_xlabel("entropy of the phrasing (1: all alike)")
    axes[1].set_ylabel("accuracy of sampled answers")
    axes[1].set_xlim(-0.05, 1.05)
    axes[1].legend(fontsize=8, loc="lower center")


def main() -> None:
    """Run every seed."""
    run_study("sft_vs_rl", __doc__, (Size(), QUICK), study, findings, draw)


if __name__ == "__main__":
    main()
