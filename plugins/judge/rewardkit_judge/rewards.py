"""The rewards: a rubric, a reference answer, principles, and comparisons within a group."""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from functools import partial
from statistics import fmean, pstdev
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, MinLen

from rewardkit import FieldName, Rollout, Score, Unscored, reward
from rewardkit_judge.endpoint import Usage
from rewardkit_judge.judge import Judge, NoVerdictError, Settings, Structured
from rewardkit_judge.prompts import SYSTEM, check_template, load_template, messages
from rewardkit_judge.replies import BadReply, choice_of, mark_of

KEY = "OPENAI_API_KEY"
_SHARED = """
        model: The model's name at the endpoint.
        url: The address of an OpenAI-compatible endpoint, such as http://127.0.0.1:8000/v1.
        votes: Times that each question is asked, with different seeds. The score is the mean; with more than one, set a temperature.
        temperature: The sampling temperature. Above 0, scores are not cached.
        max_tokens: The most tokens of a reply. A reply that is cut gives no score.
        structured: Give the endpoint the JSON Schema of the reply: on, off, or auto (until it refuses).
        prompt: A file that replaces the prompt.
        concurrency: The most calls at once, for all judges that use this endpoint.
        tries: Attempts per call. Network errors, time-outs and HTTP 429 and 5xx are tried again with growing pauses.
        request_timeout: Seconds that one attempt may take.
        api_key: The environment variable that holds the key. The key itself is never part of a configuration.
        version: Names the weights behind the model's name. With it, the cache keeps scores between runs.
        prices: Price of a million tokens (prompt, completion), for the metric judge_cost.
        extra: Further fields of the request."""


def _identity(template: str, params: Any) -> str | None:
    """Return what decides scores beside the row: the prompt and the judge's version. None: scores are not kept."""
    if not params.version:
        return None
    text = load_template(template, params.prompt)
    return hashlib.sha256(f"{params.version}\n{SYSTEM}\n{text}".encode()).hexdigest()


class _Base:
    """Asks one question per rollout."""

    template = ""
    placeholders: tuple[str, ...] = ("question", "response")

    def __init__(self, judge: Judge, prompt: str | None) -> None:
        self._judge = judge
        self._template = load_template(self.template, prompt)
        known = {*self.placeholders, "criteria", "low", "high"}
        check_template(self._template, set(self.placeholders), known)

    async def close(self) -> None:
        """Close the connections to the endpoint."""
        await self._judge.close()

    def _score(self, values: Sequence[float], reason: str, usage: Usage, metrics: Mapping[str, float]) -> Score:
        spread = {"votes_std": pstdev(values)} if len(values) > 1 else {}
        return Score(
            fmean(values),
            reason[:300],
            metrics={**metrics, **spread, **self._judge.costs(usage)},
            repeatable=self._judge.settings.temperature == 0,
        )


def _settings(values: Mapping[str, Any]) -> Settings:
    return Settings(**{name: values[name] for name in Settings.__dataclass_fields__})


class _Marks(_Base):
    """Scores by marks for several criteria."""

    def __init__(self, judge: Judge, prompt: str | None, low: int, high: int, empty: str) -> None:
        super().__init__(judge, prompt)
        self._low, self._high, self._empty = low, high, empty

    async def _marks(self, rollout: Rollout, criteria: Mapping[str, tuple[str, float]]) -> Score | Unscored:
        """Return the weighted mean of the criteria's marks, scaled to 0 to 1."""
        low, high = self._low, self._high
        if not criteria:
            return Unscored("input", self._empty)
        schema = _schema(
            scores={
                "type": "object",
                "properties": {name: {"type": "integer", "minimum": low, "maximum": high} for name in criteria},
                "required": list(criteria),
                "additionalProperties": False,
            }
        )
        question = messages(
            self._template,
            {"question": rollout.prompt_text, "response": rollout.completion_text},
            {
                "criteria": "\n".join(f'- "{name}": {text}' for name, (text, _) in criteria.items()),
                "low": str(low),
                "high": str(high),
            },
        )

        def read(verdict: Mapping[str, Any]) -> tuple[dict[str, float], str]:
            found = scores_of(verdict["scores"], criteria)
            marks = {name: (mark_of(found[name], low, high, name) - low) / (high - low) for name in criteria}
            return marks, str(verdict["reasoning"])

        try:
            verdicts, usage = await self._judge.votes(question, schema, read)
        except NoVerdictError as error:
            return error.unscored
        total = sum(weight for _, weight in criteria.values())
        values = [sum(marks[name] * weight for name, (_, weight) in criteria.items()) / total for marks, _ in verdicts]
        metrics = {name: fmean(marks[name] for marks, _ in verdicts) for name in criteria}
        if len(verdicts) > 1:
            metrics |= {f"{name}_std": pstdev([marks[name] for marks, _ in verdicts]) for name in criteria}
        return self._score(values, verdicts[0][1], usage, metrics)


