"""How models make logits of hidden states: by a product, scaled, capped, or otherwise."""

from __future__ import annotations

import pytest
import torch
import transformers
from torch.utils._python_dispatch import TorchDispatchMode

from rewardkit.language_models import own_logits
from rewardkit.train.models import logprobs
from rewardkit.train.models.kernels.tiles import NO_SCALING, LogitScaling
from rewardkit.train.models.policy import Policy, TokenSpan

SIZES = {
    "vocab_size": 61,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "pad_token_id": 0,
    "bos_token_id": None,
    "eos_token_id": 0,
}
ROWS = [TokenSpan(tuple(range(5, 25)), 3), TokenSpan(tuple(range(30, 40)), 1)]


def policy_of(policy, kind, **settings):
    """Return a policy of another architecture, with the tokenizer of a policy."""
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(**{**SIZES, **settings})
    return Policy(transformers.AutoModelForCausalLM.from_config(config), policy.tokenizer, torch.device("cpu"))


def own_logprobs(model, row):
    """Return the log-probabilities of a row by transformers' own forward."""
    logits = model.lm(input_ids=torch.tensor([row.tokens]), use_cache=False).logits[0].float()
    logprobs_T_V = logits[row.start - 1 : -1].log_softmax(-1)
    return logprobs_T_V.gather(1, torch.tensor(row.tokens[row.start :])[:, None]).squeeze(1)


@pytest.mark.parametrize("initializer_range", [0.02, 0.3])
@pytest.mark.parametrize(
    ("kind", "settings", "scaling"),
    [
        ("Qwen2", {}, NO_SCALING),
        ("Cohere", {"logit_scale": 0.0625}, LogitScaling(0.0625)),
        ("Granite", {"logits_scaling": 8.0}, LogitScaling(0.125)),
        ("Gemma2", {"head_dim": 8, "query_pre_attn_scalar": 8, "final_logit_softcapping": 3.0}, LogitScaling(cap=3.0)),
    ],
)
def test_scaled_and_capped_heads_are_computed_in_tiles(policy, monkeypatch, kind, settings, scaling, initializer_range):
    """The configuration says how, however small the weights are; values and gradients are those of the model's own forward."""
    model = policy_of(policy, kind, initializer_range=initializer_range, **settings)
    model.model.eval()
    assert model._head is model.lm.get_output_embeddings()
    assert model._scaling == scaling
    expected = [own_logprobs(model, row) for row in ROWS]
    sum(item.sum() for item in expected).backward()
    gradients = {name: value.grad.clone() for name, value in model.trained.items()}
    model.model.zero_grad()
    monkeypatch.setattr(logprobs, "PLAIN_LOGITS", 0)
    monkeypatch.setattr(logprobs, "WORDS", 16)
    found = model.forward_logprobs(ROWS).logprobs_B_T
    found.sum().backward()
    for row, one in enumerate(expected):
        assert torch.allclose(found[row][: len(one)], one, atol=1e-5)
    for name, value in model.trained.items():
        assert torch.allclose(value.grad, gradients[name], atol=1e-4, rtol=1e-3), name


def test_a_head_that_the_configuration_does_not_describe_is_not_taken_for_a_product(policy, monkeypatch):
    """Its logits are those of the model's own forward, though a small product would look the same."""
    original = transformers.Qwen2ForCausalLM.forward

    def capped(self, *args, **options):
        found = original(self, *args, **options)
        found.logits = 3 * (found.logits / 3).tanh()
        return found

    monkeypatch.setattr(transformers.Qwen2ForCausalLM, "forward", capped)
    model = policy_of(policy, "Qwen2", initializer_range=1e-3)
    model.model.eval()
    assert model._head is None
    found = model.forward_logprobs(ROWS).logprobs_B_T
    found.sum().backward()
    gradients = {name: value.grad.clone() for name, value in model.trained.items()}
    for row in range(2):
        own = own_logprobs(model, ROWS[row])
        assert torch.allclose(found[row][: len(own)], own, atol=1e-5)
    # Not all logits exist at once, and the result is the same.
    model.model.zero_grad()
    parts = []

    def counted(lm, hidden):
        parts.append(len(hidden))
        return own_logits(lm, hidden)

    monkeypatch.setattr("rewardkit.train.models.policy.own_logits", counted)
    monkeypatch.setattr("rewardkit.train.models.policy.PLAIN_LOGITS", 3 * model.lm.config.vocab_size)
    in_parts = model.forward_logprobs(ROWS).logprobs_B_T
    in_parts.sum().backward()
    assert max(parts) == 3
    assert torch.allclose(in_parts, found, atol=1e-6)
    for name, value in model.trained.items():
        assert torch.allclose(value.grad, gradients[name], atol=1e-5, rtol=1e-3), name


class LargestTensor(TorchDispatchMode):
    """Records the largest number of elements of a tensor that an operation returns."""

    elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        found = function(*args, **(kwargs or {}))
        for tensor in found if isinstance(found, tuple | list) else [found]:
            if isinstance(tensor, torch.Tensor):
                self.elements = max(self.elements, tensor.numel())
        return found


def test_greedy_accuracy_is_computed_in_parts(policy, monkeypatch):
    """No tensor has the logits of all tokens, and the result is the same."""
    hidden = torch.randn(300, policy.lm.config.hidden_size)
    tokens = policy.next_logits(hidden).argmax(-1)
    tokens[::2] = 0
    expected = policy.next_logits(hidden).argmax(-1) == tokens
    monkeypatch.setattr("rewardkit.train.models.policy.PLAIN_LOGITS", 62 * 20)
    with LargestTensor() as seen:
        found = policy.are_likeliest(hidden, tokens)
    assert torch.equal(found, expected)
    assert seen.elements < 62 * 40, "300 × 62 are the logits of all tokens"
