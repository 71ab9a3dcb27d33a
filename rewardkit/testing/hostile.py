"""Unusual completions on which no reward may raise an exception, such as a model writes early in training or to exploit a reward.

Their names appear in error messages for plugin authors.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rewardkit.types import Rollout, Text

_MEGABYTE = 1_000_000

_TEXTS: dict[str, str] = {
    "an empty completion": "",
    "white space only": " \n\t\r\n \u00a0\u2028",
    "a NUL character": "The answer\0 is \0\0.",
    "lone surrogates, which can't be encoded": "\ud800 answer \udfff\udc00",
    "right-to-left text with overrides": "\u202eהתשובה היא\u202c \u2067الجواب\u2069 42",
    "emoji, joiners and stacked accents": "👩\u200d👩\u200d👧\u200d👦 e" + "\u0301" * 1000 + " 🇩🇪\ufeff",
    "digits and white space of many scripts": "٣ ３ ४² ½ Ⅳ \u3000\u180e 一二三",
    "control characters": "".join(map(chr, range(32))) + "\x7f\x85\x9b[31m",
    "half-written markup": '<think></answer><think><<>> \\boxed{{ ```python\n$x$$ \\( {"a": [1, } </',
    "format and template fields": "%s %(x)s {} {0} {x!r:>{y}} ${HOME} $(id) `id` {{ 7*7 }} \\N{BULLET}",
    "one word of a megabyte": "a" * _MEGABYTE,
    "a megabyte of one line": "word " * (_MEGABYTE // 5),
    "a megabyte of line ends": "\n" * _MEGABYTE,
    "a megabyte of digits": "9" * _MEGABYTE,
    "100,000 brackets that never close": "(" * 50_000 + "{" * 25_000 + "[" * 25_000,
    "100,000 nested tags": "<think>" * 50_000 + "</think>" * 50_000,
    "100,000 nested boxes": "\\boxed{" * 100_000,
}

_CHATS: dict[str, list[dict[str, Any]]] = {
    "chat messages": [{"role": "assistant", "content": "The answer is 42."}],
    "no chat messages at all": [],
    "a chat message without content": [{"role": "assistant"}, {"role": "assistant", "content": None}],
    "a chat with a tool call": [
        {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "add", "arguments": "{}"}}]},
        {"role": "tool", "content": "42", "tool_call_id": "1"},
        {"role": "assistant", "content": [{"type": "text", "text": "It is 42."}, {"type": "image_url"}]},
    ],
}


def hostile_rollouts(like: Rollout) -> Iterator[tuple[str, Rollout]]:
    """Yield rollouts with an unusual completion, prompt or length.

    Args:
        like: A rollout whose other attributes they share.

    Yields:
        Pairs of a description and a rollout.
    """
    completions: dict[str, Text] = {**_TEXTS, **_CHATS}
    for name, completion in completions.items():
        yield name, dataclasses.replace(like, completion=completion)
    yield "chat messages as the prompt", dataclasses.replace(like, prompt=[{"role": "user", "content": "Well?"}])
    yield "an empty prompt with a NUL", dataclasses.replace(like, prompt="\0")
    yield "unknown length and finish reason", dataclasses.replace(like, num_tokens=None, finish_reason=None)
    yield "a length of 0 tokens, truncated", dataclasses.replace(like, num_tokens=0, finish_reason="length")
    yield "a length of a billion tokens", dataclasses.replace(like, num_tokens=10**9, finish_reason="length")
