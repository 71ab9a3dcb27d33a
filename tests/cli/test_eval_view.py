"""Tests of what ``rewardkit eval`` prints."""

from __future__ import annotations

import math

from rewardkit.cli.support.eval_view import show
from rewardkit.train.evaluation.answers import ModelAnswers
from rewardkit.train.evaluation.statistics import Estimate


def test_what_is_not_known_is_a_dash(capsys):
    """Without a scored greedy answer there is no accuracy and no interval."""
    metrics = {
        "greedy accuracy": Estimate(math.nan, 0.0, 1.0),
        "pass@1": Estimate(0.5, 0.25, 0.75),
        "main (greedy)": math.nan,
        "problems left out": 16,
    }
    show([ModelAnswers("base", [], [])], [metrics], [])
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[1:]]
    assert [row[-1] for row in rows if row] == ["–", "0.250…0.750", "–", "16.000"]
    assert rows[0] == ["greedy", "accuracy", "–"]
