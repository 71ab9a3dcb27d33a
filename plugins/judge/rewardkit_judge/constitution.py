"""Constitutional AI (https://arxiv.org/abs/2212.08073): answers are criticised, revised and compared by principles."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rewardkit import Rollout
from rewardkit.errors import DataError
from rewardkit.toolkit import Made, Row, RowError, read_yaml
from rewardkit_judge.endpoint import Usage
from rewardkit_judge.judge import Judge, NoVerdictError
from rewardkit_judge.options import Options
from rewardkit_judge.prompts import EDITOR, SYSTEM, check_template, load_template, messages
from rewardkit_judge.rewards.pairwise import Pairwise, pairs

_YAML = frozenset({".yaml", ".yml", ".json"})
_OF_ONE_COMPLETION = frozenset(
    {
        "completion",
        "completion_index",
        "group",
        "num_tokens",
        "finish_reason",
        "reward",
        "reward_status",
        "reward_id",
        "components",
    }
)
"""Columns that say nothing of a pair."""


def read_principles(file: Path) -> list[str]:
    """Return the principles in a file: a list or a mapping of texts in YAML or JSON, or one text per line. Lines with # are comments.

    Args:
        file: The file.

    Raises:
        ConfigError: It is no valid YAML.
        DataError: It can't be read, or holds no principles.
    """
    if file.suffix in _YAML:
        data = read_yaml(file)
        found = list(data.values()) if isinstance(data, dict) else data
        if not isinstance(found, list) or not all(isinstance(text, str) and text.strip() for text in found):
            raise DataError(f"{file}: principles are a list of texts, or a mapping of names to texts")
    else:
        try:
            lines = file.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{file} can't be read: {error}") from None
        found = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    if not found:
        raise DataError(f"{file}: there are no principles")
    return found


def identity_of(
    options: Options, principles: Sequence[str], prompts: Sequence[str], more: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what decides the new rows beside the input. The address does not: the same model may be served elsewhere.

    Args:
        options: The model and how it samples.
        principles: The principles.
        prompts: The texts of the prompts.
        more: Further settings.
    """
    digest = hashlib.sha256(json.dumps([SYSTEM, EDITOR, *prompts]).encode()).hexdigest()
    asked = {
        name: getattr(options, name) for name in ("model", "version", "votes", "temperature", "max_tokens", "extra")
    }
    return {**asked, "principles": list(principles), "prompts": digest[:16], **more}


@dataclass(frozen=True, slots=True)
class Prompts:
    """The prompts of a critic and of whoever revises."""

    critique: str
    revision: str

    @classmethod
    def load(cls, critique: str | None = None, revision: str | None = None) -> Prompts:
        """Return the prompts of files, or those of this package. Raises ValueError if one can't be used."""
        found = cls(load_template("critique", critique), load_template("revision", revision))
        needed = {"principle", "question", "response"}
        check_template(found.critique, needed, needed)
        check_template(found.revision, {*needed, "critique"}, {*needed, "critique"})
        return found


class Reviser:
    """Makes rows for supervised fine-tuning: a first answer, then rounds of critique and revision, each by one of the principles.

    The first answer is the row's ``completion``, or the model's own. A hash of the prompt chooses the principles of a row, so that a
    resumed job chooses the same.

    Args:
        options: The model.
        principles: The principles.
        rounds: Critiques and revisions per row.
        seed: Changes the choice of principles, and the seeds of replies.
        prompts: The prompts.
    """

    name = "reviser"
    by_group = False
    needs: Sequence[str] = ("prompt",)

    def __init__(self, options: Options, principles: Sequence[str], rounds: int, seed: int, prompts: Prompts) -> None:
        self.judge = Judge(options)
        self._principles, self._rounds, self._seed, self._prompts = list(principles), rounds, seed, prompts

    async def __call__(self, rows: Sequence[Row]) -> Made:
        """Return the row with the last revision as its completion."""
        [row] = rows
        for name in COLUMNS_OF_REVISIONS:
            if name in row:
                raise RowError(f"column {name!r} would be overwritten; rename it with --map old_{name}={name}")
        given = Rollout(row["prompt"], row.get("completion") or "")
        usage = Usage()
        try:
            if given.completion_text.strip():
                first = text = given.completion_text
            else:
                first, usage = await self.judge.text(_conversation(given), self._seed)
                text = first
            critiques, revisions, used = [], [], self._chosen(given.prompt_text)
            for principle in used:
                material = {"question": given.prompt_text, "response": text}
                critique, cost = await self._ask(self._prompts.critique, material, principle)
                text, more = await self._ask(self._prompts.revision, {**material, "critique": critique}, principle)
                critiques.append(critique)
                revisions.append(text)
                usage += cost + more
        except NoVerdictError as error:
            return error.unscored
        columns = {"first_answer": first, "principles": used, "critiques": critiques, "revisions": revisions}
        return [{**row, "completion": text, **columns, **self.judge.metrics(usage)}]

    async def _ask(self, template: str, material: Mapping[str, str], principle: str) -> tuple[str, Usage]:
        return await self.judge.text(messages(template, material, {"principle": principle}, EDITOR), self._seed)

    def _chosen(self, prompt: str) -> list[str]:
        """Return the principles of a row's rounds. None occurs again before all have."""
        found: list[str] = []
        while len(found) < self._rounds:
            number = len(found) // len(self._principles)
            found += sorted(self._principles, key=lambda text: _digest(self._seed, number, prompt, text))
        return found[: self._rounds]

    def costs(self) -> dict[str, float]:
        """Return what all calls so far have cost."""
        return self.judge.costs()

    async def close(self) -> None:
        """Close the connections."""
        await self.judge.close()


