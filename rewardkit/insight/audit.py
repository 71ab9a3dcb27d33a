"""Attacks a reward with cheats, and compares what they get with what honest completions get."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import TYPE_CHECKING, Any

from rewardkit.cheat import Cheat, CheatInput
from rewardkit.errors import DataError
from rewardkit.types import Rollout, Score, ScoredRollout, message_text

if TYPE_CHECKING:
    from rewardkit.composite import CompositeReward

REFERENCE_LENGTH = 60
"""Longer texts of a row are not taken for its reference answer."""
REFERENCE_NAMES = frozenset({"answer", "reference", "ground_truth", "label", "target", "solution", "expected", "gold"})
"""Columns that are taken for a reference answer, also as the last part of a path."""
_ADDED = frozenset(
    {
        "reward",
        "reward_status",
        "reward_id",
        "components",
        "group",
        "prompt",
        "completion",
        "num_tokens",
        "finish_reason",
    }
)


@dataclass(frozen=True, slots=True)
class HonestRow:
    """The completions of one prompt in a scored file."""

    prompt: Any
    fields: Mapping[str, Any]
    completions: tuple[tuple[str, float], ...]
    """Each completion with its reward."""
    tokens_per_character: float | None
    """None if the file has no ``num_tokens``."""


@dataclass(frozen=True, slots=True)
class Levels:
    """What honest completions get."""

    right: float
    wrong: float

    @property
    def threshold(self) -> float:
        """A cheat that gets this much is as good as accepted: the middle of ``right`` and ``wrong``."""
        return (self.right + self.wrong) / 2


@dataclass(frozen=True, slots=True)
class Finding:
    """What one cheat got."""

    cheat: Cheat
    rows: int
    """The number of rows that it was tried on."""
    accepted: int
    """The number of rows on which one of its completions got at least the threshold."""
    mean_best: float
    """The mean over rows of the best reward."""
    unscored: int
    """The number of its completions that could not be scored."""
    example: str
    """The completion with the highest reward."""
    example_reward: float
    reasons: Mapping[str, str]
    """The value and reason of each component for that completion."""

    @property
    def share(self) -> float:
        """The share of rows on which the cheat was accepted."""
        return self.accepted / self.rows


def honest_rows(scored: Iterable[Mapping[str, Any]]) -> list[HonestRow]:
    """Group the rows of a scored file by prompt, in the order in which they appear. Unscored rows are left out."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for row in scored:
        if row.get("reward") is not None:
            found.setdefault(repr(row["prompt"]), []).append(row)
    result = []
    for rows in found.values():
        texts = [(_text(row["completion"]), float(row["reward"])) for row in rows]
        tokens = [
            row["num_tokens"] / max(len(text), 1)
            for row, (text, _) in zip(rows, texts, strict=True)
            if row.get("num_tokens") is not None
        ]
        fields = {key: value for key, value in rows[0].items() if key not in _ADDED}
        result.append(HonestRow(rows[0]["prompt"], fields, tuple(texts), fmean(tokens) if tokens else None))
    return result


def levels_of(rows: Sequence[HonestRow]) -> Levels:
    """Return what right and wrong completions get: the medians of the rewards above and below the middle of their range.

    Raises:
        DataError: The completions all have about the same reward, so that nothing can be compared with them.
    """
    rewards = [reward for row in rows for _, reward in row.completions]
    if not rewards:
        raise DataError("no row of the file could be scored, so there is nothing to compare cheats with")
    low, high = min(rewards), max(rewards)
    if high - low < 1e-6:
        raise DataError(
            f"all completions of the file have a reward of {low:g}; give rollouts of which some are right and some are wrong"
        )
    middle = (low + high) / 2
    return Levels(
        median(reward for reward in rewards if reward >= middle),
        median(reward for reward in rewards if reward < middle),
    )


