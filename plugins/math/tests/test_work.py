r"""The work of one comparison in this process is bounded: no construct, nested or repeated, takes long."""

# ruff: noqa: E501 - tables of constructs are read across

import asyncio
import itertools
import signal
import time

import pytest
from rewardkit_math import verify, verify_async
from rewardkit_math.errors import TooLarge
from rewardkit_math.reading import read_reference
from rewardkit_math.work import allowed, limited, spend

CPU_SECONDS = 1.0
"""The bound asserted here: five times the documented one, for slow machines."""

NESTED = [
    ("(", ")"), ("{", "}"), ("[", "]"), (r"\{", r"\}"), ("|x+", "|"), (r"\lfloor x+", r"\rfloor "), (r"\lceil x+", r"\rceil "),
    (r"\frac{1}{1+", "}"), (r"\sqrt{x+", "}"), (r"\sqrt[3]{x+", "}"), ("x^{", "}"), ("e^{x+", "}"), ("x_{", "}"), (r"\sin(", "+1)"),
    (r"\log_{2}(x+", ")"), (r"\binom{x+", "}{2}"), (r"\operatorname{sgn}(x+", ")"), (r"\gcd(x,", ")"), (r"\max(x,", ")"),
    (r"\text{", "}"), (r"\mathrm{", "}"), (r"\overline{", "}"), (r"\boxed{", "}"), (r"\begin{pmatrix}", r"\end{pmatrix}"),
    (r"\begin{cases}", r"\end{cases}"), (r"\sum_{k=1}^{9}", ""), (r"\prod_{k=1}^{3}(", ")"), (r"\int_0^1 ", "dx"), ("f(", ")"),
    ("(x+", r" \bmod 5)"), ("(", ")!"), ("<answer>", "</answer>"), (r"\ce{", "}"), (r"\hat{", "}"), (r"\pmod{", "}"), ("P(A|", ")"),
    (r"\text{(a) }{", "}"), (r"\lim_{x\to", "}"), ("{}^{", "}C_3"), ("[1,", ")"), (r"\cup(1,", ")"), (r"\sqrt[", "]{2}"), ("<", ",1>"),
    (r"5\text{ m}/(", ")"), (r"\begin{aligned}", r"\end{aligned}"), (r"\frac{", "}{2+x}"), ("(", ")^2"),
]  # fmt: skip
REPEATED = [
    "!", "! ", "7!", r"\%", "'", "^2", "^", "_", "-", "1+", "1/", r"\pm ", "1,", "x=", "x<", "1:", r"\cup[0,1]", r"x\in ", r"\cdot ", " or ",
    "1 cm ", r"\text{ m}", "$", "$x$ ", r"\(", "####", "The answer is ", "answer: ", "\n", " ", ".", "12,", "0.3", "1 ", "boxed", r"\boxed",
    "}", "{", "\\", r"\\", "a", "the ", "|", "</think>", r"\begin{", "&", r"\frac", r"\left", "**", "9", r"\boxed{5} and ", "km/", "½", "²", "，",
    "`", "because ", ", because 3", "&lt;", "if x ", "(a) ", "A, ", "或", "k", "1e9", "Wow! ", r"\begin{pmatrix}1&2\\3&4\end{pmatrix}^6",
    "(a) 5 (b) 7 ", r"\text{(a) } 3 ", r"\text{max } 5, ", "2H2 + ", "->", "; 8 is ", " as 3", "dozen ", "minus ", "1 250", ",75", "kmh",
    "x_1^2+", r"\sigma^2=", "C is correct", "&nbsp;", r"\text{ m}/(", "at most ", "答案是", "一百", r"\hat{i}+", "P(A|B)=", "NH4+", "+ ", "C_1e^x+",
]  # fmt: skip
LENGTHS = (36, 400, 3_000, 1_000_000)
"""Texts of the last length are longer than any that is read."""


def cpu_seconds(prediction, reference):
    """Return the CPU seconds of one comparison without the worker process."""
    read_reference.cache_clear()
    started = time.process_time()
    verify(prediction, reference, symbolic=False)
    return time.process_time() - started


@pytest.mark.parametrize(("opening", "closing"), [*NESTED, *((text, "") for text in REPEATED)])
def test_no_text_takes_long(opening, closing):
    """Each construct, nested or repeated up to a megabyte, is judged within the bound: bare on either side, boxed, and stated."""
    for length in LENGTHS:
        count = max(1, length // len(opening + closing))
        hostile = opening * count + "7" + closing * count
        assert cpu_seconds(hostile, "y+1") < CPU_SECONDS
        assert cpu_seconds("y+1", hostile) < CPU_SECONDS
        if length < LENGTHS[-1]:
            assert cpu_seconds(f"\\boxed{{{hostile}}}", "y+1") < CPU_SECONDS
            assert cpu_seconds(f"The answer is {hostile}.", "y+1") < CPU_SECONDS


@pytest.mark.parametrize(
    "shout",
    ["Wow" + "!" * 100, "The answer is 4" + "!" * 100, r"\boxed{7" + "!" * 100 + "}", "(" * 20 + "7" + ")!" * 20],
)
def test_a_run_of_exclamation_marks_is_judged(shout):
    """Exclamation marks in a row are punctuation, and deeply nested factorials are refused."""
    assert verify(shout, "4", symbolic=False).correct is (shout.startswith("The answer"))


def test_the_limit_of_steps_holds():
    """A comparison that needs more steps than `max_steps` decides nothing; with enough steps it decides."""
    pair = ("(x+1)^5", "x^5+5x^4+10x^3+10x^2+5x+1")
    assert verify(*pair, symbolic=False).correct is True
    assert verify(*pair, symbolic=False, max_steps=20).correct is False


def test_steps_are_counted_in_blocks():
    """Steps within `limited` count towards the enclosing block, steps within `allowed` don't."""
    with allowed(10):
        with pytest.raises(TooLarge), limited(3):
            spend(4)
        spend(5)
        with allowed(100):
            spend(50)
        with pytest.raises(TooLarge):
            spend(2)


def test_the_reading_of_a_reference_does_not_depend_on_the_limit_of_a_comparison():
    """A comparison with few steps doesn't change a later one with more steps."""
    read_reference.cache_clear()
    verify("x+1", "1+x", symbolic=False, max_steps=1)
    assert verify("x+1", "1+x", symbolic=False).correct is True


def test_the_event_loop_gets_turns_between_comparisons():
    """`verify_async` yields to the event loop before each comparison, however quick it is."""

    async def main():
        turns = 0
        done = False

        async def count():
            nonlocal turns
            while not done:
                turns += 1
                await asyncio.sleep(0)

        counter = asyncio.create_task(count())
        for _ in range(50):
            await verify_async("1/2", "0.5")
        done = True
        await counter
        return turns

    assert asyncio.run(main()) >= 50


def test_the_event_loop_is_not_held_up_by_long_comparisons():
    """A comparison of many steps continues in another thread and has the verdict of `verify`."""
    long = r"\prod_{k=1}^{3}(" * 30 + "x" + ")" * 30
    assert asyncio.run(verify_async(long, "y", symbolic=False)).correct is verify(long, "y", symbolic=False).correct


def test_an_interrupt_ends_a_comparison():
    """SIGINT during a comparison raises KeyboardInterrupt."""
    hostile = [r"\prod_{k=1}^{3}(" * (20 + i) + "x" + ")" * (20 + i) for i in range(40)]
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    handler = signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        with pytest.raises(KeyboardInterrupt):
            _judge_for_ever(hostile)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)


def _judge_for_ever(texts):
    for text in itertools.cycle(texts):
        verify(text, "y", symbolic=False)
