"""Measures AdamW in its variants: memory of moments, memory of a step, CPU time of a step.

    python benchmarks/optimizers.py [--hidden 512] [--layers 8] [--steps 5]

Each variant of ``optimizer.use`` runs in a process of its own on the parameters of a Qwen2 model with random weights, 25 million by
default. Needs the extra train; `adamw_8bit` needs bitsandbytes and is left out without it.
"""

from __future__ import annotations

import argparse
import importlib.util
import resource
import subprocess
import sys
import time

VARIANTS = ("adamw", "adamw_foreach", "adamw_8bit")


def measure(use: str, hidden: int, layers: int, steps: int) -> str:
    """Run some steps and return a line of the table."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    from rewardkit.train.config import OptimizerConfig
    from rewardkit.train.trainer.optimizer import Optimizer

    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=1024, hidden_size=hidden, intermediate_size=4 * hidden, num_hidden_layers=layers,
            num_attention_heads=8, num_key_value_heads=2, tie_word_embeddings=True,
        )
    )  # fmt: skip
    parameters = dict(model.named_parameters())
    count = sum(value.numel() for value in parameters.values())
    optimizer = Optimizer(parameters, OptimizerConfig(use=use, lr=1e-5), steps + 1)  # type: ignore[arg-type]

    def step(number: int) -> None:
        for value in parameters.values():
            value.grad = torch.full_like(value, 1e-3)
        optimizer.step(number)

    step(0)
    moments = sum(
        value.numel() * value.element_size()
        for values in optimizer.state()["state"].values()
        for value in values.values()
        if isinstance(value, torch.Tensor)
    )
    before = time.process_time()
    for number in range(1, steps + 1):
        step(number)
    seconds = (time.process_time() - before) / steps
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return f"{use:14} {count / 1e6:8.1f} M {moments / count:12.2f} {seconds:12.3f} {peak:12.0f}"


def main() -> int:
    """Measure every variant and print a table; returns the exit code."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--hidden", type=int, default=512)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--only", choices=VARIANTS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        print(measure(options.only, options.hidden, options.layers, options.steps))
        return 0
    print("optimizer.use  parameters  moments B/p  CPU s a step  peak MB of the process", flush=True)
    for use in VARIANTS:
        if use == "adamw_8bit" and importlib.util.find_spec("bitsandbytes") is None:
            print(f"{use:14} needs bitsandbytes")
            continue
        sizes = ["--hidden", str(options.hidden), "--layers", str(options.layers), "--steps", str(options.steps)]
        subprocess.run([sys.executable, __file__, "--only", use, *sizes], check=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
