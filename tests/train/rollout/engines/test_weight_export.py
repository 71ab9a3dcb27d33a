"""Weights as a rollout engine gets them: under the names of the model's files, with adapters merged."""

from __future__ import annotations

import weakref

import pytest
import torch
import transformers
from safetensors.torch import load_file

from rewardkit.errors import EngineError
from rewardkit.train.config import LoraConfig, ModelConfig
from rewardkit.train.models.policy import Policy
from rewardkit.train.rollout.engines.hf import HfEngine
from rewardkit.train.rollout.engines.weight_export import checkpoint_weights

SIZES = {
    "vocab_size": 61,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "pad_token_id": 0,
    "eos_token_id": 0,
}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}


def model_of(kind, **settings):
    """Return a tiny model with random weights."""
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(**SIZES, **settings)
    return transformers.AutoModelForCausalLM.from_config(config)


@pytest.mark.parametrize(
    ("kind", "settings"),
    [("Qwen2", {}), ("Qwen3Moe", {**EXPERTS, "head_dim": 8}), ("Mixtral", {"num_local_experts": 4})],
)
def test_merged_adapters_are_those_of_peft(policy, tmp_path, kind, settings):
    """Names, shapes and values, those of experts included, which peft adapts several times over."""
    model_of(kind, **settings).save_pretrained(tmp_path / "base")
    policy.tokenizer.save_pretrained(tmp_path / "base")
    adapted = Policy.load(ModelConfig(path=str(tmp_path / "base"), lora=LoraConfig(rank=2)))
    with torch.no_grad():
        for value in adapted.trained.values():
            value.add_(0.05 * torch.randn_like(value))
    found = {name: value.clone() for name, value in checkpoint_weights(adapted.lm)}
    adapted.model.merge_and_unload().save_pretrained(tmp_path / "merged")
    expected = load_file(tmp_path / "merged" / "model.safetensors")
    assert found.keys() - {"lm_head.weight"} == expected.keys() - {"lm_head.weight"}
    for name, value in expected.items():
        assert torch.allclose(found[name], value, atol=1e-5), name


def test_merged_weights_exist_for_one_layer_at_a_time(work):
    """An engine that takes weights one by one needs no memory for a second model."""
    lm = Policy.load(ModelConfig(path=str(work / "base"), lora=LoraConfig(rank=2))).lm
    own = {value.data_ptr() for value in lm.state_dict().values()}
    alive, merged = [], 0
    for name, value in checkpoint_weights(lm):
        alive = [(at, item) for at, item in alive if item() is not None]
        assert all(at == name.split(".")[2] for at, _ in alive)
        if value.data_ptr() not in own:
            alive.append((name.split(".")[2], weakref.ref(value)))
            merged += 1
        del value
    assert merged == 7 * lm.config.num_hidden_layers


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (
            "Qwen3Next",
            {
                **EXPERTS,
                "head_dim": 8,
                "shared_expert_intermediate_size": 16,
                "linear_num_value_heads": 4,
                "linear_num_key_heads": 2,
                "linear_key_head_dim": 8,
                "linear_value_head_dim": 8,
                "full_attention_interval": 2,
            },
        ),
        (
            "FalconH1",
            {"mamba_d_ssm": 32, "mamba_n_heads": 4, "mamba_d_head": 8, "mamba_d_state": 8, "mamba_n_groups": 1},
        ),
    ],
)
def test_the_engine_hf_refuses_models_with_another_state_than_keys_and_values(policy, kind, settings):
    """In one sentence, with the remedy, before anything is sampled."""
    hybrid = Policy(model_of(kind, **settings), policy.tokenizer, torch.device("cpu"))
    with pytest.raises(EngineError, match=f"can't sample from a {kind}ForCausalLM.*use rollout.engine: vllm"):
        HfEngine(hybrid)