def scores_of(scores: Any, criteria: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the scores of a reply. Raises BadReply if they are not one for each criterion."""
    if not isinstance(scores, dict) or set(scores) != set(criteria):
        raise BadReply(f"the judge's scores are not one for each of {', '.join(criteria)}")
    return scores


def _schema(**properties: Any) -> dict[str, Any]:
    """Return the JSON Schema of a reply with its reasoning first, so that the verdict follows from it."""
    found = {"reasoning": {"type": "string"}, **properties}
    return {"type": "object", "properties": found, "required": list(found), "additionalProperties": False}


@reward(
    "judge.rubric",
    deterministic=True,
    identity=partial(_identity, "rubric"),
    timeout_s=900.0,
    example='quality: {use: judge.rubric, with: {model: my-judge, url: "http://127.0.0.1:8000/v1", criteria: {clear: It is clear.}}}',
)
class Rubric(_Marks):
    """A language model's marks for weighted criteria, from 0 (all the lowest) to 1 (all the highest)."""

    __doc__ = f"""{__doc__}

    Args:
        criteria: The criteria by name, each a text, or a mapping with text and weight.
        criteria_field: The column that holds a row's own criteria, instead of ``criteria``.
        low: The lowest mark.
        high: The highest mark.{_SHARED}
    """
    template = "rubric"

    def __init__(
        self,
        *,
        model: str,
        url: str,
        criteria: dict[str, str | dict[str, str | float]] = {},  # noqa: B006 - the default of a parameter in YAML
        criteria_field: FieldName | None = None,
        low: int = 1,
        high: int = 5,
        votes: Annotated[int, Ge(1)] = 1,
        temperature: Annotated[float, Ge(0)] = 0.0,
        max_tokens: Annotated[int, Gt(0)] = 1024,
        structured: Structured = "auto",
        prompt: str | None = None,
        concurrency: Annotated[int, Gt(0)] = 32,
        tries: Annotated[int, Gt(0)] = 5,
        request_timeout: Annotated[float, Gt(0)] = 120.0,
        api_key: str = KEY,
        version: str = "",
        prices: dict[Literal["prompt", "completion"], float] = {},  # noqa: B006
        extra: dict[str, Any] = {},  # noqa: B006
    ) -> None:
        if low >= high:
            raise ValueError(f"low ({low}) is not below high ({high})")
        if bool(criteria) == (criteria_field is not None):
            raise ValueError("set either criteria or criteria_field")
        super().__init__(Judge(_settings(locals())), prompt, low, high, "the row has no criteria")
        self._criteria = read_criteria(criteria)
        self._field = criteria_field

    async def __call__(self, rollouts: Sequence[Rollout]) -> list[Score | Unscored]:
        """Score rollouts."""
        return list(await asyncio.gather(*(self._one(rollout) for rollout in rollouts)))

    async def _one(self, rollout: Rollout) -> Score | Unscored:
        if self._field is None:
            return await self._marks(rollout, self._criteria)
        try:
            criteria = read_criteria(rollout.fields.get(self._field) or {})
        except ValueError as error:
            return Unscored("input", f"column {self._field!r}: {error}")
        return await self._marks(rollout, criteria)


def read_criteria(given: Any) -> dict[str, tuple[str, float]]:
    """Return criteria as (text, weight) by name.

    Args:
        given: A mapping of names to texts or mappings with text and weight, a list of texts, or one of these as JSON text.

    Raises:
        ValueError: It is none of these.
    """
    if isinstance(given, str):
        try:
            given = json.loads(given)
        except ValueError:
            raise ValueError("the text is not JSON") from None
    if isinstance(given, Sequence):
        given = {f"c{index}": text for index, text in enumerate(given, 1)}
    if not isinstance(given, Mapping):
        raise ValueError(f"criteria are a mapping or a list, not {type(given).__name__}")  # noqa: TRY004 - wrong data
    found: dict[str, tuple[str, float]] = {}
    for name, value in given.items():
        text, weight = (value.get("text"), value.get("weight", 1.0)) if isinstance(value, Mapping) else (value, 1.0)
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f"criterion {name!r} has no text")
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not math.isfinite(weight) or weight <= 0:
            raise ValueError(f"the weight of criterion {name!r} must be a positive number, not {weight!r}")
        found[str(name)] = (text, float(weight))
    return found