def references_of(fields: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the short texts and numbers of a row that may be its reference answer, nested ones included."""
    found: list[str] = []

    def visit(value: Any, is_named: bool) -> None:
        if isinstance(value, Mapping):
            for name, item in value.items():
                visit(item, is_named or str(name) in REFERENCE_NAMES)
        elif is_named and isinstance(value, str | int | float) and not isinstance(value, bool):
            text = str(value).strip()
            if 0 < len(text) <= REFERENCE_LENGTH:
                found.append(text)

    visit(fields, is_named=False)
    return tuple(dict.fromkeys(found))


def audit(reward: CompositeReward, cheats: Sequence[Cheat], rows: Sequence[HonestRow], levels: Levels) -> list[Finding]:
    """Score the completions of every cheat for every row.

    Args:
        reward: The reward.
        cheats: The cheats.
        rows: The rows, with their honest completions.
        levels: What honest completions get.

    Returns:
        What each cheat got, the most successful one first. Cheats that apply to no row are left out.
    """
    inputs = _inputs(rows, levels)
    rollouts: list[Rollout] = []
    owners: list[tuple[int, int]] = []
    for place, (row, given) in enumerate(zip(rows, inputs, strict=True)):
        for index, cheat in enumerate(cheats):
            for text in dict.fromkeys(cheat.make(given)):
                rollouts.append(_rollout(row, text, place))
                owners.append((index, place))
    scored = reward.score(rollouts) if rollouts else []
    return sorted(_findings(cheats, owners, scored, levels), key=lambda found: (-found.share, -found.mean_best))


def _inputs(rows: Sequence[HonestRow], levels: Levels) -> list[CheatInput]:
    references = [references_of(row.fields) for row in rows]
    right: list[str | None] = []
    wrong: list[str | None] = []
    for row in rows:
        best, worst = (function(row.completions, key=lambda item: item[1]) for function in (max, min))
        right.append(best[0] if best[1] >= levels.threshold else None)
        wrong.append(worst[0] if worst[1] < levels.threshold else None)
    result = []
    for place, row in enumerate(rows):
        others = tuple(
            text
            for step in (1, 2, 3)
            if (other := (place + step) % len(rows)) != place
            and (text := right[other]) is not None
            and not set(references[other]) & set(references[place])
        )
        result.append(CheatInput(_text(row.prompt), row.fields, references[place], right[place], wrong[place], others))
    return result


def _rollout(row: HonestRow, text: str, group: int) -> Rollout:
    tokens = None if row.tokens_per_character is None else round(len(text) * row.tokens_per_character)
    completion = text if isinstance(row.prompt, str) else [{"role": "assistant", "content": text}]
    return Rollout(row.prompt, completion, row.fields, f"audit-{group}", tokens, "stop")


def _findings(
    cheats: Sequence[Cheat], owners: Sequence[tuple[int, int]], scored: Sequence[ScoredRollout], levels: Levels
) -> Iterable[Finding]:
    by_cheat: dict[int, dict[int, list[ScoredRollout]]] = {}
    for (index, place), one in zip(owners, scored, strict=True):
        by_cheat.setdefault(index, {}).setdefault(place, []).append(one)
    for index, by_row in by_cheat.items():
        known = [one for ones in by_row.values() for one in ones if one.reward is not None]
        unscored = sum(len(ones) for ones in by_row.values()) - len(known)
        best_of_rows = [
            max(rewards)
            for ones in by_row.values()
            if (rewards := [one.reward for one in ones if one.reward is not None])
        ]
        if not known:
            continue
        best = max(known, key=lambda one: one.reward or 0.0)
        reasons = {
            name: f"{outcome.value:g} {outcome.reason}".strip()
            for name, outcome in best.outcomes.items()
            if isinstance(outcome, Score)
        }
        accepted = sum(value >= levels.threshold for value in best_of_rows)
        yield Finding(
            cheats[index], len(best_of_rows), accepted, fmean(best_of_rows), unscored,
            best.rollout.completion_text, best.reward or 0.0, reasons,
        )  # fmt: skip


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return "\n".join(message_text(turn.get("content")) for turn in value)
