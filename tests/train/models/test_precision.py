"""Mixed precision: float32 weights that are trained, matrix products and frozen weights in the compute type."""

from __future__ import annotations

import json

import pytest
import torch
import transformers
from pydantic import ValidationError
from safetensors.torch import load_file

from rewardkit.errors import ConfigError
from rewardkit.rollout_engine import Request, Sampling
from rewardkit.train.config import LoraConfig, ModelConfig, OptimizerConfig
from rewardkit.train.models import logprobs
from rewardkit.train.models.policy import Policy, TokenSpan
from rewardkit.train.models.precision import find_non_finite, resolve_dtype
from rewardkit.train.models.reward_model import RewardModel
from rewardkit.train.models.value_model import ValueModel
from rewardkit.train.rollout.engines.hf import HfEngine
from rewardkit.train.rollout.synced_engine import setup_of
from rewardkit.train.trainer.optimizer import Optimizer

ROWS = [TokenSpan(tuple(range(5, 5 + length)), 2) for length in (24, 17, 9)]


def load(work, dtype="bfloat16", **settings):
    """Return a policy with a compute type."""
    return Policy.load(ModelConfig(path=str(work / "base"), dtype=dtype, **settings))


def dtypes(parameters):
    """Return the data types of tensors."""
    return {value.dtype for value in parameters}


def train(policy, steps, lr):
    """Take optimizer steps on some rows, and return the optimizer."""
    optimizer = Optimizer(policy.trained, OptimizerConfig(lr=lr), steps)
    for step in range(steps):
        optimizer.accumulate([24, 17, 9], 64, lambda part: loss_of(policy, part).backward())
        optimizer.step(step)
    return optimizer


def loss_of(policy, part=(0, 1, 2)):
    """Return −log p of rows."""
    return -policy.forward_logprobs([ROWS[index] for index in part]).logprobs_B_T.sum() / 40


def test_small_updates_are_not_lost_in_bfloat16(work):
    """20 steps at a learning rate of 1e-6 move almost every weight, norms included."""
    policy = load(work)
    before = {name: value.detach().clone() for name, value in policy.trained.items()}
    train(policy, 20, 1e-6)
    moved = torch.cat(
        [(value != before[name]).flatten() for name, value in policy.trained.items() if "embed" not in name]
    )
    norms = [value != before[name] for name, value in policy.trained.items() if "norm" in name]
    assert moved.float().mean() > 0.99
    assert torch.cat([value.flatten() for value in norms]).float().mean() > 0.99


def test_trained_weights_gradients_and_moments_are_float32(work):
    """Whatever the compute type."""
    policy = load(work)
    loss_of(policy).backward()
    gradients = [value.grad for value in policy.trained.values()]
    optimizer = train(policy, 1, 1e-6)
    moments = [value for state in optimizer.adamw.state.values() for value in state.values()]
    assert dtypes(policy.trained.values()) == dtypes(gradients) == dtypes(moments) == {torch.float32}


def test_products_are_computed_in_the_compute_type(work):
    """A linear layer's output is bfloat16, and log-probs differ from those of float32 by its rounding alone."""
    policy, exact = load(work), load(work, "float32")
    seen = []
    next(module for module in policy.model.modules() if isinstance(module, torch.nn.Linear)).register_forward_hook(
        lambda _module, _inputs, output: seen.append(output.dtype)
    )
    difference = policy.forward_logprobs(ROWS).logprobs_B_T - exact.forward_logprobs(ROWS).logprobs_B_T
    assert seen == [torch.bfloat16]
    assert 0 < difference.abs().max() < 0.05


def test_frozen_weights_have_the_compute_type(work):
    """The reference model, the model under adapters, and a model that is only evaluated."""
    policy = load(work)
    reference = policy.copy(trained=False)
    assert dtypes(reference.model.parameters()) == {torch.bfloat16}
    assert not reference.trained
    assert dtypes(policy.trained.values()) == {torch.float32}
    adapted = load(work, lora=LoraConfig(rank=2))
    frozen = [value for value in adapted.model.parameters() if not value.requires_grad]
    assert (dtypes(frozen), dtypes(adapted.trained.values())) == ({torch.bfloat16}, {torch.float32})
    evaluated = Policy.load(ModelConfig(path=str(work / "base"), dtype="bfloat16"), trained=False)
    assert dtypes(evaluated.model.parameters()) == {torch.bfloat16}


def test_rotary_frequencies_of_a_frozen_copy_stay_float32(work):
    """Buffers are not cast: positions would be rounded."""
    policy = load(work)
    buffers = dict(policy.copy(trained=False).model.named_buffers())
    assert buffers
    assert all(torch.equal(value, buffers[name]) for name, value in policy.model.named_buffers())


def test_a_critic_is_trained_in_float32(work):
    """Its own model and its head."""
    critic = ValueModel(load(work), own=True)
    assert dtypes(critic.trained.values()) == {torch.float32}
    assert critic(ROWS).dtype == torch.float32


@pytest.mark.parametrize("trained", ["all", "head"])
def test_a_reward_model_is_trained_in_float32(work, trained):
    """All of it, or its head on a backbone in the compute type; scores are float32."""
    model = RewardModel.load(ModelConfig(path=str(work / "base"), dtype="bfloat16"), trained=trained)
    frozen = [value for value in model.model.parameters() if not value.requires_grad]
    assert dtypes(model.trained.values()) == {torch.float32}
    assert dtypes(frozen) == ({torch.bfloat16} if trained == "head" else set())
    scores = model.scores([[5, 6, 7], [8, 9]])
    scores.sum().backward()
    assert scores.dtype == torch.float32


