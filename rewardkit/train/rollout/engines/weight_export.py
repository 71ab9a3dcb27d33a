"""The trained weights as a sampler takes them over: under the names that the model's files have, adapters merged in."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from rewardkit.errors import EngineError
from rewardkit.train.distributed import fsdp


def checkpoint_weights(lm: Any) -> Iterator[tuple[str, Tensor]]:
    """All weights of a causal language model as they are now, without gradient.

    Those of a model that is divided among processes are put together: all of them have to begin at once.

    Adapters are merged on the way, layer by layer: the model itself stays as it is. Tied weights come under each of their
    names, because a sampler that ties them need not know that one name stands for both.

    Args:
        lm: The transformers model; with adapters, peft's base model with them in it.

    Raises:
        EngineError: One of two tied weights has an adapter, so that they can't be merged and stay tied.
    """
    from transformers.core_model_loading import revert_weight_conversion  # noqa: PLC0415 - heavy

    merged = dict(_merged(lm))
    config = lm.config.get_text_config()
    if getattr(config, "tie_word_embeddings", False) and (name := _adapted_embedding(lm)):
        raise EngineError(
            f"{name} has an adapter, but the model's embeddings and head are one tensor: merged weights can't be given to a "
            "sampler; leave it out of model.lora.targets"
        )
    yield from revert_weight_conversion(lm, merged).items()


def _merged(lm: Any) -> Iterator[tuple[str, Tensor]]:
    adapted = {f"{name}.": module for name, module in lm.named_modules() if hasattr(module, "get_delta_weight")}
    for name, tensor in lm.state_dict().items():
        owner = next((prefix for prefix in adapted if name.startswith(prefix)), None)
        if owner is None:
            yield name, fsdp.whole(tensor.detach())
            continue
        own = name.removeprefix(owner)
        if not own.startswith("base_layer."):
            continue  # a part of the adapter
        plain = own.removeprefix("base_layer.")
        tensor = fsdp.whole(tensor.detach())  # noqa: PLW2901
        if plain == "weight":
            with torch.no_grad():
                for adapter in adapted[owner].active_adapters:
                    delta = fsdp.whole(adapted[owner].get_delta_weight(adapter))
                    tensor = tensor + delta.to(tensor.dtype)  # noqa: PLW2901
        yield owner + plain, tensor


def _adapted_embedding(lm: Any) -> str | None:
    """Name of an embedding or a head that has an adapter."""
    ends = [module for module in (lm.get_input_embeddings(), lm.get_output_embeddings()) if module is not None]
    for name, module in lm.named_modules():
        if hasattr(module, "get_delta_weight") and any(module is end for end in ends):
            return str(name)
    return None
