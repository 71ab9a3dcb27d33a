"""The rows that an audit attacks: their honest completions, what these get, and what cheats may use of them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median, median_high, median_low
from typing import Any

from rewardkit.cheat import CheatInput
from rewardkit.errors import DataError
from rewardkit.insight.noise import truth_of
from rewardkit.types import message_text

REFERENCE_LENGTH = 60
"""Longer texts of a row are not taken for its reference answer."""
LONG_REFERENCE_LENGTH = 5000
"""Still longer texts are not used at all."""
REFERENCE_NAMES = frozenset(
    {
        *("answer", "reference", "ground_truth", "label", "target", "solution", "expected", "gold"),
        *("answers", "references", "aliases", "targets", "correct_answer", "final_answer", "gt", "keywords", "summary"),
        *("canonical_solution", "reference_solution", "reference_answer", "correct_answers", "output", "outputs"),
    }
)
"""Columns that are taken for a reference answer, also as the last part of a path."""
_ADDED = frozenset(
    {
        *("reward", "reward_status", "reward_id", "components", "group", "prompt", "completion", "num_tokens"),
        "finish_reason",
    }
)
NO_REFERENCES = frozenset(
    {
        *("entry_point", "fn_name", "function_name", "method_name", "language", "tests", "test", "setup", "prompt"),
        *("data_source", "source", "task", "kind", "id", "index"),
    }
)
"""Columns that a reward may read and that hold no answer."""
_ANSWER_IN_TEXT = re.compile(r"####\s*(.{1,60}?)\s*\Z|\\boxed\{([^{}]{1,60})\}")
SAME = 1e-6


@dataclass(frozen=True, slots=True)
class HonestRow:
    """The completions of one prompt in a scored file."""

    prompt: Any
    fields: Mapping[str, Any]
    completions: tuple[tuple[str, float], ...]
    """Each completion with its reward."""
    tokens_per_character: float | None
    """None if the file has no ``num_tokens``."""
    labels: tuple[bool | None, ...] = ()
    """Whether each completion is right, as the file says; None where it does not say."""
    components: tuple[Mapping[str, float | None], ...] = ()
    """The value of each component for each completion."""

    def is_right(self, index: int, levels: Levels) -> bool:
        """Return whether a completion is right: as its label says, or by its reward."""
        label = self.labels[index] if self.labels else None
        return self.completions[index][1] >= levels.threshold if label is None else label


@dataclass(frozen=True, slots=True)
class Levels:
    """What honest completions get."""

    right: float
    wrong: float

    @property
    def threshold(self) -> float:
        """A cheat that gets this much is as good as accepted: the middle of ``right`` and ``wrong``."""
        return (self.right + self.wrong) / 2

    @property
    def separates(self) -> bool:
        """True if right completions get more than wrong ones."""
        return self.right > self.wrong + SAME


def honest_rows(scored: Iterable[Mapping[str, Any]], label: str | None = None) -> list[HonestRow]:
    """Group the rows of a scored file by prompt, in the order in which they appear. Unscored rows are left out.

    Args:
        scored: The rows.
        label: The column that says whether a completion is right. If None, the column ``label`` says so where it holds true or false;
            its other values may be reference answers.
    """
    found: dict[str, list[Mapping[str, Any]]] = {}
    read = _bool if label is None else truth_of
    label = label or "label"
    for row in scored:
        if row.get("reward") is not None:
            found.setdefault(repr(row["prompt"]), []).append(row)
    result = []
    for rows in found.values():
        texts = [(text_of(row["completion"]), float(row["reward"])) for row in rows]
        tokens = [
            row["num_tokens"] / max(len(text), 1)
            for row, (text, _) in zip(rows, texts, strict=True)
            if row.get("num_tokens") is not None
        ]
        labels = tuple(read(row.get(label)) for row in rows)
        fields = {key: value for key, value in rows[0].items() if key not in _ADDED}
        if any(value is not None for value in labels):
            fields.pop(label, None)
        components = tuple(
            {name: part.get("value") for name, part in (row.get("components") or {}).items()} for row in rows
        )
        result.append(
            HonestRow(rows[0]["prompt"], fields, tuple(texts), fmean(tokens) if tokens else None, labels, components)
        )
    return result


def _bool(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


def levels_of(rows: Sequence[HonestRow]) -> Levels:
    """Return what right and wrong completions get.

    With labels these are the medians of both classes, or the highest reward of a right completion if the medians are equal. Without,
    they are the medians of the rewards above and below the middle of their range.

    Raises:
        DataError: The completions all have about the same reward, so that nothing can be compared with them.
    """
    rewards = [reward for row in rows for _, reward in row.completions]
    if not rewards:
        raise DataError("no row of the file could be scored, so there is nothing to compare cheats with")
    labelled = [
        (reward, label)
        for row in rows
        for (_, reward), label in zip(row.completions, row.labels, strict=False)
        if label is not None
    ]
    if {label for _, label in labelled} == {True, False}:
        right = [reward for reward, label in labelled if label]
        wrong = median_low(reward for reward, label in labelled if not label)
        # Of a reward that misses most right completions, those that it finds tell what acceptance is worth.
        found = Levels(median_high(right) if median_high(right) > wrong + SAME else max(right), wrong)
        if found.separates or max(rewards) > SAME:
            return found
    low, high = min(rewards), max(rewards)
    if high - low < SAME:
        raise DataError(
            f"all completions of the file have a reward of {low:g}; give rollouts of which some are right and some are wrong"
        )
    middle = (low + high) / 2
    return Levels(
        median(reward for reward in rewards if reward >= middle),
        median(reward for reward in rewards if reward < middle),
    )


def component_levels(rows: Sequence[HonestRow], levels: Levels) -> dict[str, Levels]:
    """Return what each component gives to right and to wrong completions, where the file has both."""
    values: dict[str, dict[bool, list[float]]] = {}
    for row in rows:
        for index, parts in enumerate(row.components):
            is_right = row.is_right(index, levels)
            for name, value in parts.items():
                if value is not None:
                    values.setdefault(name, {True: [], False: []})[is_right].append(value)
    return {
        name: Levels(median(found[True]), median(found[False]))
        for name, found in values.items()
        if found[True] and found[False]
    }


def references_of(fields: Mapping[str, Any], columns: Iterable[str] = ()) -> tuple[str, ...]:
    """Return the short texts and numbers of a row that may be its reference answer, nested ones included.

    Args:
        fields: The columns of the row.
        columns: Further columns that a reward reads.
    """
    found: list[str] = []
    for text in _named_texts(fields, columns):
        plain = text.strip().strip("$").strip()
        if 0 < len(plain) <= REFERENCE_LENGTH and "\n" not in plain:
            found.append(plain)
        elif len(text) > REFERENCE_LENGTH and (match := _ANSWER_IN_TEXT.search(text)):
            found.append((match[1] or match[2]).strip())
    return tuple(dict.fromkeys(found))


def long_references_of(fields: Mapping[str, Any], columns: Iterable[str] = ()) -> tuple[str, ...]:
    """Return the long texts of a row that may be its reference. Arguments as for ``references_of``."""
    texts = _named_texts(fields, columns)
    return tuple(dict.fromkeys(text for text in texts if len(text.split()) >= 4 and len(text) <= LONG_REFERENCE_LENGTH))


def cheat_inputs(
    rows: Sequence[HonestRow], levels: Levels, columns: Iterable[str] = (), lengths: Sequence[tuple[int, str]] = ()
) -> list[CheatInput]:
    """Return what cheats may use of each row.

    Args:
        rows: The rows.
        levels: What honest completions get.
        columns: Further columns that the reward reads.
        lengths: Lengths at which the reward changes, with their unit, ``tokens`` or ``characters``.
    """
    columns = tuple(columns)
    references = [references_of(row.fields, columns) for row in rows]
    chosen = [_best_and_worst(row, levels) for row in rows]
    result = []
    for place, row in enumerate(rows):
        near = [other for step in (1, 2, 3) if (other := (place + step) % len(rows)) != place]
        strangers = [other for other in near if not set(references[other]) & set(references[place])]
        others = tuple(text for other in strangers if (text := chosen[other][0]) is not None)
        other_references = tuple(dict.fromkeys(text for other in strangers for text in references[other][:1]))
        right, wrong = chosen[place]
        result.append(
            CheatInput(
                text_of(row.prompt), row.fields, references[place], right, wrong, others, other_references,
                long_references_of(row.fields, columns), tuple(_in_characters(row, lengths)),
            )
        )  # fmt: skip
    return result


def text_of(value: Any) -> str:
    """Return a prompt or completion as text."""
    if isinstance(value, str):
        return value
    return "\n".join(message_text(turn.get("content")) for turn in value)


def _best_and_worst(row: HonestRow, levels: Levels) -> tuple[str | None, str | None]:
    """Return the right completion with the highest reward and the wrong one with the lowest.

    Completions on which label and reward disagree are left out: a wrong one that is accepted as it stands would make every cheat that
    decorates it look successful.
    """
    right: list[tuple[str, float]] = []
    wrong: list[tuple[str, float]] = []
    for index, pair in enumerate(row.completions):
        is_right, is_accepted = row.is_right(index, levels), pair[1] >= levels.threshold
        if is_right == is_accepted:
            (right if is_right else wrong).append(pair)
    return (
        max(right, key=lambda pair: pair[1])[0] if right else None,
        min(wrong, key=lambda pair: pair[1])[0] if wrong else None,
    )


def _in_characters(row: HonestRow, lengths: Sequence[tuple[int, str]]) -> Iterator[int]:
    for length, unit in lengths:
        yield length if unit == "characters" else round(length / (row.tokens_per_character or 0.25))


def _named_texts(fields: Mapping[str, Any], columns: Iterable[str]) -> list[str]:
    wanted = {name for name in columns if name.rpartition(".")[2] not in NO_REFERENCES}
    found: list[str] = []

    def visit(value: Any, path: str, is_named: bool) -> None:
        if isinstance(value, Mapping):
            for name, item in value.items():
                whole = f"{path}.{name}" if path else str(name)
                visit(item, whole, is_named or str(name) in REFERENCE_NAMES or whole in wanted)
        elif is_named and isinstance(value, list | tuple):
            for item in value[:8]:
                if isinstance(item, str | int | float):
                    visit(item, path, is_named)
        elif is_named and isinstance(value, str | int | float) and not isinstance(value, bool) and str(value).strip():
            found.append(str(value))

    visit(fields, "", is_named=False)
    return found
