"""Run on a CUDA machine everything that depends on a GPU, and print a table.

    python benchmarks/gpu.py                 # every part; about an hour on one card
    python benchmarks/gpu.py --parts sync step
    python benchmarks/gpu.py --dry-run       # on a CPU, with tiny models: every part runs, the figures mean nothing

Models are built on the spot with random weights, in the shapes of Qwen2.5-0.5B and 1.5B. Each part runs in its own process; one that fails
is reported, and the others still run. Without CUDA the benchmark says so and ends.

    sync      weight sync check in bfloat16, with each engine: difference of the log-probabilities of engine and trainer
    engines   tokens per second of hf, and of vLLM if it is installed
    step      a GRPO step: seconds of sampling, scoring and update, model FLOPs utilisation, peak memory next to the estimate of `check`
    trl       the same step with TRL's GRPOTrainer, if trl is installed
    two       the same step with two processes, with fsdp: false and true, if there are two cards
    demo      examples/train: SFT and GRPO on column addition, and the accuracy that they reach
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PARTS = ("sync", "engines", "step", "trl", "two", "demo")
PEAK_FLOPS = {
    "H200": 989e12,
    "H100": 989e12,
    "A100": 312e12,
    "L40": 181e12,
    "L4": 121e12,
    "4090": 165e12,
    "A10": 125e12,
}
"""Dense bfloat16 FLOPs per second by a part of the card's name, from the maker's data sheets."""


@dataclass(frozen=True)
class Shape:
    """The shape of a Qwen2 model, and of the step that it is measured with."""

    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    vocabulary: int
    prompts: int
    group: int
    tokens: int
    micro_batch_tokens: int


SHAPES = {
    "0.5B": Shape(896, 4864, 24, 14, 2, 151_936, 32, 8, 256, 16_384),
    "1.5B": Shape(1536, 8960, 28, 12, 2, 151_936, 32, 8, 256, 8_192),
}
TINY = {"tiny": Shape(32, 64, 2, 4, 2, 128, 2, 2, 8, 256)}


def build(folder: Path, shape: Shape) -> None:
    """Write a model with random weights and the tokenizer of examples/train, and prompts."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    example = load_example()
    example.write_model(folder, hidden=32, layers=1)
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        max_position_embeddings=4096,
        tie_word_embeddings=True,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=1,
    )
    Qwen2ForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    rows = [{"prompt": f"{first}+{second}=?" * 8} for first in range(10, 30) for second in range(10, 30)]
    (folder / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def load_example() -> Any:
    """Import examples/train/build.py."""
    spec = importlib.util.spec_from_file_location("build", ROOT / "examples/train/build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def config_of(folder: Path, shape: Shape, name: str, **changes: Any) -> Path:
    """Write the configuration of a GRPO run of three steps, and return its file."""
    config: dict[str, Any] = {
        "version": 1,
        "stage": "grpo",
        "output": f"run_{name}",
        "model": {"path": str(folder), "dtype": "bfloat16"},
        "data": {"train": "prompts.jsonl"},
        "reward": {"components": {"length": {"use": "length.overlong", "with": {"max_tokens": 100, "buffer": 90}}}},
        "steps": 3,
        "rollout": {"prompts_per_step": shape.prompts, "group_size": shape.group, "max_new_tokens": shape.tokens},
        "micro_batch_tokens": shape.micro_batch_tokens,
        "checkpoint": {"every": 0},
        **changes,
    }
    file = folder / f"{name}.yaml"
    file.write_text(json.dumps(config), encoding="utf-8")  # JSON is YAML
    return file


def train(config: Path, *, processes: int = 1) -> list[dict[str, float]]:
    """Train, and return the metrics of each step."""
    command = [sys.executable, "-m", "rewardkit", "train", str(config), "--fresh"]
    if processes > 1:
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
        command[1:1] = launcher
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError((done.stderr or done.stdout)[-600:])
    lines = (config.parent / f"run_{config.stem}" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [line for line in map(json.loads, lines) if line["kind"] == "train"]


def measure_sync(folder: Path, shape: Shape) -> Iterator[tuple[str, str]]:
    """Yield the difference between the log-probabilities of engine and trainer after each weight sync."""
    for engine in engines():
        steps = train(config_of(folder, shape, f"sync_{engine}", rollout=rollout_of(shape, engine)))
        worst = max(step["weight_sync_difference"] for step in steps if "weight_sync_difference" in step)
        yield f"{engine}: weight sync difference", f"{worst:.5f} nats/token"
        yield f"{engine}: sampling_logp_difference", f"{steps[-1].get('sampling_logp_difference', 0.0):.5f} nats/token"


def measure_engines(folder: Path, shape: Shape) -> Iterator[tuple[str, str]]:
    """Yield the sampled tokens per second of each engine."""
    for engine in engines():
        step = train(config_of(folder, shape, f"engine_{engine}", rollout=rollout_of(shape, engine)))[-1]
        yield f"{engine}: tokens/s while sampling", f"{step['tokens'] / step['seconds_generate']:,.0f}"


def measure_step(folder: Path, shape: Shape) -> Iterator[tuple[str, str]]:
    """Yield the split of a step, the FLOPs utilisation of the update, and the peak memory next to the estimate."""
    for name, changes in (
        ("all", {}),
        ("lora", {"model": {"path": str(folder), "dtype": "bfloat16", "lora": {"rank": 16}}}),
    ):
        config = config_of(folder, shape, f"step_{name}", **changes)
        result = run_part("_peak", folder, config)
        step, peak = result["step"], result["peak"]
        yield (
            f"{name}: seconds of a step",
            f"{step['seconds']:.2f} (sampling {step['seconds_generate']:.2f}, update {step['seconds_update']:.2f}, "  # noqa: ISC004
            f"scores {step['seconds_await_scores']:.2f})",
        )
        flops = 6 * result["parameters"] * result["tokens"] / step["seconds_update"]
        limit = next((value for part, value in PEAK_FLOPS.items() if part in result["device"]), None)
        used = f" = {flops / limit:.1%} of the card's" if limit else ""
        yield f"{name}: FLOPs/s of the update (6·N per token)", f"{flops:.3g}{used}"
        done = subprocess.run(
            [sys.executable, "-m", "rewardkit", "check", str(config), "--json"],
            capture_output=True,
            text=True,
            check=True,
        )
        estimate = (json.loads(done.stdout)["memory"] or {}).get("peak", 0)
        yield (
            f"{name}: peak memory",
            f"{peak / 1e9:.2f} GB, estimated {estimate / 1e9:.2f} GB ({estimate / peak - 1:+.0%})",
        )


def measure_peak(config: Path) -> dict[str, Any]:
    """Train in this process, and return the last step, the peak memory and the model's size."""
    import resource

    import torch

    from rewardkit.train.config.reading import read_train_config
    from rewardkit.train.config.stages import STAGES
    from rewardkit.train.trainer.launch import launch

    file = read_train_config(config)
    launch(file, STAGES["grpo"].runner(), fresh=True)
    lines = [json.loads(line) for line in (file.config.output / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if line["kind"] == "train"]
    model = json.loads((Path(file.config.model.path) / "config.json").read_text())
    per_layer = model["hidden_size"] * (
        2 * model["hidden_size"] * (1 + model["num_key_value_heads"] / model["num_attention_heads"])
        + 3 * model["intermediate_size"]
    )
    on_gpu = torch.cuda.is_available()
    prompts = file.config.rollout.prompts_per_step * file.config.rollout.group_size * 40  # type: ignore[attr-defined]
    return {
        "step": steps[-1],
        "tokens": steps[-1]["tokens"] + prompts,
        "parameters": model["num_hidden_layers"] * per_layer + model["vocab_size"] * model["hidden_size"],
        "peak": torch.cuda.max_memory_reserved()
        if on_gpu
        else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "device": torch.cuda.get_device_name() if on_gpu else "CPU",
    }


def measure_trl(folder: Path, shape: Shape) -> Iterator[tuple[str, str]]:
    """Yield the seconds of a step of TRL's trainer on the same model, prompts and sizes."""
    if importlib.util.find_spec("trl") is None:
        yield "TRL", "not installed"
        return
    found = run_part("_trl", folder, shape_name(shape))
    yield "TRL: seconds of a step", f"{found['seconds']:.2f}"
    yield "TRL: peak memory", f"{found['peak'] / 1e9:.2f} GB"


def train_trl(folder: Path, shape: Shape) -> dict[str, Any]:
    """Train three steps with TRL, and return the seconds of the last one and the peak memory."""
    import resource

    import torch
    from datasets import Dataset  # type: ignore[import-untyped]
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer  # type: ignore[attr-defined]

    marks: list[float] = []

    class Clock(TrainerCallback):
        def on_step_begin(self, *_args: object, **_kwargs: object) -> None:
            marks.append(-time.monotonic())

        def on_step_end(self, *_args: object, **_kwargs: object) -> None:
            marks[-1] += time.monotonic()

    on_gpu = torch.cuda.is_available()
    rows = [json.loads(line) for line in (folder / "prompts.jsonl").read_text().splitlines()]
    trainer = GRPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32),
        processing_class=AutoTokenizer.from_pretrained(folder, padding_side="left"),
        reward_funcs=lambda completions, **_columns: [-float(len(text)) for text in completions],  # type: ignore[arg-type]
        train_dataset=Dataset.from_list(rows),
        callbacks=[Clock()],
        args=GRPOConfig(
            output_dir=str(folder / "run_trl"),
            max_steps=3,
            per_device_train_batch_size=max(shape.micro_batch_tokens // (shape.tokens + 48) // shape.group, 1)
            * shape.group,
            gradient_accumulation_steps=1,
            generation_batch_size=shape.prompts * shape.group,
            num_generations=shape.group,
            max_completion_length=shape.tokens,
            beta=0.0,
            loss_type="dapo",
            use_cpu=not on_gpu,
            bf16=on_gpu,
            gradient_checkpointing=False,
            report_to=[],
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
        ),
    )
    trainer.train()
    peak = torch.cuda.max_memory_reserved() if on_gpu else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"seconds": marks[-1], "peak": peak}


def measure_two(folder: Path, shape: Shape) -> Iterator[tuple[str, str]]:
    """Yield the seconds of a step with two processes, unsharded and sharded."""
    import torch

    if torch.cuda.is_available() and torch.cuda.device_count() < 2:
        yield "two processes", "this machine has one card"
        return
    for sharded in (False, True):
        step = train(config_of(folder, shape, f"two_{sharded}".lower(), fsdp=sharded), processes=2)[-1]
        yield f"two processes, fsdp: {str(sharded).lower()}: seconds of a step", f"{step['seconds']:.2f}"


def measure_demo(folder: Path, shape: Shape) -> Iterator[tuple[str, str]]:
    """Yield the accuracy that the demo reaches."""
    example = load_example()
    work = folder / "demo"
    example.write_data(work)
    example.write_model(work / "base", **({"hidden": 32, "layers": 2} if shape in TINY.values() else {}))
    short = (
        ["--set", "steps=2", "--set", "evaluate.every=0", "--set", "evaluate.limit=4"] if shape in TINY.values() else []
    )
    for name in ("sft", "grpo_math"):
        text = (ROOT / f"examples/train/{name}.yaml").read_text(encoding="utf-8").replace("work/", "")
        (work / f"{name}.yaml").write_text(text, encoding="utf-8")
        changes = short[:4] if name == "sft" else short
        began = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", "rewardkit", "train", str(work / f"{name}.yaml"), *changes],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError((done.stderr or done.stdout)[-600:])
        lines = [json.loads(line) for line in (work / name / "metrics.jsonl").read_text().splitlines()]
        last = [line for line in lines if line["kind"] == "eval"][-1]
        found = f"accuracy {last['accuracy']:.1%}" if "accuracy" in last else f"held-out loss {last['loss']:.3f}"
        yield f"demo, {name}", f"{found} after {time.monotonic() - began:.0f} s"


MEASURES: Mapping[str, Callable[[Path, Shape], Iterator[tuple[str, str]]]] = {
    "sync": measure_sync,
    "engines": measure_engines,
    "step": measure_step,
    "trl": measure_trl,
    "two": measure_two,
    "demo": measure_demo,
}


def engines() -> list[str]:
    """Return the engines that can run here."""
    return ["hf", *(["vllm"] if importlib.util.find_spec("vllm") is not None else [])]


def rollout_of(shape: Shape, engine: str) -> dict[str, Any]:
    """Return the section ``rollout`` with an engine."""
    return {
        "engine": engine,
        "prompts_per_step": shape.prompts,
        "group_size": shape.group,
        "max_new_tokens": shape.tokens,
    }


def shape_name(shape: Shape) -> str:
    """Return the name of a shape."""
    return next(name for name, value in {**SHAPES, **TINY}.items() if value == shape)


def run_part(name: str, folder: Path, argument: object) -> dict[str, Any]:
    """Run a measurement in a process of its own, and return what it prints last."""
    done = subprocess.run(
        [sys.executable, __file__, "--only", name, "--folder", str(folder), "--argument", str(argument)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError((done.stderr or done.stdout)[-600:])
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def report(parts: list[str], shapes: Mapping[str, Shape], folder: Path) -> int:
    """Run the parts, print a table, and return the number of those that failed."""
    failed = 0
    for name, shape in shapes.items():
        build(folder / name, shape)
        for part in parts:
            if part == "demo" and name != next(iter(shapes)):
                continue  # has a model of its own
            try:
                for what, value in MEASURES[part](folder / name, shape):
                    print(f"{name:6} {part:8} {what:48} {value}", flush=True)
            except (RuntimeError, OSError, KeyError, ValueError, subprocess.SubprocessError) as error:
                failed += 1
                print(f"{name:6} {part:8} FAILED: {str(error).strip()[-400:]}", flush=True)
    return failed


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--shapes", nargs="+", choices=list(SHAPES), default=list(SHAPES))
    parser.add_argument("--dry-run", action="store_true", help="run every part on a CPU with a tiny model")
    parser.add_argument("--only", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--argument", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    import torch

    if arguments.only == "_peak":
        print(json.dumps(measure_peak(Path(arguments.argument))))
        return 0
    if arguments.only == "_trl":
        print(json.dumps(train_trl(arguments.folder, {**SHAPES, **TINY}[arguments.argument])))
        return 0
    if arguments.dry_run:
        os.environ |= {"ACCELERATE_USE_CPU": "1", "OMP_NUM_THREADS": "1"}
        print("dry run on a CPU with a tiny model: the figures mean nothing")
    elif not torch.cuda.is_available():
        print(
            "This machine has no CUDA device, so nothing was measured. On a machine with one, run: python benchmarks/gpu.py"
        )
        print("To see that every part runs, with a tiny model on a CPU: python benchmarks/gpu.py --dry-run")
        return 0
    else:
        print(f"{torch.cuda.device_count()} × {torch.cuda.get_device_name()}, torch {torch.__version__}")
    shapes = TINY if arguments.dry_run else {name: SHAPES[name] for name in arguments.shapes}
    with tempfile.TemporaryDirectory() as folder:
        return min(report(arguments.parts, shapes, Path(folder)), 1)


if __name__ == "__main__":
    sys.exit(main())
