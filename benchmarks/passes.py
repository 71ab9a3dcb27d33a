"""Measures how passes through the model are shared and packed: tokens of each process, collectives of a step, CPU seconds.

    python benchmarks/passes.py --hidden 512 --layers 8

Each process runs on one thread, connected by gloo on this machine. The rows have random tokens and lengths of a log-normal distribution.
The model is that of examples/train with random weights and a size of your choice. "Tokens" are those that go through the model in the
process with the most, padding included. The collectives are those that sum the gradients of a step, once in buckets and once with one for
each parameter.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from sharding import example_build

ROOT = Path(__file__).parents[1]


def measure(args: argparse.Namespace) -> None:
    """Write what one process measures to a file."""
    from unittest import mock

    import torch
    from accelerate import PartialState
    from torch import distributed

    from rewardkit.train.config import ModelConfig, OptimizerConfig
    from rewardkit.train.distributed import collectives
    from rewardkit.train.models.policy import Policy, TokenSpan
    from rewardkit.train.trainer.optimizer import Optimizer

    torch.set_num_threads(1)
    PartialState()
    policy = Policy.load(ModelConfig(path=args.model))
    optimizer = Optimizer(policy.trained, OptimizerConfig(), 1)
    draw = torch.Generator().manual_seed(0)
    lengths = [
        min(max(int(math.exp(args.mean + args.spread * float(torch.randn((), generator=draw)))), 4), 2048)
        for _ in range(args.rows)
    ]
    rows = [TokenSpan(torch.randint(2, 60, (length,), generator=draw).tolist(), 1) for length in lengths]
    tokens = 0

    def count(_module: Any, inputs: Any) -> None:
        nonlocal tokens
        tokens += inputs[0].numel()

    policy.lm.get_input_embeddings().register_forward_pre_hook(count)
    found: dict[str, float] = {"real": sum(lengths), "parameters": len(policy.trained)}
    for packing in (False, True):
        policy.packing = packing
        packed = policy.packed_rows([[length] for length in lengths])
        seconds = []
        for _ in range(args.repeats):
            tokens, began = 0, time.process_time()
            policy.compute_rows(
                lambda part: policy.forward_logprobs([rows[row] for row in part], packed=policy.packing).logprobs_B_T,
                torch.zeros(len(rows), max(lengths)),
                lengths,
                args.micro_batch_tokens,
                packed,
            )
            seconds.append(time.process_time() - began)
        kind = "packed" if packing else "padded"
        found |= {f"{kind}_tokens": tokens, f"{kind}_seconds": median(seconds)}
    for name, size in (("bucket", collectives.BUCKET_BYTES), ("each", 1)):
        if collectives.size() == 1:
            break
        optimizer.accumulate(
            lengths[:4],
            args.micro_batch_tokens,
            lambda part: policy.forward_logprobs([rows[row] for row in part]).logprobs_B_T.sum().backward(),  # type: ignore[no-untyped-call]
        )
        seconds = []
        for _ in range(args.repeats):
            with (
                mock.patch.object(collectives, "BUCKET_BYTES", size),
                mock.patch.object(distributed, "all_reduce", wraps=distributed.all_reduce) as calls,
            ):
                distributed.barrier()
                began = time.process_time()
                collectives.all_reduce_gradients(policy.trained.values())
                seconds.append(time.process_time() - began)
            found |= {f"{name}_collectives": calls.call_count, f"{name}_seconds": median(seconds)}
    (Path(args.out) / f"{collectives.rank()}.json").write_text(json.dumps(found), encoding="utf-8")


def run(args: argparse.Namespace, model: Path, processes: int) -> dict[str, float]:
    """Return the largest of each measurement over the processes."""
    with tempfile.TemporaryDirectory() as out:
        own = ["--worker", "--model", str(model), "--out", out]
        for name in ("rows", "mean", "spread", "repeats", "micro-batch-tokens"):
            own += [f"--{name}", str(getattr(args, name.replace("-", "_")))]
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
        environment = os.environ | {"ACCELERATE_USE_CPU": "1", "OMP_NUM_THREADS": "1"}
        subprocess.run([sys.executable, *launcher, __file__, *own], check=True, env=environment)
        measured = [json.loads((Path(out) / f"{rank}.json").read_text()) for rank in range(processes)]
        return {name: max(of[name] for of in measured) for name in measured[0]}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hidden", type=int, default=512, help="width of the model")
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--mean", type=float, default=5.0, help="mean of the logarithm of a row's tokens")
    parser.add_argument("--spread", type=float, default=0.7, help="standard deviation of the logarithm")
    parser.add_argument("--micro-batch-tokens", type=int, default=4096)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    for name in ("--model", "--out"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        measure(args)
        return
    with tempfile.TemporaryDirectory() as folder:
        example_build().write_model(Path(folder) / "model", hidden=args.hidden, layers=args.layers)
        found = {processes: run(args, Path(folder) / "model", processes) for processes in (1, args.processes)}
    print(f"{args.rows} rows, {found[1]['real']:,.0f} tokens; a pass without gradient, the process with most")
    print(f"{'':16}{'padded tokens':>15}{'packed tokens':>15}{'padded CPU s':>14}{'packed CPU s':>14}")
    for processes, of in found.items():
        print(
            f"{processes} process{'es' if processes > 1 else '':8}{of['padded_tokens']:>12,.0f}{of['packed_tokens']:>15,.0f}"
            f"{of['padded_seconds']:>14.2f}{of['packed_seconds']:>14.2f}"
        )
    of = found[args.processes]
    print(
        f"gradients of {of['parameters']:.0f} parameters are summed by {of['bucket_collectives']:.0f} collectives in "
        f"{of['bucket_seconds']:.3f} CPU s; with one for each parameter {of['each_collectives']:.0f} in {of['each_seconds']:.3f} CPU s"
    )


if __name__ == "__main__":
    main()
