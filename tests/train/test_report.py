"""The report holds what happened, needs nothing else, and lets no completion become HTML."""

from __future__ import annotations

import json
from html.parser import HTMLParser

from rewardkit.train.report import write_report


class Reader(HTMLParser):
    """Collects tags and text."""

    def __init__(self):
        super().__init__()
        self.tags = []
        self.text = ""
        self.links = []

    def handle_starttag(self, tag, attrs):
        """A tag and its links."""
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in {"src", "href"}]

    def handle_data(self, data):
        """Text."""
        self.text += data


def read(folder):
    """The report of a folder."""
    reader = Reader()
    reader.feed(write_report(folder).read_text())
    return reader


def write(folder, name, records):
    """A file of records."""
    (folder / name).write_text("".join(json.dumps(record) + "\n" for record in records))


def test_it_shows_curves_samples_and_alarms(tmp_path):
    """One curve per figure, each rollout with its reasons, each alarm; no link to anything."""
    (tmp_path / "config.json").write_text('{"config": {"stage": "grpo"}}')
    write(
        tmp_path,
        "metrics.jsonl",
        [{"step": step, "kind": "train", "reward": step / 10, "component/x": 1.0, "loss": None} for step in (1, 2, 3)]
        + [{"step": 3, "kind": "eval", "accuracy": 0.75}],
    )
    write(tmp_path, "alarms.jsonl", [{"step": 2, "name": "kl", "message": "far away"}])
    sample = {"step": 1, "prompt": "1+1", "completion": "<script>alert(1)</script>", "reward": None}
    write(tmp_path, "samples.jsonl", [{**sample, "components": {"x": {"value": None, "reason": "service down"}}}])
    report = read(tmp_path)
    assert report.tags.count("svg") == 3
    assert "script" not in report.tags
    assert "<script>alert(1)</script>" in report.text
    assert "step 2: far away" in report.text
    assert "service down" in report.text
    assert "eval accuracy: 0.75 → 0.75" in report.text
    assert report.links == []


def test_an_empty_folder_has_a_report(tmp_path):
    """Before the first step there is nothing to show, and that is said."""
    assert "no figures yet" in read(tmp_path).text


def test_long_runs_make_small_reports(tmp_path):
    """Ten thousand steps stay under a megabyte."""
    write(tmp_path, "metrics.jsonl", [{"step": step, "kind": "train", "loss": 1 / step} for step in range(1, 10_001)])
    assert write_report(tmp_path).stat().st_size < 100_000
