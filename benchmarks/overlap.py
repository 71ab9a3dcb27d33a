"""Measure how much of the scoring time of a training step overlaps with sampling, by the size of rollout batches.

    python benchmarks/overlap.py [--completions 256] [--steps 4]

Runs examples/train/grpo_code.yaml (tests in a sandbox) for some steps with ``rollout.batch`` from all completions of a step down to
an eighth of them: while a batch is sampled, the previous one is scored. All sizes sample the same completions. Prints wall-clock seconds
per step of sampling, waiting for scores and scoring, and the share of scoring that overlapped with sampling.
Needs a sandbox (``rewardkit sandbox check``).
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import tempfile
from pathlib import Path
from statistics import fmean

from rich.console import Console
from rich.table import Table

from rewardkit.train.config.reading import read_train_config, stage_of
from rewardkit.train.config.stages import STAGES
from rewardkit.train.trainer.launch import launch

EXAMPLES = Path(__file__).parents[1] / "examples/train"


def main() -> None:
    """Train a few steps with each batch size."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--completions", type=int, default=256, help="of a step, in groups of 8")
    options.add_argument("--steps", type=int, default=4)
    chosen = options.parse_args()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    table = Table("batch", "sampling", "waiting", "at work", "hidden", title="seconds per step", title_justify="left")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file in EXAMPLES.glob("*.yaml"):
            shutil.copy(file, folder)
        spec = importlib.util.spec_from_file_location("rewardkit_example_build", EXAMPLES / "build.py")
        assert spec is not None
        assert spec.loader is not None
        build = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(build)
        build.write_data(folder / "work")
        build.write_model(folder / "work/base")
        run(folder / "sft_code.yaml")
        for part in (1, 2, 4, 8):
            batch = max(chosen.completions // part, 8)
            output = folder / f"batch{batch}"
            run(
                folder / "grpo_code.yaml",
                **{
                    "output": str(output),
                    "data.eval": "null",
                    "steps": str(chosen.steps + 1),
                    "rollout.prompts_per_step": str(chosen.completions // 8),
                    "rollout.batch": str(batch),
                },
            )
            lines = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()][1:]  # warm boxes
            metrics = {
                key: fmean(line[key] for line in lines)
                for key in ("seconds_generate", "seconds_await_scores", "scoring_seconds")
            }
            sampling, waiting, working = metrics.values()
            table.add_row(
                str(batch),
                f"{sampling:.2f}",
                f"{waiting:.2f}",
                f"{working:.2f}",
                f"{max(1 - waiting / working, 0):.0%}",
            )
    Console().print(table)


def run(config: Path, **overrides: str) -> None:
    """Run a configuration on one thread, so that the sandbox has cores, too."""
    file = read_train_config(config, overrides={"threads": "1", **overrides})
    launch(file, STAGES[stage_of(file.document)].runner())


if __name__ == "__main__":
    main()
