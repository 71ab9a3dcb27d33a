"""Marks for several criteria: what a rubric and principles share."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from statistics import fmean, pstdev
from typing import Any, TypeAlias

from rewardkit import Rollout, Score, Unscored
from rewardkit_judge.judge import NoVerdictError
from rewardkit_judge.options import Options
from rewardkit_judge.prompts import messages
from rewardkit_judge.replies import BadReply, mark_of
from rewardkit_judge.rewards.base import RolloutBase, schema

Criteria: TypeAlias = Mapping[str, tuple[str, float]]
"""Text and weight by name."""


class Marks(RolloutBase):
    """Scores by marks for several criteria.

    Args:
        options: What all judges share.
        low: The lowest mark.
        high: The highest mark.
        empty: The message where there are no criteria.
    """

    def __init__(self, options: Options, low: int, high: int, empty: str) -> None:
        super().__init__(options)
        self._low, self._high, self._empty = low, high, empty

    def criteria_of(self, rollout: Rollout) -> Criteria:
        """Return the criteria of a rollout. Raises ValueError if its row has wrong ones."""
        raise NotImplementedError

    async def one(self, rollout: Rollout) -> Score | Unscored:
        """Return the weighted mean of the criteria's marks, scaled to 0 to 1."""
        low, high = self._low, self._high
        try:
            criteria = self.criteria_of(rollout)
        except ValueError as error:
            return Unscored("input", str(error))
        if not criteria:
            return Unscored("input", self._empty)
        wanted = schema(
            scores={
                "type": "object",
                "properties": {name: {"type": "integer", "minimum": low, "maximum": high} for name in criteria},
                "required": list(criteria),
                "additionalProperties": False,
            }
        )
        question = messages(
            self.prompt,
            {"question": rollout.prompt_text, "response": rollout.completion_text},
            {
                "criteria": "\n".join(f'- "{name}": {text}' for name, (text, _) in criteria.items()),
                "low": str(low),
                "high": str(high),
            },
        )

        def read(verdict: Mapping[str, Any]) -> tuple[dict[str, float], str]:
            found = scores_of(verdict["scores"], criteria)
            marks = {name: (mark_of(found[name], low, high, name) - low) / (high - low) for name in criteria}
            return marks, str(verdict["reasoning"])

        try:
            verdicts, usage = await self.judge.votes(question, wanted, read)
        except NoVerdictError as error:
            return error.unscored
        total = math.fsum(weight for _, weight in criteria.values())
        values = [
            math.fsum(marks[name] * weight for name, (_, weight) in criteria.items()) / total for marks, _ in verdicts
        ]
        metrics = {name: fmean(marks[name] for marks, _ in verdicts) for name in criteria}
        if len(verdicts) > 1:
            metrics |= {f"{name}_std": pstdev([marks[name] for marks, _ in verdicts]) for name in criteria}
        return self.score(values, verdicts[0][1], usage, metrics)


def scores_of(scores: Any, criteria: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the scores of a reply. Raises BadReply if they are not one for each criterion."""
    if not isinstance(scores, dict) or set(scores) != set(criteria):
        raise BadReply(f"the judge's scores are not one for each of {', '.join(criteria)}")
    return scores


def read_criteria(given: Any) -> dict[str, tuple[str, float]]:
    """Return criteria as (text, weight) by name.

    Args:
        given: A mapping of names to texts or mappings with text and weight, a list of texts, or one of these as JSON text.

    Raises:
        ValueError: It is none of these.
    """
    if isinstance(given, str):
        try:
            given = json.loads(given)
        except ValueError:
            raise ValueError("the text is not JSON") from None
    if isinstance(given, Sequence):
        given = {f"c{index}": text for index, text in enumerate(given, 1)}
    if not isinstance(given, Mapping):
        raise ValueError(f"criteria are a mapping or a list, not {type(given).__name__}")  # noqa: TRY004 - wrong data
    found: dict[str, tuple[str, float]] = {}
    for name, value in given.items():
        text, weight = (value.get("text"), value.get("weight", 1.0)) if isinstance(value, Mapping) else (value, 1.0)
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f"criterion {name!r} has no text")
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not math.isfinite(weight) or weight <= 0:
            raise ValueError(f"the weight of criterion {name!r} must be a positive number, not {weight!r}")
        found[str(name)] = (text, float(weight))
    return found
