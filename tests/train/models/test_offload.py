"""Weights and moments in the CPU's memory, and refusals where that has no effect."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from rewardkit.errors import ConfigError
from rewardkit.train.config.reading import read_train_config
from rewardkit.train.models.offload import OffloadedAdamW, OffloadedModel, refuse_useless_offload


def stepped(optimizer_class, weights, steps, state=None, **settings):
    """Return weights after some steps, and the state of the optimizer."""
    parameters = [nn.Parameter(weight.clone()) for weight in weights]
    optimizer = optimizer_class(parameters, lr=0.1, weight_decay=0.01, **settings)
    if state is not None:
        optimizer.load_state_dict(copy.deepcopy(state))
    for step in steps:
        for parameter in parameters:
            parameter.grad = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(step))
        optimizer.step()
    return [parameter.detach() for parameter in parameters], optimizer.state_dict()


def test_offloaded_moments_are_those_of_adamw():
    """The weights are those of torch's own steps, and each continues from the state of the other."""
    start = [torch.ones(3, 4), torch.ones(5)]
    want, _ = stepped(torch.optim.AdamW, start, range(4), fused=True)
    kinds = (OffloadedAdamW, torch.optim.AdamW)
    for first, second in (kinds, kinds[::-1]):
        half, state = stepped(first, start, range(2), fused=True)
        found, _ = stepped(second, half, range(2, 4), state, fused=True)
        torch.testing.assert_close(found, want, rtol=0, atol=0)


def test_an_offloaded_model_is_on_the_device_only_while_it_is_used():
    """It computes with a copy of its weights, which is released."""
    model = nn.Linear(2, 2)
    want = model(torch.ones(1, 2)).detach()
    offloaded = OffloadedModel(model, torch.device("cpu"))
    host = model.weight.data_ptr()
    for _ in range(2):
        with offloaded.on_device():
            assert model.weight.data_ptr() != host
            torch.testing.assert_close(model(torch.ones(1, 2)).detach(), want)
        assert model.weight.data_ptr() == host


CONFIG = {
    "version": 1,
    "stage": "grpo",
    "output": "out",
    "model": {"path": "./m"},
    "data": {"train": "a.jsonl"},
    "reward": {"components": {"length": {"use": "length.penalty", "with": {"per_token": 0.02}}}},
    "steps": 1,
}


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"optimizer": {"offload": True}}, "optimizer.offload"),
        ({"kl": {"coefficient": 0.1, "offload_reference": True}}, "kl.offload_reference"),
    ],
)
def test_offloading_is_refused_on_a_cpu(settings, key):
    """It would have no effect; on a GPU the same configuration is right."""
    file = read_train_config({**CONFIG, **settings})
    with pytest.raises(ConfigError, match=f"{key} has no effect on a CPU"):
        refuse_useless_offload(file, torch.device("cpu"))
    refuse_useless_offload(file, torch.device("cuda"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kl": {"offload_reference": True}}, "without a kl.coefficient there is no reference model"),
        (
            {"kl": {"coefficient": 1, "offload_reference": True}, "model": {"path": "./m", "lora": {}}},
            "no effect with model.lora",
        ),
        ({"kl": {"coefficient": 1, "offload_reference": True}, "fsdp": True}, "can't be combined with fsdp"),
        ({"optimizer": {"offload": True}, "fsdp": True}, r"optimizer\.offload can't be combined with fsdp"),
        ({"optimizer": {"offload": True, "use": "adamw_foreach"}}, "only the moments of use: adamw can be offloaded"),
    ],
)
def test_settings_that_can_not_be_combined_are_refused(settings, message):
    """When the configuration is read."""
    with pytest.raises(ConfigError, match=message):
        read_train_config({**CONFIG, **settings})