def test_adapters_learn_in_bfloat16(work):
    """Small updates of adapters are not lost."""
    policy = load(work, lora=LoraConfig(rank=2))
    before = {name: value.detach().clone() for name, value in policy.trained.items()}
    train(policy, 5, 1e-6)
    moved = torch.cat([(value != before[name]).flatten() for name, value in policy.trained.items() if "lora_B" in name])
    assert moved.float().mean() > 0.99


def test_a_saved_model_has_the_compute_type_and_gives_the_same_logprobs(work, tmp_path):
    """Weights and the entry of config.json; training goes on in float32."""
    policy = load(work)
    train(policy, 3, 1e-3)
    policy.save(tmp_path)
    assert dtypes(load_file(tmp_path / "model.safetensors").values()) == {torch.bfloat16}
    assert json.loads((tmp_path / "config.json").read_text())["dtype"] == "bfloat16"
    assert policy.model.config.dtype == torch.float32
    assert dtypes(policy.trained.values()) == {torch.float32}
    again = Policy.load(ModelConfig(path=str(tmp_path), dtype="bfloat16"), trained=False)
    with torch.no_grad():
        difference = policy.forward_logprobs(ROWS).logprobs_B_T - again.forward_logprobs(ROWS).logprobs_B_T
    assert difference.abs().mean() < 0.02
    plain = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    assert plain.dtype == torch.bfloat16
    assert plain.lm_head.weight is plain.model.embed_tokens.weight or not plain.config.tie_word_embeddings


def test_engines_get_weights_in_the_compute_type(work):
    """The setup names the type, and the weights have it."""
    policy = load(work)
    setup = setup_of(ModelConfig(path=str(work / "base")), policy, Sampling(4), longest=30, batch=4)
    assert setup.dtype == "bfloat16"
    assert dtypes(tensor for _, tensor in setup.weights()) == {torch.bfloat16}


def test_the_engine_hf_samples_in_the_compute_type(work):
    """The log-probs that it reports are those of the trainer up to rounding; its cache is bfloat16."""
    policy = load(work)
    engine = HfEngine(policy)
    requests = [Request((5, 6, 7), [1, 2]), Request((8, 9), [3, 4])]
    for part in engine.generate(requests, Sampling(12)):
        for index, completions in part:
            for completion in completions:
                span = TokenSpan((*requests[index].prompt, *completion.tokens), len(requests[index].prompt))
                trainer = policy.forward_logprobs([span]).logprobs_B_T[0]
                assert (trainer - torch.tensor(completion.logprobs)).abs().max() < engine.tolerance


def test_float16_is_refused_with_the_remedy():
    """It overflows without a loss scaler."""
    with pytest.raises(ValidationError, match=r"float16 overflows .* use bfloat16"):
        ModelConfig(path="base", dtype="float16")


def test_auto_is_float32_on_a_cpu():
    """bfloat16 is the default only where a GPU supports it."""
    assert resolve_dtype(ModelConfig(path="base"), torch.device("cpu")) == torch.float32


@pytest.mark.parametrize("supported", [True, False])
def test_auto_is_bfloat16_on_a_gpu_that_supports_it(monkeypatch, supported):
    """And float32 on one that does not."""
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: supported)
    wanted = torch.bfloat16 if supported else torch.float32
    assert resolve_dtype(ModelConfig(path="base"), torch.device("cuda")) == wanted


def test_weights_that_are_not_finite_are_refused_when_loaded(work, tmp_path):
    """The message names the folder and the tensor."""
    policy = load(work, "float32")
    with torch.no_grad():
        policy.model.model.norm.weight[3] = torch.nan
    assert find_non_finite(policy.trained) == "model.norm.weight"
    policy.save(tmp_path)
    with pytest.raises(ConfigError, match=r"infinite or NaN \(model.norm.weight\)"):
        Policy.load(ModelConfig(path=str(tmp_path)))


def test_tiles_sum_gradients_in_float32(monkeypatch):
    """In bfloat16 the gradient through many tiles is as exact as that of one product."""
    torch.manual_seed(0)
    hidden, weight, targets = torch.randn(64, 32), torch.randn(4096, 32) / 5, torch.randint(0, 4096, (64,))
    pull = torch.randn(64)

    def gradients(dtype):
        own = [value.clone().requires_grad_() for value in (hidden, weight)]
        found, _ = logprobs.token_logprobs(*own, None, targets, compute_dtype=dtype)
        (found * pull).sum().backward()
        assert own[1].grad.dtype == torch.float32
        return [value.grad for value in own]

    exact, plain = gradients(torch.float32), gradients(torch.bfloat16)
    monkeypatch.setattr(logprobs, "PLAIN_LOGITS", 0)
    monkeypatch.setattr(logprobs, "TOKENS", 4)
    monkeypatch.setattr(logprobs, "WORDS", 64)
    tiled = gradients(torch.bfloat16)
    for right, one, many in zip(exact, plain, tiled, strict=True):
        assert (many - right).norm() < 1.3 * (one - right).norm()