COLUMNS_OF_REVISIONS = ("first_answer", "principles", "critiques", "revisions")


class Preferrer:
    """Makes preference pairs: completions of one prompt are compared by the principles, in both orders.

    A pair is written if both orders prefer the same completion; others are counted as undecided.

    Args:
        options: The model.
        principles: The principles.
        opponents: With how many others each completion of a prompt is compared; None for all.
    """

    name = "judge"
    counts = frozenset({"pairs", "undecided_pairs"})
    """What ``costs`` tells beside the costs of calls."""
    by_group = True
    needs: Sequence[str] = ("prompt", "completion")

    def __init__(self, options: Options, principles: Sequence[str], opponents: int | None) -> None:
        self.pairwise = Pairwise(principles=list(principles), **_fields(options))
        self._opponents = opponents
        self._pairs = self._undecided = 0

    async def __call__(self, rows: Sequence[Row]) -> Made:
        """Return a row for each pair of completions that both orders agree on."""
        import asyncio

        texts = {Rollout(row["prompt"], row["completion"]).completion_text: row for row in rows}
        if len(texts) < 2:
            raise RowError("the prompt has one completion only, so there is nothing to compare it with")
        question = Rollout(rows[0]["prompt"], "").prompt_text
        names = list(texts)
        chosen = pairs(len(names), self._opponents)
        found = await asyncio.gather(
            *(self.pairwise.compare(question, names[a], names[b]) for a, b in chosen), return_exceptions=True
        )
        shared = {
            name: value
            for name, value in rows[0].items()
            if name not in _OF_ONE_COMPLETION and all(row.get(name) == value for row in rows)
        }
        made: list[Row] = []
        undecided = 0
        for (a, b), result in zip(chosen, found, strict=True):
            if isinstance(result, NoVerdictError):
                return result.unscored  # all of the group, so that another try makes no pair twice
            if isinstance(result, BaseException):
                raise result
            if min(result.forward, result.backward) > 0.5:
                better, worse = a, b
            elif max(result.forward, result.backward) < 0.5:
                better, worse = b, a
            else:
                undecided += 1
                continue
            share = result.share if better == a else 1 - result.share
            pair = {"chosen": texts[names[better]]["completion"], "rejected": texts[names[worse]]["completion"]}
            cost = self.pairwise.judge.metrics(result.usage)
            made.append({**shared, **pair, "win_share": share, "reasons": list(result.reasons), **cost})
        self._pairs += len(made)
        self._undecided += undecided
        return made

    def costs(self) -> dict[str, float]:
        """Return what all calls so far have cost, and how many pairs they decided."""
        counts = {"pairs": float(self._pairs), "undecided_pairs": float(self._undecided)}
        return {**self.pairwise.costs(), **counts}

    async def close(self) -> None:
        """Close the connections."""
        await self.pairwise.close()


def _fields(options: Options) -> dict[str, Any]:
    return {name: getattr(options, name) for name in Options.__dataclass_fields__}


def _conversation(rollout: Rollout) -> list[dict[str, str]]:
    if isinstance(rollout.prompt, str):
        return [{"role": "user", "content": rollout.prompt}]
    return [dict(message) for message in rollout.prompt]


def _digest(*parts: object) -> bytes:
    return hashlib.blake2b(json.dumps(parts).encode(), digest_size=8).digest()
