"""``rewardkit noise``."""

import json

import pytest

from rewardkit import cli

REWARD = "version: 1\ncomponents:\n  right: {use: math, with: {reference: answer}}\n"
ROWS = [
    {"prompt": "q", "completion": "4", "answer": "4", "label": True, "source": "a"},
    {"prompt": "q", "completion": "four", "answer": "4", "label": True, "source": "b"},
    {"prompt": "q", "completion": "5", "answer": "4", "label": False, "source": "a"},
]


@pytest.fixture
def files(tmp_path):
    """Write a reward and labelled rollouts."""
    (tmp_path / "reward.yaml").write_text(REWARD)
    (tmp_path / "labels.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return str(tmp_path / "reward.yaml"), "--labels", str(tmp_path / "labels.jsonl")


def test_rates_of_a_reward(files, capsys):
    """Counts are exact, also for each class, and the rows with wrong verdicts are listed."""
    assert cli.run(["noise", *files, "--by", "source", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found["rates"]) == ["all rows", "a", "b"]
    everything = found["rates"]["all rows"]
    assert (everything["false_positives"]["count"], everything["false_positives"]["total"]) == (0, 1)
    assert everything["false_negatives"]["total"] == 2
    assert found["wrong_rows"] in ([], [2])


def test_the_table(files, capsys):
    """Each rate is shown with its counts and interval."""
    assert cli.run(["noise", *files]) == 0
    assert "0.0% (0 of 1)" in capsys.readouterr().out


def test_a_reward_that_can_not_be_read(files, tmp_path, capfd):
    """The reason of a failure to score is on the screen, and the exit code tells of it."""
    (tmp_path / "reward.yaml").write_text("version: 1\n")
    assert cli.run(["noise", *files]) == 1
    assert "reward.yaml" in capfd.readouterr().err
