"""Loads a model so that each process reads only its part of the weights.

The model is created without weights (on torch's meta device) and each large parameter is declared as a ``DTensor`` that is divided by
rows. transformers then reads from the files only the rows of this process. ``ShardedModel`` later divides the same weights layer by layer
among FSDP's groups, for which it gathers one layer at a time.
"""

from __future__ import annotations

import functools
from typing import Any

import torch

from rewardkit.train.distributed import fsdp


def load_divided(auto: Any, source: str, device: torch.device, trust_remote_code: bool, **settings: Any) -> Any | None:
    """Load a model whose large parameters are divided by rows among the processes.

    Args:
        auto: One of transformers' automatic classes.
        source: The folder or hub name of the model. It has no adapters.
        device: The device of this process.
        trust_remote_code: Whether code that comes with the model may run.
        settings: Further arguments of ``from_pretrained``.

    Returns:
        The model; None if its weights can't be read in parts, because this version of transformers does not read ``DTensor``
        parameters or because the files hold weights in another arrangement than the model.

    Raises:
        OSError: There is no such model.
        ValueError: The model is of another class.
    """
    from transformers import AutoConfig

    try:
        from transformers.conversion_mapping import get_model_conversion_mapping
        from transformers.distributed.sharding_utils import DtensorShardOperation  # noqa: F401 - only to find out
    except ImportError:
        return None
    config = AutoConfig.from_pretrained(source, trust_remote_code=trust_remote_code)
    with torch.device("meta"):
        empty = auto.from_config(config, trust_remote_code=trust_remote_code)
    if not all(_keeps_rows(conversion) for conversion in get_model_conversion_mapping(empty)):
        return None
    kind, mesh = type(empty), fsdp.process_mesh(device)

    @functools.wraps(kind.__init__)
    def create(self: Any, *args: Any, **arguments: Any) -> None:
        kind.__init__(self, *args, **arguments)
        fsdp.divide_empty_parameters(self, mesh)

    # transformers creates the model itself, so a subclass is the only place between the creation and the reading of weights.
    subclass: Any = type(kind.__name__, (kind,), {"__init__": create, "__module__": kind.__module__})
    place = {} if device.type == "cpu" else {"device_map": {"": device}}
    model = subclass.from_pretrained(source, trust_remote_code=trust_remote_code, **place, **settings)
    model.__class__ = kind
    return model


def _keeps_rows(conversion: Any) -> bool:
    """Return whether a conversion of weights on loading can be done on some of the rows alone.

    Renamings can, and so can experts that are stacked along the first dimension, and concatenations along the others.
    """
    for operation in getattr(conversion, "operations", ()):
        kind, dim = type(operation).__name__, getattr(operation, "dim", None)
        if not ((kind == "MergeModulelist" and dim == 0) or (kind == "Concatenate" and dim not in {None, 0})):
            return False
    return True
