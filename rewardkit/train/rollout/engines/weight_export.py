"""Exports the trained weights for a rollout engine: under the names of the model's files, with adapters merged."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from rewardkit.train.distributed import fsdp


def checkpoint_weights(
    lm: Any, dtype: torch.dtype | None = None, *, merged: bool = True
) -> Iterator[tuple[str, Tensor]]:
    """Yield the current weights of a causal language model, without gradient.

    The weights of a sharded model are gathered, so all processes must call this at the same time. Adapters are merged; the model itself
    is unchanged. Gathered, merged and cast weights exist for one layer at a time, unless the caller keeps them. Tied weights are yielded
    under each of their names.

    Args:
        lm: The transformers model; with adapters, peft's base model that contains them.
        dtype: The data type of the yielded weights; by default each weight's own.
        merged: Whether the adapters are merged into the weights, or left out.

    Yields:
        Name and tensor of each weight.
    """
    from transformers.core_model_loading import revert_weight_conversion

    for _, layer in itertools.groupby(_full_weights(lm, dtype, merged=merged), key=lambda item: _layer_of(item[0])):
        weights = dict(layer)
        converted = revert_weight_conversion(lm, weights)
        while converted:
            name = next(iter(converted))
            weights.pop(name, None)
            yield name, converted.pop(name)


def _full_weights(lm: Any, dtype: torch.dtype | None, *, merged: bool) -> Iterator[tuple[str, Tensor]]:
    """Yield the weights under their names without peft's modules. Several adapters may be nested, as those of experts are."""
    adapted = {f"{name}.": module for name, module in lm.named_modules() if hasattr(module, "get_delta_weight")}
    for name, tensor in lm.state_dict().items():
        owners = [prefix for prefix in adapted if name.startswith(prefix)]
        if not owners:
            yield name, _cast(fsdp.full_tensor(tensor.detach()), dtype)
            continue
        if not name.removeprefix(max(owners, key=len)).startswith("base_layer."):
            continue  # belongs to the adapter
        full = fsdp.full_tensor(tensor.detach())
        deltas = [
            fsdp.full_tensor(adapted[owner].get_delta_weight(adapter))
            for owner in owners
            if merged
            and _without_base_layer(name.removeprefix(owner)) == getattr(adapted[owner], "parameter_name", "weight")
            for adapter in adapted[owner].active_adapters
        ]
        if deltas:
            full = sum((delta.float() for delta in deltas), start=full.float()).to(full.dtype)  # rounded once
        yield _without_base_layer(name), _cast(full.detach(), dtype)


def _layer_of(name: str) -> str:
    """Return the layer of a weight: its name up to the first number. Files divide and join weights within a layer alone."""
    parts = name.split(".")
    number = next((place for place, part in enumerate(parts) if part.isdigit()), -1)
    return ".".join(parts[: number + 1])


def _without_base_layer(name: str) -> str:
    """Return the name of a weight in the model without adapters."""
    return ".".join(part for part in name.split(".") if part != "base_layer")


def _cast(tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
    return tensor if dtype is None or not tensor.is_floating_point() else tensor.to(dtype)
