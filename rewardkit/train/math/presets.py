"""The named algorithms: which advantage, loss and reduction each is made of. A configuration may then change any part."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from rewardkit.train.math.advantages import AdvantageKind
from rewardkit.train.math.policy_loss import PolicyLossSettings
from rewardkit.train.math.reduction import Reduction

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
