"""The memory of a pass is counted without running it."""

import pytest
import torch
from transformers import AutoModelForCausalLM

from rewardkit.train.config import ModelConfig
from rewardkit.train.config.base import LoraConfig
from rewardkit.train.models.policy import Policy
from rewardkit.train.preflight.memory_trace import TracedModel, _LiveBytes

ROWS, LENGTH = 4, 32


@pytest.mark.parametrize("settings", [{}, {"lora": LoraConfig(rank=4)}, {"gradient_checkpointing": True}], ids=str)
def test_a_traced_pass_needs_what_the_real_pass_needs(work, settings):
    """The most live bytes of a real forward and backward pass, with all weights, adapters, and recomputed activations."""
    config = ModelConfig(path=str(work / "base"), **settings)
    policy = Policy.load(config)
    model = policy.model.train()
    for value in policy.trained.values():
        value.grad = torch.zeros_like(value)
    known = (*model.parameters(), *model.buffers(), *(value.grad for value in policy.trained.values()))
    with _LiveBytes(iter(known)) as counter:
        ids = torch.zeros(ROWS, LENGTH, dtype=torch.long)
        policy.backbone(input_ids=ids, use_cache=False).last_hidden_state.sum().backward()
    traced = TracedModel(AutoModelForCausalLM, config, torch.float32)
    # The traced pass has a mask, as passes of packed rows have: without values, transformers can't see that none is needed.
    assert 1 <= traced.pass_bytes(ROWS, LENGTH) / counter.peak < 1.17


def test_a_traced_model_has_the_sizes_of_the_loaded_one(work):
    """Weights, trained weights and vocabulary, although no weight is loaded."""
    config = ModelConfig(path=str(work / "base"), lora=LoraConfig(rank=4))
    policy = Policy.load(config)
    size = TracedModel(AutoModelForCausalLM, config, torch.float32).size()
    assert size.weights == sum(4 * value.numel() for value in policy.model.parameters())
    assert size.trained == sum(value.numel() for value in policy.trained.values())
    assert size.vocabulary == policy.lm.get_input_embeddings().num_embeddings
