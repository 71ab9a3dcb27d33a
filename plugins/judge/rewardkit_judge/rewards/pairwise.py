"""Comparisons within a group."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Annotated, Any, Literal

from annotated_types import Ge

from rewardkit import Rollout, Score, Unscored, reward
from rewardkit_judge.endpoint import Usage
from rewardkit_judge.judge import NoVerdictError, note_votes
from rewardkit_judge.options import Options, takes_options
from rewardkit_judge.prompts import messages
from rewardkit_judge.replies import choice_of
from rewardkit_judge.rewards.base import TIMEOUT_S, Base, schema

_SHARE = {"A": 1.0, "B": 0.0, "tie": 0.5}
_SCHEMA = schema(winner={"enum": list(_SHARE)})


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a judge says of two texts, in both orders."""

    forward: float
    """The share of votes for the first text, where it is shown first."""
    backward: float
    """The share of votes for the first text, where it is shown second."""
    usage: Usage
    reasons: tuple[str, ...] = ()
    """The reasons of all votes."""

    @property
    def share(self) -> float:
        """The share of wins of the first text, from 0 to 1."""
        return (self.forward + self.backward) / 2

    @property
    def agrees(self) -> bool:
        """True if the verdict does not depend on the order."""
        return abs(self.forward - self.backward) < 0.5


@reward(
    "judge.pairwise",
    scope="group",
    timeout_s=TIMEOUT_S,
    example='better: {use: judge.pairwise, with: {model: my-judge, url: "http://127.0.0.1:8000/v1"}}',
)
@takes_options
class Pairwise(Base):
    """How often a completion beats others of its group, from 0 to 1, in the opinion of a language model.

    Each pair is judged in both orders; contradicting verdicts and ties count one half.

    Args:
        principles: What makes a response better.
        opponents: The number of others that each completion is compared with; by default all.
        value: win_rate, or bradley_terry: the probability of beating an average opponent, from a Bradley-Terry fit.
    """

    template = "pairwise"
    placeholders = ("question", "first", "second")

    def __init__(
        self,
        options: Options,
        *,
        principles: list[str] = [],  # noqa: B006 - the default of a parameter in YAML
        opponents: Annotated[int, Ge(1)] | None = None,
        value: Literal["win_rate", "bradley_terry"] = "win_rate",
    ) -> None:
        super().__init__(options)
        self._by = "".join(f"- {principle}\n" for principle in principles)
        self._opponents, self._value = opponents, value

    async def __call__(self, rollouts: Sequence[Rollout]) -> list[Score | Unscored]:
        """Score the completions of a group."""
        count = len(rollouts)
        if count < 2:
            return [Unscored("input", "the group has one completion, so there is nothing to compare it with")] * count
        chosen = pairs(count, self._opponents)
        found = await asyncio.gather(
            *(
                self.compare(rollouts[a].prompt_text, rollouts[a].completion_text, rollouts[b].completion_text)
                for a, b in chosen
            ),
            return_exceptions=True,
        )
        return self._scores(count, chosen, found)

    def _scores(
        self, count: int, chosen: Sequence[tuple[int, int]], found: Sequence[Comparison | BaseException]
    ) -> list[Score | Unscored]:
        wins = [[0.0] * count for _ in range(count)]
        games = [0] * count
        usages = [Usage() for _ in range(count)]
        agreeing = [0] * count
        problem = Unscored("infra", "")
        for (a, b), result in zip(chosen, found, strict=True):
            if isinstance(result, NoVerdictError):
                problem = result.unscored
                continue
            if isinstance(result, BaseException):
                raise result
            wins[a][b], wins[b][a] = result.share, 1 - result.share
            for one in (a, b):
                games[one] += 1
                usages[one] += result.usage
                agreeing[one] += result.agrees
        planned = [sum(one in pair for pair in chosen) for one in range(count)]
        if any(2 * played <= due for played, due in zip(games, planned, strict=True)):
            # Marks from different opponents could not be compared, so the whole group has none.
            return [problem] * count
        rates = [sum(wins[one]) / games[one] for one in range(count)]
        values = rates if self._value == "win_rate" else bradley_terry(wins)
        return [
            Score(
                values[one],
                f"beats {sum(wins[one]):g} of {games[one]}",
                # Half of each comparison's cost, so that the sum over a group is what it took.
                metrics={"order_agreement": agreeing[one] / games[one], **self.judge.metrics(usages[one], 0.5)},
                repeatable=self.judge.options.temperature == 0,
            )
            for one in range(count)
        ]

    async def compare(self, question: str, one: str, other: str) -> Comparison:
        """Compare two texts in both orders. Equal texts are a tie, which costs nothing.

        Args:
            question: What they answer.
            one: A text.
            other: Another one.

        Raises:
            NoVerdictError: There is no verdict in one of the orders.
        """
        if one == other:
            return Comparison(0.5, 0.5, Usage())
        (forward, first), (backward, second) = await asyncio.gather(
            self._ask(question, one, other), self._ask(question, other, one)
        )
        for votes in (forward, backward):
            note_votes([value for value, _ in votes])
        share = fmean(value for value, _ in forward)
        reasons = tuple(reason for _, reason in (*forward, *backward))
        return Comparison(share, 1 - fmean(value for value, _ in backward), first + second, reasons)

    async def _ask(self, question: str, first: str, second: str) -> tuple[list[tuple[float, str]], Usage]:
        by = f"\nA response is better if it keeps to these principles:\n{self._by}" if self._by else ""
        told = messages(self.prompt, {"question": question, "first": first, "second": second}, {"criteria": by})

        def read(verdict: Mapping[str, Any]) -> tuple[float, str]:
            return _SHARE[choice_of(verdict["winner"], list(_SHARE), "winner")], str(verdict["reasoning"])

        return await self.judge.votes(told, _SCHEMA, read)


def pairs(count: int, opponents: int | None) -> list[tuple[int, int]]:
    """Return the pairs of a group to compare, in which every completion has about equally many opponents.

    Args:
        count: The size of the group.
        opponents: The number of opponents of each; None for all others.
    """
    reach = count - 1 if opponents is None else min(opponents, count - 1)
    steps = range(1, math.ceil(reach / 2) + 1)
    return sorted({(min(a, b), max(a, b)) for a in range(count) for step in steps if (b := (a + step) % count) != a})


def bradley_terry(wins: Sequence[Sequence[float]]) -> list[float]:
    """Fit Bradley-Terry strengths and return the probability that each beats an average opponent.

    Hunter's MM iterations (https://doi.org/10.1214/aos/1079120141), with half a win and half a loss against an average opponent as a
    prior, so that a completion that wins or loses everything keeps a finite strength.

    Args:
        wins: ``wins[a][b]`` is how often a beat b.
    """
    count = len(wins)
    strength = [1.0] * count
    for _ in range(200):
        updated = []
        for one in range(count):
            won = 0.5 + sum(wins[one])
            pulls = 1.0 / (strength[one] + 1.0) + sum(
                (wins[one][other] + wins[other][one]) / (strength[one] + strength[other])
                for other in range(count)
                if other != one
            )
            updated.append(won / pulls)
        if max(abs(new - old) for new, old in zip(updated, strength, strict=True)) < 1e-9:
            break
        strength = updated
    return [value / (value + 1.0) for value in strength]
