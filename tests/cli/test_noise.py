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
    assert cli.run(["noise", *files]) == 2
    assert "reward.yaml" in capfd.readouterr().err


def test_the_summary_names_no_temporary_file(files, capfd):
    """The scored rows are gone when the command ends, so nothing points at them."""
    assert cli.run(["noise", *files]) == 0
    assert "/rewardkit-" not in capfd.readouterr().err


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"source": "a"}, "labels.jsonl:4 has no column 'label'"),
        ({"label": True}, "labels.jsonl:4 has no column 'source'"),
        ({"label": "maybe", "source": "a"}, "labels.jsonl:4: the label 'maybe' is not true, false, 1 or 0"),
    ],
)
def test_bad_labels_are_found_before_scoring(files, tmp_path, capfd, row, message):
    """The error names file and row, and nothing is scored."""
    with (tmp_path / "labels.jsonl").open("a") as labels:
        labels.write(json.dumps({"prompt": "q", "completion": "4", "answer": "4"} | row) + "\n")
    assert cli.run(["noise", *files, "--by", "source"]) == 2
    told = capfd.readouterr().err
    assert message in told
    assert "scoring with" not in told


def test_nan_is_no_threshold(files, capfd):
    """No value exceeds NaN, so every row would count as rejected."""
    assert cli.run(["noise", *files, "--threshold", "nan"]) == 2
    assert "'nan' is not a finite number" in capfd.readouterr().err


def test_rows_that_json_can_not_hold(files, tmp_path, capfd):
    """A lone surrogate and NaN are kept by ``score``, and read again."""
    with (tmp_path / "labels.jsonl").open("a") as labels:
        labels.write('{"prompt": "q", "completion": "\\ud800 4", "answer": "4", "label": 1, "source": "a", "x": NaN}\n')
    assert cli.run(["noise", *files]) == 0
    assert "0.0% (0 of 1)" in capfd.readouterr().out


def test_files_of_the_working_folder_are_not_imported(files, tmp_path, monkeypatch, capfd):
    """A user's own ``types.py`` or ``rewardkit/`` must not take the place of a module in the process that scores."""
    for name in ("types", "queue", "rwk", "rewardkit"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the wrong module')\n")
    monkeypatch.chdir(tmp_path)
    assert cli.run(["noise", *files]) == 0, capfd.readouterr().err
