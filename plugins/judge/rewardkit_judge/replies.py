"""Reads a judge's reply. Whatever is not exactly what was asked for is a ``BadReply``, never a number."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

_THINKING = re.compile(r"\A\s*<think>.*?</think>", re.DOTALL)
_CODE_BLOCK = re.compile(r"\A```(?:json)?[ \t]*\n(.*)\n```\Z", re.DOTALL)
MAX_SHOWN = 120
_ENDED = frozenset({None, "", "stop", "eos", "eos_token", "stop_sequence", "end_turn", "completed", "complete"})
"""What servers call the end of a reply that is whole. Some tell nothing."""


class BadReply(Exception):  # noqa: N818
    """A reply that gives no verdict: a refusal, a cut reply, or one that is not the JSON object that was asked for."""


def content_of(response: Any) -> str:
    """Return the text of a chat completion.

    Args:
        response: The body of the endpoint's response, as JSON data.

    Raises:
        BadReply: The model refused, its reply was cut, or the body is not a chat completion.
    """
    try:
        [choice, *others] = response["choices"]
        message = choice["message"]
        content, refusal, reason = message.get("content"), message.get("refusal"), choice.get("finish_reason")
        tools = message.get("tool_calls") or message.get("function_call")
    except (KeyError, ValueError, TypeError, AttributeError):
        raise BadReply(f"the endpoint's response is not a chat completion: {_shown(response)}") from None
    if others:
        raise BadReply(f"the endpoint gave {1 + len(others)} replies to a question that asks for one")
    if refusal:
        raise BadReply(f"the judge refused: {_shown(refusal)}")
    if reason == "length":
        raise BadReply("the judge's reply was cut off; raise max_tokens")
    if reason == "content_filter":
        raise BadReply("a content filter blocked the judge's reply")
    if not isinstance(reason, str | None) or reason not in _ENDED:
        raise BadReply(f"the judge's reply ended with {_shown(reason)}, so it may not be whole")
    if tools:
        raise BadReply(f"the judge called a tool: {_shown(tools)}")
    if not isinstance(content, str) or not content.strip():
        raise BadReply("the judge's reply is empty")
    return content


def text_of(text: str) -> str:
    """Return a reply without the thinking before it. Raises BadReply if nothing else is there."""
    bare = _THINKING.sub("", text, count=1).strip()
    if not bare or bare.startswith("<think>"):
        raise BadReply(f"the model's reply has no text beside its thinking: {_shown(text)}")
    return bare


def verdict_of(text: str, keys: Sequence[str]) -> Mapping[str, Any]:
    """Return the JSON object that a reply consists of.

    The whole reply must be one object with exactly the keys that were asked for. Only thinking before it and a code block around it are
    allowed: an object somewhere in prose may be a quotation of the judged text.

    Args:
        text: The reply.
        keys: The keys that the object must have.

    Raises:
        BadReply: The reply is something else.
    """
    bare = _THINKING.sub("", text, count=1).strip()
    if (block := _CODE_BLOCK.match(bare)) is not None:
        bare = block[1]
    try:
        found = json.loads(bare, object_pairs_hook=without_duplicates, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise BadReply(f"the judge's reply is not one JSON object: {_shown(text)}") from None
    if not isinstance(found, dict) or set(found) != set(keys):
        raise BadReply(f"the judge's reply does not have exactly the keys {', '.join(keys)}: {_shown(text)}")
    if not isinstance(found.get("reasoning", ""), str):
        raise BadReply(f"the judge's reasoning is {_shown(found['reasoning'])}, not a text")
    return found


def mark_of(value: Any, low: int, high: int, name: str) -> int:
    """Return a mark. Raises BadReply if it is not a whole number from ``low`` to ``high``."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise BadReply(f"the judge's mark for {name} is {_shown(value)}, not a whole number from {low} to {high}")
    return value


def choice_of(value: Any, choices: Sequence[Any], name: str) -> Any:
    """Return one of several values. Raises BadReply if it is none of them."""
    for choice in choices:
        if type(value) is type(choice) and value == choice:
            return choice
    raise BadReply(f"the judge's {name} is {_shown(value)}, not one of {', '.join(map(json.dumps, choices))}")


def without_duplicates(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """Return the members of a JSON object. Raises ValueError if a key occurs twice, since readers differ in which one they take."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key occurs twice")
    return found


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _shown(value: Any) -> str:
    text = repr(value[:MAX_SHOWN] if isinstance(value, str) else value)
    return text if len(text) <= MAX_SHOWN + 2 else text[:MAX_SHOWN] + " (cut)"
