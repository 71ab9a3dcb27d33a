"""Makes a row of verdicts from each row or pair, so that a calibration keeps what it has paid for."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from rewardkit import Rollout, Score, Unscored
from rewardkit.toolkit import Made, Row, RowError
from rewardkit_judge.calibration import JudgedPair, JudgedRow
from rewardkit_judge.judge import NoVerdictError, watching
from rewardkit_judge.prompts import SYSTEM
from rewardkit_judge.rewards.base import Base
from rewardkit_judge.rewards.pairwise import Pairwise

VALUE, REASON, VOTES, FORWARD, BACKWARD = (
    "judge_value",
    "judge_reason",
    "judge_votes",
    "judge_forward",
    "judge_backward",
)
"""The columns of verdicts."""
_HOW = frozenset(
    {"url", "concurrency", "tries", "request_timeout", "api_key", "prices", "preflight", "prompt", "timeout"}
)
"""Settings that say how the model is reached, which decides no verdict. The text of the prompt counts, not the name of its file."""


def verdicts_identity(use: str, reward: Base, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return what decides verdicts beside the rows. The address does not: the same model may be served elsewhere.

    Args:
        use: The name of the reward.
        reward: The judge.
        settings: Its parameters as JSON data.
    """
    digest = hashlib.sha256(json.dumps([SYSTEM, reward.prompt]).encode()).hexdigest()
    asked = {name: value for name, value in settings.items() if name not in _HOW}
    return {"command": "judge calibrate", "use": use, **asked, "prompts": digest[:16]}


def refuse_verdicts(row: Mapping[str, Any]) -> None:
    """Raise RowError if a row has columns that verdicts would overwrite."""
    for name in (VALUE, REASON, VOTES, FORWARD, BACKWARD):
        if name in row:
            raise RowError(f"column {name!r} would be overwritten; rename it with --map old_{name}={name}")


class _Verdicts:
    name = "judge"
    by_group = False
    needs: Sequence[str] = ("prompt", "completion")

    def __init__(self, reward: Base) -> None:
        self._reward = reward

    def costs(self) -> dict[str, float]:
        """Return what all calls so far have cost."""
        return self._reward.costs()

    async def close(self) -> None:
        """Close the connections."""
        await self._reward.close()


class RowVerdicts(_Verdicts):
    """Adds to each row what a judge of single responses says of it.

    Args:
        reward: The judge.
    """

    async def __call__(self, rows: Sequence[Row]) -> Made:
        """Return the row with its verdict."""
        [row] = rows
        refuse_verdicts(row)
        try:
            rollout = Rollout.from_row(row)
        except (ValueError, TypeError) as error:
            raise RowError(str(error)) from None
        with watching() as watch:
            [result] = await self._reward([rollout])  # type: ignore[operator]  # every judge is called with rollouts
        if isinstance(result, Unscored):
            return result
        assert isinstance(result, Score)  # noqa: S101
        costs = {name: value for name, value in (result.metrics or {}).items() if name.startswith("judge_")}
        votes = list(watch.votes[0]) if watch.votes else []
        return [{**row, VALUE: result.value, REASON: result.reason, VOTES: votes, **costs}]


class PairVerdicts(_Verdicts):
    """Adds to each pair what a judge says of it in both orders.

    Args:
        reward: The judge.
    """

    needs: Sequence[str] = ("prompt", "chosen", "rejected")

    def __init__(self, reward: Pairwise) -> None:
        super().__init__(reward)
        self._pairwise = reward

    async def __call__(self, rows: Sequence[Row]) -> Made:
        """Return the pair with its verdicts."""
        [row] = rows
        refuse_verdicts(row)
        question, first, second = ordered(texts_of(row))
        with watching() as watch:
            try:
                found = await self._pairwise.compare(question, first, second)
            except NoVerdictError as error:
                return error.unscored
        verdict = {FORWARD: found.forward, BACKWARD: found.backward, VOTES: [list(votes) for votes in watch.votes]}
        return [{**row, **verdict, REASON: "\n".join(found.reasons), **self._pairwise.judge.metrics(found.usage)}]


def judged_row(number: int, label: bool, row: Row, verdict: Row | None) -> JudgedRow:
    """Return a labelled row with its verdict.

    Args:
        number: From 1.
        label: The label.
        row: The row.
        verdict: The row that `RowVerdicts` made of it; None if it has no verdict.
    """
    length = len(Rollout.from_row(row).completion_text)
    if verdict is None:
        return JudgedRow(number, label, None, length)
    return JudgedRow(number, label, float(verdict[VALUE]), length, tuple(verdict[VOTES]))


def judged_pair(number: int, label: bool, row: Row, verdict: Row | None) -> JudgedPair:
    """Return a labelled pair with its verdicts. For half of the pairs the rejected response counts as the first one.

    Args:
        number: From 1.
        label: True if ``chosen`` is the better one.
        row: The pair.
        verdict: The row that `PairVerdicts` made of it; None if it has no verdict.
    """
    texts = texts_of(row)
    _, first, second = ordered(texts)
    is_better = label if first == texts[1] else not label
    lengths = len(first), len(second)
    if verdict is None:
        return JudgedPair(number, is_better, None, None, lengths)
    votes = tuple(tuple(order) for order in verdict[VOTES])
    return JudgedPair(number, is_better, float(verdict[FORWARD]), float(verdict[BACKWARD]), lengths, votes)


def texts_of(row: Mapping[str, Any]) -> tuple[str, str, str]:
    """Return the prompt and both responses of a pair as text. Raises RowError if it has none."""
    found = []
    for name in ("chosen", "rejected"):
        try:
            rollout = Rollout.from_row({"prompt": row.get("prompt"), "completion": row.get(name)})
        except (ValueError, TypeError):
            raise RowError(
                "a pair has the columns prompt, chosen and rejected, each text or chat messages; "
                f"columns are {', '.join(row)}"
            ) from None
        found.append(rollout)
    return found[0].prompt_text, found[0].completion_text, found[1].completion_text


def ordered(pair: tuple[str, str, str]) -> tuple[str, str, str]:
    """Return a pair with the rejected response first for half of all pairs, so that labels are not all the same."""
    question, chosen, rejected = pair
    digest = hashlib.blake2b("\0".join(pair).encode("utf-8", "surrogatepass")).digest()
    return (question, rejected, chosen) if digest[0] & 1 else pair