@reward(
    "judge.principles",
    deterministic=True,
    identity=partial(_identity, "principles"),
    timeout_s=900.0,
    example='harmless: {use: judge.principles, with: {model: my-judge, url: "http://127.0.0.1:8000/v1", principles: [It does no harm.]}}',
)
class Principles(_Marks):
    """The share of principles (a constitution) that a completion keeps to, in the opinion of a language model."""

    __doc__ = f"""{__doc__}

    Args:
        principles: The principles.{_SHARED}
    """
    template = "principles"

    def __init__(
        self,
        *,
        model: str,
        url: str,
        principles: Annotated[list[str], MinLen(1)],
        votes: Annotated[int, Ge(1)] = 1,
        temperature: Annotated[float, Ge(0)] = 0.0,
        max_tokens: Annotated[int, Gt(0)] = 1024,
        structured: Structured = "auto",
        prompt: str | None = None,
        concurrency: Annotated[int, Gt(0)] = 32,
        tries: Annotated[int, Gt(0)] = 5,
        request_timeout: Annotated[float, Gt(0)] = 120.0,
        api_key: str = KEY,
        version: str = "",
        prices: dict[Literal["prompt", "completion"], float] = {},  # noqa: B006
        extra: dict[str, Any] = {},  # noqa: B006
    ) -> None:
        super().__init__(Judge(_settings(locals())), prompt, 0, 1, "there are no principles")
        self._criteria = read_criteria({f"p{index}": text for index, text in enumerate(principles, 1)})

    async def __call__(self, rollouts: Sequence[Rollout]) -> list[Score | Unscored]:
        """Score rollouts."""
        return list(await asyncio.gather(*(self._marks(rollout, self._criteria) for rollout in rollouts)))


@reward(
    "judge.reference",
    deterministic=True,
    identity=partial(_identity, "reference"),
    timeout_s=900.0,
    example='same: {use: judge.reference, with: {model: my-judge, url: "http://127.0.0.1:8000/v1", reference: answer}}',
)
class Reference(_Base):
    """1 if a language model finds a completion's answer equal to the reference, else 0: for answers that no parser decides."""

    __doc__ = f"""{__doc__}

    Args:
        reference: The column of the reference answer.{_SHARED}
    """
    template = "reference"
    placeholders = ("question", "reference", "response")

    def __init__(
        self,
        *,
        model: str,
        url: str,
        reference: FieldName,
        votes: Annotated[int, Ge(1)] = 1,
        temperature: Annotated[float, Ge(0)] = 0.0,
        max_tokens: Annotated[int, Gt(0)] = 1024,
        structured: Structured = "auto",
        prompt: str | None = None,
        concurrency: Annotated[int, Gt(0)] = 32,
        tries: Annotated[int, Gt(0)] = 5,
        request_timeout: Annotated[float, Gt(0)] = 120.0,
        api_key: str = KEY,
        version: str = "",
        prices: dict[Literal["prompt", "completion"], float] = {},  # noqa: B006
        extra: dict[str, Any] = {},  # noqa: B006
    ) -> None:
        super().__init__(Judge(_settings(locals())), prompt)
        self._field = reference

    async def __call__(self, rollouts: Sequence[Rollout]) -> list[Score | Unscored]:
        """Score rollouts."""
        return list(await asyncio.gather(*(self._one(rollout) for rollout in rollouts)))

    async def _one(self, rollout: Rollout) -> Score | Unscored:
        reference = rollout.fields.get(self._field)
        if reference is None or not str(reference).strip():
            return Unscored("reference", f"column {self._field!r} is empty")
        question = messages(
            self._template,
            {
                "question": rollout.prompt_text,
                "reference": str(reference),
                "response": rollout.completion_text,
            },
            {},
        )

        def read(verdict: Mapping[str, Any]) -> tuple[float, str]:
            return float(choice_of(verdict["equal"], [True, False], "verdict")), str(verdict["reasoning"])

        try:
            verdicts, usage = await self._judge.votes(question, _schema(equal={"type": "boolean"}), read)
        except NoVerdictError as error:
            return error.unscored
        return self._score([value for value, _ in verdicts], verdicts[0][1], usage, {})


