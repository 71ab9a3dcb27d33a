"""Rows to tokens: one rendering for training and sampling, weight on responses alone."""

from __future__ import annotations

import gzip
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewardkit.errors import DataError
from rewardkit.train.config import SftData, TextData
from rewardkit.train.data.batching import Order, micro_batches
from rewardkit.train.data.rows import Row, read_rows
from rewardkit.train.data.tokenization import Renderer
from rewardkit.train.data.weight_functions import by_pattern

TEMPLATE = (
    "{% for m in messages %}({{ m.role[-2] }}:{% if m.role == 'assistant' %}{{ m.content }}<|end|>;"
    "{% else %}{{ m.content }}){% endif %}{% endfor %}{% if add_generation_prompt %}(n:{% endif %}"
)
FORGETFUL = TEMPLATE.replace(
    "{{ m.content }}<|end|>", "{% if loop.last %}{{ m.content }}{% else %}{{ m.content[-1] }}{% endif %}<|end|>"
)


def row(path, **data):
    """A row of a file."""
    return Row(data, path / "rows.jsonl", 7)


def renderer(policy, template=None, **data):
    """Return a renderer with a chat template."""
    policy.tokenizer.chat_template = template
    return Renderer(policy.tokenizer, SftData(train="unused", **data))


def said(policy, example):
    """Text of the tokens with and without weight, after the first that has one."""
    tokens = example.tokens[example.start :]
    inside = [token for token, weight in zip(tokens, example.weights, strict=True) if weight]
    outside = [token for token, weight in zip(tokens, example.weights, strict=True) if not weight]
    return policy.tokenizer.decode(inside), policy.tokenizer.decode(outside)


def test_a_completion_has_weight_and_its_prompt_none(policy, tmp_path):
    """Text: prompt, completion, end of sequence."""
    [example] = renderer(policy).examples(row(tmp_path, prompt="1+1=?", completion="2"))
    assert example.start == 5
    assert policy.tokenizer.decode(list(example.tokens)) == "1+1=?2<|end|>"
    assert example.weights == (1.0, 1.0)


def test_the_prompt_of_training_is_the_prompt_of_sampling(policy, tmp_path):
    """Text and chat: an example begins with the very tokens that are sampled from."""
    for template, prompt in ((None, "1+1=?"), (TEMPLATE, [{"role": "user", "content": "1+1=?"}])):
        both = renderer(policy, template)
        it = row(tmp_path, prompt=prompt, completion="2")
        [example] = both.examples(it)
        assert example.tokens[: example.start] == both.prompt(it).tokens


def test_every_assistant_turn_has_weight(policy, tmp_path):
    """The assistant's text up to its end has weight, and the white space that the template adds after it does not."""
    messages = [
        {"role": "user", "content": "1"},
        {"role": "assistant", "content": "2"},
        {"role": "user", "content": "3"},
        {"role": "assistant", "content": "4"},
    ]
    [example] = renderer(policy, TEMPLATE, messages="chat").examples(row(tmp_path, chat=messages))
    assert said(policy, example) == ("2<|end|>4<|end|>", ";(e:3)(n:")
    [example] = renderer(policy, TEMPLATE, messages="chat", train_on="last").examples(row(tmp_path, chat=messages))
    assert said(policy, example) == ("4<|end|>", "")


def test_a_template_that_forgets_makes_one_example_per_turn(policy, tmp_path):
    """Each turn is learned in the rendering in which it is sampled."""
    messages = [
        {"role": "user", "content": "1"},
        {"role": "assistant", "content": "55"},
        {"role": "user", "content": "3"},
        {"role": "assistant", "content": "66"},
    ]
    both = renderer(policy, FORGETFUL, messages="chat")
    first, second = both.examples(row(tmp_path, chat=messages))
    assert said(policy, first)[0] == "55<|end|>"
    assert said(policy, second)[0] == "66<|end|>"
    assert second.tokens[: second.start] == both.chat(messages[:3], row(tmp_path), prompt=True)


