"""Two processes (gloo) with adapters that the engine ``vllm`` serves, on a stand-in for vLLM (``served_adapters.py``)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from rewardkit.train.distributed.sharded_files import read_tensors, stored_tensors

SCRIPT = Path(__file__).with_name("served_adapters.py")
STEPS = 4
CONFIG = """
version: 1
stage: grpo
output: {output}
model: {{path: {work}/base, dtype: float32, lora: {{rank: 2}}}}
data: {{train: {work}/train.jsonl}}
reward: {{components: {{main: {{use: digits}}}}}}
steps: {steps}
rollout: {{prompts_per_step: 4, group_size: 4, max_new_tokens: 8, engine: stand_in, weight_sync_check: {{every: 1}}}}
optimizer: {{lr: 1.0e-2}}
evaluate: {{every: 0}}
checkpoint: {{every: 1, keep: 9}}
threads: 1
fsdp: {fsdp}
"""


def trained_after(checkpoint):
    """Return the adapters of a checkpoint, by peft's names."""
    prefix = "policy/weight/"
    stored = {name: entry for name, entry in stored_tensors(checkpoint).items() if name.startswith(prefix)}
    found = {name: torch.empty(entry.shape, dtype=entry.dtype) for name, entry in stored.items()}
    read_tensors(checkpoint, found)
    return {name.removeprefix(prefix): value for name, value in found.items()}


@pytest.mark.slow
@pytest.mark.parametrize("fsdp", ["false", "true"])
def test_each_process_samples_with_the_adapters_of_the_step_before(work, tmp_path, start_world, fsdp):
    """Step 1 samples with new adapters, step k + 1 with those of the checkpoint after step k, sharded or not."""
    config, output = tmp_path / "run.yaml", tmp_path / "out"
    config.write_text(CONFIG.format(output=output, work=work, steps=STEPS, fsdp=fsdp))
    for process in start_world([str(SCRIPT), str(config), str(tmp_path)], 2):
        _, errors = process.communicate(timeout=180)
        assert process.returncode == 0, errors
    for rank in range(2):
        files = sorted(tmp_path.glob(f"{rank}-*.safetensors"), key=lambda file: int(file.stem.split("-")[1]))
        used = [load_file(file) for file in files]
        assert len(used) == STEPS
        assert all((value == 0).all() for name, value in used[0].items() if ".lora_B." in name)
        for step, found in enumerate(used[1:], start=1):
            expected = trained_after(output / f"checkpoints/step-{step:06}")
            assert found.keys() == expected.keys()
            assert all(torch.equal(found[name], expected[name]) for name in expected)
    metrics = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    trained = [line for line in metrics if line["kind"] == "train"]
    assert len(trained) == STEPS
    assert max(line["sampling_logp_difference_max"] for line in trained) < 1e-4
    assert max(line["weight_sync_difference_max"] for line in trained) < 1e-4
