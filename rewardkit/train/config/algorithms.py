"""The named algorithms: which advantage, loss and reduction each combines. A configuration may replace any part."""

from __future__ import annotations

import functools
import hashlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rewardkit.authoring import params_from_signature
from rewardkit.config.params import make_params, params_schema, plain_params
from rewardkit.config.validate import did_you_mean, schema_problems
from rewardkit.config.yaml import Document
from rewardkit.errors import ConfigError
from rewardkit.train.config import AlgorithmConfig, RlConfig
from rewardkit.train.config.lazy import load_object
from rewardkit.train.config.rl import AdvantageKind, Algorithm, Reduction
from rewardkit.user_functions import load_module

_LOSSES = "rewardkit.train.losses.policy_loss"


@dataclass(frozen=True, slots=True)
class Preset:
    """The parts of a named algorithm."""

    advantage: AdvantageKind
    """How rewards become advantages: per completion by ``ADVANTAGES``, except for the two of REINFORCE++, which are per token."""
    reduction: Reduction
    """How token losses are averaged."""
    loss: str = "clip"
    """The policy loss."""
    settings: Mapping[str, float] = field(default_factory=dict)
    """Settings of the loss that differ from its defaults."""


PRESETS: Mapping[Algorithm, Preset] = {
    "grpo": Preset("group_std", "grpo"),
    "dr_grpo": Preset("none", "dr_grpo"),
    "bnpo": Preset("group_std", "bnpo"),
    "dapo": Preset("group_std", "dapo", settings={"eps_high": 0.28}),
    "cispo": Preset("group_std", "dapo", "cispo"),
    "gspo": Preset("group_std", "grpo", "gspo"),
    "sapo": Preset("group_std", "grpo", "sapo"),
    "rloo": Preset("rloo", "bnpo", "reinforce"),
    "reinforce++": Preset("reinforce_pp", "bnpo"),
    "reinforce++-baseline": Preset("reinforce_pp_baseline", "bnpo"),
}
"""By name. Papers: GRPO 2402.03300, Dr. GRPO 2503.20783, DAPO 2503.14476, CISPO 2506.13585, GSPO 2507.18071, SAPO 2511.20347,
RLOO 2402.14740, REINFORCE++ 2501.03262 (all on arxiv.org)."""


@dataclass(frozen=True, slots=True)
class LossType:
    """A policy loss that a configuration can name, and the class of its settings."""

    name: str
    """The name in the configuration: of a built-in loss, ``module:name``, or ``file.py:name``."""
    target: Callable[..., Any]
    """The class or function."""
    params: Any
    """A dataclass of its settings."""

    def bind(self, settings: Mapping[str, Any]) -> ChosenLoss:
        """Return the loss with checked settings. Raises ValueError if a setting is wrong."""
        params = make_params(self, dict(settings))
        values = {name: getattr(params, name) for name in params.__dataclass_fields__}
        bound: Any = self.target(**values) if inspect.isclass(self.target) else functools.partial(self.target, **values)
        return ChosenLoss(self, bound, plain_params(params))


