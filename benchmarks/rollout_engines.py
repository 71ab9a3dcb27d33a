"""Compare the engines ``hf`` and ``vllm`` on the same model, prompts and seeds: tokens per second, CPU time, start-up, memory.

    make .venv-vllm/installed
    .venv-vllm/bin/python benchmarks/rollout_engines.py --hidden 128 --layers 4

Each engine runs in its own process on one thread. The first batch is a warm-up, and the median of the others is printed. The model is
that of examples/train with random weights, so completions end by chance or at the limit.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parents[1]


def measure(args: argparse.Namespace) -> dict[str, float]:
    """Measure one engine."""
    import torch

    from rewardkit.registry import Registry
    from rewardkit.rollout_engine import Request, Sampling
    from rewardkit.train.config import ModelConfig
    from rewardkit.train.config.engines import with_builtin
    from rewardkit.train.models.policy import Policy
    from rewardkit.train.rollout.synced_engine import setup_of

    torch.set_num_threads(args.threads)
    model = ModelConfig(path=args.model)
    policy = Policy.load(model)
    sampling = Sampling(args.tokens)
    rows = [json.loads(line) for line in Path(args.data).read_text(encoding="utf-8").splitlines()[: args.prompts]]
    prompts = [tuple(policy.tokenizer(row["prompt"])["input_ids"]) for row in rows]
    batch = args.prompts * args.group
    setup = setup_of(model, policy, sampling, longest=max(map(len, prompts)) + args.tokens, batch=batch)
    began = time.monotonic()
    offer = with_builtin(Registry()).engine(args.engine)
    engine = offer.type.build(offer.type.params(), setup)
    started = time.monotonic() - began
    rates, costs, syncs, tokens = [], [], [], 0
    for round_ in range(args.rounds + 1):
        began = time.monotonic()
        engine.sync()
        syncs.append(time.monotonic() - began)
        requests = [
            Request(prompt, [1000 * (args.group * index + place) + round_ for place in range(args.group)])
            for index, prompt in enumerate(prompts)
        ]
        began, cpu = time.monotonic(), time.process_time()
        found = [item for part in engine.generate(requests, sampling) for _, items in part for item in items]
        tokens = sum(len(item.tokens) for item in found)
        rates.append(tokens / (time.monotonic() - began))
        costs.append((time.process_time() - cpu) / tokens * 1e6)
    engine.close()
    return {
        "start": started,
        "sync": 1000 * median(syncs[1:]),
        "tokens": tokens,
        "rate": median(rates[1:]),
        "cost": median(costs[1:]),
        "rss": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def main() -> None:
    """Print a row for each engine."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--prompts", type=int, default=32)
    parser.add_argument("--group", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=56)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--engine", choices=["hf", "vllm"], help=argparse.SUPPRESS)
    parser.add_argument("--model", help=argparse.SUPPRESS)
    parser.add_argument("--data", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.engine:
        print(json.dumps(measure(args)))
        return
    sys.path.insert(0, str(ROOT / "examples/train"))
    import build  # type: ignore[import-not-found,unused-ignore]

    with tempfile.TemporaryDirectory() as folder:
        build.write_data(Path(folder))
        build.write_model(Path(folder, "base"), hidden=args.hidden, layers=args.layers)
        print(f"{'engine':8} {'start s':>8} {'sync ms':>8} {'tokens/s':>9} {'CPU s per 1M tokens':>20} {'peak MB':>8}")
        for engine in ("hf", "vllm"):
            own = ["--engine", engine, "--model", f"{folder}/base", "--data", f"{folder}/train.jsonl"]
            done = subprocess.run(
                [sys.executable, __file__, *sys.argv[1:], *own],
                env=os.environ | {"OMP_NUM_THREADS": str(args.threads)},
                stdout=subprocess.PIPE,
                check=True,
            )
            found = json.loads(done.stdout.splitlines()[-1])
            print(
                f"{engine:8} {found['start']:8.1f} {found['sync']:8.1f} {found['rate']:9,.0f} {found['cost']:20,.0f} "
                f"{found['rss']:8,.0f}"
            )


if __name__ == "__main__":
    main()
