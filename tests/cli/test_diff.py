"""``rewardkit diff``."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from rewardkit.cli import cli
from rewardkit.cli.diff import TooDifferentError
from rewardkit.errors import ConfigError, UsageError


def write(path: Path, rewards) -> str:
    """Write a scored file of one group."""
    rows = [
        {
            "prompt": "2 + 2 = ?",
            "completion": f"<b>{index}</b>",
            "reward": reward,
            "components": {"correct": {"value": reward, "status": "scored", "reason": "because"}},
        }
        for index, reward in enumerate(rewards)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def run(*arguments):
    """Call the command; errors are raised."""
    return CliRunner().invoke(cli, ["diff", *arguments], catch_exceptions=False, standalone_mode=False)


def test_two_scored_files(tmp_path):
    """The tables show ranks and advantages; the page shows the rows, with their markup escaped."""
    a, b = write(tmp_path / "a.jsonl", [1, 0, 0]), write(tmp_path / "b.jsonl", [0, 1, 0])
    done = run(a, b, "--out", str(tmp_path / "page.html"))
    assert "order reversed" in done.output
    assert "1 (33.3%)" in done.output
    page = (tmp_path / "page.html").read_text()
    assert "&lt;b&gt;0&lt;/b&gt;" in page
    assert "<b>0</b>" not in page
    assert "<script" not in page


def test_json(tmp_path):
    """``--json`` prints all numbers, and nothing else goes to standard output."""
    a, b = write(tmp_path / "a.jsonl", [1, 0]), write(tmp_path / "b.jsonl", [1, 0.5])
    found = json.loads(run(a, b, "--json").stdout)
    assert (found["rows"], found["changed_rows"], found["most_changed"]) == (2, 1, [1])


def test_fail_above(tmp_path):
    """In CI, a reward that changes more rows than allowed ends with exit code 1."""
    a, b = write(tmp_path / "a.jsonl", [1, 0]), write(tmp_path / "b.jsonl", [1, 0.5])
    run(a, b, "--fail-above", "0.5")
    with pytest.raises(
        TooDifferentError, match=r"50\.00% of the rows changed their reward; --fail-above allows 40\.00%"
    ):
        run(a, b, "--fail-above", "0.4")


def test_two_rewards_on_rollouts(tmp_path):
    """Two reward files are compared by scoring the rollouts with both."""
    (tmp_path / "rollouts.jsonl").write_text(
        '{"prompt": "p", "completion": "four"}\n{"prompt": "p", "completion": "fo"}\n'
    )
    for name, limit in (("a", 3), ("b", 9)):
        text = f"version: 1\ncomponents:\n  short: {{use: length.target, with: {{min_chars: 1, max_chars: {limit}, margin: 1}}}}\n"
        (tmp_path / f"{name}.yaml").write_text(text)
    done = run(*(str(tmp_path / name) for name in ("a.yaml", "b.yaml", "rollouts.jsonl")), "--json")
    found = json.loads(done.stdout)
    assert (found["rows"], found["groups"]) == (2, 1)
    assert found["mean_b"] > found["mean_a"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("a.yaml", "b.jsonl"), "not one of each"),
        (("a.yaml", "b.yaml"), "name the rollouts to score"),
        (("a.jsonl", "b.jsonl", "c.jsonl"), "two scored files need no further files"),
    ],
)
def test_wrong_use(arguments, message):
    """A wrong combination of arguments gets a message that names the valid ones."""
    with pytest.raises(UsageError, match=message):
        run(*arguments)


MATH = "version: 1\ncomponents:\n  right: {use: math, with: {reference: answer}}\n"


def test_the_page_names_the_rewards(tmp_path):
    """Not the temporary files that hold their scores."""
    for name in ("old.yaml", "new.yaml"):
        (tmp_path / name).write_text(MATH)
    (tmp_path / "rows.jsonl").write_text(json.dumps({"prompt": "q", "completion": "4", "answer": "4"}) + "\n")
    files = [str(tmp_path / name) for name in ("old.yaml", "new.yaml", "rows.jsonl")]
    run(*files, "--out", str(tmp_path / "page.html"))
    page = (tmp_path / "page.html").read_text()
    assert f"A: {files[0]}" in page
    assert f"B: {files[1]}" in page


def test_both_rewards_are_checked_before_either_is_used(tmp_path, capfd):
    """A mistake in the second one costs no scoring with the first."""
    (tmp_path / "old.yaml").write_text(MATH)
    (tmp_path / "new.yaml").write_text("version: 1\n")
    with pytest.raises(ConfigError, match=r"new\.yaml:1:1: lacks the key 'components'"):
        run(str(tmp_path / "old.yaml"), str(tmp_path / "new.yaml"), str(tmp_path / "rows.jsonl"))
    assert "scoring with" not in capfd.readouterr().err
