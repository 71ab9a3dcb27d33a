"""``format.language``: the scripts that a text is written in."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rewardkit_format import Language
from rewardkit_format.language import prose


@pytest.mark.parametrize(
    ("text", "scripts", "value"),
    [
        ("The answer is 42.", ["latin"], 1.0),
        ("The answer is 42.", ["han"], 0.0),
        ("абвг abcd", ["latin"], 0.5),
        ("абвг abcd", ["cyrillic"], 0.5),
        ("абвг abcd", ["latin", "cyrillic"], 1.0),
        ("答案是ab", ["Han"], 0.6),
        ("これは漢字です", ["han", "hiragana", "katakana"], 1.0),
        ("これは漢字です", ["hiragana"], 5 / 7),
        ("naïve café ﬁne", ["latin"], 1.0),
        ("42 + 1 = 43 ✓ 🎉", ["han"], 1.0),
        ("", ["latin"], 1.0),
        ("\ud800\0", ["latin"], 1.0),
    ],
)
def test_the_value_is_the_share_of_letters(score, text, scripts, value):
    """The value is the share of letters in the given scripts; nothing else counts."""
    assert score("format.language", text, scripts=scripts).value == pytest.approx(value)


@pytest.mark.parametrize(
    "markup",
    [
        "`x = abc`",
        "```python\nabc\n```",
        "$abc$",
        "$$\nabc\n$$",
        r"\(abc\)",
        r"\[abc\]",
        r"\frac",
        "<think>",
        "</answer>",
    ],
)
def test_code_formulas_and_tags_are_left_out(score, markup):
    """Latin letters of markup do not count in a Chinese text, unless ignore_markup is off."""
    text = f"答案 {markup} 四十二"
    assert score("format.language", text, scripts=["han"]).value == 1.0
    assert score("format.language", text, scripts=["han"], ignore_markup=False).value < 1.0


@pytest.mark.parametrize(
    "text",
    [
        "答案 `abc",
        "答案 $5 and abc $6",
        "答案 $5 abc/$6",
        "答案 $abc\n$",
        r"答案 \(abc",
        "```\nabc 答案",
        "答案 $ abc $",
        "答案 a < b > c",
    ],
)
def test_what_only_looks_like_markup_is_prose(score, text):
    """Prices, lone marks and blocks that are never closed hide no text."""
    assert score("format.language", text, scripts=["han"]).value < 1.0


def test_a_share_can_be_asked_for(score):
    """With min_share the value is 1 from that share on, else 0, and the reason tells the share."""
    result = score("format.language", "абвг abcd", scripts=["latin"], min_share=0.5)
    assert (result.value, result.reason) == (1.0, "50% of letters are latin")
    assert score("format.language", "абвг abcd", scripts=["latin"], min_share=0.51).value == 0.0


def test_all_is_only_said_of_all(score):
    """One letter in a thousand is not rounded away in the reason."""
    assert score("format.language", "a" * 9999 + "я", scripts=["latin"]).reason == "99.9% of letters are latin"


def test_one_section_can_be_judged(score):
    """With tag, the last section alone counts, and a text without it scores 0."""
    text = "答案 <think>It is so.</think> 答案"
    assert score("format.language", text, scripts=["latin"], tag="think").value == 1.0
    assert score("format.language", "<think>It</think> 答案", scripts=["latin"], tag="think").value == 1.0
    missing = score("format.language", "It is so.", scripts=["latin"], tag="think")
    assert (missing.value, missing.reason) == (0.0, "there is no section <think>…</think>")


@pytest.mark.parametrize(
    ("params", "says"),
    [
        ({"scripts": []}, "scripts is empty"),
        ({"scripts": ["english"]}, "'english' is not a Unicode script; use names such as latin"),
        ({"scripts": ["latin}a"]}, "not a Unicode script"),
        ({"scripts": ["common"]}, "not a Unicode script"),
        ({"scripts": ["latin"], "min_share": 0}, "min_share must be above 0"),
        ({"scripts": ["latin"], "tag": "a b"}, "not a tag name"),
    ],
)
def test_wrong_parameters_are_refused(params, says):
    """A script that Unicode does not know is a ValueError that names some."""
    with pytest.raises(ValueError, match=says):
        Language(**params)


@given(st.text(alphabet="abcéяждЮ42 ,.\n"))
def test_it_agrees_with_counting_letters(score, text):
    """The share equals a count by the Unicode names of the characters."""
    letters = [letter for letter in text if letter.isalpha()]
    latin = sum(unicodedata.name(letter).startswith("LATIN") for letter in letters)
    expected = latin / len(letters) if letters else 1.0
    assert score("format.language", text, scripts=["latin"]).value == pytest.approx(expected)


@given(st.lists(st.sampled_from(["`", "```", "$", "$$", "\\(", "\\)", "\\[", "\\]", "a", "\n", " ", "<b>", "\\x"])))
def test_prose_never_holds_more_than_the_text(pieces):
    """Leaving out markup removes letters and adds none."""
    text = "".join(pieces)
    kept = "".join(prose(text))
    assert kept.count("a") <= text.count("a")
    assert "<b>" not in kept or "`" in text or "$" in text or "\\" in text


@pytest.mark.parametrize("unit", ["$a$ é", "$a", "\\( é", "`é\n", "```\n", "$$", "我们 a ", "\ud800x "])
def test_megabytes_of_markup_are_judged(score, unit):
    """Hostile repetition neither raises nor takes more than one pass."""
    assert 0.0 <= score("format.language", unit * 400_000, scripts=["han"]).value <= 1.0
