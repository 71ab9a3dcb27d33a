"""Measures what a model's passes need without running them: on fake tensors, which have shapes and data types but no memory.

The model is built from its configuration, so no weights are loaded. ``FakeTensorMode`` of torch runs the model's own forward and
backward pass, with the operations that the CPU would run, and a counter adds up the storages that exist at the same time.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from rewardkit.errors import Location
from rewardkit.train.config import ModelConfig
from rewardkit.train.models.loading import base_model, prepare_for_training
from rewardkit.train.models.precision import autocast, freeze


@dataclass(frozen=True, slots=True)
class ModelSize:
    """The sizes of a model that decide about memory."""

    weights: int
    """Bytes of all weights, as they are loaded for training."""
    trained: int
    """Number of weights that are trained."""
    parameters: int
    """Number of all weights, without adapters."""
    largest_layer: int
    """Bytes of the weights of the largest layer."""
    outside: int
    """Bytes of the weights outside of the layers, such as embeddings."""
    vocabulary: int
    width: int
    """The width of hidden states."""
    trains_head: bool
    """Whether the output embedding is trained."""
    cache_per_token: int
    """Number of keys and values that a token adds to the cache of generation."""
    context: int
    """The model's context length in tokens."""


class _LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of the storages that exist at the same time."""

    def __init__(self, known: Iterator[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live = self.peak = 0
        self._seen = {tensor.untyped_storage()._cdata for tensor in known}  # noqa: SLF001 - the identity of a storage

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation, and count the storages of its results."""
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self._add(leaf.untyped_storage())
        return result

    def _add(self, storage: Any) -> None:
        key, size = storage._cdata, storage.nbytes()  # noqa: SLF001 - the identity of a storage
        if key in self._seen:
            return
        self._seen.add(key)
        self.live += size
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._remove, key, size)

    def _remove(self, key: int, size: int) -> None:
        self._seen.discard(key)
        self.live -= size


