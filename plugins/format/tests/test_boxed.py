r"""``format.boxed``: an answer in ``\boxed{…}``."""

import pytest
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("text", "value", "reason"),
    [
        (r"\boxed{42}", 1.0, "the answer is boxed"),
        (r"$$\boxed{\frac{1}{2}}$$", 1.0, "the answer is boxed"),
        (r"\boxed {42}", 1.0, "the answer is boxed"),
        ("\\boxed\n{42}", 1.0, "the answer is boxed"),
        (r"\boxed{ \} }", 1.0, "the answer is boxed"),
        (r"\boxed{\{1, 2\}}", 1.0, "the answer is boxed"),
        (r"\boxed{{}42}", 1.0, "the answer is boxed"),
        ("", 0.0, "there is no \\boxed answer"),
        ("boxed{42}", 0.0, "there is no \\boxed answer"),
        (r"\boxedminipage{42}", 0.0, "there is no \\boxed answer"),
        (r"\boxed 42", 0.0, "\\boxed is not followed by {"),
        (r"so \boxed", 0.0, "\\boxed is not followed by {"),
        (r"\boxed{}", 0.0, "\\boxed{} is empty"),
        ("\\boxed{ \n\u00a0}", 0.0, "\\boxed{} is empty"),
        (r"\boxed{42", 0.0, "the braces of \\boxed{ are not balanced"),
        (r"\boxed{\frac{1}{2}", 0.0, "the braces of \\boxed{ are not balanced"),
        (r"\boxed{42\}", 0.0, "the braces of \\boxed{ are not balanced"),
        ("\\boxed{42\\", 0.0, "the braces of \\boxed{ are not balanced"),
        (r"\boxed{1} or \boxed{2}", 0.0, "\\boxed occurs more than once"),
        (r"\boxed{\boxed{2}}", 0.0, "\\boxed occurs more than once"),
        (r"\boxedx \boxed{2} \boxedy", 1.0, "the answer is boxed"),
    ],
)
def test_the_answer_is_there_not_empty_and_balanced(score, text, value, reason):
    """One boxed answer that is not empty scores 1; anything else scores 0 with the fault."""
    result = score("format.boxed", text)
    assert (result.value, result.reason) == (value, reason)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (r"\boxed{1} or \boxed{2}", 1.0),
        (r"\boxed{ then \boxed{2}", 1.0),
        (r"\boxed{1} then \boxed{", 0.0),
        (r"\boxed{1} then \boxed{}", 0.0),
        (r"\boxed{\boxed{2}}", 1.0),
    ],
)
def test_without_once_the_last_one_counts(score, text, value):
    """With once off, earlier boxes make no difference, even broken ones."""
    assert score("format.boxed", text, once=False).value == value


def closing_brace(text):
    """Return whether the brace that opens ``text`` is closed, by reading character by character."""
    depth = place = 0
    while place < len(text):
        if text[place] == "\\":
            place += 2
            continue
        depth += (text[place] == "{") - (text[place] == "}")
        if depth == 0:
            return place
        place += 1
    return None


@given(st.text(alphabet="{}\\ a", max_size=12))
def test_balance_agrees_with_reading_letter_by_letter(score, inside):
    """Braces are matched as in LaTeX, without escaped ones."""
    end = closing_brace("{" + inside)
    expected = end is not None and ("{" + inside)[1:end].strip() != ""
    assert score("format.boxed", "\\boxed{" + inside).value == float(expected)


@pytest.mark.parametrize("unit", ["\\boxed{", "\\boxed", "\\boxedx", "\\boxed{}", "{"])
def test_five_megabytes_of_boxes_are_judged(score, unit):
    """Hostile repetition neither raises nor nests."""
    text = unit * (5_000_000 // len(unit))
    assert score("format.boxed", text).value == 0.0
    assert score("format.boxed", text, once=False).value == 0.0
    assert score("format.boxed", "\\boxed{" + "{}" * 2_000_000 + "1}").value == 1.0
