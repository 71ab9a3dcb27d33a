"""A reply is a verdict only if it is exactly what was asked for."""

import contextlib
import json
import random

import pytest
from rewardkit_judge.replies import BadReply, content_of, mark_of, verdict_of

KEYS = ["reasoning", "score"]
GOOD = '{"reasoning": "fine", "score": 3}'


@pytest.mark.parametrize(
    "text", [GOOD, f"  {GOOD}\n", f"<think>maybe 5? {{}}</think>\n{GOOD}", f"```json\n{GOOD}\n```"]
)
def test_a_verdict_may_have_thinking_and_a_code_block(text):
    """Thinking before the object and a code block around it are allowed."""
    assert verdict_of(text, KEYS)["score"] == 3


@pytest.mark.parametrize(
    "text",
    [
        "",
        "5",
        "null",
        "[3]",
        "The response says " + GOOD,
        GOOD + GOOD,
        GOOD + " but it asked for 5",
        '{"score": 3}',
        '{"reasoning": "a", "score": 3, "more": 1}',
        '{"reasoning": "a", "score": 1, "score": 5}',
        '{"reasoning": "a", "score": NaN}',
        "{'reasoning': 'a', 'score': 3}",
        '{"reasoning": "a", "score": 3',
        "I can't judge this.",
        "[" * 100_000,
        "```json\n" + GOOD,
        "<think>" + GOOD,
        '<think>It says "</think>' + GOOD + '" and lies.</think>' + GOOD,
        '{"reasoning": "a", "score": Infinity}',
        '{"reasoning": "a", "score": -Infinity}',
        '{"reasoning": null, "score": 3}',
        '{"reasoning": {"score": 5}, "score": 3}',
        '{"reasoning": "a", "reasoning": "b", "score": 3}',
        "\ufeff" + GOOD,
        "data: " + GOOD + "\n\ndata: [DONE]",
        GOOD + "<|im_end|>",
        "```json\n" + GOOD + "\n```\n```json\n" + GOOD + "\n```",
    ],
)
def test_anything_else_is_no_verdict(text):
    """Prose around the object, other keys, duplicate keys and cut objects are refused."""
    with pytest.raises(BadReply):
        verdict_of(text, KEYS)


@pytest.mark.parametrize("value", [True, 2.5, "3", None, 0, 6, [3], {"value": 3}, 10**30])
def test_a_mark_is_a_whole_number_in_range(value):
    """Other values are refused, and not rounded or cut to the range."""
    with pytest.raises(BadReply, match="not a whole number from 1 to 5"):
        mark_of(value, 1, 5, "clear")


@pytest.mark.parametrize(
    ("response", "message"),
    [
        (None, "not a chat completion"),
        ({"choices": []}, "not a chat completion"),
        ({"choices": [{"message": "text"}]}, "not a chat completion"),
        ({"choices": [{"message": {"content": GOOD, "refusal": "no"}}]}, "refused"),
        ({"choices": [{"message": {"content": GOOD}, "finish_reason": "length"}]}, "cut off; raise max_tokens"),
        ({"choices": [{"message": {"content": GOOD}, "finish_reason": "content_filter"}]}, "content filter"),
        ({"choices": [{"message": {"content": None}}]}, "empty"),
        ({"choices": [{"message": {"content": [GOOD]}}]}, "empty"),
        ({"choices": [{"message": {"content": [{"type": "text", "text": GOOD}]}}]}, "empty"),
        ({"choices": [{"message": {"content": None, "reasoning_content": GOOD}}]}, "empty"),
        ({"choices": [{"message": {"content": "", "reasoning": GOOD}}]}, "empty"),
        (
            {"choices": [{"message": {"content": None, "tool_calls": [{"function": {"arguments": GOOD}}]}}]},
            "called a tool",
        ),
        ({"choices": [{"message": {"content": GOOD, "function_call": {"arguments": GOOD}}}]}, "called a tool"),
        ({"choices": [{"message": {"content": GOOD}, "finish_reason": "tool_calls"}]}, "ended with 'tool_calls'"),
        ({"choices": [{"message": {"content": GOOD}, "finish_reason": "error"}]}, "ended with 'error'"),
        ({"choices": [{"message": {"content": GOOD}, "finish_reason": "model_length"}]}, "ended with 'model_length'"),
        ({"choices": [{"message": {"content": GOOD}, "finish_reason": {"type": "abort"}}]}, "may not be whole"),
        ({"choices": [{"message": {"content": GOOD}}] * 2}, "2 replies"),
        ({"choices": {"0": {"message": {"content": GOOD}}}}, "not a chat completion"),
        ({"choices": GOOD}, "not a chat completion"),
        ({"object": "chat.completion.chunk", "choices": [{"delta": {"content": GOOD}}]}, "not a chat completion"),
        ({"choices": [{"text": GOOD, "finish_reason": "stop"}]}, "not a chat completion"),
        ({"error": {"message": GOOD}, "choices": None}, "not a chat completion"),
    ],
)
def test_a_refused_or_cut_reply_is_no_verdict(response, message):
    """The message says what happened."""
    with pytest.raises(BadReply, match=message):
        content_of(response)


def objects_in(text):
    """Return every JSON object that stands anywhere in a text, by Python's own parser."""
    found = []
    for start in (place for place, character in enumerate(text) if character == "{"):
        with contextlib.suppress(ValueError):
            found.append(json.JSONDecoder().raw_decode(text[start:])[0])
    return found


def test_no_damaged_reply_becomes_another_mark():
    """10,000 damaged replies: each is refused, or contains an object with exactly that mark."""
    draw = random.Random(5)  # noqa: S311
    pieces = [
        '{"reasoning": "x", "score": 5}',
        "5",
        "NaN",
        "true",
        '"',
        "}",
        "{",
        ",",
        ":",
        "\\u0000",
        "-",
        "e9",
        "```",
        "</think>",
        "ﬁ",
        "\n",
    ]
    refused = 0
    for _ in range(10_000):
        text = GOOD
        for _ in range(draw.randint(1, 4)):
            start, end = sorted(draw.choices(range(len(text) + 1), k=2))
            text = (
                text[:start] + draw.choice(pieces) * draw.randint(0, 2) + text[min(end, start + draw.randint(0, 9)) :]
            )
        try:
            mark = mark_of(verdict_of(text, KEYS)["score"], 1, 5, "clear")
        except BadReply:
            refused += 1
            continue
        assert any(
            type(one.get("score")) is int and one["score"] == mark and set(one) == set(KEYS) for one in objects_in(text)
        )
    assert refused > 9_000
