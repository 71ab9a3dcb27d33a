"""The page of a scored file."""

import json

import pytest

from rewardkit.insight.scored_report import mark_extracted, write_scored_report


@pytest.mark.parametrize(
    ("completion", "reason", "pieces"),
    [
        ("4 or 4", "prediction '4' (boxed), reference '4'", [("4 or ", False), ("4", True)]),
        ("it's", r"prediction 'it\'s' (text)", [("it's", True)]),
        ("none here", "prediction '5' (boxed)", [("none here", False)]),
        ("plain", "the tags are right", [("plain", False)]),
        ("", "prediction '' (text)", []),
    ],
)
def test_the_extracted_answer_is_marked(completion, reason, pieces):
    """The last occurrence of what the reason quotes is marked; nothing else is."""
    assert mark_extracted(completion, [reason]) == pieces


def test_overlapping_answers_are_marked_once():
    """Two rewards that extract from the same place don't repeat its text."""
    assert mark_extracted("abc", ["prediction 'abc'", "prediction 'bc'"]) == [("abc", True)]


def test_the_page_escapes_completions_and_shows_all_parts(tmp_path):
    """Markup in completions is shown, never run; charts say in words what they show."""
    rows = [
        {
            "prompt": [{"role": "user", "content": "2+2?"}],
            "completion": f"<script>alert(1)</script> {index}",
            "reward": None if index == 3 else float(index),
            "components": {
                "correct": {"value": float(index), "status": "scored", "reason": f"prediction '{index}' (bare)"}
            },
        }
        for index in range(4)
    ]
    (tmp_path / "s.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    write_scored_report(tmp_path / "s.jsonl", tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert 'aria-label="Histogram of reward: 3 values from 0 to 2, mean 1"' in page
    assert "<mark>2</mark>" in page
    assert "Unscored rows" in page
