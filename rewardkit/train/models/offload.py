"""What a run on a GPU may keep in the CPU's memory: the optimizer's moments, and the frozen reference model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

from rewardkit.errors import ConfigError
from rewardkit.train.config import RlConfig
from rewardkit.train.config.training_file import TrainFile

MOMENTS = ("exp_avg", "exp_avg_sq")
"""AdamW's names of its moments."""


def refuse_useless_offload(file: TrainFile, device: torch.device) -> None:
    """Refuse to offload to the CPU what is there already.

    Args:
        file: The configuration.
        device: The device of this process.

    Raises:
        ConfigError: The configuration offloads something, and the device is a CPU.
    """
    if device.type != "cpu":
        return
    config = file.config
    keys = [("optimizer", "offload")] if config.optimizer.offload else []
    if isinstance(config, RlConfig) and config.kl.offload_reference:
        keys.append(("kl", "offload_reference"))
    if keys:
        name = ".".join(keys[0])
        raise ConfigError((file.where(*keys[0]), f"{name} has no effect on a CPU, where nothing else is; remove it"))


def to_host(tensor: Tensor) -> Tensor:
    """Return a tensor in the CPU's memory, pinned where that makes copies to a GPU faster."""
    found = tensor.detach().to("cpu", copy=True)
    return found.pin_memory() if torch.cuda.is_available() else found


class OffloadedModel:
    """A frozen model whose weights are in the CPU's memory, except while they are used."""

    def __init__(self, model: Any, device: torch.device) -> None:
        """Move the model's weights to the CPU's memory.

        Args:
            model: The model. Its weights must not change.
            device: The device on which it computes.
        """
        self.device = device
        self._weights = {tensor: to_host(tensor) for tensor in (*model.parameters(), *model.buffers())}
        self._release()

    @contextmanager
    def on_device(self) -> Iterator[None]:
        """Return a context in which the weights are on the device."""
        for tensor, host in self._weights.items():
            tensor.data = host.to(self.device, non_blocking=True, copy=True)
        try:
            yield
        finally:
            self._release()

    def _release(self) -> None:
        for tensor, host in self._weights.items():
            tensor.data = host


class OffloadedAdamW(torch.optim.AdamW):
    """AdamW whose moments are in the CPU's memory. A step copies those of one parameter at a time to the device and back."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override,unused-ignore]  # noqa: ARG002
        """Apply the gradients.

        Args:
            closure: Must be None. It is an argument because torch's own optimizers have it.
        """
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, group)
        if torch.cuda.is_available():
            torch.cuda.synchronize()  # the copies to the CPU are complete

    def _update(self, parameter: nn.Parameter, group: Mapping[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state["step"] = torch.zeros(())
            state |= {name: to_host(torch.zeros(parameter.shape, dtype=parameter.dtype)) for name in MOMENTS}
        first, second = (state[name].to(parameter.device, non_blocking=True) for name in MOMENTS)
        step = state["step"].to(parameter.device)
        beta1, beta2 = group["betas"]
        adamw(
            [parameter],
            [parameter.grad],  # type: ignore[list-item]  # the caller has checked it
            [first],
            [second],
            [],
            [step],
            fused=True,
            amsgrad=False,
            beta1=beta1,
            beta2=beta2,
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=False,
        )
        for name, value in (*zip(MOMENTS, (first, second), strict=True), ("step", step)):
            state[name].copy_(value, non_blocking=True)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore a state without moving the moments to the device.

        Args:
            state_dict: The state of AdamW, whether its moments were offloaded or not.
        """
        super().load_state_dict({**state_dict, "state": {}})
        parameters = [parameter for group in self.param_groups for parameter in group["params"]]
        for index, values in state_dict["state"].items():
            self.state[parameters[index]] = {name: to_host(value) for name, value in values.items()}
