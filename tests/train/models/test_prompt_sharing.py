"""Rows that share a prompt have the log-probabilities and gradients of rows of their own, or are left alone."""

from __future__ import annotations

import math

import pytest
import torch
import transformers

from rewardkit.train.data.batching import PackedRows, own_micro_batches
from rewardkit.train.data.prompt_sharing import Prompts, SharingLimits, bundle_lengths, bundle_rows, shared_inputs
from rewardkit.train.models.packing import resolve_prompt_sharing
from rewardkit.train.models.policy import Policy, TokenSpan

SIZES = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
    "bos_token_id": None,
    "eos_token_id": 1,
    "initializer_range": 0.3,
}
KINDS = {
    "Qwen2": {},
    "Qwen3": {},
    "Llama": {},
    "Gemma2": {"sliding_window": 40, "query_pre_attn_scalar": 8, "final_logit_softcapping": 5.0},
    "Gemma3Text": {"sliding_window": 40, "query_pre_attn_scalar": 8},
    "Mistral": {"sliding_window": 40},
    "Phi3": {},
    "Olmo2": {},
    "GPT2": {
        "n_embd": 32,
        "n_layer": 2,
        "n_head": 4,
        "n_positions": 128,
        "resid_pdrop": 0,
        "embd_pdrop": 0,
        "attn_pdrop": 0,
    },
    "GPTNeoX": {},
    "Cohere": {},
    "SmolLM3": {},
}


OTHERS = {
    "OPT": {"ffn_dim": 48, "word_embed_proj_dim": 32},
    "Bloom": {"n_layer": 2, "n_head": 4, "attention": "eager"},
    "Mamba": {"attention": "eager"},
    "FalconH1": {"mamba_d_ssm": 32, "mamba_n_heads": 4, "mamba_d_head": 8, "mamba_n_groups": 1, "mamba_d_state": 8},
}
ALWAYS = SharingLimits(longest=8192, keys=math.inf)


def tokens(count, seed):
    """Return token ids."""
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randint(2, 60, (count,), generator=generator).tolist())


def group(seed, start, counts):
    """Return rows of one prompt."""
    prompt = tokens(start, seed)
    return [TokenSpan((*prompt, *tokens(count, 100 * seed + place)), start) for place, count in enumerate(counts)]


ROWS = [*group(1, 6, (5, 1, 9, 4)), *group(2, 3, (2, 7)), *group(3, 11, (3,)), *group(1, 6, (8,))]


def policy_of(policy, kind, attention=None):
    """Return a policy of another architecture, with the tokenizer of a policy."""
    torch.manual_seed(0)
    settings = {**SIZES, **KINDS.get(kind, OTHERS.get(kind, {}))}
    config = getattr(transformers, f"{kind}Config")(**settings)
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation=attention)
    return Policy(model, policy.tokenizer, torch.device("cpu"))


def measured(policy, *, shared):
    """Return log-probabilities, entropies and gradients of the rows, and the number of tokens that the model got."""
    seen = []
    hook = policy.lm.get_input_embeddings().register_forward_pre_hook(lambda _, args: seen.append(args[0].numel()))
    found = policy.forward_logprobs(ROWS, 0.7, packed=shared)
    weights_B_T = torch.randn(found.logprobs_B_T.shape, generator=torch.Generator().manual_seed(3))
    (found.logprobs_B_T * weights_B_T).sum().backward()
    hook.remove()
    gradients = torch.cat([value.grad.flatten() for value in policy.trained.values() if value.grad is not None])
    policy.model.zero_grad()
    return found.logprobs_B_T.detach(), found.entropy_B_T, gradients, sum(seen)


@pytest.mark.parametrize(
    ("kind", "attention"),
    [*((kind, "eager" if kind == "Gemma2" else "sdpa") for kind in KINDS), ("Qwen2", "eager"), ("GPT2", "eager")],
)
def test_rows_that_share_a_prompt_are_rows_of_their_own(policy, kind, attention):
    """Log-probabilities, entropies and gradients are the same, for fewer tokens."""
    model = policy_of(policy, kind, attention)
    alone = measured(model, shared=False)
    found = resolve_prompt_sharing(model, "auto")
    assert found.longest >= 40
    model.sharing = ALWAYS
    together = measured(model, shared=True)
    assert torch.allclose(together[0], alone[0], atol=2e-5)
    assert torch.allclose(together[1], alone[1], atol=2e-5)
    assert torch.allclose(together[2], alone[2], rtol=1e-4, atol=1e-5 * float(alone[2].abs().max()))
    assert alone[2].norm() > 1e-2
    assert together[3] < alone[3]


