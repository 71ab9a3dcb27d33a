"""Several processes on one batch (``torchrun`` or ``accelerate launch``): each takes its share of the rows, gradients are added up.

Every process knows the whole batch (tokens and rewards are small), so that advantages and weights of tokens are those of one
process; what is divided is sampling, scoring and the passes through the model. Every process holds all weights, unless ``sharding``
divides these, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed

T = TypeVar("T")


def rank() -> int:
    """Which process this is, from 0."""
    return distributed.get_rank() if _is_on() else 0


def size() -> int:
    """How many processes there are."""
    return distributed.get_world_size() if _is_on() else 1


def is_first() -> bool:
    """Whether this is the process that writes files and talks."""
    return rank() == 0


def share(items: Sequence[T]) -> list[T]:
    """This process's part of a sequence that all know."""
    return list(items[rank() :: size()])


def gathered(own: list[T]) -> list[T]:
    """The parts of all processes, put together in the order that ``share`` divided."""
    if size() == 1:
        return own
    parts: list[Any] = [None] * size()
    distributed.all_gather_object(parts, own)
    return [parts[index % size()][index // size()] for index in range(sum(map(len, parts)))]


def add_gradients(parameters: Iterable[Tensor]) -> None:
    """Add up the gradients of all processes; a process without rows has none, which counts as 0."""
    if size() == 1:
        return
    chosen = list(parameters)
    # What has a gradient in no process keeps none: of one that is 0, decay and momentum would still move the weights.
    known = added(torch.tensor([float(parameter.grad is not None) for parameter in chosen])).tolist()
    for parameter in (parameter for parameter, count in zip(chosen, known, strict=True) if count):
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        distributed.all_reduce(parameter.grad)


def added(values: Tensor) -> Tensor:
    """The sum over all processes; on the CPU for gloo, on the device for NCCL."""
    if size() == 1:
        return values
    device = torch.device("cuda") if distributed.get_backend() == "nccl" else torch.device("cpu")
    total = values.to(device, torch.float32, copy=True)
    distributed.all_reduce(total)
    return total.to(values.device, values.dtype)


def is_true_anywhere(value: bool) -> bool:
    """Whether it is true of any process."""
    return bool(added(torch.tensor(float(value)))) if size() > 1 else value


def wait() -> None:
    """Wait for all processes."""
    if size() > 1:
        distributed.barrier()


def _is_on() -> bool:
    return distributed.is_available() and distributed.is_initialized()
