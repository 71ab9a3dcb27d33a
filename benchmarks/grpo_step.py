"""Compare one step of GRPO with TRL's GRPOTrainer: the same checkpoint, prompts, group size, reward and learning rate.

    python benchmarks/grpo_step.py [--steps 6] [--threads 1]
    python benchmarks/grpo_step.py --accuracy [--steps 30] [--seeds 0 1 2]

Needs rewardkit[train], rewardkit-format, rewardkit-math and trl. Builds the example's model, trains it by SFT, then runs each
trainer in its own process and prints CPU seconds per step (after the first), peak memory, and their ratio. With ``--accuracy`` both
train with every seed, and their greedy accuracy on 500 held-out sums is compared; this takes ten minutes on one core.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

ROOT = Path(__file__).parents[1]
PROMPTS, GROUP, TOKENS, LR = 32, 8, 56, 1e-4
REWARD = """
version: 1
components:
  format:  {use: format.boxed, weight: 0.2}
  correct: {use: math, with: {reference: answer}}
"""


def report(seconds: list[float], tokens: float) -> None:
    """The measurements of one trainer's process."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    later = sorted(seconds[1:])
    print(json.dumps({"cpu_s": later[len(later) // 2], "all": seconds, "peak_mb": peak, "tokens": tokens}))


def ours(work: Path, steps: int, seed: int) -> None:
    """Measure the loop of ``rewardkit train``."""
    from rewardkit.train.config.reading import read_train_config
    from rewardkit.train.config.stages import STAGES
    from rewardkit.train.trainer.launch import launch
    from rewardkit.train.trainer.reinforcement import Trainer

    seconds = []
    untimed = Trainer.step

    def timed(self: Trainer, step: int) -> None:
        began = time.process_time()
        untimed(self, step)
        seconds.append(time.process_time() - began)

    Trainer.step = timed  # type: ignore[method-assign]
    overrides = {
        "output": str(work / "ours"),
        "model.path": str(work / "sft/final"),
        "data.train": str(work / "train.jsonl"),
        "data.eval": "null",
        "reward": str(work / "reward.yaml"),
        "steps": str(steps),
        "optimizer.lr": str(LR),
        "optimizer.schedule": "constant",
        "checkpoint.every": "0",
        "seed": str(seed),
    }
    file = read_train_config(ROOT / "examples/train/grpo_math.yaml", overrides=overrides)
    with contextlib.redirect_stdout(sys.stderr):
        launch(file, STAGES["grpo"].runner(), fresh=True)
    lines = [json.loads(line) for line in (work / "ours/metrics.jsonl").read_text().splitlines()]
    report(seconds, sum(line["tokens"] for line in lines) / len(lines))


def trl(work: Path, steps: int, seed: int) -> None:
    """Measure TRL's GRPOTrainer with the same composite reward."""
    import torch
    from datasets import Dataset  # type: ignore[import-untyped]
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer  # type: ignore[attr-defined]

    from rewardkit import Rollout, load_reward

    reward = load_reward(work / "reward.yaml")
    tokens = []

    def score(
        prompts: list[str], completions: list[str], completion_ids: list[list[int]], **columns: list[str]
    ) -> list[float]:
        tokens.append(sum(map(len, completion_ids)))
        rollouts = [
            Rollout(prompt, completion, {"answer": answer})
            for prompt, completion, answer in zip(prompts, completions, columns["answer"], strict=True)
        ]
        return [item.reward or 0.0 for item in reward.score(rollouts)]

    marks = []

    class Clock(TrainerCallback):
        def on_step_begin(self, *_args: object, **_kwargs: object) -> None:
            marks.append(-time.process_time())

        def on_step_end(self, *_args: object, **_kwargs: object) -> None:
            marks[-1] += time.process_time()

    rows = [json.loads(line) for line in (work / "train.jsonl").read_text().splitlines()]
    tokenizer = AutoTokenizer.from_pretrained(work / "sft/final", padding_side="left")
    trainer = GRPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(work / "sft/final", dtype=torch.float32),
        processing_class=tokenizer,
        reward_funcs=score,  # type: ignore[arg-type]
        train_dataset=Dataset.from_list(rows),
        callbacks=[Clock()],
        args=GRPOConfig(
            output_dir=str(work / "trl"),
            max_steps=steps,
            seed=seed,
            per_device_train_batch_size=PROMPTS * GROUP,
            num_generations=GROUP,
            max_completion_length=TOKENS,
            learning_rate=LR,
            lr_scheduler_type="constant",
            beta=0.0,
            loss_type="dapo",
            temperature=1.0,
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            report_to=[],
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
        ),
    )
    with contextlib.redirect_stdout(sys.stderr):
        trainer.train()
        trainer.save_model(str(work / "trl/final"))
    # TRL generates inside of the step, so that a step's time holds everything.
    report(marks, sum(tokens) / len(tokens))


def prepare(work: Path) -> None:
    """Train the checkpoint that both start from."""
    spec = importlib.util.spec_from_file_location("build", ROOT / "examples/train/build.py")
    assert spec is not None
    assert spec.loader is not None
    build = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(build)
    build.write_data(work)
    build.write_model(work / "base")
    (work / "reward.yaml").write_text(REWARD)
    overrides = [f"output={work}/sft", f"model.path={work}/base", f"data.train={work}/sft.jsonl", "data.eval=null"]
    arguments = [item for text in overrides for item in ("--set", text)]
    subprocess.run(
        [sys.executable, "-m", "rewardkit", "train", str(ROOT / "examples/train/sft.yaml"), *arguments],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def greedy(work: Path, model: Path) -> float:
    """Measure greedy accuracy on the held-out sums, with the same code for both."""
    from rewardkit.train.config.reading import read_train_config
    from rewardkit.train.evaluation.evaluator import evaluate_models
    from rewardkit.train.trainer.launch import quiet

    quiet()

    overrides = {
        "output": str(work / "model_answers"),
        "model.path": str(model),
        "data.train": str(work / "train.jsonl"),
        "data.eval": str(work / "heldout.jsonl"),
    }
    file = read_train_config(ROOT / "examples/train/grpo_math.yaml", overrides=overrides)
    (model_answers,) = evaluate_models(file, [str(model)], samples=0)
    return model_answers.greedy_accuracy().value


def run(name: str, work: Path, steps: int, seed: int, threads: int) -> dict[str, Any]:
    """Run one trainer in its own process, and return its measurements."""
    options = {"--only": name, "--work": work, "--steps": steps, "--seed": seed}
    done = subprocess.run(
        [sys.executable, __file__, *(str(part) for option in options.items() for part in option)],
        check=True,
        stdout=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": str(threads)},
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def compare_speed(work: Path, steps: int, threads: int) -> None:
    """Compare time and memory of a step."""
    found = {name: run(name, work, steps, 0, threads) for name in ("trl", "ours")}
    print(f"{'':10}{'CPU s/step':>12}{'peak MB':>10}{'tokens/step':>13}")
    for name, item in found.items():
        print(f"{name:10}{item['cpu_s']:12.2f}{item['peak_mb']:10.0f}{item['tokens']:13.0f}")
    print(
        f"\nrewardkit takes {found['ours']['cpu_s'] / found['trl']['cpu_s']:.2f} of TRL's time and "
        f"{found['ours']['peak_mb'] / found['trl']['peak_mb']:.2f} of its memory"
    )


def compare_accuracy(work: Path, steps: int, seeds: Sequence[int], threads: int) -> None:
    """Compare the accuracy that both reach."""
    start = greedy(work, work / "sft/final")
    print(f"{steps} steps of {PROMPTS} prompts × {GROUP}, greedy accuracy on the held-out sums; before: {start:.3f}\n")
    print(f"{'seed':6}{'trl':>8}{'ours':>8}", flush=True)
    found: dict[str, list[float]] = {"trl": [], "ours": []}
    for seed in seeds:
        for name, values in found.items():
            run(name, work, steps, seed, threads)
            values.append(greedy(work, work / name / "final"))
        print(f"{seed:<6}{found['trl'][-1]:8.3f}{found['ours'][-1]:8.3f}", flush=True)
    for name, values in found.items():
        spread = f" ± {stdev(values):.3f} (standard deviation over seeds)" if len(values) > 1 else ""
        print(f"\n{name:6}{fmean(values):.3f}{spread}", end="")
    difference = fmean(found["ours"]) - fmean(found["trl"])
    print(f"\n\nours less TRL: {difference:+.3f}")
    if len(seeds) > 1:
        error = (sum(stdev(values) ** 2 for values in found.values()) / len(seeds)) ** 0.5
        verdict = "within" if abs(difference) <= 2 * error else "beyond"
        print(f"standard error of that: {error:.3f}, so {verdict} twice the noise of seeds")


def main() -> None:
    """Run both and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--accuracy", action="store_true", help="what both arrive at, over several seeds")
    parser.add_argument("--steps", type=int, help="6, or 30 with --accuracy")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--work", type=Path, help="where data and models are kept; a temporary folder by default")
    parser.add_argument("--only", choices=["ours", "trl"], help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    steps = arguments.steps or (30 if arguments.accuracy else 6)
    if arguments.only:
        {"ours": ours, "trl": trl}[arguments.only](arguments.work, steps, arguments.seed)
        return
    with tempfile.TemporaryDirectory() as folder:
        work = arguments.work or Path(folder)
        if not (work / "sft/final").is_dir():
            prepare(work)
        if arguments.accuracy:
            compare_accuracy(work, steps, arguments.seeds, arguments.threads)
        else:
            compare_speed(work, steps, arguments.threads)


if __name__ == "__main__":
    main()