@pytest.mark.parametrize("kind", ["OPT", "Bloom", "Mamba", "FalconH1"])
def test_models_that_can_not_keep_completions_apart_share_nothing(policy, kind):
    """Positions that are counted, biases by distance, and states are no matter of a mask."""
    assert resolve_prompt_sharing(policy_of(policy, kind, OTHERS[kind].get("attention")), "auto") is None


def test_a_model_that_ignores_the_mask_or_counts_chunks_shares_nothing(policy, monkeypatch):
    """It is tried out; packing: false shares nothing in any case."""
    assert resolve_prompt_sharing(policy, "auto") is not None
    assert resolve_prompt_sharing(policy, False) is None
    forward = policy.backbone
    monkeypatch.setattr(policy, "backbone", lambda **inputs: forward(**{**inputs, "attention_mask": None}))
    assert resolve_prompt_sharing(policy, "auto") is None
    monkeypatch.undo()
    policy.lm.config.attention_chunk_size = 64
    assert resolve_prompt_sharing(policy, "auto") is None


def test_rows_beyond_a_sliding_window_are_computed_alone(policy):
    """A mask for all layers has no window."""
    model = policy_of(policy, "Gemma3Text")
    model.packing, model.sharing = True, resolve_prompt_sharing(model, "auto")
    assert model.sharing.longest == 40
    rows = group(1, 30, (12, 12, 4))
    with torch.no_grad():
        alone, together = (model.forward_logprobs(rows, packed=packed).logprobs_B_T for packed in (False, True))
    assert torch.allclose(together, alone, atol=2e-5)
    assert model.packed_rows([[len(row.tokens)] for row in rows], [row.tokens[:30] for row in rows]).sharing is None


def test_inputs_of_shared_prompts():
    """A completion follows its prompt in position and sees it, itself and nothing else."""
    found = shared_inputs([(5, 6, 7), (5, 6, 8, 9), (4, 3)], [2, 2, 1], [[1, 0], [2]], [[0], [1]])
    assert found.ids_L_W.tolist() == [[5, 6, 8, 9, 7], [4, 3, 0, 0, 0]]
    assert found.positions_L_W.tolist() == [[0, 1, 2, 3, 2], [0, 1, 0, 0, 0]]
    assert found.attends_L_W_W[0].int().tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0],
        [1, 1, 1, 1, 0],
        [1, 1, 0, 0, 1],
    ]
    assert found.attends_L_W_W[1, 2:].any(-1).all()  # padding attends to something, so that nothing is NaN
    assert [place.tolist() for place in found.places] == [[1], [1, 2], [5]]


def test_rows_are_bundled_where_that_costs_less():
    """Long prompts are shared by many rows; short ones before long completions, where attention costs more, by none."""
    prompts = Prompts.of([(1,) * 100] * 6 + [(2,) * 100])
    lengths = [120, 130, 140, 110, 110, 110, 120]
    bundles = bundle_rows(lengths, prompts, SharingLimits(longest=1000, keys=1000.0))
    assert sorted(map(sorted, bundles)) == [[0, 1, 2, 3, 4, 5], [6]]
    assert sorted(bundle_lengths(bundles, lengths, prompts)) == [120, 220]
    assert all(len(rows) == 1 for rows in bundle_rows(lengths, prompts, SharingLimits(longest=115, keys=1000.0)))
    short = Prompts.of([(1,) * 5] * 6)
    assert all(len(rows) == 1 for rows in bundle_rows([205] * 6, short, SharingLimits(longest=8192, keys=1000.0)))


def test_micro_batches_count_a_shared_prompt_once():
    """Rows of a bundle stay together, and no micro-batch exceeds the limit."""
    prompts = Prompts.of([(row // 4,) * 20 for row in range(16)])
    packed = PackedRows([[30]] * 16, one_line=False, sharing=(prompts, SharingLimits(8192, 1000.0)))
    parts, idle = own_micro_batches([30] * 16, 120, packed)
    assert [sorted(part) for part in parts] == [list(range(at, at + 8)) for at in (0, 8)]
    assert idle == 0
    cut, _ = own_micro_batches([30] * 16, 45, packed)
    assert sorted(row for part in cut for row in part) == list(range(16))
    assert {len(part) for part in cut} == {2}
