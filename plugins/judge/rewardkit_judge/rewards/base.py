"""The base class of all judges."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from statistics import fmean, pstdev
from typing import Any

from rewardkit import Rollout, Score, Unscored
from rewardkit_judge.endpoint import Usage
from rewardkit_judge.judge import Judge, note_votes
from rewardkit_judge.options import Options
from rewardkit_judge.prompts import SYSTEM, check_template, load_template

TIMEOUT_S = 900.0
"""The time limit of a component's call, which holds many attempts."""
MAX_REASON = 300


def identity(template: str, params: Any) -> str | None:
    """Return what decides scores beside the row: the prompt and the judge's version. None: scores are not kept."""
    if not params.version:
        return None
    text = load_template(template, params.prompt)
    return hashlib.sha256(f"{params.version}\n{SYSTEM}\n{text}".encode()).hexdigest()


class Base:
    """A reward that asks a judge.

    Args:
        options: What all judges share.
    """

    template = ""
    """The name of the prompt in this package."""
    placeholders: tuple[str, ...] = ("question", "response")
    """What a prompt must contain."""

    def __init__(self, options: Options) -> None:
        self.judge = Judge(options)
        self.prompt = load_template(self.template, options.prompt)
        known = {*self.placeholders, "criteria", "low", "high"}
        check_template(self.prompt, set(self.placeholders), known)

    def costs(self) -> dict[str, float]:
        """Return what all calls so far have cost."""
        return self.judge.costs()

    def preflight(self) -> str | None:
        """Return why the endpoint can't be used; None if it can."""
        return self.judge.problem()

    async def close(self) -> None:
        """Close the connections to the endpoint."""
        await self.judge.close()


class RolloutBase(Base):
    """A judge of single rollouts."""

    async def __call__(self, rollouts: Sequence[Rollout]) -> list[Score | Unscored]:
        """Score rollouts."""
        return list(await asyncio.gather(*(self.one(rollout) for rollout in rollouts)))

    async def one(self, rollout: Rollout) -> Score | Unscored:
        """Score one rollout."""
        raise NotImplementedError

    def score(self, values: Sequence[float], reason: str, usage: Usage, metrics: Mapping[str, float]) -> Score:
        """Return the mean of votes as a score.

        Args:
            values: One value per vote.
            reason: The reason of one of them.
            usage: What the votes cost.
            metrics: Further metrics.
        """
        note_votes(values)
        spread = {"votes_std": pstdev(values)} if len(values) > 1 else {}
        return Score(
            fmean(values),
            reason[:MAX_REASON],
            metrics={**metrics, **spread, **self.judge.metrics(usage)},
            repeatable=self.judge.options.temperature == 0,
        )


def schema(**properties: Any) -> dict[str, Any]:
    """Return the JSON Schema of a reply with its reasoning first, so that the verdict follows from it.

    Args:
        properties: The schemas of the other members.
    """
    found = {"reasoning": {"type": "string"}, **properties}
    return {"type": "object", "properties": found, "required": list(found), "additionalProperties": False}
