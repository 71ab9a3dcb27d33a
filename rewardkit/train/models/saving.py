"""Saves models as folders that transformers and peft load."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rewardkit.train.models.precision import cast_state


def save_pretrained(model: Any, folder: Path, weights: dict[str, Tensor] | None, dtype: torch.dtype) -> None:
    """Save a model, or the adapters of a model with adapters, as float32.

    Args:
        model: A model of transformers or peft.
        folder: The folder to write.
        weights: The full state dict of a sharded model; None for the weights of the model itself.
        dtype: The data type of the saved weights.
    """
    if hasattr(model, "peft_config"):
        # Embeddings with adapters stay frozen themselves, so those of the base model serve.
        model.save_pretrained(folder, state_dict=weights, save_embedding_layers=False)
        return
    own = model.state_dict(keep_vars=True) if weights is None else weights
    trained_in = model.config.dtype
    model.save_pretrained(folder, state_dict=cast_state(own, dtype))
    try:
        model.config.dtype = dtype
        model.config.save_pretrained(folder)
    finally:
        model.config.dtype = trained_in


def replace_adapters(folder: Path, merged: Any, dtype: torch.dtype) -> None:
    """Replace saved adapters by the whole model that they have been merged into.

    Adapters that were trained on a model with other adapters need this: their configuration can name only that model's base.

    Args:
        folder: The folder that holds the adapters.
        merged: The whole model.
        dtype: The data type of the saved weights.
    """
    for name in ("adapter_config.json", "adapter_model.safetensors", "README.md"):
        (folder / name).unlink(missing_ok=True)
    save_pretrained(merged, folder, None, dtype)
