"""A kernel other than torch's is refused where it can't run, fails, or computes something else."""

from __future__ import annotations

import importlib.util
import sys
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from rewardkit.errors import ConfigError, Location
from rewardkit.train.config import ModelConfig
from rewardkit.train.models.kernels import choice
from rewardkit.train.models.kernels.tiles import NO_SCALING, TORCH_TILES, LogitScaling, TorchTiles
from rewardkit.train.models.policy import Policy, TokenSpan

HERE = Location("run.yaml", 4, 8)
CPU = torch.device("cpu")


@pytest.fixture
def installed(monkeypatch):
    """Return a function that makes an object the installed kernel, which runs on this machine."""

    def install(kernel):
        monkeypatch.setenv("TRITON_INTERPRET", "1")
        find = importlib.util.find_spec
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: object() if name == "triton" else find(name))
        name = "rewardkit.train.models.kernels.triton_tiles"
        monkeypatch.setitem(sys.modules, name, SimpleNamespace(TRITON_TILES=kernel))
        return kernel

    return install


def choose(head=None, scaling=NO_SCALING, dtype=torch.float32):
    """Return the kernel that a run with ``logprob_kernel: triton`` gets."""
    torch.manual_seed(0)
    return choice.chosen_kernel("triton", head or nn.Linear(8, 50), scaling, dtype, CPU, HERE)


def message(**settings):
    """Return why the kernel is refused."""
    with pytest.raises(ConfigError) as caught:
        choose(**settings)
    return str(caught.value)


class WrongEntropy(TorchTiles):
    """Its entropies are too large."""

    def add_tile(self, sums, product_R_W, targets_R, first, logit_map, *, masses):
        """As in ``TileKernel``."""
        found = super().add_tile(sums, product_R_W, targets_R, first, logit_map, masses=masses)
        sums.weighted_R *= 1.001
        return found


class WrongLogprobs(TorchTiles):
    """Its log-probabilities are too small."""

    def add_tile(self, sums, product_R_W, targets_R, first, logit_map, *, masses):
        """As in ``TileKernel``."""
        found = super().add_tile(sums, product_R_W, targets_R, first, logit_map, masses=masses)
        sums.rest_R += 0.01
        return found


class WrongMasses(TorchTiles):
    """Its gradients are wrong where the head is frozen."""

    def add_tile(self, sums, product_R_W, targets_R, first, logit_map, *, masses):
        """As in ``TileKernel``."""
        found = super().add_tile(sums, product_R_W, targets_R, first, logit_map, masses=masses)
        return found and (found[0], found[1] * 1.01)


class WrongGradient(TorchTiles):
    """Its gradients are too large where the head is trained."""

    def gradient_tile(self, *arguments):
        """As in ``TileKernel``."""
        return super().gradient_tile(*arguments) * 1.01


class NotANumber(TorchTiles):
    """Its gradients are NaN."""

    def gradient_tile(self, *arguments):
        """As in ``TileKernel``."""
        return super().gradient_tile(*arguments) * torch.nan


class Failing(TorchTiles):
    """It can't run."""

    def gradient_tile(self, *_):
        """As in ``TileKernel``."""
        raise RuntimeError("no kernel image is available\nfor execution")


def test_torch_needs_nothing():
    """The default is chosen without a comparison, whatever makes the logits."""
    assert choice.chosen_kernel("torch", None, NO_SCALING, torch.float32, CPU) is TORCH_TILES


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("scaling", [NO_SCALING, LogitScaling(0.5), LogitScaling(2.0, 30.0)])
@pytest.mark.parametrize("words", [50, choice.SLICE + 7])
def test_an_equal_kernel_is_chosen(installed, dtype, scaling, words):
    """It is accepted for each scaling, type and size of the vocabulary."""
    kernel = installed(TorchTiles())
    assert choose(nn.Linear(8, words), scaling, dtype) is kernel


@pytest.mark.parametrize(
    ("kernel", "said"),
    [
        (WrongLogprobs, r"the log-probability of a token is -\S+ instead of -"),
        (WrongEntropy, r"the entropy of a token is -?\S+ instead of \d"),
        (WrongMasses, r"the gradient of hidden states differs by a norm of \S+, of \d"),
        (WrongGradient, r"the gradient of hidden states differs by a norm of \S+, of \d"),
        (NotANumber, r"the gradient of hidden states differs by a norm of nan, of \d"),
    ],
)
def test_a_kernel_that_differs_is_refused_with_both_numbers(installed, kernel, said):
    """Log-probabilities, entropies, and the gradients of frozen and trained heads are compared."""
    installed(kernel())
    with pytest.raises(ConfigError, match=f"run.yaml.*triton does not compute what torch computes: {said}"):
        choose()


def test_a_kernel_that_fails_is_refused_with_its_error(installed):
    """The first line of the error is enough."""
    installed(Failing())
    assert message().endswith("triton fails on this device: no kernel image is available; remove it")


def test_a_device_without_triton_is_refused(installed, monkeypatch):
    """Triton runs on GPUs, unless it interprets its kernels."""
    installed(TorchTiles())
    monkeypatch.delenv("TRITON_INTERPRET")
    assert "runs on GPUs, and this process computes on the device cpu" in message()


def test_a_missing_package_is_named(monkeypatch):
    """The configuration is refused before a model is loaded, with how to install it."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(
        ValueError, match=r"logprob_kernel: triton needs the package triton; run pip install 'rewardkit\[triton\]'"
    ):
        ModelConfig(path="./base", logprob_kernel="triton")


def test_a_model_that_makes_its_own_logits_is_refused():
    """There is no product whose logits a kernel could read."""
    with pytest.raises(ConfigError, match="this model's own forward makes its logits"):
        choice.chosen_kernel("triton", None, NO_SCALING, torch.float32, CPU)


def test_a_policy_computes_with_the_chosen_kernel(work, installed, monkeypatch):
    """The policy and its frozen copy use it, and the configuration's place is named where it is refused."""
    calls = []

    class Counted(TorchTiles):
        def add_tile(self, *arguments, **settings):
            calls.append(1)
            return super().add_tile(*arguments, **settings)

    installed(Counted())
    config = ModelConfig(path=str(work / "base"), logprob_kernel="triton")
    policy = Policy.load(config, HERE)
    monkeypatch.setattr("rewardkit.train.models.logprobs.PLAIN_LOGITS", 0)
    for model in (policy, policy.copy(trained=False)):
        calls.clear()
        model.forward_logprobs([TokenSpan((5, 6, 7, 8), 1)])
        assert calls
    installed(WrongGradient())
    with pytest.raises(ConfigError, match=r"run\.yaml:4:8: .*gradient"):
        Policy.load(config, HERE)
