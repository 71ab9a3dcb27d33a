"""Measures the memory that ``fsdp: true`` saves and the time that it costs, next to an unsharded run.

It prints the bytes of weights, gradients and optimizer states in each of several processes.

    python benchmarks/sharding.py --hidden 512 --layers 8

Each process runs steps of SFT on random tokens, on one thread, connected by gloo on this machine. The printed time is the median of the
steps. The model is that of examples/train with random weights and a size of your choice. Next to the bytes of tensors stands the memory
of a process after its last step as the operating system counts it, which includes torch itself, and by how much the memory of a process
rises at most while it saves and restores a checkpoint, and saves the trained model.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).parents[1]
MB = 1e6


def measure(args: argparse.Namespace) -> None:
    """One process's metrics, written to a file."""
    import torch
    from accelerate import PartialState

    from rewardkit.train.config import ModelConfig, OptimizerConfig
    from rewardkit.train.distributed import collectives
    from rewardkit.train.models.policy import Policy, TokenSpan
    from rewardkit.train.trainer.checkpoint import Checkpoints
    from rewardkit.train.trainer.optimizer import Optimizer

    torch.set_num_threads(1)
    PartialState()
    policy = Policy.load(ModelConfig(path=args.model), sharded=args.fsdp)
    optimizer = Optimizer(policy.trained, OptimizerConfig(), args.steps, policy.sharded)
    draw = torch.Generator().manual_seed(0)
    rows = [TokenSpan(torch.randint(2, 60, (100,), generator=draw).tolist(), 1) for _ in range(args.rows)]

    def backward(part: list[int]) -> None:
        (-policy.forward_logprobs([rows[row] for row in part]).logprobs_B_T.mean()).backward()  # type: ignore[no-untyped-call]

    def held(tensors: list[torch.Tensor]) -> float:
        return sum(getattr(tensor, "_local_tensor", tensor).nbytes for tensor in tensors) / MB

    seconds, gradients = [], 0.0
    for step in range(args.steps):
        began = time.monotonic()
        optimizer.accumulate([len(row.tokens) for row in rows], 400, backward)
        gradients = held([value.grad for value in policy.trained.values() if value.grad is not None])
        optimizer.step(step)
        seconds.append(time.monotonic() - began)
    checkpoints = Checkpoints(Path(args.out) / "checkpoints", keep=1)
    with own_memory() as saving:
        checkpoints.save(args.steps, {"policy": (policy.trained, optimizer)}, {})
    with own_memory() as resuming:
        checkpoints.restore(checkpoints.folder / f"step-{args.steps:06d}", {"policy": (policy.trained, optimizer)})
    with own_memory() as exporting:
        policy.save(Path(args.out) / f"model-{collectives.rank()}")
    metrics = {
        "checkpoint": saving[0],
        "resuming": resuming[0],
        "final": exporting[0],
        "weights": held(list(policy.model.parameters())),
        "gradients": gradients,
        "moments": held([value for state in optimizer.adamw.state.values() for value in state.values()]),
        "resident": int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        * os.sysconf("SC_PAGE_SIZE")
        / MB,
        "step": median(seconds),
    }
    (Path(args.out) / f"{collectives.rank()}.json").write_text(json.dumps(metrics), encoding="utf-8")


@contextmanager
def own_memory() -> Iterator[list[float]]:
    """Yield a list that holds, once the block is left, by how many megabytes the memory of this process alone rose at most in it.

    Pages of files, which the processes share and the system may drop at any time, are not counted.
    """

    def anonymous() -> float:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) * 1024 / MB

    def watch() -> None:
        while not done.wait(0.002):
            most[0] = max(most[0], anonymous() - before)

    before, most, done = anonymous(), [0.0], threading.Event()
    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield most
    finally:
        done.set()
        thread.join()


def run(args: argparse.Namespace, model: Path, *, sharded: bool) -> list[dict[str, float]]:
    """The metrics of all processes."""
    with tempfile.TemporaryDirectory() as out:
        own = ["--worker", "--model", str(model), "--out", out, "--rows", str(args.rows), "--steps", str(args.steps)]
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(args.processes)]
        environment = os.environ | {"ACCELERATE_USE_CPU": "1", "OMP_NUM_THREADS": "1"}
        command = [sys.executable, *launcher, __file__, *own, *(["--fsdp"] if sharded else [])]
        subprocess.run(command, check=True, env=environment)
        return [json.loads((Path(out) / f"{rank}.json").read_text()) for rank in range(args.processes)]


def example_build() -> Any:
    """Import examples/train/build.py, which makes models of random weights."""
    spec = importlib.util.spec_from_file_location("build", ROOT / "examples/train/build.py")
    assert spec is not None
    assert spec.loader is not None
    build = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(build)
    return build


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hidden", type=int, default=512, help="width of the model")
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--rows", type=int, default=8, help="rows of 100 tokens per step")
    parser.add_argument("--steps", type=int, default=5)
    for name in ("--worker", "--fsdp"):
        parser.add_argument(name, action="store_true", help=argparse.SUPPRESS)
    for name in ("--model", "--out"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        measure(args)
        return
    with tempfile.TemporaryDirectory() as folder:
        example_build().write_model(Path(folder) / "model", hidden=args.hidden, layers=args.layers)
        found = {sharded: run(args, Path(folder) / "model", sharded=sharded) for sharded in (False, True)}
    print(f"{args.processes} processes, hidden {args.hidden}, {args.layers} layers: the process that holds most, MB")
    print(f"{'':16}{'weights':>10}{'gradients':>11}{'moments':>10}{'resident':>10}{'s/step':>9}", end="")
    print(f"   most more memory while {'saving a checkpoint':>21}{'resuming':>10}{'saving final/':>15}")
    for sharded, metrics in found.items():
        most = {name: max(of[name] for of in metrics) for name in metrics[0]}
        print(
            f"fsdp: {'true' if sharded else 'false':9}{most['weights']:>10.1f}{most['gradients']:>11.1f}{most['moments']:>10.1f}"
            f"{most['resident']:>10.0f}{most['step']:>9.2f}{'':25}{most['checkpoint']:>21.0f}"
            f"{most['resuming']:>10.0f}{most['final']:>15.0f}"
        )


if __name__ == "__main__":
    main()
