"""One step of GRPO beside TRL's GRPOTrainer: the same checkpoint, prompts, group size, reward and learning rate, one after the other.

    python benchmarks/grpo_step.py [--steps 6] [--threads 1]

Needs rewardkit[train], rewardkit-format, rewardkit-math and trl. Builds the example's model, warms it up by SFT, then runs each
trainer in a process of its own and prints CPU seconds per step (after the first), peak memory, and the ratio.
"""

# ruff: noqa: PLC0415 - each process imports only what it measures
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
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROMPTS, GROUP, TOKENS, LR = 32, 8, 56, 1e-4
REWARD = """
version: 1
components:
  format:  {use: format.boxed, weight: 0.2}
  correct: {use: math, with: {reference: answer}}
"""


def report(seconds: list[float], tokens: float) -> None:
    """What a trainer's process has to say."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    later = sorted(seconds[1:])
    print(json.dumps({"cpu_s": later[len(later) // 2], "all": seconds, "peak_mb": peak, "tokens": tokens}))


def ours(work: Path, steps: int) -> None:
    """The loop of ``rewardkit train``."""
    from rewardkit.train.launch import launch
    from rewardkit.train.rl import Trainer
    from rewardkit.train.stages import STAGES, read_train_config

    seconds = []
    step = Trainer.step

    def timed(self: Trainer, number: int) -> None:
        began = time.process_time()
        step(self, number)
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
        "checkpoint.every": "0",
    }
    file = read_train_config(ROOT / "examples/train/grpo_math.yaml", overrides=overrides)
    with contextlib.redirect_stdout(sys.stderr):
        launch(file, STAGES["grpo"].runner(), fresh=True)
    lines = [json.loads(line) for line in (work / "ours/metrics.jsonl").read_text().splitlines()]
    report(seconds, sum(line["tokens"] for line in lines) / len(lines))


def trl(work: Path, steps: int) -> None:
    """TRL's GRPOTrainer with the same composite reward."""
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

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
        reward_funcs=score,
        train_dataset=Dataset.from_list(rows),
        callbacks=[Clock()],
        args=GRPOConfig(
            output_dir=str(work / "trl"),
            max_steps=steps,
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
    # TRL generates inside of the step, so that a step's time holds everything.
    report(marks, sum(tokens) / len(tokens))


def prepare(work: Path) -> None:
    """The checkpoint that both begin with."""
    spec = importlib.util.spec_from_file_location("build", ROOT / "examples/train/build.py")
    assert spec is not None
    assert spec.loader is not None
    build = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(build)
    build.write_data(work)
    build.write_model(work / "base")
    (work / "reward.yaml").write_text(REWARD)
    overrides = [f"output={work}/sft", f"model.path={work}/base", f"data.train={work}/sft.jsonl"]
    arguments = [item for text in overrides for item in ("--set", text)]
    subprocess.run(
        [sys.executable, "-m", "rewardkit", "train", str(ROOT / "examples/train/sft.yaml"), *arguments],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def main() -> None:
    """Run both and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", choices=["ours", "trl"])
    parser.add_argument("--work", type=Path)
    arguments = parser.parse_args()
    if arguments.only:
        {"ours": ours, "trl": trl}[arguments.only](arguments.work, arguments.steps)
        return
    with tempfile.TemporaryDirectory() as folder:
        work = arguments.work or Path(folder)
        if not (work / "sft/final").is_dir():
            prepare(work)
        found = {}
        for name in ("trl", "ours"):
            done = subprocess.run(
                [sys.executable, __file__, "--only", name, "--work", str(work), "--steps", str(arguments.steps)],
                check=True,
                stdout=subprocess.PIPE,
                env={**os.environ, "OMP_NUM_THREADS": str(arguments.threads)},
            )
            found[name] = json.loads(done.stdout.splitlines()[-1])
    print(f"{'':10}{'CPU s/step':>12}{'peak MB':>10}{'tokens/step':>13}")
    for name, item in found.items():
        print(f"{name:10}{item['cpu_s']:12.2f}{item['peak_mb']:10.0f}{item['tokens']:13.0f}")
    print(
        f"\nrewardkit takes {found['ours']['cpu_s'] / found['trl']['cpu_s']:.2f} of TRL's time and "
        f"{found['ours']['peak_mb'] / found['trl']['peak_mb']:.2f} of its memory"
    )


if __name__ == "__main__":
    main()
