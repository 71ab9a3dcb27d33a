# ruff: noqa: E402 - torch first, or nothing here can be imported
"""What a verifier that errs said, and what it says when it is asked again."""

from __future__ import annotations

import math
from collections import Counter

import pytest

torch = pytest.importorskip("torch", reason="training needs torch: pip install 'rewardkit[train]'")

from rewardkit import Registry, Rollout, reward
from rewardkit.composite import CompositeReward
from rewardkit.config import parse_config
from rewardkit.rollout_engine import Completion
from rewardkit.train.config import VerifierNoise
from rewardkit.train.data.tokenization import Prompt
from rewardkit.train.rollout.generate import Sample
from rewardkit.train.rollout.verdicts import ask_again, read_verdicts

GROUP = torch.zeros(4, dtype=torch.long)


def judge(*says):
    """Return a composite reward whose verdicts on each text are given in turn, and the counts of how often each was asked about."""
    asked = Counter()

    def score(rollout: Rollout) -> float:
        text = rollout.completion_text
        said = dict(says)[text][asked[text]]
        asked[text] += 1
        if said is None:
            raise ConnectionError("no answer")
        return float(said)

    registry = Registry()
    registry.register(reward("judge")(score))
    text = "version: 1\ncomponents: {main: {use: judge}}\n"
    return CompositeReward(parse_config(text, registry), registry=registry), asked


def ask(says, answer=None, times=4, texts=("a", "a", "b", "c")):
    """Score four completions of one prompt, ask again, and return the verdicts and the counts."""
    engine, asked = judge(*says)
    prompt = Prompt((1,), "question", {}, "rows.jsonl:1")
    noise = VerifierNoise(fp=0.1, fn=0.2, repeated=True, ask=times, answer=answer)
    with engine:
        samples = []
        for text in texts:
            (scored,) = engine.score([Rollout(prompt.text, text, {}, 0)])
            samples.append(Sample(prompt, 0, Completion(tuple(map(ord, text)), (), "stop"), scored))
        found = ask_again(read_verdicts(samples, noise), GROUP[: len(texts)], samples, engine, noise, 0)
    return found, asked, noise


def test_what_is_in_doubt_is_scored_again_until_it_is_not():
    """``a`` is accepted twice, so only the two others are asked about; ``b`` is rejected again, and ``c`` is rejected at last."""
    found, asked, noise = ask([("a", [1, 1]), ("b", [0, 0, 0, 0]), ("c", [1, 0, 0, 0])])
    assert asked["a"] == 2
    assert asked["c"] == 4
    right_B = found.expected(GROUP, noise).right_B
    assert right_B[0] > 0.95
    assert right_B[3] < 0.2


def test_there_are_at_most_so_many_verdicts_on_a_completion():
    """Two in all, the first included."""
    found, asked, _ = ask([("a", [1, 1]), ("b", [1, 0]), ("c", [0, 1])], times=2)
    assert asked["b"] <= 2
    assert asked["c"] <= 2
    assert found.further_B_2.sum(1).max() <= 1


def test_one_completion_of_each_answer_is_scored_again():
    """``1x`` and ``1y`` have the answer 1, so a verdict on the first says enough of both."""
    says = [("1x", [1, 1, 1, 1]), ("1y", [0, 0, 0, 0]), ("2", [0, 0, 0, 0])]
    found, asked, noise = ask(says, answer=r"\d", texts=("1x", "1y", "2"))
    assert asked["1x"] > 1
    assert asked["1y"] == 1
    right = found.expected(GROUP[:3], noise).right_B.tolist()
    assert right[0] == right[1]


def test_a_failure_of_the_verifier_is_no_verdict():
    """It could not be asked: the completion keeps the verdicts that it has."""
    found, _, _ = ask([("a", [1, 1]), ("b", [0, None, None, None]), ("c", [0, None, None, None])])
    assert found.further_B_2.sum() == 0


def test_a_completion_that_was_not_judged_is_not_asked_about():
    """Where a gate is closed or scoring failed there is no first verdict."""
    found, asked, _ = ask([("a", [1, 1]), ("b", [None, 1, 1, 1]), ("c", [0, 0, 0, 0])])
    assert asked["b"] == 1
    assert math.isnan(found.values_B[2])
