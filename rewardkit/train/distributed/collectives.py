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

BUCKET_BYTES = 25 * 1024 * 1024
"""The size of the buckets in which gradients are summed, that of torch's DistributedDataParallel."""


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
    """Sum the gradients of all processes in place, in buckets of about ``BUCKET_BYTES``.

    A process without rows has no gradients, which count as 0.
    """
    if size() == 1:
        return
    chosen = list(parameters)
    # A parameter without a gradient in any process keeps none: with a gradient of 0, decay and momentum would still change it.
    known = all_reduce_sum(torch.tensor([float(parameter.grad is not None) for parameter in chosen])).tolist()
    gradients = []
    for parameter in (parameter for parameter, count in zip(chosen, known, strict=True) if count):
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        gradients.append(parameter.grad)
    for bucket in buckets(gradients):
        if len(bucket) == 1 and bucket[0].is_contiguous():
            distributed.all_reduce(bucket[0])
            continue
        flat = torch.cat([gradient.reshape(-1) for gradient in bucket])
        distributed.all_reduce(flat)
        for gradient, total in zip(bucket, torch.split(flat, [gradient.numel() for gradient in bucket]), strict=True):
            gradient.copy_(total.view(gradient.shape))


def buckets(tensors: Iterable[Tensor], most_bytes: int | None = None) -> list[list[Tensor]]:
    """Group tensors, each group of one data type and device, into buckets.

    Args:
        tensors: The tensors.
        most_bytes: The largest size of a bucket, by default ``BUCKET_BYTES``. A larger tensor is a bucket of its own.
    """
    limit = BUCKET_BYTES if most_bytes is None else most_bytes
    found: list[list[Tensor]] = []
    open_buckets: dict[tuple[torch.dtype, torch.device], tuple[list[Tensor], int]] = {}
    for tensor in tensors:
        kind = tensor.dtype, tensor.device
        bucket, used = open_buckets.get(kind, ([], 0))
        if not bucket or used + tensor.nbytes > limit:
            bucket, used = [], 0
            found.append(bucket)
        bucket.append(tensor)
        open_buckets[kind] = bucket, used + tensor.nbytes
    return found


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
