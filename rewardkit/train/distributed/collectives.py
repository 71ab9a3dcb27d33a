"""Collectives for training in several processes, as ``torchrun`` or ``accelerate launch`` start them.

Every process knows the whole batch, since tokens and rewards are small. So advantages and token weights are those of one
process. Sampling, scoring, and the passes through the model are distributed, and gradients are summed. Every process holds
all weights, unless ``fsdp`` shards them.

All functions work in a single process, too, where they change nothing. Unless stated otherwise, all processes must call them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed

T = TypeVar("T")


def rank() -> int:
    """Return the number of this process, counted from 0. Needs no other process."""
    return distributed.get_rank() if _is_initialized() else 0


def size() -> int:
    """Return the number of processes. Needs no other process."""
    return distributed.get_world_size() if _is_initialized() else 1


def is_main_process() -> bool:
    """Return whether this process writes files and prints messages. Needs no other process."""
    return rank() == 0


def local_shard(items: Sequence[T]) -> list[T]:
    """Return this process's part of a sequence that all processes know: every ``size()``-th item. Needs no other process."""
    return list(items[rank() :: size()])


def all_gather(own: list[T]) -> list[T]:
    """Join the parts of all processes, in the order of the sequence that ``local_shard`` distributed.

    Args:
        own: This process's part; it must pickle.
    """
    if size() == 1:
        return own
    parts: list[Any] = [None] * size()
    distributed.all_gather_object(parts, own)
    return [parts[index % size()][index // size()] for index in range(sum(map(len, parts)))]


def all_reduce_gradients(parameters: Iterable[Tensor]) -> None:
    """Sum the gradients of all processes in place. A process without rows has no gradients, which count as 0."""
    if size() == 1:
        return
    chosen = list(parameters)
    # A parameter without a gradient in any process keeps none: with a gradient of 0, decay and momentum would still change it.
    known = all_reduce_sum(torch.tensor([float(parameter.grad is not None) for parameter in chosen])).tolist()
    for parameter in (parameter for parameter, count in zip(chosen, known, strict=True) if count):
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        distributed.all_reduce(parameter.grad)


def all_reduce_sum(values: Tensor) -> Tensor:
    """Return the sum of a tensor over all processes. It is computed on the CPU for gloo, on the GPU for NCCL."""
    if size() == 1:
        return values
    device = torch.device("cuda") if distributed.get_backend() == "nccl" else torch.device("cpu")
    total = values.to(device, torch.float32, copy=True)
    distributed.all_reduce(total)
    return total.to(values.device, values.dtype)


def any_rank(value: bool) -> bool:
    """Return whether the value is true in any process."""
    return bool(all_reduce_sum(torch.tensor(float(value)))) if size() > 1 else value


def barrier() -> None:
    """Wait until all processes have called this."""
    if size() > 1:
        distributed.barrier()


def _is_initialized() -> bool:
    return distributed.is_available() and distributed.is_initialized()
