"""Tensors in files that all processes write and read together, by torch.distributed.checkpoint.

Each process writes the parts of the tensors that it holds to safetensors files of its own, with the place of each part. Any number of
processes, sharded in any way, can read them: each reads the parts that it needs.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import Tensor

from rewardkit.train.distributed import collectives

FILE_BYTES = 1 << 30
"""A process begins a new file when it has written about so many bytes. Tensors of a GPU are copied to main memory file by file."""


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """What is known of a tensor before it is read."""

    shape: torch.Size
    dtype: torch.dtype


def write_tensors(folder: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors into a folder. All processes must call this together.

    Args:
        folder: The folder, which every process sees.
        tensors: The tensors by name. All processes name the same, and each holds its part of those that are sharded.

    Raises:
        OSError: A file can't be written. All processes raise it.
        RuntimeError: Anything else went wrong. All processes raise it.
    """
    from torch.distributed.checkpoint.state_dict_saver import save

    from rewardkit.train.distributed.tensor_writer import TensorWriter

    if not tensors:
        return
    writer = TensorWriter(str(folder), _file_numbers(tensors), save_distributed=True)
    with _plain_errors():
        save(
            {name: value.detach() for name, value in tensors.items()},
            storage_writer=writer,
            no_dist=collectives.size() == 1,
        )


def stored_tensors(folder: Path) -> dict[str, StoredTensor]:
    """Return shape and data type of every tensor in a folder, by name. Raises OSError if a file can't be read."""
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader

    found = HuggingFaceStorageReader(str(folder)).read_metadata().state_dict_metadata
    return {name: StoredTensor(entry.size, entry.properties.dtype) for name, entry in found.items()}  # type: ignore[union-attr]


def read_tensors(folder: Path, into: Mapping[str, Tensor]) -> None:
    """Read tensors from a folder. All processes must call this together.

    Args:
        folder: A folder that ``write_tensors`` has written, with any number of processes.
        into: The tensors to overwrite, by name; each process reads its part of those that are sharded.

    Raises:
        OSError: A file can't be read. All processes raise it.
        RuntimeError: Anything else went wrong. All processes raise it.
    """
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader
    from torch.distributed.checkpoint.state_dict_loader import load

    if not into:
        return
    with _plain_errors():
        load(
            {name: value.detach() for name, value in into.items()},
            storage_reader=HuggingFaceStorageReader(str(folder)),
            no_dist=collectives.size() == 1,
        )


def _file_numbers(tensors: Mapping[str, Tensor]) -> dict[str, int]:
    """Return the number of the file, from 1, that takes each tensor, the same in all processes."""
    numbers, written = {}, 0
    for name, value in tensors.items():
        numbers[name] = 1 + written // (FILE_BYTES * collectives.size())
        written += value.numel() * value.element_size()
    return numbers


@contextmanager
def _plain_errors() -> Iterator[None]:
    """Raise the first error of any process in place of torch's exception, which is no ``Exception``, and ignore torch's warnings."""
    from torch.distributed.checkpoint.api import CheckpointException

    try:
        with warnings.catch_warnings():
            warnings.filterwarnings(
                "ignore", "torch.distributed is disabled, unavailable or uninitialized", UserWarning
            )
            yield
    except CheckpointException as failed:
        error = next(iter(failed.failures.values()))[0]
        if isinstance(error, OSError | RuntimeError | SafetensorError):
            raise error from failed
        raise RuntimeError(f"{type(error).__name__}: {error}") from failed
