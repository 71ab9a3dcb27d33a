"""The reward and the command."""

# ruff: noqa: RUF012 - the attributes of a contract are only read

import json

import pytest
from rewardkit_math.plugin import Math

from rewardkit import Rollout, Score, Unscored
from rewardkit.testing import RewardContract


def rollout(completion, **fields):
    """A rollout with a reference."""
    return Rollout("What is it?", completion, fields or {"answer": r"\frac{1}{2}"})


class TestMath(RewardContract):
    """``math`` fulfils the contract of rewards."""

    reward = "math"
    params = {"reference": "answer"}
    good = (rollout(r"It is \boxed{0.5}."), rollout("The answer is 2/4"))
    bad = (rollout(r"It is \boxed{0.6}."), rollout("No idea."), rollout(""))


class TestStrictMath(RewardContract):
    """``math`` with other conventions fulfils the contract of rewards."""

    reward = "math"
    params = {"reference": "answer", "extraction": ["boxed"], "form": "simplified", "symbolic": False, "tolerance": 0}
    good = (rollout(r"\boxed{\frac12}"),)
    bad = (rollout("0.5"), rollout(r"\boxed{\frac24}"))


def test_the_reason_says_what_and_why():
    """The reason of a score contains both answers, the outcome and the tier."""
    (score,) = Math(reference="answer")([rollout(r"\boxed{0.5}")])
    assert score == Score(1.0, r"prediction '0.5' (boxed), reference '\\frac{1}{2}' (bare): equal [normal form]")


@pytest.mark.parametrize(
    ("answer", "kind"),
    [(r"\frac{1}{", "reference"), ("", "reference"), (None, "reference"), ({"a": 1}, "reference"), ([], "reference")],
)
def test_a_bad_reference_is_unscored(answer, kind):
    """A row with a bad reference is unscored, not scored 0."""
    (result,) = Math(reference="answer")([rollout("5", answer=answer)])
    assert isinstance(result, Unscored)
    assert result.kind == kind


def test_a_missing_column_is_unscored():
    """A row without the reference's field is unscored."""
    (result,) = Math(reference="solution")([rollout("5")])
    assert isinstance(result, Unscored)
    assert result.kind == "input"


def test_time_running_out_is_unscored():
    """A reference that can't be computed in time gives no score."""
    reference = r"\sum_{k=1}^{\infty} \frac{\sin(k^3 + \ln k)}{k^{1.0001}}"
    (result,) = Math(reference="answer", deadline_s=0.01)([rollout("5", answer=reference)])
    assert isinstance(result, Unscored)
    assert result.kind == "timeout"


def test_references_may_be_numbers_and_lists():
    """A number is read as text; any answer of a list is accepted."""
    reward = Math(reference="answer")
    assert [reward.score(rollout("18", answer=a)).value for a in (18, 18.0, ["17", "18"], ["17"])] == [1, 1, 1, 0]


def test_check_finds_references_that_cannot_be_understood():
    """`rewardkit check` finds references that can't be parsed before a run."""
    from rewardkit_math.plugin import check

    params = type("Params", (), {"reference": "answer", "undecided": "unscored"})
    assert check(params, rollout("", answer=r"\frac{1}{")) is not None
    assert check(params, rollout("", answer="18")) is None


def test_the_command():
    """`rewardkit math A B` compares two answers, explains the comparison, and returns an exit code."""
    from click.testing import CliRunner
    from rewardkit_math.plugin import register_commands

    (command,) = register_commands()
    done = CliRunner().invoke(command, [r"\frac12", "0.5"])
    assert done.exit_code == 0
    assert done.output.startswith("equal  [normal form]")
    assert CliRunner().invoke(command, ["1", "2"]).exit_code == 1
    assert CliRunner().invoke(command, ["1", r"\frac{1}{"]).exit_code == 3
    assert json.loads(CliRunner().invoke(command, ["--json", "1", "2"]).output)["correct"] is False
