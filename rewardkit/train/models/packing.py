"""Packing: several sequences share a line of the model's input, instead of one line of padding each.

The positions of each sequence restart at 0, from which transformers makes a mask that keeps the sequences apart. FlashAttention needs no
mask, and its cost does not grow with the line, so all sequences make one line without any padding. With other kinds of attention a line
is only as long as the longest sequence, so that shorter ones fill what would be padding.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn

from rewardkit.errors import ConfigError, Location
from rewardkit.reward_models import is_out_of_memory
from rewardkit.train.data.batching import LONGEST_LINE
from rewardkit.train.data.prompt_sharing import SharingLimits
from rewardkit.train.distributed import collectives
from rewardkit.train.models.policy import Policy, TokenSpan

SHARING_ATTENTION = frozenset({"sdpa", "eager"})
"""The kinds of attention that take a mask of any form."""
SLOWNESS = 2.0
"""How many times slower the operations of attention are than those of other matrix products, as measured on a CPU."""
_NEAR = {torch.float32: 1e-4}
"""How far log-probabilities of packed and padded sequences may differ by rounding, by compute type."""


def resolve_packing(policy: Policy, setting: Literal["auto"] | bool, location: Location | None = None) -> bool:
    """Return whether sequences are packed.

    Args:
        policy: The policy. If it is sharded, all processes must call this together.
        setting: The setting ``packing``; auto packs if the model keeps packed sequences apart.
        location: The place of the setting in the configuration, for messages.

    Raises:
        ConfigError: The setting is true, and packed sequences influence each other in this model.
    """
    if setting is False or (setting == "auto" and policy.has_router_loss and not policy.has_varlen_attention):
        return False  # padding in a line would be part of the auxiliary loss of a mixture of experts
    problem = _packing_problem(policy)
    if collectives.any_rank(problem is not None) and setting is True:
        raise ConfigError((location, f"packing: {problem or 'it fails in another process'}; remove packing"))
    return not collectives.any_rank(problem is not None)


def _packing_problem(policy: Policy) -> str | None:
    """Return why sequences can't be packed, as in state space models and with ALiBi, or None.

    This is measured: the log-probabilities of a sequence must be the same alone and behind any other one.
    """
    kind = type(policy.lm).__name__
    if getattr(policy.lm.config.get_text_config(), "attention_chunk_size", None):
        return f"a {kind} attends within chunks that are counted from the beginning of a line"
    words = policy.lm.get_input_embeddings().weight.shape[0]
    row, one, other = ([(start + 7 * place) % words for place in range(6)] for start in (3, 1, 2))
    long = [(4 + 5 * place) % words for place in range(len(one) + len(row))]

    def measure(*rows: list[int]) -> list[Tensor]:
        found = policy.forward_logprobs([TokenSpan(tokens, 1) for tokens in rows], packed=len(rows) > 1)
        return [found.logprobs_B_T[index, : len(tokens) - 1] for index, tokens in enumerate(rows)]

    was_training = policy.model.training
    policy.model.eval()
    try:
        with torch.no_grad():
            alone, long_alone = measure(row)[0], measure(long)[0]
            behind = [measure(long, before, row) for before in (one, other)]
    except (TypeError, ValueError, IndexError, NotImplementedError) as error:  # no positions, or others
        return f"a {kind} takes no positions of packed rows ({error})"
    finally:
        policy.model.train(was_training)
    near = _NEAR.get(policy.compute_dtype, 0.1)  # rounding differs between shapes
    pairs = [(behind[0][2], behind[1][2], 1e-5), (alone, behind[0][2], near), (long_alone, behind[0][0], near)]
    if all(torch.allclose(first, second, rtol=0, atol=most) for first, second, most in pairs):
        return None
    return f"packed rows influence each other in a {kind}, which ignores that positions restart"


def resolve_prompt_sharing(policy: Policy, setting: Literal["auto"] | bool) -> SharingLimits | None:
    """Return which packed rows share the computation of equal prompts; None if the model can't do that.

    Rows in which a sliding window would hide a part are left out, because the mask is the same for all layers.

    Args:
        policy: The policy. If it is sharded, all processes must call this together.
        setting: The setting ``packing``; false shares nothing.
    """
    config = policy.lm.config.get_text_config()
    is_excluded = policy.attention not in SHARING_ATTENTION or getattr(config, "attention_chunk_size", None)
    # The tokens of a prompt would count once in the auxiliary loss of a mixture of experts.
    if setting is False or is_excluded or policy.has_router_loss:
        return None
    if collectives.any_rank(not _shares_prompts(policy)):
        return None
    longest = min(LONGEST_LINE, getattr(config, "sliding_window", None) or LONGEST_LINE)
    return SharingLimits(longest, _keys_of_products(policy, config))


def _keys_of_products(policy: Policy, config: Any) -> float:
    """Return with how many keys the attention of a token costs as much as the layers' matrix products."""
    embeddings = {id(part.weight) for part in policy.lm.modules() if isinstance(part, nn.Embedding)}
    head = policy.lm.get_output_embeddings()
    others = embeddings | ({id(head.weight)} if head is not None else set())
    weights = sum(value.numel() for value in policy.lm.parameters() if value.dim() == 2 and id(value) not in others)
    heads = config.num_attention_heads
    width = heads * (getattr(config, "head_dim", None) or config.hidden_size // heads)
    # A key of a token takes a product with the query and one with the probability.
    return float(weights / (2 * config.num_hidden_layers * width) / SLOWNESS)


def _shares_prompts(policy: Policy) -> bool:
    """Return whether completions behind one prompt keep their log-probabilities, and influence each other in no way."""
    words = policy.lm.get_input_embeddings().weight.shape[0]
    prompt, *completions = ([(start + 7 * place) % words for place in range(8)] for start in (3, 1, 2, 4))
    one, other, row = (TokenSpan([*prompt, *tokens], len(prompt)) for tokens in completions)
    was_training, before = policy.model.training, policy.sharing
    policy.model.eval()
    try:
        with torch.no_grad():
            alone = [policy.forward_logprobs([span]).logprobs_B_T[0] for span in (one, row)]
            policy.sharing = SharingLimits(LONGEST_LINE, math.inf)
            behind = [policy.forward_logprobs([first, row], packed=True).logprobs_B_T for first in (one, other)]
    except (TypeError, ValueError, IndexError, AttributeError, RuntimeError) as error:  # it takes no such mask
        if isinstance(error, RuntimeError) and is_out_of_memory(error):
            raise
        return False
    finally:
        policy.sharing = before
        policy.model.train(was_training)
    near = _NEAR.get(policy.compute_dtype, 0.1)
    pairs = [(behind[0][1], behind[1][1], 1e-5), (alone[0], behind[0][0], near), (alone[1], behind[0][1], near)]
    return all(torch.allclose(first, second, rtol=0, atol=most) for first, second, most in pairs)
