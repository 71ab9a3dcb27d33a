"""Constitutional AI from beginning to end, with a small model and an endpoint that answers by known rules.

    python examples/constitution/run.py [--seeds 0 1 2] [--quick]

A model that helps with everything answers prompts; `rewardkit judge revise` criticises and revises the answers, and the model is
fine-tuned on the revisions. Then it answers each prompt several times; `rewardkit judge prefer` compares the answers, a reward model
learns the preferences, and GRPO trains on that. After each stage the gold measure of sampled answers to held-out prompts is taken: the
share that keeps to both principles. No stage learns from it.
"""

from __future__ import annotations

import argparse
import json
import random
import runpy
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
import rules  # noqa: E402 - of this folder
from endpoint import MODEL, serving  # noqa: E402

from rewardkit.cli import run as rewardkit  # noqa: E402

HELD_OUT = 128
SAMPLES = 4
REVISED, COMPARED = 640, 400
"""Prompts whose answers are revised, and those whose answers are compared."""
QUICK = {"start": {"steps": 60}, "sft": {"steps": 4}, "reward_model": {"steps": 4}, "grpo": {"steps": 2}}
"""Overrides that only check that everything runs."""


def main() -> None:
    """Run all seeds, and print the gold measure after each stage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--out", type=Path, default=HERE / "work")
    parser.add_argument("--quick", action="store_true", help="a few steps, which only check that everything runs")
    given = parser.parse_args()
    found = {seed: run_seed(given.out / f"seed{seed}", seed, quick=given.quick) for seed in given.seeds}
    for line in table(found):
        print(line)  # noqa: T201 - its purpose


def run_seed(work: Path, seed: int, *, quick: bool = False) -> dict[str, float]:
    """Run all stages, and return the gold measure after each.

    Args:
        work: The folder of everything that is made.
        seed: The seed of the model, the data and all stages.
        quick: Few steps.
    """
    work = work.resolve()
    build(work, seed, few=48 if quick else None)
    measured = {}

    def stage(name: str, **changes: object) -> None:
        more = QUICK[name] if quick else {}
        settings = {"output": work / name, "seed": seed, "threads": 1, **changes, **more}
        call("train", HERE / f"{name}.yaml", *overrides(settings), "--fresh")

    def answers(model: str, prompts: str, samples: int, limit: int) -> list[dict[str, object]]:
        """Sample answers to prompts, as rollouts."""
        out = work / f"answers-{model}-{prompts}"
        settings = {
            "output": work / "unused",
            "data.train": work / "prompts.jsonl",
            "data.eval": work / f"{prompts}.jsonl",
            "seed": seed,
            "threads": 1,
            "evaluate.limit": limit,
            "reward": json.dumps({"components": {"gold": {"use": f"{HERE / 'rules.py'}:gold"}}}),
        }
        model_folder = work / model / "final"
        call(
            "eval",
            HERE / "grpo.yaml",
            "--model",
            model_folder,
            "--samples",
            samples,
            "--out",
            out,
            *overrides(settings),
        )
        asked = read(work / f"{prompts}.jsonl")
        saved = [line for file in sorted(out.rglob("*.jsonl")) for line in read(file)]
        return [
            {"prompt": asked[line["prompt"]]["prompt"], "completion": line["text"]}
            for line in saved
            if line["place"] >= 0
        ]

    def measure(model: str) -> None:
        rows = answers(model, "heldout", SAMPLES, HELD_OUT)
        measured[model] = fmean(rules.kept(str(row["prompt"]), str(row["completion"])) == 2 for row in rows)

    with serving() as url:
        judge = ["--principles", HERE / "principles.yaml", "--model", MODEL, "--url", url, "--fresh"]
        stage("start", **{"model.path": work / "base", "data.train": work / "start.jsonl"})
        measure("start")
        write(work / "first.jsonl", answers("start", "prompts", 1, REVISED))
        call("judge", "revise", work / "first.jsonl", "--out", work / "revised.jsonl", "--seed", seed, *judge)
        stage("sft", **{"model.path": work / "start/final", "data.train": work / "revised.jsonl"})
        measure("sft")
        write(work / "several.jsonl", answers("sft", "prompts", SAMPLES, COMPARED))
        call("judge", "prefer", work / "several.jsonl", "--out", work / "preferred.jsonl", *judge)
    stage("reward_model", **{"model.path": work / "sft/final", "data.train": work / "preferred.jsonl"})
    reward = {
        "preferred": {"use": "reward_model", "with": {"model": str(work / "reward_model/final"), "device": "cpu"}},
        "gold": {"use": f"{HERE / 'rules.py'}:gold", "weight": 0.0},
    }
    stage(
        "grpo",
        **{
            "model.path": work / "sft/final",
            "data.train": work / "prompts.jsonl",
            "data.eval": work / "heldout.jsonl",
            "reward": json.dumps({"components": reward}),
        },
    )
    measure("grpo")
    return measured


def build(work: Path, seed: int, few: int | None = None) -> None:
    """Write the model with random weights, the answers that it learns first, the prompts and the held-out prompts."""
    work.mkdir(parents=True, exist_ok=True)
    runpy.run_path(str(HERE.parent / "train/build.py"))["write_model"](work / "base", hidden=64, layers=2, seed=seed)
    draw = random.Random(seed)  # noqa: S311 - no secrets
    asked = list(rules.prompts())
    draw.shuffle(asked)
    held_out, rest = asked[:HELD_OUT][:few], asked[HELD_OUT:][:few]
    write(
        work / "start.jsonl",
        [{"prompt": prompt, "completion": rules.helpful_answer(draw)} for prompt in rest for _ in range(4)],
    )
    write(work / "prompts.jsonl", [{"prompt": prompt} for prompt in rest])
    write(work / "heldout.jsonl", [{"prompt": prompt} for prompt in held_out])


def table(found: Mapping[int, Mapping[str, float]]) -> list[str]:
    """Return the gold measure after each stage as a table in Markdown, a row for each seed."""
    names = list(next(iter(found.values())))
    lines = [f"| seed | {' | '.join(names)} |", "|---|" + "---|" * len(names)]
    lines += [f"| {seed} | {' | '.join(f'{row[name]:.0%}' for name in names)} |" for seed, row in found.items()]
    return [*lines, f"| mean | {' | '.join(f'{fmean(row[name] for row in found.values()):.0%}' for name in names)} |"]


def overrides(settings: Mapping[str, object]) -> list[str]:
    """Return settings as options of the command line."""
    return [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]


def call(*arguments: object) -> None:
    """Run a command of rewardkit in this process. Ends the program if it fails."""
    if code := rewardkit([str(argument) for argument in arguments]):
        sys.exit(code)


def read(path: Path) -> list[dict[str, object]]:
    """Return the rows of a JSON Lines file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Write JSON Lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


if __name__ == "__main__":
    main()
