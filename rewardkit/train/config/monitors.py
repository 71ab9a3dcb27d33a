"""The monitors of reinforcement learning: one row each, from which the configuration, the alarms and the report are made.

To add a monitor, add a row to ``MONITORS``. Plugins add theirs with the hook ``register_monitors``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, create_model

from rewardkit.config.validate import did_you_mean
from rewardkit.config.yaml import Document
from rewardkit.errors import ConfigError
from rewardkit.monitor import Monitor
from rewardkit.registry import Registry
from rewardkit.train.config.base import Count, Positive, Section, Share

GOLD_DROP = "gold_drop"
"""The one monitor that compares evaluations rather than training steps."""
PROMPT_INDEPENDENCE = "prompt_independence"
"""The one monitor whose metric needs scores of its own."""

MONITORS: tuple[Monitor, ...] = (
    Monitor(
        GOLD_DROP,
        ("gold", "reward"),
        0.03,
        "Largest fall of the held-out reward (evaluate.gold) below its best value while the trained reward does not fall. A fall that may "
        "be chance is none.",
        "the policy is likely exploiting the reward",
        kind="positive",
    ),
    Monitor(
        "kl",
        "kl_per_token",
        0.5,
        "Largest KL divergence per token from the starting model, in nats. Needs a reference model.",
        "the policy is far from the model that it started from",
        kind="positive",
    ),
    Monitor(
        "length_correlation",
        "length_correlation",
        0.9,
        "Largest correlation of completion length and reward over a batch.",
        "longer completions get higher rewards because they are long",
        kind="positive",
    ),
    Monitor(
        "repetition",
        "repetition",
        0.5,
        "Largest rise of repetition within a completion: 0.5 is half of the way from the first step's value to 1.",
        "completions repeat themselves",
        measure="rise",
        kind="positive",
    ),
    Monitor(
        "duplicates",
        "duplicates",
        0.9,
        "Largest rise of the share of duplicate completions of a prompt while the reward is no higher than in the first step: 0.9 is "
        "nine tenths of the way from the first step's value to 1, where each prompt has a single distinct completion.",
        "all completions of a prompt are the same, and the reward is no higher than in the first step",
        measure="rise",
        silent_if_reward_rose=True,
        kind="positive",
    ),
    Monitor(
        "copied",
        "copied",
        0.5,
        "Largest rise of the share of completions that another prompt got as well.",
        "different prompts get the same completion",
        measure="rise",
        kind="positive",
    ),
    Monitor(
        PROMPT_INDEPENDENCE,
        "prompt_independence",
        0.9,
        "Largest agreement of rewards with those that the same completions get for another prompt. One completion per prompt is scored "
        "once more for it, at most 32 in a step. null: this is not measured. It is never measured if the reward compares completions of a "
        "group, calls a service, or has unscored.policy: fail.",
        "completions get the same reward for another prompt, so the reward can be raised without doing what the prompt asks",
        kind="share",
    ),
    Monitor(
        "truncated",
        "truncated",
        0.5,
        "Largest share of completions cut off by max_new_tokens.",
        "many completions are cut off before they end; raise rollout.max_new_tokens",
        kind="share",
    ),
    Monitor(
        "clipped",
        ("clipped_low", "clipped_high"),
        0.5,
        "Largest share of tokens whose ratio is clipped.",
        "most tokens are clipped: the updates are too large, or there are too many per batch",
        kind="positive",
    ),
    Monitor(
        "sampling_kl",
        "sampling_kl",
        0.1,
        "Largest KL divergence between rollout engine and trainer per token, in nats.",
        "the rollout engine and the trainer compute different probabilities",
        kind="positive",
    ),
    Monitor(
        "frac_reward_zero_std",
        "frac_reward_zero_std",
        0.95,
        "Largest share of groups whose rewards have no spread while the reward is no higher than in the first step.",
        "almost no group has different rewards, and the reward is no higher than in the first step: there is no training signal",
        silent_if_reward_rose=True,
        kind="share",
    ),
    Monitor(
        "entropy_share",
        "entropy",
        0.05,
        "Smallest entropy, as a share of the first step's.",
        "the policy has stopped exploring",
        is_upper=False,
        measure="share_of_first",
        kind="share",
    ),
    Monitor(
        "sampling_ess",
        "sampling_ess",
        0.5,
        "Smallest effective sample size of the sampled tokens, as a share of their number.",
        "a few of the sampled tokens carry most of the importance weight",
        is_upper=False,
        kind="share",
    ),
    Monitor(
        "explained_variance",
        "explained_variance",
        -1.0,
        "Smallest explained variance of the critic's values.",
        "the critic predicts returns worse than a constant would",
        is_upper=False,
    ),
)

RENAMED = {"zero_spread": "frac_reward_zero_std", "mismatch_kl": "sampling_kl", "mismatch_ess": "sampling_ess"}
"""Former names of monitors."""

_TYPES: Mapping[str, Any] = {"share": Share, "positive": Positive, "any": float}


class _Response(Section):
    """The response to an alarm."""

    on_alarm: Literal["warn", "stop", "rollback"] = "warn"
    """warn: log the alarm and continue · stop: save a checkpoint and end the run · rollback: restore the last checkpoint from before
    the trouble, and end the run with it."""
    patience: Count = 3
    """Steps in a row for which a metric must be out of bounds."""


_FIELDS: dict[str, Any] = {
    monitor.name: (_TYPES[monitor.kind] | None, Field(monitor.bound, description=monitor.description))
    for monitor in MONITORS
}
_Bounds: Any = create_model("_Bounds", __base__=_Response, **_FIELDS)


class MonitorsConfig(_Bounds):  # type: ignore[misc]
    """When a run raises an alarm, and what happens then. A bound of null switches a monitor off."""

    plugins: dict[str, float | None] = Field(default_factory=dict)
    """Bounds of monitors that installed plugins offer, by name."""


def bound_of(config: MonitorsConfig, monitor: Monitor) -> float | None:
    """Return the bound that a configuration sets for a monitor, its default if it sets none, or None if it is off."""
    if monitor in MONITORS:
        found: float | None = getattr(config, monitor.name)
        return found
    bounds: Mapping[str, float | None] = config.plugins
    return bounds.get(monitor.name, monitor.bound)


def all_monitors(registry: Registry) -> tuple[Monitor, ...]:
    """Return the built-in monitors and those of the installed plugins.

    Raises:
        PluginClashError: Two monitors have the same name.
    """
    return (*MONITORS, *registry.monitors({monitor.name for monitor in MONITORS}))


def refuse_unknown_monitors(document: Document, config: MonitorsConfig, registry: Registry) -> None:
    """Raise ConfigError if ``monitors.plugins`` names a monitor that no plugin offers."""
    offered = {monitor.name for monitor in registry.monitors({monitor.name for monitor in MONITORS})}
    problems = [
        (
            document.where_key(("monitors", "plugins", name)),
            f"no plugin offers a monitor {name!r}"
            + (did_you_mean(name, offered) or (f"; there are {', '.join(sorted(offered))}" if offered else "")),
        )
        for name in config.plugins
        if name not in offered
    ]
    if problems:
        raise ConfigError(*problems)


def refuse_renamed_monitors(document: Document) -> None:
    """Raise ConfigError if a configuration uses the former name of a monitor."""
    section = document.data.get("monitors") if isinstance(document.data, dict) else None
    problems = [
        (document.where_key(("monitors", old)), f"monitors.{old} is now called monitors.{new}")
        for old, new in RENAMED.items()
        if isinstance(section, dict) and old in section
    ]
    if problems:
        raise ConfigError(*problems)
