"""Scored answers to held-out prompts as plain data, saved while an evaluation runs, so that it can be resumed."""

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
"""The ``place`` of the greedy answer to a prompt."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One scored answer to one prompt."""

    prompt: int
    """The index of the prompt."""
    place: int
    """The index among the samples of that prompt; GREEDY for the greedy answer."""
    right: bool | None
    """True if the answer is correct; None if it could not be scored."""
    reward: float | None
    components: Mapping[str, float | None]
    tokens: int
    is_cut: bool
    """True if the answer was cut off at the token limit."""
    answer: str | None
    """The final answer found in the text, for majority@k; None if there is none."""
    text: str


@dataclass(frozen=True, slots=True)
class ModelAnswers:
    """The answers of one model."""

    model: str
    prompts: Sequence[Prompt]
    answers: Sequence[Answer]

    @property
    def greedy(self) -> list[Answer]:
        """The greedy answers, one per prompt."""
        return [answer for answer in self.answers if answer.place == GREEDY]

    @property
    def by_prompt(self) -> dict[int, list[Answer]]:
        """The sampled answers to each prompt, in order."""
        found: dict[int, list[Answer]] = {}
        for answer in sorted(self.answers, key=lambda one: (one.prompt, one.place)):
            if answer.place != GREEDY:
                found.setdefault(answer.prompt, []).append(answer)
        return found

    def greedy_accuracy(self) -> Estimate:
        """Return the accuracy of the greedy answers that could be scored, with its Wilson interval."""
        verdicts = [answer.right for answer in self.greedy if answer.right is not None]
        return wilson(sum(verdicts), len(verdicts))

    def counts(self) -> dict[int, tuple[int, int]]:
        """Return the number of samples and of correct samples of each prompt. A prompt with an unscored sample is left out."""
        return {
            prompt: (len(answers), sum(bool(answer.right) for answer in answers))
            for prompt, answers in self.by_prompt.items()
            if all(answer.right is not None for answer in answers)
        }


def means(answers: Sequence[Answer]) -> dict[str, float]:
    """Return the means of reward, components and length, and the shares of truncated and unscored answers."""
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
    """A JSON Lines file to which answers are appended as they are scored."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> list[Answer]:
        """Return the saved answers. A last line that a killed process left incomplete is removed from the file.

        Raises:
            DataError: The file does not hold answers.
            OutputError: The file can't be read or written.
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
        """Append answers. Raises OutputError if the file can't be written."""
        lines: list[dict[str, Any]] = [asdict(answer) for answer in answers]
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab") as stream:
                stream.write(b"".join(orjson.dumps(line) + b"\n" for line in lines))
        except OSError as error:
            raise OutputError(f"{self.path} can't be written: {error.strerror}") from None
