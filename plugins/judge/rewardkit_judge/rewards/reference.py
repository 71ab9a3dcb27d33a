"""Whether an answer means the same as the reference, for answers that no parser decides."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from rewardkit import FieldName, Rollout, Score, Unscored, reward
from rewardkit_judge.judge import NoVerdictError
from rewardkit_judge.options import Options, takes_options
from rewardkit_judge.prompts import messages
from rewardkit_judge.replies import choice_of
from rewardkit_judge.rewards.base import TIMEOUT_S, RolloutBase, identity, schema


def _content(params: Any, rollout: Rollout) -> Any:
    return [rollout.prompt_text, rollout.completion_text, str(rollout.fields.get(params.reference))]


@reward(
    "judge.reference",
    deterministic=True,
    identity=partial(identity, "reference"),
    content=_content,
    timeout_s=TIMEOUT_S,
    example='same: {use: judge.reference, with: {model: my-judge, url: "http://127.0.0.1:8000/v1", reference: answer}}',
)
@takes_options
class Reference(RolloutBase):
    """1 if a language model finds a completion's answer equal to the reference, else 0: for answers that no parser decides.

    Args:
        reference: The column of the reference answer.
    """

    template = "reference"
    placeholders = ("question", "reference", "response")

    def __init__(self, options: Options, *, reference: FieldName) -> None:
        super().__init__(options)
        self._field = reference

    async def one(self, rollout: Rollout) -> Score | Unscored:
        """Score one rollout."""
        reference = rollout.fields.get(self._field)
        if reference is None or not str(reference).strip():
            return Unscored("reference", f"column {self._field!r} is empty")
        material = {
            "question": rollout.prompt_text,
            "reference": str(reference),
            "response": rollout.completion_text,
        }

        def read(verdict: Mapping[str, Any]) -> tuple[float, str]:
            return float(choice_of(verdict["equal"], [True, False], "verdict")), str(verdict["reasoning"])

        question = messages(self.prompt, material, {})
        try:
            verdicts, usage = await self.judge.votes(question, schema(equal={"type": "boolean"}), read)
        except NoVerdictError as error:
            return error.unscored
        return self.score([value for value, _ in verdicts], verdicts[0][1], usage, {})