def test_a_template_that_changes_the_prompt_is_refused(policy, tmp_path):
    """Training and sampling would differ; the row and the turn are named."""
    bad = "{{ messages | length }}" + TEMPLATE
    with pytest.raises(DataError, match=r"rows\.jsonl:7: the chat template renders the prompt of turn 2 differently"):
        renderer(policy, bad).examples(row(tmp_path, prompt=[{"role": "user", "content": "1"}], completion="2"))


def test_messages_without_a_template_are_refused(policy, tmp_path):
    """The error says which setting to use."""
    with pytest.raises(DataError, match=r"no chat template; set model\.chat_template"):
        renderer(policy).examples(row(tmp_path, prompt=[{"role": "user", "content": "1"}], completion="2"))


def test_spans_weigh_what_they_match(policy, tmp_path):
    """The last pattern that matches a token gives its weight."""
    spans = [by_pattern(r"\d+", 0.5), by_pattern("=.*", 3)]
    [example] = renderer(policy).examples(row(tmp_path, prompt="x", completion="12+3=15"), spans)
    assert example.weights == (0.5, 0.5, 1, 0.5, 3, 3, 3, 1)


def test_text_prompts_may_become_chat(policy, tmp_path):
    """One user message, after the system message if there is one."""
    policy.tokenizer.chat_template = TEMPLATE
    data = TextData(train="unused", as_chat=True, system="be")
    prompt = Renderer(policy.tokenizer, data).prompt(row(tmp_path, prompt="1", answer="2"))
    assert policy.tokenizer.decode(list(prompt.tokens)) == "(e:be)(e:1)(n:"
    assert prompt.fields == {"answer": "2"}


def test_a_system_message_needs_a_chat(policy, tmp_path):
    """Beside a prompt of text it would be ignored."""
    data = TextData(train="unused", system="be")
    with pytest.raises(DataError, match=r"7: the prompt is text, so data\.system has no effect"):
        Renderer(policy.tokenizer, data).prompt(row(tmp_path, prompt="1"))


def test_rows_come_from_jsonl_gzip_and_parquet(tmp_path):
    """The same rows, with the place of each."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [{"prompt": "1", "n": 1}, {"prompt": "2", "n": 2}]
    text = "\n".join(json.dumps(item) for item in rows)
    (tmp_path / "a.jsonl").write_text(text)
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(text.encode()))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    for name in ("a.jsonl", "a.jsonl.gz", "a.parquet"):
        found = read_rows([tmp_path / name])
        assert [dict(item.data) for item in found] == rows
        assert found[1].place == f"{tmp_path / name}:2"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no rows"),
        (b'{"a": 1}\n{"a": \n', r":2: not JSON: .* at character"),
        (b'{"a": 1}\n[1]\n', r":2: a row must be a JSON object, found a list"),
    ],
)
def test_bad_files_are_told_with_the_line(tmp_path, content, message):
    """A broken file is an error with its line; the other rows are not trained on."""
    (tmp_path / "bad.jsonl").write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_rows([tmp_path / "bad.jsonl"])
    with pytest.raises(DataError, match="there is no file"):
        read_rows([tmp_path / "none.jsonl"])


@given(rows=st.integers(1, 20), start=st.integers(0, 60), count=st.integers(0, 50), seed=st.integers(0, 3))
def test_an_order_goes_on_from_any_place(rows, start, count, seed):
    """Taking from a place is what an order taken from the beginning has there; every pass has every row once."""
    whole = list(Order(rows, seed).take(0, start + count))
    assert list(Order(rows, seed).take(start, count)) == whole[start:]
    for epoch in range((start + count) // rows):
        assert sorted(whole[epoch * rows : (epoch + 1) * rows]) == list(range(rows))


@given(lengths=st.lists(st.integers(1, 50), max_size=40), most=st.integers(1, 200))
def test_micro_batches_hold_every_row_once_within_the_limit(lengths, most):
    """Padding included; only a single row may be longer."""
    parts = micro_batches(lengths, most)
    assert sorted(row for part in parts for row in part) == list(range(len(lengths)))
    for part in parts:
        assert len(part) == 1 or len(part) * max(lengths[row] for row in part) <= most
