"""Rollouts that NeMo-Gym collects: a Responses API request and answer with the verifier's reward and metrics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rewardkit.scoring.columns.presets import PRESETS

OWN = frozenset(
    {"responses_create_params", "response", "reward", "reward_components", "prompt", "completion", "gym_reward"}
)


def is_rollout(row: Mapping[str, Any]) -> bool:
    """Return whether a row is a rollout."""
    return "responses_create_params" in row and "response" in row


def from_rollout(row: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the scored row of a rollout. One that the verifier failed to judge is unscored."""
    new = PRESETS["gym"].apply(dict(row))
    failure = row.get("_ng_failure_class")
    unscored = bool(failure or row.get("mask_sample")) or row.get("reward") is None
    group = row.get("_ng_task_index")
    components = {
        name: {"value": value, "status": "scored"} for name, value in (row.get("reward_components") or {}).items()
    }
    yield {
        **{name: value for name, value in new.items() if name not in OWN},
        "prompt": new.get("prompt") or "",
        "completion": new.get("completion") or "",
        "group": None if group is None else f"task {group}",
        "reward": None if unscored else row.get("reward"),
        "reward_status": "unscored" if unscored else "scored",
        "components": components,
        **({"failure": failure} if failure else {}),
    }
