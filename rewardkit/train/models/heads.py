"""Finds out how a causal language model makes logits of hidden states.

If the logits are the product with the output embedding, perhaps scaled or capped as the configuration says, log-probabilities are
computed in tiles (``logprobs``). Other models make logits by their own forward.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from rewardkit.language_models import own_logits
from rewardkit.train.models.logprobs import LogitScaling

LARGE_LOGIT = 200.0
"""The size of the logits on which a head is tried out. Caps are far below it, so that none is overlooked because weights are small."""
HEAD_TOLERANCE = 0.02
"""The largest difference to the model's own logits, relative to the largest logit: rounding of bfloat16."""
PROBES = 8


@torch.no_grad()
def find_head(lm: Any) -> tuple[nn.Linear, LogitScaling] | None:
    """Return the output embedding of a model and the scaling of its logits, or None if they do not give the model's own logits.

    The scaling is what the model's configuration says. It is tried out on hidden states that give large logits.
    """
    head = lm.get_output_embeddings()
    if type(head) is not nn.Linear:
        return None
    scaling = configured_scaling(lm.config.get_text_config())
    generator = torch.Generator().manual_seed(0)
    hidden_N_H = torch.randn(PROBES, head.in_features, generator=generator).to(head.weight.device)
    product_N_V = head(hidden_N_H.to(head.weight.dtype)).float() * scaling.scale
    largest = float(product_N_V.abs().max())
    if largest > 0:
        hidden_N_H = hidden_N_H * (LARGE_LOGIT / largest)
    hidden_N_H = hidden_N_H.to(head.weight.dtype)
    own_N_V = own_logits(lm, hidden_N_H).float()
    expected_N_V = scaling.apply(head(hidden_N_H))
    if own_N_V.shape != expected_N_V.shape:
        return None
    difference = float((own_N_V - expected_N_V).abs().max())
    return (head, scaling) if difference <= HEAD_TOLERANCE * max(float(own_N_V.abs().max()), 1e-6) else None


def configured_scaling(config: Any) -> LogitScaling:
    """Return the scaling and capping of logits that a model's configuration says."""
    scale = 1.0
    for name, power in (("logit_scale", 1), ("logits_scaling", -1), ("lm_head_multiplier", 1)):
        value = getattr(config, name, None)
        if isinstance(value, int | float) and value > 0:
            scale *= float(value) ** power
    cap = getattr(config, "final_logit_softcapping", None)
    return LogitScaling(scale, float(cap) if cap else None)
