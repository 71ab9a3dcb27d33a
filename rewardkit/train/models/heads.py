"""The two ends of a causal language model: how it makes logits of hidden states, and the gradient of its input embedding.

If the logits are the product with the output embedding, perhaps scaled or capped as the configuration says, log-probabilities are
computed in tiles (``logprobs``). Other models make logits by their own forward.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from rewardkit.language_models import own_logits
from rewardkit.train.models.kernels.tiles import LogitScaling

SPARSE_FROM = 1 << 22
"""The number of weights from which the gradient of the input embedding is sparse in the backward pass."""
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


def large_embedding(lm: Any) -> nn.Embedding | None:
    """Return the input embedding of a model if it is trained and large. Its gradient becomes dense once it is complete."""
    found = lm.get_input_embeddings()
    if not isinstance(found, nn.Embedding) or not found.weight.requires_grad or found.max_norm is not None:
        return None
    if found.weight.numel() < SPARSE_FROM:
        return None
    found.weight.register_post_accumulate_grad_hook(_make_gradient_dense)  # type: ignore[no-untyped-call]
    return found


@contextmanager
def sparse_gradient(embedding: nn.Embedding | None) -> Iterator[None]:
    """Return a context whose forward passes give an embedding a sparse gradient.

    A dense one would be a further tensor of the embedding's size for each micro-batch, with zeros for all tokens that do not occur.
    """
    if embedding is None or not torch.is_grad_enabled():
        yield
        return
    before = embedding.sparse
    embedding.sparse = True
    try:
        yield
    finally:
        embedding.sparse = before


def _make_gradient_dense(parameter: Tensor) -> None:
    """Make the gradient of a parameter dense, if nothing dense has been added to it. Later sparse ones are added to it in place."""
    if parameter.grad is not None and parameter.grad.is_sparse:
        parameter.grad = parameter.grad.to_dense()
