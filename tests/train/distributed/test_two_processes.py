"""Two processes (gloo) do what one does."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
import torch

from rewardkit.train.config.reading import read_train_config
from rewardkit.train.config.stages import STAGES
from rewardkit.train.trainer.launch import launch

DRIVER = Path(__file__).parents[1] / "driver.py"
GRPO = """
version: 1
stage: grpo
output: {output}
model: {{path: {work}/base}}
data: {{train: {work}/train.jsonl, eval: {work}/heldout.jsonl}}
reward: {{components: {{digits: {{use: digits}}}}}}
steps: 2
rollout: {{prompts_per_step: 3, group_size: 4, max_new_tokens: 10}}
kl: {{coefficient: 0.05}}
epochs_per_batch: 2
optimizer: {{lr: 1.0e-3, eps: 1.0e-3}}
evaluate: {{every: 1, limit: 5}}
threads: 1
"""
SFT = """
version: 1
stage: sft
output: {output}
model: {{path: {work}/base}}
data: {{train: {work}/sft.jsonl}}
steps: 3
batch_size: 7
optimizer: {{lr: 1.0e-3, eps: 1.0e-3}}
threads: 1
"""

REWARD_MODEL = """
version: 1
stage: reward_model
output: {output}
model: {{path: {work}/base}}
data: {{train: {work}/pairs.jsonl, eval_share: 0.05}}
loss: {{centring: 0.1}}
steps: 3
batch_size: 7
optimizer: {{lr: 1.0e-3, eps: 1.0e-3}}
threads: 1
"""
DPO = """
version: 1
stage: dpo
output: {output}
model: {{path: {work}/base}}
data: {{train: {work}/pairs.jsonl, eval_share: 0.05}}
steps: 3
batch_size: 7
optimizer: {{lr: 1.0e-3, eps: 1.0e-3}}
threads: 1
"""
PPO = """
version: 1
stage: ppo
output: {output}
model: {{path: {work}/base}}
data: {{train: {work}/train.jsonl, eval: {work}/heldout.jsonl}}
reward: {{components: {{digits: {{use: digits}}}}}}
steps: 3
rollout: {{prompts_per_step: 7, max_new_tokens: 10}}
critic: {{kind: own, lr: 1.0e-3, warmup_steps: 1}}
kl: {{coefficient: 0.05}}
epochs_per_batch: 2
updates_per_epoch: 2
optimizer: {{lr: 1.0e-3, eps: 1.0e-3, weight_decay: 0.1}}
evaluate: {{every: 0, limit: 5}}
threads: 1
"""
HEAD = PPO.replace("kind: own, lr: 1.0e-3", "kind: head")
NOTHING_TO_LEARN = GRPO.replace("use: digits", "use: digits, weight: {{steps: [[0, 1.0], [1, 0.0]]}}").replace(
    "kl: {{coefficient: 0.05}}\n", ""
)
"""After a step that learns, steps that do not: momentum must not move the weights of two processes alone."""
SHARD = """
fsdp: true
micro_batch_tokens: 60
"""
"""Weights divided, and so few tokens at once that one process has more micro-batches than the other."""
LORA = "base, lora: {{rank: 2}}}}\n"


def run(config, processes, start_world):
    """Train with so many processes that know each other; one is this."""
    if processes == 1:
        spec = importlib.util.spec_from_file_location("rewardkit_driver", DRIVER)
        driver = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(driver)
        file = read_train_config(config, driver.registry())
        launch(file, STAGES[file.document.data["stage"]].runner())
        return
    for process in start_world([str(DRIVER), str(config)], processes):
        _, errors = process.communicate(timeout=180)
        assert process.returncode == 0, errors
        assert "Warning" not in errors, errors


@pytest.mark.slow
@pytest.mark.parametrize(
    "text",
    [
        GRPO,
        SFT,
        REWARD_MODEL,
        DPO,
        PPO,
        HEAD,
        NOTHING_TO_LEARN,
        GRPO + SHARD,
        GRPO.replace("base}}\n", LORA) + SHARD,
        SFT.replace("base}}\n", "base, gradient_checkpointing: true}}\n") + SHARD,
        REWARD_MODEL.replace("base}}\n", LORA) + SHARD,
        DPO + SHARD,
        PPO + SHARD,
        HEAD + SHARD,
        NOTHING_TO_LEARN + SHARD,
    ],
    ids=[
        "grpo",
        "sft",
        "reward_model",
        "dpo",
        "ppo",
        "ppo_head",
        "nothing_to_learn",
        "grpo_sharded",
        "grpo_lora_sharded",
        "sft_sharded",
        "reward_model_lora_sharded",
        "dpo_sharded",
        "ppo_sharded",
        "ppo_head_sharded",
        "nothing_to_learn_sharded",
    ],
)
def test_two_processes_update_like_one(work, tmp_path, start_world, text):
    """Weights agree to 1e-5 after some steps, divided or not, and every figure and file is written once."""
    from safetensors.torch import load_file

    weights, metrics = [], []
    for processes in (1, 2):
        config = tmp_path / f"{processes}.yaml"
        folder = tmp_path / str(processes)
        config.write_text(text.format(output=folder, work=work))
        run(config, processes, start_world)
        (file,) = (folder / "final").glob("*model.safetensors")
        weights.append(load_file(file))
        metrics.append([json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()])
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.allclose(weights[0][name], weights[1][name], atol=1e-5) for name in weights[0])
    timed = ("seconds", "scoring_seconds", "tokens_per_s", "sampling_logp_difference")
    for one, two in zip(*metrics, strict=True):
        assert one.keys() == two.keys()
        for name, value in one.items():
            if not name.startswith(timed):
                assert two[name] == pytest.approx(value, abs=1e-4), name
