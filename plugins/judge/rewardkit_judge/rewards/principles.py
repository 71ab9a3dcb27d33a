"""The share of principles that a completion keeps to."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

from annotated_types import MinLen

from rewardkit import Rollout, reward
from rewardkit_judge.options import Options, takes_options
from rewardkit_judge.rewards.base import TIMEOUT_S, identity
from rewardkit_judge.rewards.marks import Criteria, Marks, read_criteria


def _content(_params: Any, rollout: Rollout) -> Any:
    return [rollout.prompt_text, rollout.completion_text]


@reward(
    "judge.principles",
    deterministic=True,
    identity=partial(identity, "principles"),
    content=_content,
    timeout_s=TIMEOUT_S,
    example='harmless: {use: judge.principles, with: {model: my-judge, url: "http://127.0.0.1:8000/v1", principles: [It does no harm.]}}',
)
@takes_options
class Principles(Marks):
    """The share of principles (a constitution) that a completion keeps to, in the opinion of a language model.

    Args:
        principles: The principles.
    """

    template = "principles"

    def __init__(self, options: Options, *, principles: Annotated[list[str], MinLen(1)]) -> None:
        super().__init__(options, 0, 1, "there are no principles")
        self._criteria = read_criteria({f"p{index}": text for index, text in enumerate(principles, 1)})

    def criteria_of(self, rollout: Rollout) -> Criteria:  # noqa: ARG002 - all rows have the same
        """Return the principles."""
        return self._criteria
