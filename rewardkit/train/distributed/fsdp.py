"""Models that do not fit one process: weights, gradients and moments divided among all, by torch's FSDP2. What touches it is here.

Of every parameter each process holds some rows, as a ``DTensor``. A layer's weights are whole only while it is passed, forward or
backward; then its gradients are added up over the processes, and each keeps those of its rows. In all of these exchanges every
process has to take part, in one order: one that has less to do makes ``idle`` passes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.utils._pytree import tree_map_only

from rewardkit.errors import ConfigError, Location
from rewardkit.train.distributed import collectives

T = TypeVar("T")


class Shards(nn.Module):
    """A model divided among the processes, in place, and the door to it. All methods are for all processes at once.

    It gets onto the device layer by layer, and need not fit there as a whole.
    """

    def __init__(self, model: Any, device: torch.device) -> None:
        super().__init__()
        self.model = model
        mesh = init_device_mesh(device.type, (collectives.size(),))
        for module in (*_layers(model), self):
            fully_shard(module, mesh=mesh, reshard_after_forward=True)
        self._groups = [module for module in self.modules() if isinstance(module, FSDPModule)]
        for group in self._groups:
            group.set_gradient_divide_factor(1.0)  # gradients are added up, not averaged
            group.set_force_sum_reduction_for_comms(enable=True)  # all that gloo can do
            group.set_reduce_scatter_unused_params(reduce_scatter_unused_params=True, recurse=False)
        self._is_whole = False

    def forward(self, function: Callable[..., T], *args: Any) -> T:
        """Call what passes the model, or uses weights that are outside of its layers: they are whole meanwhile.

        It returns a tensor or a tuple of tensors, by which the beginning of the backward pass is noticed.
        """
        found = function(*args)
        # torch warns of views, which would lose the hook if somebody wrote into them.
        return tree_map_only(Tensor, lambda tensor: tensor.clone() if tensor._is_view() else tensor, found)  # type: ignore[no-any-return]  # noqa: SLF001

    def idle(self, passes: int) -> None:
        """Passes without effect, beside those that another process makes: backward, too, where gradients are on."""
        ids = torch.zeros(1, 1, dtype=torch.long, device=next(self.parameters()).device)
        for _ in range(passes):
            logits: Tensor = self(lambda: self.model(input_ids=ids).logits)
            if logits.requires_grad:
                (0 * logits.sum()).backward()  # type: ignore[no-untyped-call]

    @contextmanager
    def whole(self) -> Iterator[None]:
        """Inside, each process has all weights, and makes as many passes without gradient as it likes."""
        if self._is_whole:
            yield
            return
        self._is_whole = True
        try:
            for group in self._groups:
                group.set_reshard_after_forward(reshard_after_forward=False, recurse=False)
                group.unshard()
            yield
        finally:
            for group in self._groups:
                group.reshard()
                group.set_reshard_after_forward(reshard_after_forward=True, recurse=False)
            self._is_whole = False


def shards_of(model: Any, device: torch.device, location: Location | None = None) -> Shards | None:
    """Divide a model among the processes, and pass it once; None where there is only one process.

    Raises:
        ConfigError: It can't be divided, or not be passed then.
    """
    if collectives.size() == 1:
        return None
    if not hasattr(FSDPModule, "set_reduce_scatter_unused_params"):
        raise ConfigError((location, f"shard: needs a later torch than {torch.__version__}; 2.13 will do"))
    try:
        shards = Shards(model, device)
        with torch.no_grad():
            shards.idle(1)
    except (torch.OutOfMemoryError, distributed.DistError):
        raise
    except (ValueError, AssertionError, NotImplementedError, RuntimeError) as error:  # FSDP has no errors of its own
        problem = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ConfigError((location, f"shard: {type(model).__name__} can't be divided: {problem}")) from error
    return shards


def _layers(model: Any) -> list[nn.Module]:
    """The blocks that transformers never divides, innermost first; less those with embeddings, which a head may be tied to."""
    names = set(getattr(model, "_no_split_modules", None) or ())
    embedding = model.get_input_embeddings()
    found = [module for module in model.modules() if type(module).__name__ in names]
    return [module for module in reversed(found) if all(inner is not embedding for inner in module.modules())]


def is_sharded(tensor: Tensor) -> bool:
    """Whether this process holds only a part of it."""
    return isinstance(tensor, DTensor)


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor, for every process."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


@torch.no_grad()
def gathered(tree: T) -> T:
    """A tree with its divided tensors whole, on the CPU, for the first process; the others take part and get empty ones."""
    found: dict[int, Tensor] = {}

    def kept(part: DTensor) -> Tensor:
        if id(part) not in found:  # what is tied stays one tensor
            tensor = part.full_tensor()
            found[id(part)] = tensor.cpu() if collectives.is_first() else tensor.new_empty(0)
        return found[id(part)]

    return tree_map_only(DTensor, kept, tree)  # type: ignore[no-any-return]


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """The state dict of a divided model, ``gathered``."""
    return gathered(model.state_dict(keep_vars=True))


def part_of(whole: Tensor, like: Tensor) -> Tensor:
    """What this process holds of a tensor that is divided as another one is; all of it, where that is not divided."""
    if not isinstance(like, DTensor):
        return whole
    return distribute_tensor(whole.to(like.device), like.device_mesh, like.placements, src_data_rank=None)


def clip(gradients: Sequence[Tensor], longest: float | None) -> float:
    """Scale gradients, divided ones and others, down to a length as a whole; returns the length before."""
    divided = [gradient.to_local() for gradient in gradients if isinstance(gradient, DTensor)]
    others = [gradient for gradient in gradients if not isinstance(gradient, DTensor)]
    square = collectives.added(nn.utils.get_total_norm(divided).float() ** 2)
    norm = math.sqrt(float(square + nn.utils.get_total_norm(others).to(square.device) ** 2))
    if longest is not None and longest < norm < math.inf:
        for gradient in (*divided, *others):
            gradient.mul_(longest / (norm + 1e-6))  # as torch does
    return norm