@reward(
    "judge.pairwise",
    scope="group",
    timeout_s=900.0,
    example='better: {use: judge.pairwise, with: {model: my-judge, url: "http://127.0.0.1:8000/v1"}}',
)
class Pairwise(_Base):
    """How often a completion beats others of its group, from 0 to 1, in the opinion of a language model.

    Each pair is judged in both orders; contradicting verdicts and ties count one half.
    """

    __doc__ = f"""{__doc__}

    Args:
        principles: What makes a response better.
        opponents: The number of others that each completion is compared with; by default all.
        value: win_rate, or bradley_terry: the probability of beating an average opponent, from a Bradley-Terry fit.{_SHARED}
    """
    template = "pairwise"
    placeholders = ("question", "first", "second")

    def __init__(
        self,
        *,
        model: str,
        url: str,
        principles: list[str] = [],  # noqa: B006
        opponents: Annotated[int, Ge(1)] | None = None,
        value: Literal["win_rate", "bradley_terry"] = "win_rate",
        votes: Annotated[int, Ge(1)] = 1,
        temperature: Annotated[float, Ge(0)] = 0.0,
        max_tokens: Annotated[int, Gt(0)] = 1024,
        structured: Structured = "auto",
        prompt: str | None = None,
        concurrency: Annotated[int, Gt(0)] = 32,
        tries: Annotated[int, Gt(0)] = 5,
        request_timeout: Annotated[float, Gt(0)] = 120.0,
        api_key: str = KEY,
        version: str = "",
        prices: dict[Literal["prompt", "completion"], float] = {},  # noqa: B006
        extra: dict[str, Any] = {},  # noqa: B006
    ) -> None:
        super().__init__(Judge(_settings(locals())), prompt)
        self._by = "".join(f"- {principle}\n" for principle in principles)
        self._opponents, self._value = opponents, value

    async def __call__(self, rollouts: Sequence[Rollout]) -> list[Score | Unscored]:
        """Score the completions of a group."""
        count = len(rollouts)
        if count < 2:
            return [Unscored("input", "the group has one completion, so there is nothing to compare it with")] * count
        chosen = pairs(count, self._opponents)
        found = await asyncio.gather(
            *(self._compare(rollouts[a], rollouts[b]) for a, b in chosen), return_exceptions=True
        )
        wins = [[0.0] * count for _ in range(count)]
        games = [0] * count
        usages = [Usage() for _ in range(count)]
        agreeing = [0] * count
        problem = ""
        for (a, b), result in zip(chosen, found, strict=True):
            if isinstance(result, NoVerdictError):
                problem = str(result)
                continue
            if isinstance(result, BaseException):
                raise result
            share, usage, agrees = result
            wins[a][b], wins[b][a] = share, 1 - share
            for one in (a, b):
                games[one] += 1
                usages[one] += usage
                agreeing[one] += agrees
        planned = [sum(one in pair for pair in chosen) for one in range(count)]
        if any(2 * played <= due for played, due in zip(games, planned, strict=True)):
            # Marks from different opponents could not be compared, so the whole group has none.
            return [Unscored("infra", problem)] * count
        rates = [sum(wins[one]) / games[one] for one in range(count)]
        values = rates if self._value == "win_rate" else bradley_terry(wins)
        return [
            Score(
                values[one],
                f"beats {sum(wins[one]):g} of {games[one]}",
                metrics={"order_agreement": agreeing[one] / games[one], **self._judge.costs(usages[one])},
                repeatable=self._judge.settings.temperature == 0,
            )
            for one in range(count)
        ]

    async def _compare(self, a: Rollout, b: Rollout) -> tuple[float, Usage, bool]:
        """Return the share of wins of ``a``, what this cost, and whether both orders agree."""
        if a.completion_text == b.completion_text:
            return 0.5, Usage(), True
        (forward, first), (backward, second) = await asyncio.gather(self._ask(a, b), self._ask(b, a))
        return (forward + 1 - backward) / 2, first + second, abs(forward - (1 - backward)) < 0.5

    async def _ask(self, first: Rollout, second: Rollout) -> tuple[float, Usage]:
        question = messages(
            self._template,
            {
                "question": first.prompt_text,
                "first": first.completion_text,
                "second": second.completion_text,
            },
            {"criteria": f"\nA response is better if it keeps to these principles:\n{self._by}" if self._by else ""},
        )

        def read(verdict: Mapping[str, Any]) -> float:
            return {"A": 1.0, "B": 0.0, "tie": 0.5}[choice_of(verdict["winner"], ["A", "B", "tie"], "winner")]

        verdicts, usage = await self._judge.votes(question, _schema(winner={"enum": ["A", "B", "tie"]}), read)
        return fmean(verdicts), usage


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
