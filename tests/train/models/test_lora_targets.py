"""``model.lora.targets``: each module gets adapters that train, are saved and reach rollout engines, or is refused in one sentence."""

from __future__ import annotations

import shutil

import pytest
import torch
import transformers
from safetensors.torch import save_file

from rewardkit.errors import ConfigError, Location
from rewardkit.train.config import LoraConfig, ModelConfig
from rewardkit.train.models.policy import Policy, TokenSpan
from rewardkit.train.models.reward_model import RewardModel
from rewardkit.train.preflight.memory_trace import TracedModel
from rewardkit.train.rollout.engines.weight_export import checkpoint_weights

ROWS = [TokenSpan((5, 6, 7, 8, 9), 2)]
SIZES = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "pad_token_id": 0,
    "bos_token_id": None,
    "eos_token_id": 0,
}
KINDS = {
    "tied": ("Qwen2", {**SIZES, "tie_word_embeddings": True}),
    "untied": ("Qwen2", {**SIZES, "tie_word_embeddings": False}),
    "conv1d": ("GPT2", {"n_embd": 32, "n_layer": 2, "n_head": 4, "pad_token_id": 0, "eos_token_id": 0}),
    "experts": (
        "Qwen3Moe",
        {
            **SIZES,
            "moe_intermediate_size": 16,
            "num_experts": 4,
            "num_experts_per_tok": 2,
            "head_dim": 8,
            "tie_word_embeddings": False,
        },
    ),
}


@pytest.fixture(scope="module")
def folders(work, tmp_path_factory):
    """Return the folders of tiny models with random weights, by kind."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(work / "base")
    found = {}
    for kind, (name, settings) in KINDS.items():
        folder = tmp_path_factory.mktemp("models") / kind
        torch.manual_seed(0)
        config = getattr(transformers, f"{name}Config")(**settings, vocab_size=len(tokenizer))
        transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        found[kind] = folder
    return found


def load(folder, targets, location=None):
    """Return a policy with adapters."""
    return Policy.load(ModelConfig(path=str(folder), lora=LoraConfig(rank=2, targets=targets)), location)


def logprobs(policy):
    """Return the log-probabilities of some tokens."""
    with torch.no_grad():
        return policy.forward_logprobs(ROWS).logprobs_B_T


@pytest.mark.parametrize(
    ("kind", "targets"),
    [
        ("tied", "all-linear"),
        ("tied", r".*\.1\.self_attn\.[qv]_proj"),
        ("untied", ["embed_tokens"]),
        ("untied", ["lm_head"]),
        ("untied", ["q_proj", "embed_tokens", "lm_head"]),
        ("conv1d", ["c_attn", "c_fc"]),
        ("conv1d", ["wpe"]),
        ("experts", "all-linear"),
        ("experts", ["gate"]),
        ("experts", ["q_proj", "gate_proj", "up_proj", "down_proj"]),
    ],
)
def test_adapters_train_are_saved_and_reach_engines(folders, tmp_path, kind, targets):
    """They have gradients and can be switched off; the saved and the merged model compute what the policy does."""
    policy = load(folders[kind], targets)
    before = logprobs(policy)
    policy.forward_logprobs(ROWS).logprobs_B_T.sum().backward()
    assert any(value.grad.abs().sum() > 0 for value in policy.trained.values())
    with torch.no_grad():
        for value in policy.trained.values():
            value.add_(0.1 * torch.randn(value.shape, generator=torch.Generator().manual_seed(0)))
    after = logprobs(policy)
    assert not torch.allclose(after, before, atol=1e-4)
    with policy.reference():
        assert torch.allclose(logprobs(policy), before, atol=1e-5)

    policy.save(tmp_path / "saved")
    assert torch.allclose(logprobs(Policy.load(ModelConfig(path=str(tmp_path / "saved")))), after, atol=1e-5)

    shutil.copytree(folders[kind], tmp_path / "synced")
    weights = {name: value.clone().contiguous() for name, value in checkpoint_weights(policy.lm)}
    save_file(weights, tmp_path / "synced" / "model.safetensors", metadata={"format": "pt"})
    assert torch.allclose(logprobs(Policy.load(ModelConfig(path=str(tmp_path / "synced")))), after, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "targets", "said"),
    [
        (
            "tied",
            ["embed_tokens"],
            "model.embed_tokens can't have an adapter, because the model's embeddings and head are one",
        ),
        (
            "tied",
            ["q_proj", "lm_head"],
            "lm_head can't have an adapter, because the model's embeddings and head are one",
        ),
        ("conv1d", ["wte"], "transformer.wte can't have an adapter, because the model's embeddings and head are one"),
        ("untied", ["norm"], "model.norm is a Qwen2RMSNorm, which can't have adapters"),
        ("untied", ["mlp"], "model.layers.0.mlp is a Qwen2MLP, which can't have adapters"),
        ("untied", ["nothing"], "no module of the model is called nothing"),
        ("untied", ["q_proj", "nothing", "none"], "no module of the model is called none, nothing"),
        ("untied", "q_proj", "no module of the model has a name that 'q_proj' matches as a whole"),
        ("experts", ["experts"], "model.layers.0.mlp.experts is a Qwen3MoeExperts, which can't have adapters"),
    ],
)
def test_modules_without_adapters_are_refused(folders, kind, targets, said):
    """In one line, with the key and the place in the configuration."""
    with pytest.raises(ConfigError) as caught:
        load(folders[kind], targets, Location("run.yaml", 3, 9))
    assert str(caught.value).startswith(f"run.yaml:3:9: model.lora.targets: {said}")
    assert "\n" not in str(caught.value)


def test_the_memory_of_adapted_embeddings_is_estimated(folders):
    """The model without weights has the same sizes as that with other adapters."""
    config = ModelConfig(path=str(folders["untied"]), lora=LoraConfig(rank=2, targets=["embed_tokens", "lm_head"]))
    size = TracedModel(transformers.AutoModelForCausalLM, config, torch.float32).size()
    policy = Policy.load(config)
    assert size.trained == sum(value.numel() for value in policy.trained.values())
    assert (size.vocabulary, size.width) == (len(policy.tokenizer), 32)


def test_a_reward_model_adapts_embeddings_and_not_its_head(folders):
    """Its head is trained as a whole, so adapters for it alone are refused."""
    path = str(folders["tied"])
    model = RewardModel.load(ModelConfig(path=path, lora=LoraConfig(rank=2, targets=["embed_tokens"])))
    assert {name.split(".")[-3] for name in model.trained if ".lora_" in name} == {"embed_tokens"}
    with pytest.raises(ConfigError, match=r"adapters of \['score'\] would have no effect"):
        RewardModel.load(ModelConfig(path=path, lora=LoraConfig(rank=2, targets=["score"])))


@pytest.mark.parametrize(
    ("targets", "said"),
    [(".*(", "not a valid regular expression"), ([], "name at least one"), ("", "name at least one")],
)
def test_targets_that_name_nothing_are_refused_in_the_configuration(targets, said):
    """Without loading a model."""
    with pytest.raises(ValueError, match=f"targets\n.*{said}"):
        LoraConfig(targets=targets)
