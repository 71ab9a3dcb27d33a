"""Asks the judge: builds the request, reads the reply, asks again if the reply is no verdict, and counts the cost."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from rewardkit import Unscored
from rewardkit_judge.endpoint import Endpoint, EndpointError, Usage
from rewardkit_judge.kept_replies import KeptReplies
from rewardkit_judge.options import Options
from rewardkit_judge.replies import BadReply, content_of, text_of, verdict_of

T = TypeVar("T")
Messages = Sequence[Mapping[str, str]]

MAX_REMEMBERED = 10_000
"""Replies that a judge remembers, so that an equal question is not asked again."""
_RULES_REFUSED = ("response_format", "json_schema", "guided", "grammar", "structured")
"""Words in the answer of an endpoint that does not take a JSON Schema."""


class NoVerdictError(Exception):
    """There is no verdict. ``unscored`` says why."""

    def __init__(self, message: str, kind: Literal["infra", "timeout"] = "infra") -> None:
        super().__init__(message)
        self.unscored = Unscored(kind, message)


@dataclass(frozen=True, slots=True)
class Exchange:
    """One question and what came of it, for people who look at a judge."""

    body: Mapping[str, Any]
    """The request."""
    reply: str
    """The text of the reply, or what the endpoint answered instead."""
    verdict: Any
    """The verdict as the reward reads it; None if there is none."""
    problem: str
    """Why there is no verdict; empty if there is one."""
    usage: Usage
    is_remembered: bool
    """True if an equal question had been asked before, so that nothing was paid for this one."""


@dataclass(slots=True)
class Watch:
    """What is seen of the calls that start inside `watching`."""

    exchanges: list[Exchange] = field(default_factory=list)
    votes: list[tuple[float, ...]] = field(default_factory=list)
    """The values of the votes on each question, from 0 to 1."""


_watched: ContextVar[Watch | None] = ContextVar("rewardkit_judge_watch", default=None)


@contextmanager
def watching() -> Iterator[Watch]:
    """Collect the exchanges and the votes of the calls that start inside the block."""
    watch = Watch()
    token = _watched.set(watch)
    try:
        yield watch
    finally:
        _watched.reset(token)


def note_votes(values: Sequence[float]) -> None:
    """Tell whoever watches the values of the votes on one question.

    Args:
        values: From 0 to 1.
    """
    if (watch := _watched.get()) is not None:
        watch.votes.append(tuple(values))


@dataclass(frozen=True, slots=True)
class _Reply:
    """A response of the endpoint."""

    data: Any
    usage: Usage


@dataclass(slots=True)
class Judge:
    """Asks one model at one endpoint. All its calls are made from one event loop."""

    options: Options
    endpoint: Endpoint = field(init=False)
    spent: Usage = field(default_factory=Usage, init=False)
    """The cost of all calls so far, those without a verdict included."""
    remembered: int = field(default=0, init=False)
    """Questions that were not asked because an equal one had been."""
    kept: KeptReplies | None = field(default=None, init=False)
    """Replies that outlive an interrupted job; None if nothing is kept."""
    _uses_schema: bool = field(init=False)
    _asked: OrderedDict[bytes, asyncio.Task[_Reply]] = field(default_factory=OrderedDict, init=False)

    def __post_init__(self) -> None:
        options = self.options
        self.endpoint = Endpoint(
            options.url.rstrip("/"), options.concurrency, options.tries, options.request_timeout, options.api_key
        )
        self._uses_schema = options.structured != "off"

    async def votes(
        self, messages: Messages, schema: Mapping[str, Any], read: Callable[[Mapping[str, Any]], T]
    ) -> tuple[list[T], Usage]:
        """Ask the same question ``votes`` times.

        Args:
            messages: The question.
            schema: The JSON Schema of the reply.
            read: Turns the reply's object into a verdict, or raises BadReply.

        Returns:
            The verdicts, more than half of the votes, and what they cost when they were asked for.

        Raises:
            NoVerdictError: Half of the votes or more gave no verdict.
        """
        count = self.options.votes
        found = await asyncio.gather(
            *(self._vote(messages, schema, read, seed) for seed in range(count)), return_exceptions=True
        )
        verdicts, usage, problems = [], Usage(), []
        for result in found:
            if isinstance(result, NoVerdictError):
                problems.append(result)
            elif isinstance(result, BaseException):
                raise result
            else:
                verdicts.append(result[0])
                usage += result[1]
        if 2 * len(verdicts) <= count:
            raise problems[0]
        return verdicts, usage

    async def text(self, messages: Messages, seed: int = 0) -> tuple[str, Usage]:
        """Ask for a text rather than a verdict.

        Args:
            messages: The conversation so far.
            seed: The seed of the reply.

        Returns:
            The text, and what it cost.

        Raises:
            NoVerdictError: The endpoint failed, the model refused, or its reply was empty or cut, twice.
        """
        return await self._vote(messages, None, text_of, seed)

    async def _vote(
        self, messages: Messages, schema: Mapping[str, Any] | None, read: Callable[[Any], T], seed: int
    ) -> tuple[T, Usage]:
        """Ask a question. A reply that is no verdict is asked for once more, with another seed."""
        usage, problem = Usage(), ""
        for attempt in range(2):
            body = self._body(messages, 2 * seed + attempt)
            try:
                reply, is_new = await self._ask(body, schema)
            except EndpointError as error:
                self._note(Exchange(body, "", None, str(error), Usage(), is_remembered=False))
                raise NoVerdictError(str(error), error.kind) from None
            # A verdict has its cost, whether or not an equal question has paid for it: equal rows get equal metrics.
            cost = reply.usage
            usage += cost
            text = ""
            try:
                text = content_of(reply.data)
                verdict = read(text if schema is None else verdict_of(text, schema["required"]))
            except BadReply as error:
                problem = str(error)
                self._asked.pop(_key(body, schema), None)
                self._note(Exchange(body, text or _json(reply.data), None, problem, cost, not is_new))
            else:
                self._note(Exchange(body, text, verdict, "", cost, not is_new))
                if self.kept is not None and is_new:
                    self.kept.add(self._kept_as(body, schema), reply.data, reply.usage)
                return verdict, usage
        raise NoVerdictError(f"{problem}; asked twice")

    def _body(self, messages: Messages, seed: int) -> dict[str, Any]:
        options = self.options
        return {
            "model": options.model,
            "messages": list(messages),
            "temperature": options.temperature,
            "max_tokens": options.max_tokens,
            "seed": seed,
            **options.extra,
        }

    async def _ask(self, body: Mapping[str, Any], schema: Mapping[str, Any] | None) -> tuple[_Reply, bool]:
        """Return the reply to a question, and whether it was asked now. An equal question is asked once.

        Raises:
            EndpointError: There is no reply.
        """
        key = _key(body, schema)
        task = self._asked.get(key)
        if task is None and self.kept is not None and (known := self.kept.get(self._kept_as(body, schema))) is not None:
            self.remembered += 1
            return _Reply(*known), False
        is_new = task is None
        if task is None:
            task = asyncio.ensure_future(self._send(body, schema))
            task.add_done_callback(lambda done: done.cancelled() or done.exception())  # whoever waits for it reads it
            self._asked[key] = task
            while len(self._asked) > MAX_REMEMBERED:
                self._asked.popitem(last=False)
        else:
            self.remembered += 1
        try:
            # A question that several wait for goes on where one of them is cancelled.
            return await asyncio.shield(task), is_new
        except EndpointError:
            if self._asked.get(key) is task:
                del self._asked[key]
            raise

    def _kept_as(self, body: Mapping[str, Any], schema: Mapping[str, Any] | None) -> bytes:
        """Return the digest of a question to the model of this version."""
        return _key({**body, "version": self.options.version}, schema)

    async def _send(self, body: Mapping[str, Any], schema: Mapping[str, Any] | None) -> _Reply:
        if schema is not None and self._uses_schema:
            told = {"type": "json_schema", "json_schema": {"name": "verdict", "schema": dict(schema), "strict": True}}
            try:
                return await self._chat({**body, "response_format": told})
            except EndpointError as error:
                refused = any(word in str(error).lower() for word in _RULES_REFUSED)
                if self.options.structured == "on" or not refused:
                    raise
                self._uses_schema = False
        return await self._chat(body)

    async def _chat(self, body: Mapping[str, Any]) -> _Reply:
        data, usage = await self.endpoint.chat(body)
        self.spent += usage
        return _Reply(data, usage)

    @staticmethod
    def _note(exchange: Exchange) -> None:
        if (watch := _watched.get()) is not None:
            watch.exchanges.append(exchange)

    def metrics(self, usage: Usage, share: float = 1.0) -> dict[str, float]:
        """Return the cost of calls as metrics; in money if ``prices`` are given.

        Args:
            usage: The cost.
            share: The part of it that counts.
        """
        found = {
            "judge_calls": share * usage.calls,
            "judge_prompt_tokens": share * usage.prompt_tokens,
            "judge_completion_tokens": share * usage.completion_tokens,
        }
        if self.options.prices:
            found["judge_cost"] = share * usage.price(self.options.prices)
        return found

    def costs(self) -> dict[str, float]:
        """Return what all calls so far have cost, for the summary of a run."""
        return {**self.metrics(self.spent), "judge_equal_questions": float(self.remembered)}

    def problem(self) -> str | None:
        """Return why the endpoint can't be used for this model; None if it can, or if it does not tell."""
        return self.endpoint.problem(self.options.model) if self.options.preflight else None

    async def close(self) -> None:
        """End open questions, and close the connections."""
        open_ones = [task for task in self._asked.values() if not task.done()]
        for task in open_ones:
            task.cancel()
        await asyncio.gather(*open_ones, return_exceptions=True)
        self._asked.clear()
        await self.endpoint.close()


def _key(body: Mapping[str, Any], schema: Mapping[str, Any] | None) -> bytes:
    return hashlib.blake2b(_json([body, schema]).encode(), digest_size=16).digest()


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)
