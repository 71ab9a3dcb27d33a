"""What format rewards read of a completion is told with the score, so that reports mark it."""

import pytest

from rewardkit import Registry, Rollout
from rewardkit.insight.extraction import marked_messages

CODE = "Here:\n```python\nx = 1\n```\nDone."
JSON = 'Call:\n```json\n{"name": "f"}\n```'


def score(use, *completions, **params):
    """Score completions."""
    kind = Registry.load(only=["format"]).get(use).type
    return kind.build(kind.params(**params))([Rollout("q", text) for text in completions])


@pytest.mark.parametrize(
    ("use", "params", "completion", "value", "marked"),
    [
        ("format.tags", {"tags": ["think", "answer"]}, "<think>a</think><answer>4</answer>", 1.0, "4"),
        ("format.tags", {"tags": ["a"], "repeat": True}, "<a>1</a><a>2</a>", 1.0, "2"),
        ("format.tags", {"tags": ["think", "answer"]}, "<answer>4</answer>", 0.0, None),
        ("format.boxed", {}, r"so \boxed{\frac{1}{2}}", 1.0, r"\frac{1}{2}"),
        ("format.boxed", {"once": False}, r"\boxed{1} \boxed{2}", 1.0, "2"),
        ("format.boxed", {}, r"\boxed{1} \boxed{2}", 0.0, None),
        ("format.json", {"source": "fence"}, JSON, 1.0, '{"name": "f"}'),
        ("format.json", {"source": "fence", "schema": {"type": "array"}}, JSON, 0.0, '{"name": "f"}'),
        ("format.json", {"source": "tag"}, "<answer> [1 </answer>", 0.0, "[1"),
        ("format.json", {"source": "tag"}, "<answer> [1] </answer>", 1.0, "[1]"),
        ("format.json", {}, "[1]", 1.0, None),
        ("format.json", {"source": "fence"}, "- a\n  ```json\n  [1,\n  2]\n  ```", 1.0, None),
        ("format.code_block", {}, CODE, 1.0, "x = 1"),
        ("format.code_block", {"parses": True}, CODE.replace("x = 1", "x ="), 0.0, "x ="),
        ("format.code_block", {}, "no code", 0.0, None),
        ("format.regex", {"pattern": r"Step \d+"}, "Step 1, Step 2", 1.0, "Step 1"),
        ("format.regex", {"pattern": r"Step \d+", "count": 2}, "Step 1, Step 2, Step 3", 1.0, "Step 2"),
        ("format.regex", {"pattern": "bad", "forbid": True}, "a bad word", 0.0, "bad"),
        ("format.regex", {"pattern": "bad", "forbid": True}, "a word", 1.0, None),
        ("format.regex", {"pattern": ".*", "match": "fullmatch"}, "all", 1.0, None),
    ],
)
def test_what_was_read_is_marked(use, params, completion, value, marked):
    """In a report and in the viewer, whether it is right or wrong."""
    [found] = score(use, completion, **params)
    assert found.value == value
    [(_, pieces)] = marked_messages(completion, {"a": {"extracted": found.extracted, "reason": found.reason}})
    assert [piece.text for piece in pieces if piece.components] == ([] if marked is None else [marked])


def test_rollouts_with_the_same_marks_share_a_score():
    """Creating a score for each rollout would cost more than the check itself."""
    first, second = score("format.tags", "<a>1</a>", "<a>2</a>", tags=["a"])
    assert first is second
    assert first.extracted == "<a>...</a>"


def test_a_long_match_is_not_kept():
    """A score does not hold another copy of a long completion."""
    assert score("format.regex", "a" * 5000, pattern="a+")[0].extracted is None
    assert score("format.regex", "b", pattern="a*")[0].extracted is None
