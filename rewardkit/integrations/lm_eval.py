"""A composite reward as the metrics of a task of the LM Evaluation Harness (lm_eval).

    # utils.py, beside the task's YAML file, which says: process_results: !function utils.score
    from pathlib import Path
    from rewardkit.integrations.lm_eval import process_results

    score = process_results(Path(__file__).with_name("reward.yaml"), prompt="question")

A document that could not be scored has no reward: it is in no mean, and ``unscored`` counts it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rewardkit.config.paths import add_field_paths
from rewardkit.errors import UsageError
from rewardkit.integrations.common import (
    component_value,
    plain,
    refuse_groups,
    refuse_missing,
    refuse_unknown,
    shared_reward,
)
from rewardkit.types import Rollout

UNSCORED = "unscored"


def process_results(
    file: str | Path, *, prompt: str | None = None
) -> Callable[[Mapping[str, Any], Sequence[Any]], dict[str, float]]:
    """Return what a task calls ``process_results``.

    Its metrics are ``reward``, each component, and ``unscored``. Where a document has several completions, they are the means over those
    that could be scored.

    Args:
        file: The reward file. The document's columns are its fields.
        prompt: The document's column with the prompt, for rewards that read it.

    Raises:
        ConfigError: The reward file is wrong.
        UsageError: The reward needs what the harness does not tell: groups, tokens, the finish reason; or a component is called
            ``reward`` or ``unscored``.
    """
    path = Path(file).resolve()
    reward = shared_reward(path)
    refuse_groups(reward, "lm_eval")
    refuse_unknown(reward, "lm_eval")
    if taken := {"reward", UNSCORED} & set(reward.config.component_names):
        raise UsageError(f"{path}: rename the component {taken.pop()!r}: it is the name of another metric")

    def score(doc: Mapping[str, Any], results: Sequence[Any]) -> dict[str, float]:
        composite = shared_reward(path)
        fields = plain(doc)
        refuse_missing(composite, fields, "the document")
        add_field_paths(fields, composite.config.field_paths)
        texts = [text for item in results for text in (item if isinstance(item, list) else [item])]
        scored = composite.score([Rollout(str(doc[prompt]) if prompt else "", text, fields) for text in texts])
        values = {"reward": [item.reward for item in scored]}
        values |= {
            name: [component_value(item, name) for item in scored if name in item.outcomes]
            for name in composite.config.component_names
        }
        known = {name: [value for value in column if value is not None] for name, column in values.items()}
        means = {name: math.fsum(column) / len(column) for name, column in known.items() if column}
        return {**means, UNSCORED: sum(item.reward is None for item in scored) / len(scored)}

    return score