@dataclass(frozen=True, slots=True)
class ChosenLoss:
    """A policy loss with its settings. Calling it computes the loss of a micro-batch."""

    type: LossType
    function: Callable[[Any], Any]
    settings: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The name in the configuration."""
        return self.type.name

    def __call__(self, inputs: Any) -> Any:
        """Compute the loss of each token from a ``PolicyLossInputs``."""
        return self.function(inputs)

    def record(self) -> dict[str, Any]:
        """Return the loss's name and settings, and the SHA-256 of a user's file, for the record of a run."""
        found: dict[str, Any] = {"use": self.name, "with": dict(self.settings)}
        if ":" in self.name and (source := inspect.getsourcefile(inspect.unwrap(self.type.target))) is not None:
            found["sha256"] = hashlib.sha256(Path(source).read_bytes()).hexdigest()
        return found


@dataclass(frozen=True, slots=True)
class ChosenAlgorithm:
    """The parts of the algorithm that a configuration describes."""

    advantage: AdvantageKind
    reduction: Reduction
    loss: ChosenLoss


def resolve_algorithm(config: AlgorithmConfig) -> ChosenAlgorithm:
    """Return the named algorithm with the parts that a configuration replaces.

    Raises:
        LookupError: There is no such loss.
        ImportError: The module or file of the loss can't be imported.
        TypeError: The loss can't be called with the settings of a configuration.
        ValueError: A setting of the loss is wrong.
    """
    preset = PRESETS[config.use]
    name = config.loss_name or preset.loss
    defaults = preset.settings if name == preset.loss else {}
    loss = loss_type(name).bind({**defaults, **config.loss_settings})
    return ChosenAlgorithm(config.advantage or preset.advantage, config.reduction or preset.reduction, loss)


def make_loss(name: str, **settings: Any) -> ChosenLoss:
    """Return a policy loss by name, such as ``make_loss("clip", eps_high=0.28)``. Raises as ``resolve_algorithm`` does."""
    return loss_type(name).bind(settings)


@functools.cache
def loss_type(name: str) -> LossType:
    """Return the policy loss of a name, ``module:name``, or ``file.py:name``. Raises as ``resolve_algorithm`` does."""
    if ":" in name:
        target = _load_target(name)
    else:
        known: Mapping[str, Any] = load_object(f"{_LOSSES}:POLICY_LOSSES")
        if name not in known:
            hint = did_you_mean(name, known) or f"; losses are {', '.join(known)}, or package.module:name"
            raise LookupError(f"there is no loss {name!r}{hint}")
        target = known[name]
    signature_of = target.__init__ if inspect.isclass(target) else target
    params, _ = params_from_signature(signature_of, f"loss {name!r}", target)
    return LossType(name, target, params)


def _load_target(place: str) -> Any:
    """Import a class or function at ``module:name`` or ``file.py:name``."""
    source, _, name = place.rpartition(":")
    try:
        module = load_module(source)
    except (ImportError, FileNotFoundError) as error:
        problem = f"{source} does not exist" if isinstance(error, FileNotFoundError) else error
        raise ImportError(f"can't import the loss {place}: {problem}") from error
    if not hasattr(module, name):
        raise LookupError(f"{source} has no function or class {name!r}")
    target = getattr(module, name)
    if not callable(target):
        raise TypeError(f"{place} is neither a function nor a class")
    return target


def checked_algorithm(document: Document, config: RlConfig) -> ChosenAlgorithm:
    """Return the algorithm of a valid configuration, with its loss imported and its settings checked.

    Raises:
        ConfigError: There is no such loss, its settings are wrong, or it can't be used for several updates of a batch. Every
            problem is listed with file, line and column.
    """
    place = ("algorithm", "loss")
    is_mapping = isinstance(config.algorithm.loss, dict)
    if is_mapping and (problems := schema_problems(document, _wrapped({"type": "object"}))):
        raise ConfigError(*problems)
    name = config.algorithm.loss_name or PRESETS[config.algorithm.use].loss
    try:
        found = loss_type(name)
    except (LookupError, ImportError, TypeError) as error:
        words = error.args[0] if isinstance(error, LookupError) else error
        raise ConfigError((document.where((*place, "use") if is_mapping else place), str(words))) from None
    if is_mapping and (problems := schema_problems(document, _wrapped(params_schema(found)))):
        raise ConfigError(*problems)
    try:
        algorithm = resolve_algorithm(config.algorithm)
    except ValueError as error:
        raise ConfigError((document.where((*place, "with")), str(error))) from None
    updates = config.epochs_per_batch * config.updates_per_epoch
    if updates > 1 and name in load_object(f"{_LOSSES}:ONE_UPDATE_PER_BATCH"):
        problem = (
            f"loss {name} has no probability ratio, so only the first of {updates} updates of a batch would be right; set "
            "epochs_per_batch: 1 and updates_per_epoch: 1, or algorithm.loss: clip (sequence_clip for RLOO as in TRL)"
        )
        raise ConfigError((document.where(place), problem))
    return algorithm


def _wrapped(params: dict[str, Any]) -> dict[str, Any]:
    """Return a schema of the whole document that constrains only the loss, so that problems get their full paths and places."""
    inner = {key: value for key, value in params.items() if key != "$defs"}
    loss = {
        "type": "object",
        "properties": {"use": {"type": "string"}, "with": inner},
        "required": ["with"] if params.get("required") else [],
        "additionalProperties": False,
    }
    algorithm = {"type": "object", "properties": {"loss": loss}}
    return {"type": "object", "properties": {"algorithm": algorithm}, "$defs": params.get("$defs", {})}
