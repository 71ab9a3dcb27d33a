"""Compare one step of GRPO with TRL's GRPOTrainer: the same checkpoint, prompts, group size, reward and learning rate.

    python benchmarks/grpo_step.py [--steps 6] [--threads 1]
    python benchmarks/grpo_step.py --model FOLDER [--lora 16] [--steps 4]
    python benchmarks/grpo_step.py --accuracy [--steps 30] [--seeds 0 1 2]

Needs rewardkit[train], rewardkit-format, rewardkit-math, rewardkit-length and trl. Builds the example's model and trains it by SFT, or
takes any model with ``--model``, then runs each trainer in its own process. Prints CPU seconds per step (median of those after the
first) and peak memory, their ratios, what the step's matrix products alone cost at the speed of torch's own (the floor), and where the
memory goes. ``--model`` uses word problems of one step, ``--prompts`` × ``--group`` completions of ``--tokens`` tokens, and rewards
short completions, so that every group has a gradient. With ``--accuracy`` both train with every seed, and their greedy accuracy on 500
held-out sums is compared, and the mean reward of all completions; this takes ten minutes on one core.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean, median, stdev
from typing import Any

from step_costs import PeakMemory, StepTokens, seconds_of_products, tensor_megabytes

ROOT = Path(__file__).parents[1]
LR = 1e-4
SUMS_REWARD = """
version: 1
components:
  format:  {use: format.boxed, weight: 0.2}
  correct: {use: math, with: {reference: answer}}
"""
SHORT_REWARD = """
version: 1
components:
  short: {use: length.penalty, with: {per_char: 0.001}}
"""


@dataclass(frozen=True)
class Workload:
    """What both trainers do."""

    work: Path
    """Holds train.jsonl and reward.yaml."""
    model: Path
    prompts: int
    group: int
    tokens: int
    lora: int
    """The rank of adapters of all linear layers; 0 trains all weights."""
    micro_batch_tokens: int
    steps: int
    seed: int = 0


def after_first(values: list[float]) -> list[float]:
    """Leave out the first step, which also sets things up, unless it is the only one."""
    return values[1:] or values


def ours(load: Workload) -> dict[str, Any]:
    """Measure the loop of ``rewardkit train``."""
    from rewardkit.train.config.reading import read_train_config
    from rewardkit.train.config.stages import STAGES
    from rewardkit.train.trainer.launch import launch
    from rewardkit.train.trainer.policy_update import PolicyUpdater
    from rewardkit.train.trainer.reinforcement import Trainer

    memory, imported = PeakMemory(), PeakMemory.now()
    seconds: dict[str, list[float]] = {}
    parts: dict[str, float] = {}

    def measured(name: str, untimed: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any) -> Any:
            memory.note("loading and scoring")
            began = time.process_time()
            result = untimed(*arguments)
            seconds.setdefault(name, []).append(time.process_time() - began)
            memory.note(name)
            return result

        return timed

    def update(self: PolicyUpdater, *arguments: Any) -> Any:
        result = untouched(self, *arguments)
        parameters = list(self.policy.model.parameters())
        moments = [value for state in self.optimizer.adamw.state.values() for value in state.values()]
        parts.update(weights=tensor_megabytes(parameters), moments=tensor_megabytes(moments))
        parts["gradients"] = tensor_megabytes([value for value in parameters if value.requires_grad])
        return result

    untouched = PolicyUpdater.update
    PolicyUpdater.update = measured("update", update)  # type: ignore[method-assign]
    Trainer.sample = measured("sampling", Trainer.sample)  # type: ignore[method-assign]
    Trainer.step = measured("step", Trainer.step)  # type: ignore[method-assign]
    overrides = {
        "output": load.work / "ours",
        "model.path": load.model,
        "data.train": load.work / "train.jsonl",
        "data.eval": "null",
        "reward": load.work / "reward.yaml",
        "steps": load.steps,
        "rollout.prompts_per_step": load.prompts,
        "rollout.group_size": load.group,
        "rollout.max_new_tokens": load.tokens,
        "optimizer.lr": LR,
        "optimizer.schedule": "constant",
        "micro_batch_tokens": load.micro_batch_tokens,
        "checkpoint.every": 0,
        "evaluate": "{every: 0}",
        "seed": load.seed,
        **({"model.lora": f"{{rank: {load.lora}}}"} if load.lora else {}),
    }
    file = read_train_config(
        ROOT / "examples/train/grpo_math.yaml", overrides={key: str(value) for key, value in overrides.items()}
    )
    with contextlib.redirect_stdout(sys.stderr):
        launch(file, STAGES["grpo"].runner(), fresh=True)
    memory.note("saving")
    lines = [json.loads(line) for line in (load.work / "ours/metrics.jsonl").read_text().splitlines()]
    return {
        "seconds": {name: after_first(values) for name, values in seconds.items()},
        "tokens": fmean(line["tokens"] for line in lines),
        "learned": fmean(line["rows_learned"] for line in lines),
        "rewards": [line["reward"] for line in lines],
        "memory": {
            "libraries": imported,
            **parts,
            **{f"peak while {name}": value for name, value in memory.peaks.items()},
        },
    }


def trl(load: Workload) -> dict[str, Any]:
    """Measure TRL's GRPOTrainer with the same composite reward, by rewardkit's adapter."""
    import peft
    import torch
    from datasets import Dataset  # type: ignore[import-untyped]
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer  # type: ignore[attr-defined]

    from rewardkit.integrations.trl import reward_funcs

    (reward,) = reward_funcs(load.work / "reward.yaml", num_generations=load.group, max_completion_length=load.tokens)
    tokens, rewards = [], []

    def score(completion_ids: list[list[int]], **columns: Any) -> list[float | None]:
        tokens.append(sum(map(len, completion_ids)))
        found = reward(completion_ids=completion_ids, **columns)
        rewards.append(fmean(value for value in found if value is not None))
        return found

    marks = []

    class Clock(TrainerCallback):
        def on_step_begin(self, *_args: object, **_kwargs: object) -> None:
            marks.append(-time.process_time())

        def on_step_end(self, *_args: object, **_kwargs: object) -> None:
            marks[-1] += time.process_time()

    rows = [json.loads(line) for line in (load.work / "train.jsonl").read_text().splitlines()]
    tokenizer = AutoTokenizer.from_pretrained(load.model, padding_side="left")
    adapters = peft.LoraConfig(r=load.lora, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
    trainer = GRPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(load.model, dtype=torch.float32),
        processing_class=tokenizer,
        reward_funcs=score,  # type: ignore[arg-type]
        train_dataset=Dataset.from_list(rows),
        callbacks=[Clock()],
        peft_config=adapters if load.lora else None,
        args=GRPOConfig(
            output_dir=str(load.work / "trl"),
            max_steps=load.steps,
            seed=load.seed,
            per_device_train_batch_size=load.prompts * load.group,
            num_generations=load.group,
            max_completion_length=load.tokens,
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
        trainer.save_model(str(load.work / "trl/final"))
    # TRL generates inside of the step, so that a step's time holds everything.
    return {"seconds": {"step": after_first(marks)}, "tokens": fmean(tokens), "rewards": rewards}


def floor(load: Workload) -> dict[str, Any]:
    """Measure the matrix products of a step alone."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(load.model)
    lines = (load.work / "train.jsonl").read_text().splitlines()[:200]
    length = fmean(len(tokenizer(json.loads(line)["prompt"])["input_ids"]) for line in lines)
    tokens = StepTokens(round(load.prompts * length), load.prompts * load.group, load.tokens)
    return {"seconds": seconds_of_products(load.model, tokens, trains_all=not load.lora)}


