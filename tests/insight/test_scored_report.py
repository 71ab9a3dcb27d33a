"""The page of a scored file."""

import json

from rewardkit.insight.scored_report import write_scored_report


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
    assert '<mark title="extracted by correct"><span class="hidden">[extracted by correct: </span>2<span' in page
    assert "Unscored rows" in page


def scored(index, value, **more):
    """A row whose only component has a value."""
    part = {"value": value, "contribution": value, "status": "scored", "reason": "", **more}
    return {"prompt": f"p{index // 4}", "completion": f"c{index}", "reward": value, "components": {"tests": part}}


def page_of(tmp_path, rows):
    """The page of rows."""
    (tmp_path / "s.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    write_scored_report(tmp_path / "s.jsonl", tmp_path / "page.html")
    return (tmp_path / "page.html").read_text()


def test_a_failed_program_is_shown_with_its_output_and_its_test(tmp_path):
    """The program is marked in the completion; below are what it printed and the test at which it failed."""
    failed = {
        "reason": "1 of 2 tests passed; test 2: expected '7'",
        "extracted": "print(1)",
        "output": "it printed <1>",
    }
    rows = [
        scored(index, float(index), **failed) | {"completion": "so: print(1)", "tests": ["first", "assert f(3) == 7"]}
        for index in range(2)
    ]
    page = page_of(tmp_path, rows)
    assert 'print(1)<span class="hidden">]</span></mark>' in page
    assert 'program output</h3><pre tabindex="0">it printed &lt;1&gt;</pre>' in page
    assert 'failing test 2</h3><pre tabindex="0">assert f(3) == 7</pre>' in page


def test_flat_groups_are_counted_and_shown(tmp_path):
    """Groups that all fail, all succeed, or agree on another value are told apart, with an example of each."""
    values = [0.0] * 4 + [1.0] * 4 + [0.5] * 4 + [0.0, 1.0, 0.0, 1.0]
    page = page_of(tmp_path, [scored(index, value) for index, value in enumerate(values)])
    assert "Of 4 groups, 1 have the lowest reward throughout" in page
    assert "Row 9: all 4 rollouts of the prompt have reward 0.5" in page


def test_shares_of_the_variance_are_drawn_and_said(tmp_path):
    """The chart of shares has a description with all numbers."""
    page = page_of(tmp_path, [scored(index, float(index % 3)) for index in range(8)])
    assert 'aria-label="Share of the within-group variance of the reward: tests 100.0 %"' in page


def test_unscored_rows_are_counted_by_kind(tmp_path):
    """The kind and the share of rows stand beside the component."""
    lost = scored(0, None, status="unscored", kind="infra", reason="down") | {"reward": None}
    page = page_of(tmp_path, [lost, scored(1, 1.0), scored(2, 0.0), scored(3, 1.0)])
    assert '<td>tests</td><td class="reason">unscored (infra)</td><td>1</td><td>25.0 %</td>' in page


def test_costs_of_services_are_shown(tmp_path):
    """The page has what the calls of each component cost, where the manifest of the file tells."""
    costs = {"components": {"quality": {"costs": {"judge_calls": 1234.0, "judge_cost": 0.5}}, "other": {}}}
    (tmp_path / "s.jsonl.manifest.json").write_text(json.dumps({"summary": costs}))
    page = page_of(tmp_path, [scored(index, float(index)) for index in range(3)])

    assert "quality cost: judge calls 1,234, judge cost 0.5" in page
    assert "other cost" not in page


def test_counts_on_an_axis_are_whole_numbers(tmp_path):
    """The axis of a histogram whose highest bar is odd ends one above it, so that its middle is whole."""
    page = page_of(tmp_path, [scored(index, float(index < 3)) for index in range(5)])
    assert '<text x="48" y="84.0" text-anchor="end">2</text>' in page
    assert "1.5</text>" not in page
