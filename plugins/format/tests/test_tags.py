"""``format.tags``: sections in order."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rewardkit_format import Tags

from rewardkit import Rollout

RIGHT = "<think>a</think><answer>b</answer>"
TAGS = ["think", "answer"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "<think> is missing"),
        ("<answer>b</answer>", "<think> is missing"),
        ("<think>a</think>", "<answer> is missing"),
        ("<think>a<answer>b</answer>", "</think> is missing"),
        ("<think>a</think><answer>b", "</answer> is missing"),
        ("<answer>b</answer><think>a</think>", "<answer> comes too early: the order is <think>, <answer>"),
        ("<think>a<answer>b</answer></think>", "<answer> comes too early: the order is <think>, <answer>"),
        ("</think>a<think><answer>b</answer>", "</think> comes before <think>"),
        ("<think>a<think>a</think><answer>b</answer>", "<think> occurs more than once"),
        ("<think>a</think></think><answer>b</answer>", "</think> occurs more than once"),
        (RIGHT + RIGHT, "<think> occurs more than once"),
        ("<think>I'll write <answer> soon</think><answer>b</answer>", "<answer> occurs more than once"),
        ("<think> \n\t\u00a0</think><answer>b</answer>", "<think> is empty"),
        ("<think>a</think><answer></answer>", "<answer> is empty"),
        ("<Think>a</Think><answer>b</answer>", "<think> is missing"),
        ("<think >a</think><answer>b</answer>", "<think> is missing"),
        ("<thinking>a</thinking><answer>b</answer>", "<think> is missing"),
    ],
)
def test_each_fault_scores_zero_and_is_named(score, text, reason):
    """A wrong format scores 0, and the reason names the first tag that is wrong."""
    result = score("format.tags", text, tags=TAGS)
    assert (result.value, result.reason) == (0.0, reason)


@pytest.mark.parametrize(
    "text",
    [
        RIGHT,
        f"Before {RIGHT} after < & > <b>",
        "<think>a < b and <i>c</i></think>\n\n<answer>\\boxed{b}</answer>",
        "<think>a</think> and then <answer>b</answer>",
        "<think>\0\ud800</think><answer>\u202eb</answer>",
    ],
)
def test_the_right_form_scores_one(score, text):
    """Tags in order score 1, whatever else is in and around them."""
    assert score("format.tags", text, tags=TAGS).value == 1.0


def test_anchored_allows_only_white_space_outside(score):
    """With anchored, text before, between or after the sections is a fault, and white space is not."""
    fine = "\n <think>a</think>\n\n<answer>b</answer>\n"
    assert score("format.tags", fine, tags=TAGS, anchored=True).value == 1.0
    for text in ("x" + RIGHT, RIGHT + ".", "<think>a</think>so<answer>b</answer>"):
        result = score("format.tags", text, tags=TAGS, anchored=True)
        assert (result.value, result.reason) == (0.0, "there is text outside the tags")


def test_empty_sections_can_be_allowed(score):
    """With non_empty off, a section may be empty."""
    assert score("format.tags", "<think></think><answer></answer>", tags=TAGS, non_empty=False).value == 1.0


def test_prefilled_starts_inside_the_first_section(score):
    """If the prompt opened the first tag, the completion must close it and not open it again."""
    assert score("format.tags", "a</think><answer>b</answer>", tags=TAGS, prefilled=True).value == 1.0
    again = score("format.tags", RIGHT, tags=TAGS, prefilled=True)
    assert (again.value, again.reason) == (0.0, "<think> occurs more than once")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", 0.0),
        ("<think>", 0.25),
        ("<think>a</think>", 0.5),
        ("<think>a</think><answer>", 0.75),
        ("<think>a</think><answer></answer>", 0.75),
        ("<answer>b</answer><think>a</think>", 0.75),
        ("<think>a<answer>b</answer>", 0.75),
        (RIGHT, 1.0),
        (RIGHT + RIGHT, 0.0),
        ("<think>" * 9, 0.0),
    ],
)
def test_partial_gives_half_a_share_for_opening_and_half_for_the_rest(score, text, value):
    """With two tags, each is worth a half: a quarter for opening it once, a quarter for the rest."""
    assert score("format.tags", text, tags=TAGS, partial=True).value == value


def test_partial_counts_clean_surroundings_as_one_more_share(score):
    """With anchored there are three shares: both tags, and nothing outside them."""
    assert score("format.tags", "x" + RIGHT, tags=TAGS, partial=True, anchored=True).value == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (RIGHT + RIGHT, ""),
        (RIGHT + "<think>c</think>", ""),
        ("<answer>b</answer>" + RIGHT, "<think> comes too late: the order is <think>, <answer>"),
        ("<think>a<answer>b</answer></think>", "<answer> is inside <think>"),
        ("<think>a<think>a</think><answer>b</answer>", "<think> is inside <think>"),
        (RIGHT + "</think>", "</think> closes no open tag"),
        (RIGHT + "<think>c", "</think> is missing"),
        (RIGHT + "<think></think>", "<think> is empty"),
        ("<think>a</think>", "<answer> is missing"),
        ("", "<think> is missing"),
    ],
)
def test_repeat_allows_sections_to_come_again(score, text, reason):
    """With repeat, sections may come again in any order after the first; nested and unclosed sections are still faults."""
    result = score("format.tags", text, tags=TAGS, repeat=True)
    assert (result.value, "" if result.value else result.reason) == (float(not reason), reason)


@pytest.mark.parametrize(
    ("params", "says"),
    [
        ({"tags": []}, "tags is empty"),
        ({"tags": ["think", "think"]}, "names 'think' twice"),
        ({"tags": ["<think>"]}, "'<think>' is not a tag name"),
        ({"tags": ["a b"]}, "not a tag name"),
        ({"tags": ["think", ""]}, "not a tag name"),
    ],
)
def test_wrong_parameters_are_refused(params, says):
    """Tags that are repeated or have invalid names raise ValueError when the reward is built."""
    with pytest.raises(ValueError, match=says):
        Tags(**params)


pieces = st.lists(
    st.sampled_from(["<think>", "</think>", "<answer>", "</answer>", "a", " ", "<", ">", "</", "\n", "<think"]),
    max_size=12,
).map("".join)


def oracle(text, *, anchored, non_empty):
    """Check the format by its definition, in a slow and plain way."""
    marks = re.findall(r"</?(?:think|answer)>", text)
    if marks != ["<think>", "</think>", "<answer>", "</answer>"]:
        return 0.0
    before, think, between, answer, after = re.split(r"</?(?:think|answer)>", text)
    if non_empty and not (think.strip() and answer.strip()):
        return 0.0
    return float(not anchored or not (before + between + after).strip())


@given(pieces, st.booleans(), st.booleans(), st.booleans())
@example(RIGHT, True, True, True)
@example(f"x{RIGHT}", True, True, False)
@example("<think></think><answer>a</answer>", False, True, False)
def test_it_agrees_with_the_definition(text, anchored, non_empty, partial):
    """The value is 1 exactly if the tags are the given list, sections are not empty, and surroundings are clean."""
    reward = Tags(tags=TAGS, anchored=anchored, non_empty=non_empty, partial=partial)
    (result,) = reward([Rollout("", text)])
    assert (result.value == 1.0) == (oracle(text, anchored=anchored, non_empty=non_empty) == 1.0)
    assert 0.0 <= result.value <= 1.0
    assert partial or result.value in (0.0, 1.0)


@given(pieces, st.booleans())
def test_repeat_accepts_whatever_the_strict_form_accepts(text, anchored):
    """Allowing repeats never makes a correct format wrong."""
    strict = Tags(tags=TAGS, anchored=anchored)([Rollout("", text)])[0].value
    lenient = Tags(tags=TAGS, anchored=anchored, repeat=True)([Rollout("", text)])[0].value
    assert lenient >= strict


@pytest.mark.parametrize("repeat", [False, True])
@pytest.mark.parametrize("unit", ["<", "<think>", "<think></think>", "</answer>", "<think><answer>", "\ud800\0"])
def test_five_megabytes_of_tags_are_judged(score, unit, repeat):
    """Hostile repetition neither raises nor exhausts a stack by its nesting."""
    text = unit * (5_000_000 // len(unit))
    assert score("format.tags", text, tags=TAGS, repeat=repeat).value == 0.0
