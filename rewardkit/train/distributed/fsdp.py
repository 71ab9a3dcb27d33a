"""Sharded models, by torch's FSDP2: weights, gradients and optimizer states are divided among all processes.

Each process holds some rows of every parameter, as a ``DTensor``. Each layer's weights are gathered for its forward and backward
pass, then released. The gradients are then summed over the processes, and each process keeps those of its rows. Every process must
take part in these exchanges, in the same order. A process with fewer micro-batches than others runs idle passes.
"""

from __future__ import annotations

import ctypes
import math
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, distributed, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, Shard, distribute_tensor
from torch.utils._pytree import tree_map_only

from rewardkit.errors import ConfigError, Location
from rewardkit.train.distributed import collectives

T = TypeVar("T")


class ShardedModel(nn.Module):
    """A model that is sharded in place. All processes must call each method together.

    The model moves to the device layer by layer, so it need not fit there unsharded.
    """

    def __init__(self, model: Any, device: torch.device) -> None:
        super().__init__()
        self.model = model
        mesh = process_mesh(device)
        done: set[int] = set()
        for module in (*_layers(model), self):
            _gather_parameters(module, done)
            fully_shard(module, mesh=mesh, reshard_after_forward=True)
            _return_freed_memory()
        self._groups = [module for module in self.modules() if isinstance(module, FSDPModule)]
        for group in self._groups:
            group.set_gradient_divide_factor(1.0)  # gradients are summed, not averaged
            group.set_force_sum_reduction_for_comms(enable=True)  # gloo supports no other reduction
            group.set_reduce_scatter_unused_params(reduce_scatter_unused_params=True, recurse=False)
        self._is_unsharded = False

    def forward(self, function: Callable[..., T], *args: Any) -> T:
        """Call a function that uses the model, with the weights outside of its layers gathered.

        Args:
            function: Returns a tensor or a tuple of tensors, whose hooks start the backward pass of FSDP.
            args: The arguments of the function.
        """
        found = function(*args)
        # torch warns of views, which would lose the hook if they were written to.
        return tree_map_only(Tensor, lambda tensor: tensor.clone() if tensor._is_view() else tensor, found)  # type: ignore[no-any-return]  # noqa: SLF001

    def run_idle_passes(self, passes: int) -> None:
        """Run passes without effect while other processes run their micro-batches; backward, too, where gradients are enabled."""
        ids = torch.zeros(1, 1, dtype=torch.long, device=next(self.parameters()).device)
        for _ in range(passes):
            logits: Tensor = self(lambda: self.model(input_ids=ids).logits)
            if logits.requires_grad:
                (0 * logits.sum()).backward()  # type: ignore[no-untyped-call]

    @contextmanager
    def unsharded(self) -> Iterator[None]:
        """Gather all weights in every process, so that each may run any number of passes without gradients."""
        if self._is_unsharded:
            yield
            return
        self._is_unsharded = True
        try:
            for group in self._groups:
                group.set_reshard_after_forward(reshard_after_forward=False, recurse=False)
                group.unshard()
            yield
        finally:
            for group in self._groups:
                group.reshard()
                group.set_reshard_after_forward(reshard_after_forward=True, recurse=False)
            self._is_unsharded = False


def shard_model(model: Any, device: torch.device, location: Location | None = None) -> ShardedModel | None:
    """Shard a model among the processes and run one pass to prove that it works.

    Args:
        model: A model of transformers.
        device: The device of this process.
        location: The place of the setting in the configuration, for messages.

    Returns:
        The sharded model; None if there is only one process.

    Raises:
        ConfigError: The model can't be sharded, or its sharded form can't run.
    """
    if collectives.size() == 1:
        return None
    if not hasattr(FSDPModule, "set_reduce_scatter_unused_params"):
        raise ConfigError((location, f"fsdp: torch {torch.__version__} is too old; install torch>=2.13"))
    try:
        sharded = ShardedModel(model, device)
        with torch.no_grad():
            sharded.run_idle_passes(1)
        _return_freed_memory()
    except (torch.OutOfMemoryError, distributed.DistError):
        raise
    except (
        ValueError,
        AssertionError,
        NotImplementedError,
        RuntimeError,
    ) as error:  # FSDP has no exceptions of its own
        problem = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ConfigError((location, f"fsdp: {type(model).__name__} can't be sharded: {problem}")) from error
    return sharded


def process_mesh(device: torch.device) -> DeviceMesh:
    """Return the mesh of all processes. All processes must call this together.

    Args:
        device: The device of this process.
    """
    return init_device_mesh(device.type, (collectives.size(),))


def divide_empty_parameters(model: nn.Module, mesh: DeviceMesh) -> None:
    """Declare the matrices of a model on torch's meta device as divided by rows, so that each process loads its rows alone.

    Matrices with fewer rows than processes, and vectors, stay undivided until ``ShardedModel`` divides them.

    Args:
        model: The model, which is changed in place.
        mesh: The processes.
    """
    found: dict[nn.Parameter, nn.Parameter] = {}
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.is_meta and parameter.dim() > 1 and parameter.shape[0] >= mesh.size():
                if parameter not in found:  # tied weights stay one parameter
                    part = distribute_tensor(parameter.detach(), mesh, [Shard(0)], src_data_rank=None)
                    found[parameter] = nn.Parameter(part, requires_grad=parameter.requires_grad)
                setattr(module, name, found[parameter])


