"""Answers to held-out prompts, judged, as plain data; kept in a file while an evaluation goes on, so that it can go on later."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import orjson

from rewardkit.errors import DataError, OutputError
from rewardkit.train.data.tokenization import Prompt
from rewardkit.train.evaluation.statistics import Estimate, wilson

GREEDY = -1
"""The place of the one greedy answer to a prompt."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer to one prompt."""

    prompt: int
    """Its number among the prompts, from 0."""
    place: int
    """Its number among the samples of that prompt, from 0; GREEDY for the greedy one."""
    right: bool | None
    """None where it could not be scored."""
    reward: float | None
    components: Mapping[str, float | None]
    tokens: int
    is_cut: bool
    """Whether it was cut off before its end."""
    answer: str | None
    """What was read from it, for the vote of a majority."""
    text: str


@dataclass(frozen=True, slots=True)
class ModelAnswers:
    """What one model achieved."""

    model: str
    prompts: Sequence[Prompt]
    answers: Sequence[Answer]

    @property
    def greedy(self) -> list[Answer]:
        """One per prompt."""
        return [answer for answer in self.answers if answer.place == GREEDY]

    @property
    def by_prompt(self) -> dict[int, list[Answer]]:
        """The samples of each prompt, in their order."""
        found: dict[int, list[Answer]] = {}
        for answer in sorted(self.answers, key=lambda one: (one.prompt, one.place)):
            if answer.place != GREEDY:
                found.setdefault(answer.prompt, []).append(answer)
        return found

    def greedy_accuracy(self) -> Estimate:
        """Share of right greedy answers among those that could be scored, with Wilson's interval."""
        verdicts = [answer.right for answer in self.greedy if answer.right is not None]
        return wilson(sum(verdicts), len(verdicts))

    def counts(self) -> dict[int, tuple[int, int]]:
        """For each prompt all of whose samples could be scored: how many there are, and how many are right."""
        return {
            prompt: (len(answers), sum(bool(answer.right) for answer in answers))
            for prompt, answers in self.by_prompt.items()
            if all(answer.right is not None for answer in answers)
        }


def means(answers: Sequence[Answer]) -> dict[str, float]:
    """Of reward, components, length, and what was cut off or could not be scored."""
    result = {"reward": _mean(answer.reward for answer in answers)}
    for name in dict.fromkeys(name for answer in answers for name in answer.components):
        result[f"component/{name}"] = _mean(answer.components.get(name) for answer in answers)
    result["length"] = _mean(answer.tokens for answer in answers)
    result["truncated"] = _mean(answer.is_cut for answer in answers)
    result["unscored"] = _mean(answer.right is None for answer in answers)
    return result


def _mean(values: Iterable[float | None]) -> float:
    known = [value for value in values if value is not None]
    return fmean(known) if known else math.nan


class Store:
    """A file of answers, one a line, to which each is added when it is there."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> list[Answer]:
        """What is there; half a line at its end, from a process that was killed, is cut off.

        Raises:
            DataError: The file holds something else.
            OutputError: It can't be mended.
        """
        if not self.path.is_file():
            return []
        try:
            data = self.path.read_bytes()
            whole = data[: data.rfind(b"\n") + 1]
            if len(whole) < len(data):
                self.path.write_bytes(whole)
            return [Answer(**orjson.loads(line)) for line in whole.splitlines()]
        except OSError as error:
            raise OutputError(f"{self.path}: {error.strerror}") from None
        except (orjson.JSONDecodeError, TypeError) as error:
            raise DataError(f"{self.path} does not hold answers ({error}); remove it") from None

    def add(self, answers: Sequence[Answer]) -> None:
        """Append. Raises OutputError."""
        lines: list[dict[str, Any]] = [asdict(answer) for answer in answers]
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab") as stream:
                stream.write(b"".join(orjson.dumps(line) + b"\n" for line in lines))
        except OSError as error:
            raise OutputError(f"{self.path} can't be written: {error.strerror}") from None
