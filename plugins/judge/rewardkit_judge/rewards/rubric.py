"""Marks for weighted criteria, from the reward file or from each row."""

from __future__ import annotations

from functools import partial
from typing import Any

from rewardkit import FieldName, Rollout, reward
from rewardkit_judge.options import Options, takes_options
from rewardkit_judge.rewards.base import TIMEOUT_S, identity
from rewardkit_judge.rewards.marks import Criteria, Marks, read_criteria


def _content(params: Any, rollout: Rollout) -> Any:
    own = None if params.criteria_field is None else rollout.fields.get(params.criteria_field)
    return [rollout.prompt_text, rollout.completion_text, own]


@reward(
    "judge.rubric",
    deterministic=True,
    identity=partial(identity, "rubric"),
    content=_content,
    timeout_s=TIMEOUT_S,
    example='quality: {use: judge.rubric, with: {model: my-judge, url: "http://127.0.0.1:8000/v1", criteria: {clear: It is clear.}}}',
)
@takes_options
class Rubric(Marks):
    """A language model's marks for weighted criteria, from 0 (all the lowest) to 1 (all the highest).

    Args:
        criteria: The criteria by name, each a text, or a mapping with text and weight.
        criteria_field: The column that holds a row's own criteria, instead of ``criteria``.
        low: The lowest mark.
        high: The highest mark.
    """

    template = "rubric"

    def __init__(
        self,
        options: Options,
        *,
        criteria: dict[str, str | dict[str, str | float]] = {},  # noqa: B006 - the default of a parameter in YAML
        criteria_field: FieldName | None = None,
        low: int = 1,
        high: int = 5,
    ) -> None:
        if low >= high:
            raise ValueError(f"low ({low}) is not below high ({high})")
        if bool(criteria) == (criteria_field is not None):
            raise ValueError("set either criteria or criteria_field")
        super().__init__(options, low, high, "the row has no criteria")
        self._criteria = read_criteria(criteria)
        self._field = criteria_field

    def criteria_of(self, rollout: Rollout) -> Criteria:
        """Return the criteria of the reward file, or those of the row."""
        if self._field is None:
            return self._criteria
        try:
            return read_criteria(rollout.fields.get(self._field) or {})
        except ValueError as error:
            raise ValueError(f"column {self._field!r}: {error}") from None
