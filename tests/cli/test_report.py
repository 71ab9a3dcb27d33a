"""``rewardkit report``, as a person calls it."""

from __future__ import annotations

import json

from rewardkit import cli


def test_runs_are_drawn_into_one_page(tmp_path, monkeypatch, capsys):
    """Without torch, wherever one stands."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
        (tmp_path / name / "metrics.jsonl").write_text(json.dumps({"step": 1, "kind": "train", "loss": 1.0}) + "\n")
    monkeypatch.chdir(tmp_path)
    assert cli.run(["report", "one", "two"]) == 0
    assert capsys.readouterr().out == "report.html\n"
    assert "<title>one · two</title>" in (tmp_path / "report.html").read_text()


def test_a_folder_of_no_run_is_told(tmp_path, capsys):
    """With exit code 2."""
    assert cli.run(["report", str(tmp_path)]) == 2
    assert "is not the folder of a training run" in capsys.readouterr().err


def test_a_scored_file_is_drawn(tmp_path):
    """A file that `rewardkit score` wrote gets a page of its own kind."""
    (tmp_path / "scored.jsonl").write_text('{"prompt": "p", "completion": "c", "reward": 1.0}\n')
    assert cli.run(["report", str(tmp_path / "scored.jsonl"), "--out", str(tmp_path / "page.html")]) == 0
    assert "Scored rollouts" in (tmp_path / "page.html").read_text()


def test_a_missing_path_is_told(tmp_path, capsys):
    """It is not taken for a folder without a run."""
    assert cli.run(["report", str(tmp_path / "none.jsonl")]) == 2
    assert f"there is no file or folder {tmp_path / 'none.jsonl'}" in capsys.readouterr().err
