"""Asks the judge: builds the request, reads the reply, asks again if the reply is no verdict, and counts the cost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from rewardkit import Unscored
from rewardkit_judge.endpoint import Endpoint, EndpointError, Usage
from rewardkit_judge.replies import BadReply, content_of, verdict_of

T = TypeVar("T")
Structured = Literal["auto", "on", "off"]
"""``on``: the endpoint is given the JSON Schema of the reply. ``auto``: until it refuses that."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings that all judges share."""

    model: str
    url: str
    votes: int
    temperature: float
    max_tokens: int
    structured: Structured
    concurrency: int
    tries: int
    request_timeout: float
    api_key: str
    prices: Mapping[str, float]
    extra: Mapping[str, Any]


class NoVerdictError(Exception):
    """There is no verdict. ``unscored`` says why."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.unscored = Unscored("infra", message)


@dataclass(slots=True)
class Judge:
    """Asks one model at one endpoint."""

    settings: Settings
    endpoint: Endpoint = field(init=False)
    _uses_schema: bool = field(init=False)

    def __post_init__(self) -> None:
        settings = self.settings
        self.endpoint = Endpoint(
            settings.url.rstrip("/"),
            settings.concurrency,
            settings.tries,
            settings.request_timeout,
            settings.api_key,
        )
        self._uses_schema = settings.structured != "off"

    async def votes(
        self,
        messages: Sequence[Mapping[str, str]],
        schema: Mapping[str, Any],
        read: Callable[[Mapping[str, Any]], T],
    ) -> tuple[list[T], Usage]:
        """Ask the same question ``votes`` times.

        Args:
            messages: The question.
            schema: The JSON Schema of the reply.
            read: Turns the reply's object into a verdict, or raises BadReply.

        Returns:
            The verdicts, more than half of the votes, and what they cost.

        Raises:
            NoVerdictError: Half of the votes or more gave no verdict.
        """
        count = self.settings.votes
        found = await asyncio.gather(
            *(self._vote(messages, schema, read, seed) for seed in range(count)), return_exceptions=True
        )
        verdicts, usage, problems = [], Usage(), []
        for result in found:
            if isinstance(result, NoVerdictError):
                problems.append(str(result))
            elif isinstance(result, BaseException):
                raise result
            else:
                verdicts.append(result[0])
                usage += result[1]
        if 2 * len(verdicts) <= count:
            raise NoVerdictError(problems[0])
        return verdicts, usage

    async def _vote(
        self,
        messages: Sequence[Mapping[str, str]],
        schema: Mapping[str, Any],
        read: Callable[[Mapping[str, Any]], T],
        seed: int,
    ) -> tuple[T, Usage]:
        usage = Usage()
        problem = ""
        for attempt in range(2):  # a reply that is no verdict is asked for once more, with another seed
            try:
                response, cost = await self._ask(messages, schema, 2 * seed + attempt)
            except EndpointError as error:
                raise NoVerdictError(str(error)) from None
            usage += cost
            try:
                return read(verdict_of(content_of(response), schema["required"])), usage
            except BadReply as error:
                problem = str(error)
        raise NoVerdictError(f"{problem}; asked twice")

    async def _ask(
        self, messages: Sequence[Mapping[str, str]], schema: Mapping[str, Any], seed: int
    ) -> tuple[Any, Usage]:
        settings = self.settings
        body: dict[str, Any] = {
            "model": settings.model,
            "messages": list(messages),
            "temperature": settings.temperature,
            "max_tokens": settings.max_tokens,
            "seed": seed,
            **settings.extra,
        }
        if self._uses_schema:
            told = {"type": "json_schema", "json_schema": {"name": "verdict", "schema": dict(schema), "strict": True}}
            try:
                return await self.endpoint.chat({**body, "response_format": told})
            except EndpointError as error:
                if settings.structured == "on" or "response_format" not in str(error):
                    raise
                self._uses_schema = False
        return await self.endpoint.chat(body)

    def costs(self, usage: Usage) -> dict[str, float]:
        """Return the cost of calls as metrics; in money if ``prices`` are given."""
        found = {
            "judge_calls": float(usage.calls),
            "judge_prompt_tokens": float(usage.prompt_tokens),
            "judge_completion_tokens": float(usage.completion_tokens),
        }
        prices = self.settings.prices
        if prices:
            found["judge_cost"] = (
                usage.prompt_tokens * prices.get("prompt", 0.0)
                + usage.completion_tokens * prices.get("completion", 0.0)
            ) / 1e6
        return found

    async def close(self) -> None:
        """Close the connections."""
        await self.endpoint.close()