class TracedModel:
    """A model of fake tensors."""

    def __init__(
        self,
        auto: Any,
        config: ModelConfig,
        compute_dtype: torch.dtype,
        location: Location | None = None,
        **settings: Any,
    ) -> None:
        """Build the model as training would, without weights.

        Args:
            auto: The automatic class of transformers, such as ``AutoModelForCausalLM``.
            config: The section ``model`` of the configuration.
            compute_dtype: The data type of matrix products.
            location: The place of the model's path in the configuration, for messages.
            settings: Changes to the model's configuration.
        """
        from transformers import AutoConfig

        self.config = AutoConfig.from_pretrained(
            base_model(config.path, location), trust_remote_code=config.trust_remote_code, **settings
        )
        self.compute_dtype = compute_dtype
        self.mode = FakeTensorMode(allow_non_fake_inputs=True)
        dtype = torch.float32 if config.lora is None else compute_dtype
        with torch.device("meta"):
            model = auto.from_config(
                self.config,
                dtype=dtype,
                attn_implementation=None if config.attention == "auto" else config.attention,
                trust_remote_code=config.trust_remote_code,
            )
            self.model: Any = prepare_for_training(
                model, "SEQ_CLS" if settings else "CAUSAL_LM", config, location
            ).train()
        self._make_fake()
        self.lm: Any = self.model.get_base_model() if hasattr(self.model, "peft_config") else self.model
        self.backbone: Any = getattr(self.lm, self.lm.base_model_prefix)

    def _make_fake(self) -> None:
        """Replace the tensors of the meta device by fake tensors of the CPU, for which torch chooses the CPU's operations."""
        made: dict[int, Any] = {}
        with self.mode:
            for module in self.model.modules():
                for name, value in module._parameters.items():  # noqa: SLF001 - what torch's own tools for fake tensors do
                    if value is not None and id(value) not in made:
                        fake = torch.empty(value.shape, dtype=value.dtype, device="cpu")
                        made[id(value)] = nn.Parameter(fake, requires_grad=value.requires_grad)
                    module._parameters[name] = made.get(id(value))  # noqa: SLF001
                for name, buffer in module._buffers.items():  # noqa: SLF001
                    if buffer is not None:
                        module._buffers[name] = torch.empty(buffer.shape, dtype=buffer.dtype, device="cpu")  # noqa: SLF001

    def freeze_backbone(self) -> None:
        """Freeze all weights but those of the head."""
        with self.mode:
            freeze(self.backbone, self.compute_dtype)

    def size(self) -> ModelSize:
        """Return the sizes of the model."""
        text = self.config.get_text_config()
        layers = _layers(self.lm)
        in_layers = sum(map(_bytes, layers))
        embedding, head = self.lm.get_input_embeddings(), self.lm.get_output_embeddings()
        return ModelSize(
            weights=_bytes(self.model),
            trained=sum(value.numel() for value in self.model.parameters() if value.requires_grad),
            parameters=sum(value.numel() for name, value in self.model.named_parameters() if ".lora_" not in name),
            largest_layer=max(map(_bytes, layers), default=0),
            outside=_bytes(self.model) - in_layers,
            vocabulary=embedding.weight.shape[0],
            width=embedding.weight.shape[1],
            trains_head=head is not None and any(value.requires_grad for value in head.parameters()),
            cache_per_token=cache_per_token(text),
            context=int(getattr(text, "max_position_embeddings", 0) or 1 << 30),
        )

    def pass_bytes(self, rows: int, length: int, *, packed: bool = False) -> int:
        """Return the most bytes of activations that exist during a forward and backward pass of the model without its head.

        Args:
            rows: The number of rows of the micro-batch.
            length: The number of tokens of each row.
            packed: Whether the rows are concatenated.
        """
        parameters = [value for value in self.model.parameters() if value.requires_grad]
        with self._counting(parameters) as counter:
            hidden = self._hidden(rows, length, packed=packed)
            if hidden.requires_grad:
                hidden.backward(torch.empty_like(hidden))  # type: ignore[no-untyped-call]
        return counter.peak

    def pass_bytes_without_gradient(self, rows: int, length: int) -> int:
        """Return the most bytes of activations that exist during a forward pass.

        Args:
            rows: The number of rows of the micro-batch.
            length: The number of tokens of each row.
        """
        with self._counting([]) as counter, torch.no_grad():
            self._hidden(rows, length, packed=False)
        return counter.peak

    @contextmanager
    def _counting(self, trained: list[nn.Parameter]) -> Iterator[_LiveBytes]:
        with self.mode, torch.device("cpu"):
            for value in trained:
                value.grad = torch.empty_like(value)  # a later micro-batch adds to these
            known = (*self.model.parameters(), *self.model.buffers(), *(value.grad for value in trained))
            with _LiveBytes(iter(known)) as counter:
                yield counter
            for value in trained:
                value.grad = None

    def _hidden(self, rows: int, length: int, *, packed: bool) -> Tensor:
        inputs: dict[str, Tensor] = {"input_ids": torch.zeros(rows, length, dtype=torch.long)}
        if packed:
            inputs = {
                "input_ids": torch.zeros(1, rows * length, dtype=torch.long),
                "position_ids": torch.arange(length).repeat(rows)[None],
            }
        with autocast(torch.device("cpu"), self.compute_dtype):
            return self.backbone(use_cache=False, **inputs).last_hidden_state  # type: ignore[no-any-return]


def cache_per_token(config: Any) -> int:
    """Return the number of keys and values that a token adds to the cache of generation.

    Args:
        config: The text configuration of a transformers model.
    """
    heads = config.num_attention_heads
    kept = getattr(config, "num_key_value_heads", None) or heads
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    return math.prod((2, config.num_hidden_layers, kept, width))


def _layers(model: Any) -> list[nn.Module]:
    """Return the blocks that transformers never splits, which hold most of the weights."""
    names = set(getattr(model, "_no_split_modules", None) or ())
    return [module for module in model.modules() if type(module).__name__ in names]


def _bytes(module: nn.Module) -> int:
    """Return the bytes of a module's weights. Tied weights count once."""
    return sum(value.numel() * value.element_size() for value in module.parameters())