@torch.no_grad()
def _gather_parameters(module: nn.Module, done: set[int]) -> None:
    """Gather the parameters of a module that are divided for loading, so that FSDP can divide them in its own way.

    Args:
        module: The module, which is changed in place.
        done: The ids of modules inside whose parameters FSDP has divided already. The others are added.
    """
    found: dict[DTensor, nn.Parameter] = {}
    for inner in (inner for inner in module.modules() if id(inner) not in done):
        done.add(id(inner))
        for name, parameter in inner.named_parameters(recurse=False):
            if isinstance(parameter, DTensor):
                if parameter not in found:  # tied weights stay one parameter
                    full = parameter.full_tensor()
                    found[parameter] = nn.Parameter(full, requires_grad=parameter.requires_grad)
                setattr(inner, name, found[parameter])


def _return_freed_memory() -> None:
    """Return freed memory to the system, where the C library can.

    glibc keeps the memory of gathered layers for later, which would add up to more than the whole model.
    """
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)


def _layers(model: Any) -> list[nn.Module]:
    """Return the blocks that transformers never splits, innermost first.

    Blocks that hold embeddings are left out, since the head may be tied to them.
    """
    names = set(getattr(model, "_no_split_modules", None) or ())
    embedding = model.get_input_embeddings()
    found = [module for module in model.modules() if type(module).__name__ in names]
    return [module for module in reversed(found) if all(inner is not embedding for inner in module.modules())]


def is_sharded(tensor: Tensor) -> bool:
    """Return whether this process holds only a part of the tensor."""
    return isinstance(tensor, DTensor)


def local_tensor(tensor: Tensor) -> Tensor:
    """Return the part of a sharded tensor that this process holds; a tensor that is not sharded is returned unchanged."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def full_tensor(tensor: Tensor) -> Tensor:
    """Return the full tensor in every process."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


@torch.no_grad()
def gather_weights(
    model: nn.Module, folder: Path, dtype: torch.dtype | None = None, *, only_trained: bool = False
) -> dict[str, Tensor]:
    """Gather the weights of a sharded model in the main process, one tensor at a time.

    The main process keeps them in a file that is mapped into memory and has no name any more. So it needs free space on the disk, and
    main memory for the largest tensor alone. All processes must call this.

    Args:
        model: The sharded model.
        folder: The folder on whose disk the main process keeps the weights.
        dtype: The data type of the gathered floating-point tensors; None for that of each weight.
        only_trained: Leave out what the optimizer does not change.

    Returns:
        In the main process, the state dict with full tensors; in the others an empty one.

    Raises:
        OSError: There is not enough space on the disk.
    """
    state = model.state_dict(keep_vars=True)
    chosen = {name: value for name, value in state.items() if value.requires_grad or not only_trained}
    types = {
        name: dtype if dtype is not None and value.is_floating_point() else value.dtype
        for name, value in chosen.items()
    }
    places, end = {}, 0
    for name, value in chosen.items():
        places[name] = (end, end + value.numel() * types[name].itemsize)
        end = -(-places[name][1] // 16) * 16  # begins where any data type may begin
    memory = _file_memory(folder, end) if collectives.is_main_process() else None
    gathered: dict[int, Tensor] = {}
    for name, value in chosen.items():
        if id(value) in gathered:  # tied weights stay one tensor
            continue
        full = full_tensor(value.detach().to(types[name]))
        if memory is not None:
            place = torch.from_numpy(memory[slice(*places[name])]).view(types[name]).view(value.shape)
            gathered[id(value)] = place.copy_(full)
        else:
            gathered[id(value)] = full.new_empty(0)
    return {name: gathered[id(value)] for name, value in chosen.items()} if memory is not None else {}


def _file_memory(folder: Path, size: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return bytes in a file without a name on the disk of a folder. Raises OSError if there is not enough space."""
    with tempfile.TemporaryFile(dir=folder) as file:
        if hasattr(os, "posix_fallocate"):  # a full disk is an error here, and a crash once the file is mapped
            os.posix_fallocate(file.fileno(), 0, max(size, 1))
        else:
            file.truncate(max(size, 1))
        return np.memmap(file, np.uint8, "r+", shape=(max(size, 1),))


def local_part(full: Tensor, like: Tensor) -> Tensor:
    """Return this process's part of a tensor that is to be sharded as ``like`` is; the full tensor if ``like`` is not sharded."""
    if not isinstance(like, DTensor):
        return full
    return distribute_tensor(full.to(like.device), like.device_mesh, like.placements, src_data_rank=None)


def clip_gradients(gradients: Sequence[Tensor], max_norm: float | None) -> float:
    """Scale gradients in place so that their common norm is at most ``max_norm``.

    Args:
        gradients: Sharded and other gradients.
        max_norm: The largest norm; None for no limit.

    Returns:
        The norm of all gradients before scaling.
    """
    sharded = [gradient.to_local() for gradient in gradients if isinstance(gradient, DTensor)]
    others = [gradient for gradient in gradients if not isinstance(gradient, DTensor)]
    square = collectives.all_reduce_sum(nn.utils.get_total_norm(sharded).float() ** 2)
    norm = math.sqrt(float(square + nn.utils.get_total_norm(others).to(square.device) ** 2))
    if max_norm is not None and max_norm < norm < math.inf:
        for gradient in (*sharded, *others):
            gradient.mul_(max_norm / (norm + 1e-6))  # as torch does
    return norm
