"""Verdicts, their reasons, and the policies that change them."""

import asyncio

import pytest
from rewardkit_math import Policy, verify, verify_async


def test_the_reason_tells_what_was_read_and_why():
    """The reason contains both answers, their sources and the outcome; the tier is a field of the verdict."""
    verdict = verify(r"So \boxed{\frac{2}{4}}", "#### 0.5")
    assert verdict.reason == r"prediction '\\frac{2}{4}' (boxed), reference '0.5' (hash): equal"
    assert verdict.tier == "normal form"
    assert verdict.prediction.text == r"\frac{2}{4}"


@pytest.mark.parametrize("reference", ["", "   ", r"\boxed{}", r"\frac{1}{", r"\begin{pmatrix}1&", r"\unknown{1}"])
def test_a_reference_that_cannot_be_understood_gives_no_verdict(reference):
    """A broken reference gives no verdict."""
    verdict = verify("5", reference)
    assert verdict.correct is None
    assert verdict.failure == "reference"


@pytest.mark.parametrize(
    "prediction", ["", r"\boxed{}", r"\boxed{\frac{1}{2}", r"\boxed{1/0}", "no idea", r"\boxed{\unknown{5}}"]
)
def test_a_prediction_that_cannot_be_understood_is_wrong(prediction):
    """A broken prediction is wrong."""
    assert verify(prediction, "5").correct is False


def test_a_reference_that_cannot_be_parsed_equals_itself():
    """A reference that can't be parsed can still be equal letter by letter."""
    strange = r"$\lfloor\varphi n\rfloor$, where $\varphi = \frac{\sqrt{5}+1}{2}$"
    assert verify(strange, strange).correct is True


POLICIES = [
    ({"percent": "fraction"}, r"50\%", "50", False),
    ({"percent": "fraction"}, r"50\%", "0.5", True),
    ({"percent": "number"}, r"50\%", "0.5", False),
    ({"percent": "number"}, r"50\%", "50", True),
    ({"tolerance": 0.01}, "3.14", r"\pi", True),
    ({"tolerance": 0}, "3.14159265", r"\pi", False),
    ({"list_order": True}, "1, 2", "2, 1", False),
    ({"list_order": True}, "1, 2", "1, 2", True),
    ({"units": "required"}, "10", r"10 \text{ cm}", False),
    ({"units": "required"}, r"10\text{ cm}", r"10\text{ cm}", True),
    ({"set_relation": False}, r"-2 \le x \le 7", r"x \in [-2, 7]", False),
    ({"set_relation": False}, r"x \in [-2, 7]", r"-2 \le x \le 7", True),
    ({"form": "simplified"}, r"\frac{2}{4}", r"\frac12", False),
    ({"form": "simplified"}, r"\frac{1}{2}", "0.5", True),
    ({"form": "simplified"}, r"\sqrt{8}", r"2\sqrt2", False),
    ({"form": "simplified"}, r"\frac14+\frac14", r"\frac12", False),
    ({"decimal_places": 2}, "3.50", "3.5", True),
    ({"decimal_places": 2}, "3.5", "3.5", False),
    ({"extraction": ("boxed",)}, "The answer is 4", "4", False),
    ({"extraction": ("boxed",)}, "The final answer is $4$.", "4", False),
    ({"extraction": ("boxed",)}, r"\boxed{4}", "4", True),
]


@pytest.mark.parametrize(("options", "prediction", "reference", "expected"), POLICIES)
def test_policies(options, prediction, reference, expected):
    """Each policy changes the verdict as documented, given as an option or as a Policy."""
    assert verify(prediction, reference, **options).correct is expected
    assert verify(prediction, reference, policy=Policy(**options)).correct is expected


def test_an_unknown_option_is_an_error():
    """A misspelt option raises an error."""
    with pytest.raises(TypeError, match="tolerence"):
        verify("1", "1", tolerence=1)


def test_coroutines_get_the_same_verdict():
    """`verify_async` returns what `verify` returns, also in many coroutines at once."""

    async def main():
        pairs = [(r"\frac12", "0.5"), ("1", "2"), (r"\int_0^1 x^2\,dx", "1/3"), (r"\sum_{k=1}^\infty 2^{-k}", "1")]
        return await asyncio.gather(*(verify_async(a, b, deadline_s=30) for a, b in pairs))

    assert [v.correct for v in asyncio.run(main())] == [True, False, True, True]
