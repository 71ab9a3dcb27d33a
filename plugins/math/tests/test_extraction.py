"""Extraction of the answer from a text."""

import pytest
from rewardkit_math import extract
from rewardkit_math.extraction import candidates

CASES = [
    (r"So it is \boxed{5}.", "5", "boxed"),
    (r"\boxed{4} wait, actually \boxed{5}", "5", "boxed"),
    (r"\boxed{\frac{1}{\sqrt{2}}} and more", r"\frac{1}{\sqrt{2}}", "boxed"),
    (r"\boxed{\{1, 2\}}", r"\{1, 2\}", "boxed"),
    (r"\boxed{1} and \boxed{2}", "1, 2", "boxed"),
    (r"\boxed{1} papers and \boxed{2} bins", "1, 2", "boxed"),
    (r"\boxed{1}. Later it turned out to be \boxed{2}", "2", "boxed"),
    (r"\boxed{7}. So, again: \boxed{7}", "7", "boxed"),
    (r"\boxed{Answer is \boxed{1}.}", "1", "boxed"),
    (r"first \boxed{3}, then \boxed{\frac{1}{2", "3", "boxed"),
    (r"\boxed 3", "3", "boxed"),
    (r"\fbox{3}", "3", "boxed"),
    (r"about $\boxed{20}$ percent", "20%", "boxed"),
    ("<answer>5</answer>", "5", "tag"),
    (r"<answer>so \boxed{6}</answer> or \boxed{7}", "6", "tag"),
    ("He has 3 + 4 = 7.\n#### 7", "7", "hash"),
    ("She buys 5.\nA: 18", "18", "phrase"),
    ("## Answer\n42", "42", "phrase"),
    ("答案：5", "5", "phrase"),
    ("A: $18", "18", "phrase"),
    ("The final answer is 4. I checked 5 cases.", "4", "phrase"),
    ("**Answer:** 12", "12", "phrase"),
    (r"The answer is $21,16$ or $11$.", "21,16, 11", "phrase"),
    ("The answer is (B).", "(B)", "phrase"),
    (r"It is \boxed{2}. Final answer: the final answer is $3$.", "3", "boxed"),
    (r"Hence we get \[ x = 3 \]", "x = 3", "math"),
    ("So there are $n$ of them, that is 42 in all", "42", "number"),
    ("It comes to 1,000.99m², which is a lot", "1,000.99", "number"),
    ("Soucis : 2,74 $ a..", "2.74", "number"),
    ("17", "17", "bare"),
    (r"$\frac{1}{2}$", r"\frac{1}{2}", "bare"),
    ("<think>5 or \\boxed{6}</think>The answer is 7", "7", "phrase"),
    ("<think>5 or 6\n<answer>\\boxed{7}</answer>", "7", "tag"),
    ("\\boxed{１２}\u200b", "12", "boxed"),
    ("There is no way to tell", "There is no way to tell", "text"),
]


@pytest.mark.parametrize(("text", "answer", "source"), CASES)
def test_the_most_explicit_mark_wins(text, answer, source):
    """The answer is taken from the most explicit mark in the text."""
    found = extract(text)
    assert (" ".join(found.text.split()), found.source) == (answer, source)


def test_no_answer_is_an_empty_answer():
    """A text without an answer gives a false `Answer`."""
    assert not extract("")
    assert not extract("\\boxed{}")


def test_sources_can_be_chosen():
    """Only the given sources are searched, in their order."""
    text = r"The answer is 4. \boxed{5}"
    assert extract(text, ("phrase", "boxed")).text == "4"
    assert not extract("The answer is 4.", ("boxed",))


def test_what_follows_the_end_of_the_turn_does_not_count():
    """Text after an end-of-turn token is ignored."""
    assert extract(r"\boxed{3}<|im_end|><|im_start|>user \boxed{9}").text == "3"


def test_what_is_struck_out_does_not_count():
    """Markdown's ~~…~~ takes an answer back; the spaces of LaTeX do not."""
    assert extract("The answer is 19 ~~18~~.").text == "19"
    assert extract(r"\boxed{5~~km}").text == r"5~~km"


def test_a_denied_value_in_json_is_no_answer():
    """The value that JSON denies is not read as its answer."""
    assert all(found.text != "18" for found in candidates('{"answer": "not 18"}'))
