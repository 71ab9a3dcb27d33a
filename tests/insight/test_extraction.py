"""What rewards extracted is found in the completion."""

import pytest

from rewardkit.insight.extraction import extracted_by, mark, marked_messages


def pieces(text, **components):
    """The pieces of a completion: (text, components)."""
    ((_, found),) = marked_messages(text, components)
    return [(piece.text, piece.components) for piece in found]


@pytest.mark.parametrize(
    ("completion", "reason", "found"),
    [
        ("4 or 4", "prediction '4' (boxed), reference '4'", [("4 or ", ()), ("4", ("a",))]),
        ("it's", r"prediction 'it\'s' (text)", [("it's", ("a",))]),
        ("it's", 'prediction "it\'s" (text)', [("it's", ("a",))]),
        (r"so \frac", r"prediction '\\frac' (text)", [("so ", ()), (r"\frac", ("a",))]),
        ("a\nb", r"prediction 'a\nb' (text)", [("a\nb", ("a",))]),
        ("none here", "prediction '5' (boxed)", [("none here", ())]),
        ("plain", "the tags are right", [("plain", ())]),
        ("", "prediction '' (text)", []),
    ],
)
def test_the_quoted_answer_is_marked(completion, reason, found):
    """The last occurrence of what the reason quotes is marked; nothing else is."""
    assert pieces(completion, a={"reason": reason}) == found


def test_what_a_score_says_was_extracted_goes_before_its_reason():
    """A text of its own is exact, where a reason may quote something else."""
    part = {"extracted": "def f(): ...", "reason": "prediction '1' (bare)"}
    assert pieces("1\ndef f(): ...\n1", a=part) == [("1\n", ()), ("def f(): ...", ("a",)), ("\n1", ())]


@pytest.mark.parametrize(
    ("completion", "extracted", "found"),
    [
        ("<think>a</think><answer>\n4 \n</answer>", "<answer>...</answer>", "4"),
        ("<answer>1</answer> <answer>2</answer> x", "<answer>...</answer>", "2"),
        ("<answer>1</answer> <answer>", "<answer>...</answer>", "1"),
        ("<answer> </answer>", "<answer>...</answer>", None),
        ("</answer>1<answer>", "<answer>...</answer>", None),
        (r"so \boxed{1} and \boxed{\frac{1}{2}}, I think}", r"\boxed{...}", r"\frac{1}{2}"),
        (r"\boxed{\{1, 2\}}", r"\boxed{...}", r"\{1, 2\}"),
        (r"\boxed{1", r"\boxed{...}", None),
        ("1, 2, ..., 9", "2, ..., 9", "2, ..., 9"),
        ("a ... b ... c", "x...y...z", None),
        ("...", "...", "..."),
        ("ab", "...b", None),
    ],
)
def test_marks_around_an_answer_stand_for_it(completion, extracted, found):
    """What is between the last marks is marked, unless the text itself stands there; braces inside are balanced."""
    assert [text for text, components in pieces(completion, a={"extracted": extracted}) if components] == (
        [] if found is None else [found]
    )


def test_two_components_that_extract_the_same_are_both_named():
    """A piece names all components that read it."""
    assert pieces("so 4", a={"extracted": "4"}, b={"extracted": "4"}) == [("so ", ()), ("4", ("a", "b"))]


def test_overlapping_texts_are_marked_once():
    """Of texts that overlap the longer one is marked, and no text is repeated."""
    assert [(one.text, one.components) for one in mark("abcd", {"a": ["bc"], "b": ["abc"]})] == [
        ("abc", ("b",)),
        ("d", ()),
    ]


def test_the_last_message_that_holds_the_answer_is_marked():
    """In a chat only messages of the assistant are marked, and each answer once."""
    chat = [
        {"role": "assistant", "content": "4?"},
        {"role": "tool", "content": "4"},
        {"role": "assistant", "content": [{"type": "text", "text": "yes 4"}]},
        {"role": "user", "content": "4!"},
    ]
    found = marked_messages(chat, {"a": {"extracted": "4"}})
    assert [[piece.components for piece in parts] for _, parts in found] == [[()], [()], [(), ("a",)], [()]]
    chat[2] = {"role": "assistant", "content": "<a>4</a>"}
    found = marked_messages(chat, {"a": {"extracted": "<a>...</a>"}})
    assert [[piece.components for piece in parts] for _, parts in found][2] == [(), ("a",), ()]
    assert [role for role, _ in found] == ["assistant", "tool", "assistant", "user"]


@pytest.mark.parametrize(
    "components", [{"a": None}, {"a": {"extracted": None, "reason": None}}, {"a": {"extracted": ""}}, {}]
)
def test_components_that_extracted_nothing_mark_nothing(components):
    """A component without a result, a reason or a text marks nothing."""
    assert extracted_by(components) == {}
