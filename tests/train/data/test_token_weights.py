"""Weights of tokens in SFT: by patterns and by a plugin's function."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from rewardkit import hookimpl
from rewardkit.errors import ConfigError, DataError
from rewardkit.registry import Registry
from rewardkit.train.config.reading import read_train_config
from rewardkit.train.data.rows import Row
from rewardkit.train.data.token_weights import SpanWeighter, token_weights
from rewardkit.train.data.weight_functions import span_weighters

CONFIG = """
version: 1
stage: sft
output: out
model: {path: ./m}
data: {train: a.jsonl}
steps: 1
loss:
  weights:
    - WEIGHTS
"""


class Plugin:
    """Offers a function."""

    @hookimpl
    def register_span_weights(self):
        """Weighs what stands in the row's column."""
        return {"acme.known": lambda row, text: [(text.index(row["known"]), len(text), 0.25)]}


@pytest.fixture
def registry():
    """Return a registry with that plugin."""
    found = Registry()
    found.register(Plugin())
    return found


def read(tmp_path, registry, entry):
    """A configuration with one entry of weights."""
    (tmp_path / "sft.yaml").write_text(CONFIG.replace("WEIGHTS", entry))
    return read_train_config(tmp_path / "sft.yaml", registry)


def test_a_plugin_weighs_spans(tmp_path, registry):
    """Its function sees the row and the response, and its spans are what counts."""
    [weighter] = span_weighters(read(tmp_path, registry, "{use: acme.known}"))
    assert weighter.name == "acme.known"
    assert weighter.spans(Row({"known": "b"}, tmp_path, 1), "aab") == [(2, 3, 0.25)]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("{use: acme.know}", r"sft.yaml:10:13: no plugin offers weights named 'acme.know'.*acme.known"),
        ("{pattern: a}", r"sft.yaml:10:7: set either pattern and weight, or use"),
        ("{pattern: a, weight: 1, use: b}", r"set either pattern and weight, or use"),
        ("{pattern: '(', weight: 1}", r"sft.yaml:10:17: '\(' is not a valid regular expression"),
    ],
)
def test_what_cannot_be_used_is_told_with_its_place(tmp_path, registry, entry, message):
    """Before anything is loaded."""
    with pytest.raises(ConfigError, match=message):
        span_weighters(read(tmp_path, registry, entry))


def test_two_plugins_with_one_name_clash(tmp_path, registry):
    """Neither is taken."""
    registry.register(Plugin())
    with pytest.raises(ConfigError, match=r"two plugins offer weights named 'acme\.known'"):
        span_weighters(read(tmp_path, registry, "{use: acme.known}"))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([(0, 9, 1.0)], r"rows.jsonl:3: acme returned \(0, 9, 1.0\); a span is .* within the 3 characters"),
        ([(0, 1, -1.0)], "not negative"),
        ([(0, 1, float("nan"))], "finite"),
        (["x"], "acme raised ValueError"),
        (None, "acme raised TypeError"),
    ],
)
def test_what_is_no_span_is_told_with_its_row(tmp_path, given, message):
    """An invalid span is an error that names its row."""
    with pytest.raises(DataError, match=message):
        SpanWeighter("acme", lambda row, text: given).spans(Row({}, tmp_path / "rows.jsonl", 3), "abc")


def test_the_last_span_that_a_token_overlaps_gives_its_weight():
    """Weights computed by hand for tokens of 2, 1 and 2 characters and an empty one."""
    places = [(0, 2), (2, 3), (3, 5), (5, 5)]
    assert token_weights(places, [(0, 3, 2.0), (1, 2, 3.0), (4, 5, 0.0)]) == [3.0, 2.0, 0.0, 1.0]
    assert token_weights(places[:2], []) == [1.0, 1.0]


def test_weights_of_many_overlapping_spans_are_those_of_a_plain_search():
    """The search in linear time finds the same."""
    generator = random.Random(0)  # noqa: S311
    for _ in range(50):
        cuts = sorted(generator.randrange(30) for _ in range(20))
        places = [*pairwise(cuts), (cuts[-1], cuts[-1])]
        spans = [(*sorted(generator.randrange(30) for _ in range(2)), float(weight)) for weight in range(2, 12)]
        want = [
            next((weight for begin, end, weight in reversed(spans) if first < end and last > begin), 1.0)
            for first, last in places
        ]
        assert token_weights(places, spans) == want
