"""Writes rollouts.jsonl: word problems with groups of eight completions, right, wrong, malformed and over-long.

Everything is made up here, from a fixed seed, in the shape that a sampler would leave behind:

    python examples/demo/make_rollouts.py > examples/demo/rollouts.jsonl
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction

GROUP_SIZE = 8
MAX_TOKENS = 1024
NAMES = ["Ada", "Bela", "Chidi", "Dana", "Emre", "Fatou", "Goro", "Hana"]


@dataclass(frozen=True)
class Problem:
    """A question, the steps that solve it, and its answer."""

    prompt: str
    steps: list[str]
    answer: Fraction


def apples(rng: random.Random) -> Problem:
    """Subtraction and multiplication."""
    have, gone, price = rng.randint(12, 60), rng.randint(2, 11), rng.randint(2, 9)
    left = have - gone
    return Problem(
        f"{rng.choice(NAMES)} picks {have} apples, eats {gone} and sells the rest for ${price} each. How many dollars come in?",
        [f"{have} - {gone} = {left} apples are sold.", f"{left} * {price} = {left * price} dollars."],
        Fraction(left * price),
    )


def share(rng: random.Random) -> Problem:
    """Division with a remainder as a fraction."""
    cakes, people = rng.randint(3, 20), rng.choice([3, 4, 6, 7, 8])
    answer = Fraction(cakes, people)
    return Problem(
        f"{cakes} cakes are shared equally by {people} people. How many cakes does each get? Give a fraction.",
        [f"Each gets {cakes}/{people} of a cake.", f"In lowest terms that is {answer}."],
        answer,
    )


def speed(rng: random.Random) -> Problem:
    """Two legs of a journey."""
    first, second = rng.randint(2, 5), rng.randint(1, 4)
    slow, fast = rng.randrange(40, 70, 5), rng.randrange(75, 125, 5)
    total = first * slow + second * fast
    return Problem(
        f"A train runs {first} hours at {slow} km/h and {second} hours at {fast} km/h. How many kilometres is that?",
        [f"{first} * {slow} = {first * slow} km.", f"{second} * {fast} = {second * fast} km.", f"Together {total} km."],
        Fraction(total),
    )


def percent(rng: random.Random) -> Problem:
    """A price after a discount, with cents."""
    price, off = rng.randrange(20, 300, 5), rng.choice([10, 15, 20, 30, 35])
    answer = Fraction(price * (100 - off), 100)
    return Problem(
        f"A lamp costs ${price}. {rng.choice(NAMES)} gets {off}% off. What does the lamp cost now, in dollars?",
        [
            f"{off}% of {price} is {float(Fraction(price * off, 100)):g}.",
            f"{price} - {float(price - answer):g} = {float(answer):g}.",
        ],
        answer,
    )


def latex(value: Fraction) -> str:
    """The usual way to write an answer."""
    if value.denominator == 1:
        return str(value.numerator)
    if value.denominator in {2, 4, 5, 10, 20, 25, 50, 100}:
        return f"{float(value):g}"
    return rf"\frac{{{value.numerator}}}{{{value.denominator}}}"


def other_form(value: Fraction) -> str:
    """The same answer, written in another way."""
    if value.denominator == 1:
        return f"{value.numerator}.0" if abs(value.numerator) < 1000 else f"{value.numerator:,}"
    return f"{3 * value.numerator}/{3 * value.denominator}"


def tagged(problem: Problem, answer: str, steps: list[str] | None = None) -> str:
    """A completion as it was asked for."""
    return f"<think>\n{chr(10).join(steps or problem.steps)}\n</think>\n<answer>\\boxed{{{answer}}}</answer>"


def wandering(problem: Problem, rng: random.Random, words: int) -> list[str]:
    """The steps with doubts in between, about that many words long."""
    doubts = ["Wait, let me check that again.", "Hmm, is this what was asked?", "Let me think about it in another way."]
    steps: list[str] = []
    while sum(len(step.split()) for step in steps) < words:
        steps += [rng.choice(problem.steps), rng.choice(doubts)]
    return [*steps, *problem.steps]


def right(problem: Problem, rng: random.Random) -> tuple[str, str]:
    """Right and well formed."""
    return tagged(problem, latex(problem.answer)), "stop"


def right_otherwise(problem: Problem, rng: random.Random) -> tuple[str, str]:
    """Right, in a form that only a verifier of mathematics accepts."""
    return tagged(problem, other_form(problem.answer)), "stop"


def right_but_long(problem: Problem, rng: random.Random) -> tuple[str, str]:
    """Right, and so long that it gets into the penalty's buffer."""
    return tagged(problem, latex(problem.answer), wandering(problem, rng, rng.randint(620, 700))), "stop"


def wrong(problem: Problem, rng: random.Random) -> tuple[str, str]:
    """A slip in the last step."""
    return tagged(problem, latex(problem.answer + rng.choice([-10, -1, 1, 2, 10]))), "stop"


def untagged(problem: Problem, rng: random.Random) -> tuple[str, str]:
    """Right, but without the tags that were asked for."""
    return f"{' '.join(problem.steps)} The answer is \\boxed{{{latex(problem.answer)}}}.", "stop"


def unclosed(problem: Problem, rng: random.Random) -> tuple[str, str]:
    """The first tag is never closed."""
    return f"<think>\n{problem.steps[0]}\n<answer>\\boxed{{{latex(problem.answer)}}}</answer>", "stop"


def cut_off(problem: Problem, rng: random.Random) -> tuple[str, str]:
    """Thinks until the tokens run out."""
    return f"<think>\n{chr(10).join(wandering(problem, rng, 790))}", "length"


KINDS: list[tuple[Callable[[Problem, random.Random], tuple[str, str]], int]] = [
    (right, 8),
    (right_otherwise, 3),
    (right_but_long, 2),
    (wrong, 6),
    (untagged, 2),
    (unclosed, 2),
    (cut_off, 2),
]


def count_tokens(text: str) -> int:
    """A sampler would tell it; four tokens to three words is near enough here."""
    return len(text.split()) * 4 // 3


def rows(prompts: int = 30, seed: int = 7) -> Iterator[dict[str, object]]:
    """The rows of the file; of every tenth prompt all completions are right, of another tenth all are wrong."""
    rng = random.Random(seed)  # noqa: S311 - nothing secret
    kinds, weights = zip(*KINDS, strict=True)
    for index in range(prompts):
        problem = rng.choice([apples, share, speed, percent])(rng)
        for _ in range(GROUP_SIZE):
            kind = {0: right, 5: wrong}.get(index % 10) or rng.choices(kinds, weights)[0]
            completion, finish_reason = kind(problem, rng)
            tokens = MAX_TOKENS if finish_reason == "length" else min(count_tokens(completion), MAX_TOKENS)
            yield {
                "group": f"word-{index:03}",
                "prompt": problem.prompt,
                "completion": completion,
                "answer": latex(problem.answer),
                "num_tokens": tokens,
                "finish_reason": finish_reason,
            }


if __name__ == "__main__":
    for row in rows():
        sys.stdout.write(json.dumps(row) + "\n")
