"""The engine ``vllm`` with adapters that it serves beside its base weights, on a CPU. ``make test-vllm`` runs this."""

from __future__ import annotations

import copy

import pytest
import torch

pytest.importorskip("vllm", reason="vLLM has an environment of its own: make test-vllm")

from rewardkit.errors import EngineError
from rewardkit.rollout_engine import Request, Sampling
from rewardkit.testing.engine_contract import write_model
from rewardkit.train.config import LoraConfig, ModelConfig
from rewardkit.train.config.vllm import VllmParams
from rewardkit.train.models.policy import Policy, TokenSpan
from rewardkit.train.rollout.engines.vllm import VllmEngine
from rewardkit.train.rollout.engines.vllm_adapters import adapter_arguments, merge_reason
from rewardkit.train.rollout.synced_engine import setup_of
from rewardkit.train.rollout.weight_sync_check import WeightSyncCheck

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # vLLM's own
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return the folder of a tiny model."""
    folder = tmp_path_factory.mktemp("model")
    write_model(folder)
    return str(folder)


@pytest.fixture(scope="module")
def pair(folder):
    """Return an engine that serves adapters, and its policy."""
    model = ModelConfig(path=folder, lora=LoraConfig(rank=4))
    policy = Policy.load(model)
    engine = VllmEngine(VllmParams(), setup_of(model, policy, Sampling(16), longest=160, batch=16))
    yield engine, policy
    engine.close()


def move(policy):
    """Update all adapters."""
    with torch.no_grad():
        for value in policy.trained.values():
            value.add_(0.1 * torch.randn(value.shape))


def difference(engine, policy):
    """Return the largest difference of log-probs of some rollouts."""
    tokens = tuple(policy.tokenizer("12+34=46, 56+78=134; ")["input_ids"])
    ((_, completions),) = [item for part in engine.generate([Request(tokens, [1, 2])], Sampling(16)) for item in part]
    spans = [TokenSpan((*tokens, *completion.tokens), len(tokens)) for completion in completions]
    with torch.no_grad():
        trainer = [policy.forward_logprobs([span]).logprobs_B_T[0] for span in spans]
    pairs = zip(trainer, completions, strict=True)
    return max(float((own - torch.tensor(other.logprobs)).abs().max()) for own, other in pairs)


def test_vllm_samples_from_base_and_adapters(pair):
    """Log-probs are those of the policy with its adapters, after each of several updates."""
    engine, policy = pair
    assert engine.serves_adapters
    for _ in range(3):
        move(policy)
        engine.sync()
        assert difference(engine, policy) < 1e-3


def test_only_adapters_are_sent_after_the_first_sync(pair, monkeypatch):
    """The base weights are taken over once, and not merged."""
    engine, policy = pair
    engine.sync()
    monkeypatch.setattr(engine, "_hand_over", lambda weights: pytest.fail("weights were sent"))
    move(policy)
    engine.sync()
    assert difference(engine, policy) < 1e-3


def test_stale_adapters_are_found(pair, monkeypatch):
    """The weight sync check ends the run if new adapters do not arrive."""
    engine, policy = pair
    engine.sync()
    check = WeightSyncCheck(policy, engine, [policy.tokenizer("1+2=?")["input_ids"]], Sampling(16), 160)
    check.check()
    monkeypatch.setattr(engine, "_hand_over_adapters", lambda: None)
    move(policy)
    engine.sync()
    with pytest.raises(EngineError, match="bit for bit those from before the update"):
        check.check()


def test_room_is_made_for_the_rank(folder):
    """The next larger one of the few ranks that vLLM knows."""
    policy = Policy.load(ModelConfig(path=folder, lora=LoraConfig(rank=12)))
    assert adapter_arguments(policy)["max_lora_rank"] == 16


def test_adapters_of_the_head_are_merged(folder, tmp_path):
    """The engine would not adapt the head."""
    source = Policy.load(ModelConfig(path=folder))
    config = copy.deepcopy(source.lm.config)
    config.tie_word_embeddings = False
    type(source.lm)(config).save_pretrained(tmp_path)
    source.tokenizer.save_pretrained(tmp_path)
    policy = Policy.load(ModelConfig(path=str(tmp_path), lora=LoraConfig(rank=4, targets=["q_proj", "lm_head"])))
    assert "lm_head" in merge_reason(policy)
