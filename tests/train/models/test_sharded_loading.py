"""A model that is to be sharded is read in parts."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM, Qwen3MoeConfig

from rewardkit.train.config import ModelConfig
from rewardkit.train.distributed.fsdp import full_tensor, local_tensor
from rewardkit.train.models.loading import load_model


@pytest.fixture
def experts(tmp_path, work):
    """A mixture of experts, which transformers stacks while it loads them."""
    sizes = {"hidden_size": 16, "intermediate_size": 16, "moe_intermediate_size": 8, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8, "num_experts": 5, "vocab_size": 64}
    model = AutoModelForCausalLM.from_config(Qwen3MoeConfig(**sizes, **heads, num_experts_per_tok=2))
    model.save_pretrained(tmp_path)
    return tmp_path


def parts(path):
    """Load a model in parts. Return the bytes that this process read, and the full weights."""
    model = load_model(AutoModelForCausalLM, "model", ModelConfig(path=str(path)), sharded=True)
    read = sum(local_tensor(value).nbytes for value in model.parameters())
    return read, {name: full_tensor(value.detach()) for name, value in model.named_parameters()}


@pytest.mark.parametrize("kind", ["dense", "experts"])
def test_each_process_reads_its_part_of_the_weights(kind, work, experts, in_processes):
    """Each of two processes reads about half of them, and together they have what one process reads."""
    path = work / "base" if kind == "dense" else experts
    whole = dict(load_model(AutoModelForCausalLM, "model", ModelConfig(path=str(path))).named_parameters())
    most = 0.62 * sum(value.nbytes for value in whole.values())  # 3 of 5 experts, and all norms
    for read, weights in in_processes(2, lambda: parts(path)):
        assert read < most
        assert weights.keys() == whole.keys()
        assert all(torch.equal(weights[name], value) for name, value in whole.items())
