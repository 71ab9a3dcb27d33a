"""Training without dropout, for losses that compare two passes of one model: chance must not tell them apart."""

from __future__ import annotations

from torch import nn


def switch_off_dropout(model: nn.Module) -> None:
    """Set every dropout of a model to 0, whether a module of its own or a number that an attention layer reads.

    Evaluation mode would do the same, but gradient checkpointing works in training mode alone.
    """
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for name, value in vars(module).items():
            if "dropout" in name and isinstance(value, float):
                setattr(module, name, 0.0)