def prepare(work: Path) -> None:
    """Train the checkpoint that both start from."""
    spec = importlib.util.spec_from_file_location("build", ROOT / "examples/train/build.py")
    assert spec is not None
    assert spec.loader is not None
    build = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(build)
    build.write_data(work)
    build.write_model(work / "base")
    (work / "reward.yaml").write_text(SUMS_REWARD)
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


def prepare_word_problems(work: Path) -> None:
    """Write word problems of one step, and the reward of the comparison with ``--model``."""
    draw = random.Random(1)  # noqa: S311 - no secrets here

    def problem() -> dict[str, str]:
        have, more = draw.randint(20, 60), draw.randint(2, 19)
        name, thing = draw.choice(["Tom", "Ana", "Ravi", "Mei"]), draw.choice(["apples", "coins", "books"])
        text = f"{name} has {have} {thing} and buys {more} more. How many {thing} does {name} have now?"
        return {"prompt": f"Question: {text}\nAnswer:", "answer": str(have + more)}

    work.mkdir(parents=True, exist_ok=True)
    (work / "train.jsonl").write_text("".join(json.dumps(problem()) + "\n" for _ in range(400)))
    (work / "reward.yaml").write_text(SHORT_REWARD)


def run(name: str, load: Workload, threads: int) -> dict[str, Any]:
    """Run one trainer, or measure the floor, in its own process, and return the measurements."""
    done = subprocess.run(
        [sys.executable, __file__, "--only", name, json.dumps(asdict(load), default=str)],
        check=True,
        stdout=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": str(threads)},
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def run_here(name: str, workload: str) -> None:
    """Run one trainer in this process, and print the measurements."""
    values = json.loads(workload)
    load = Workload(**{**values, "work": Path(values["work"]), "model": Path(values["model"])})
    found = {"trl": trl, "ours": ours, "floor": floor}[name](load)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    # A peak that was started anew is not in the resource usage.
    peaks = [value for part, value in found.get("memory", {}).items() if part.startswith("peak")]
    print(json.dumps({**found, "peak_mb": max([peak, *peaks])}))


def compare_speed(load: Workload, threads: int) -> None:
    """Compare time and memory of a step."""
    found = {name: run(name, load, threads) for name in ("trl", "ours")}
    # Most completions end before the limit, so the floor is that of the mean length.
    length = round(found["ours"]["tokens"] / (load.prompts * load.group))
    found["floor"] = run("floor", replace(load, tokens=length), threads)
    seconds = {name: median(found[name]["seconds"]["step"]) for name in ("trl", "ours")}
    floors = found["floor"]["seconds"]
    print(f"load of the machine: {', '.join(f'{value:.1f}' for value in os.getloadavg())}\n")
    print(f"{'':10}{'CPU s/step':>12}{'peak MB':>10}{'tokens/step':>13}")
    for name in ("trl", "ours"):
        print(f"{name:10}{seconds[name]:12.2f}{found[name]['peak_mb']:10.0f}{found[name]['tokens']:13.0f}")
    print(f"{'floor':10}{sum(floors.values()):12.2f}   matrix products alone, at the speed of torch's own")
    print(
        f"\nrewardkit takes {seconds['ours'] / seconds['trl']:.2f} of TRL's time, "
        f"{seconds['ours'] / sum(floors.values()):.2f} of the floor "
        f"and {found['ours']['peak_mb'] / found['trl']['peak_mb']:.2f} of TRL's memory; "
        f"{found['ours']['learned']:.0f} of {load.prompts * load.group} completions had a gradient\n"
    )
    for part, names in (("sampling", ["sampling"]), ("update", ["update, layers", "update, head"])):
        spent = median(found["ours"]["seconds"][part])
        print(f"{part:10}{spent:8.2f} CPU s (floor: {' + '.join(f'{floors[name]:.2f}' for name in names)})")
    print()
    for part, megabytes in found["ours"]["memory"].items():
        print(f"{part:20}{megabytes:8.0f} MB")


def compare_accuracy(load: Workload, seeds: Sequence[int], threads: int) -> None:
    """Compare the accuracy that both reach."""
    work = load.work
    start = greedy(work, load.model)
    print(
        f"{load.steps} steps of {load.prompts} prompts × {load.group}, greedy accuracy on the held-out sums; before: {start:.3f}\n"
    )
    print(f"{'seed':6}{'trl':>8}{'ours':>8}   mean reward of all completions: trl, ours", flush=True)
    found: dict[str, list[float]] = {"trl": [], "ours": []}
    rewards: dict[str, list[float]] = {"trl": [], "ours": []}
    for seed in seeds:
        for name, values in found.items():
            measured = run(name, replace(load, seed=seed), threads)
            rewards[name].append(fmean(measured["rewards"]))
            values.append(greedy(work, work / name / "final"))
        accuracies = f"{found['trl'][-1]:8.3f}{found['ours'][-1]:8.3f}"
        print(f"{seed:<6}{accuracies}   {rewards['trl'][-1]:.3f}, {rewards['ours'][-1]:.3f}", flush=True)
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
    parser.add_argument("--model", type=Path, help="the folder of a causal language model; by default the example's")
    parser.add_argument("--prompts", type=int, help="prompts per step; 32, or 8 with --model")
    parser.add_argument("--group", type=int, help="completions per prompt; 8, or 4 with --model")
    parser.add_argument("--tokens", type=int, default=32, help="tokens per completion, with --model")
    parser.add_argument("--lora", type=int, default=0, help="train adapters of this rank in all linear layers")
    parser.add_argument("--micro-batch-tokens", type=int, help="of rewardkit; 1024, or 320 with --model")
    parser.add_argument("--steps", type=int, help="6, or 30 with --accuracy")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--work", type=Path, help="where data and models are kept; a temporary folder by default")
    parser.add_argument("--only", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.only:
        run_here(*arguments.only)
        return
    if arguments.accuracy and arguments.model:
        parser.error("--accuracy trains the example's model; leave out --model")
    with tempfile.TemporaryDirectory() as folder:
        work = (arguments.work or Path(folder)).resolve()
        steps = arguments.steps or (30 if arguments.accuracy else 6)
        micro = arguments.micro_batch_tokens
        if arguments.model:
            prepare_word_problems(work)
            sizes = arguments.prompts or 8, arguments.group or 4, arguments.tokens
            load = Workload(work, arguments.model.resolve(), *sizes, arguments.lora, micro or 320, steps)
        else:
            if not (work / "sft/final").is_dir():
                prepare(work)
            sizes = arguments.prompts or 32, arguments.group or 8, 56
            load = Workload(work, work / "sft/final", *sizes, arguments.lora, micro or 1024, steps)
        if arguments.accuracy:
            compare_accuracy(load, arguments.seeds, arguments.threads)
        else:
            compare_speed(load, arguments.threads)


if __name__ == "__main__":
    main()
