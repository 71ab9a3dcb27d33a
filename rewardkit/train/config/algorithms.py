"""The named algorithms: which advantage, loss and reduction each is made of. A configuration may then change any part."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

from rewardkit.train.config import AlgorithmConfig

_LOSS_SETTINGS = (
    "eps_low",
    "eps_high",
    "max_ratio",
    "dual_clip",
    "cispo_low",
    "cispo_high",
    "sapo_tau_positive",
    "sapo_tau_negative",
)


def resolve_algorithm(config: AlgorithmConfig) -> Preset:
    """The named algorithm with the parts that the configuration replaces."""
    preset = PRESETS[config.use]
    changed = {name: value for name in _LOSS_SETTINGS if (value := getattr(config, name)) is not None}
    settings: PolicyLossSettings = replace(preset.loss, **changed)
    if config.loss is not None:
        settings = replace(settings, kind=config.loss)
    return Preset(config.advantage or preset.advantage, config.reduction or preset.reduction, settings)


Reduction: TypeAlias = Literal["grpo", "bnpo", "dr_grpo", "dapo"]


AdvantageKind: TypeAlias = Literal["group_std", "batch_std", "none", "rloo"]


PolicyLossKind: TypeAlias = Literal["clip", "dual_clip", "sequence_clip", "cispo", "gspo", "sapo", "reinforce"]


@dataclass(frozen=True, slots=True)
class PolicyLossSettings:
    """Which loss, and its constants."""

    kind: PolicyLossKind = "clip"
    eps_low: float = 0.2
    """The ratio is held above ``1 − eps_low``."""
    eps_high: float = 0.2
    """The ratio is held below ``1 + eps_high`` (DAPO: 0.28; GSPO: 4e-4, with eps_low 3e-4)."""
    max_ratio: float | None = None
    """clip: an upper bound of the unclipped ratio (INTELLECT-2's δ, above ``1 + eps_high``), or None."""
    dual_clip: float = 3.0
    """dual_clip: where the advantage is negative, the loss is at most this × |advantage|."""
    cispo_low: float = 0.0
    """cispo: the least weight, as a ratio (not a distance from 1)."""
    cispo_high: float = 5.0
    """cispo: the greatest weight, as a ratio (not a distance from 1)."""
    sapo_tau_positive: float = 1.0
    sapo_tau_negative: float = 1.05


Algorithm: TypeAlias = Literal[
    "grpo", "dr_grpo", "bnpo", "dapo", "cispo", "gspo", "sapo", "rloo", "reinforce++", "reinforce++-baseline"
]


@dataclass(frozen=True, slots=True)
class Preset:
    """What an algorithm is made of."""

    advantage: AdvantageKind | Literal["reinforce_pp", "reinforce_pp_baseline"]
    """Of rows, by ``ADVANTAGES``; the two of REINFORCE++ are of tokens, by the functions of that name."""
    reduction: Reduction
    loss: PolicyLossSettings = field(default_factory=PolicyLossSettings)


PRESETS: Mapping[Algorithm, Preset] = {
    "grpo": Preset("group_std", "grpo"),
    "dr_grpo": Preset("none", "dr_grpo"),
    "bnpo": Preset("group_std", "bnpo"),
    "dapo": Preset("group_std", "dapo", PolicyLossSettings(eps_high=0.28)),
    "cispo": Preset("group_std", "dapo", PolicyLossSettings("cispo")),
    "gspo": Preset("group_std", "grpo", PolicyLossSettings("gspo", eps_low=3e-4, eps_high=4e-4)),
    "sapo": Preset("group_std", "grpo", PolicyLossSettings("sapo")),
    "rloo": Preset("rloo", "bnpo", PolicyLossSettings("reinforce")),
    "reinforce++": Preset("reinforce_pp", "bnpo"),
    "reinforce++-baseline": Preset("reinforce_pp_baseline", "bnpo"),
}
"""By name. Papers: GRPO 2402.03300, Dr. GRPO 2503.20783, DAPO 2503.14476, CISPO 2506.13585, GSPO 2507.18071, SAPO 2511.20347,
RLOO 2402.14740, REINFORCE++ 2501.03262 (all on arxiv.org)."""
