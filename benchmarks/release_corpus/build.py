r"""Writes the rows of the release corpus: completions of our own making, of which the scores at the last release are recorded.

    python benchmarks/release_corpus/build.py

Each problem has answers as models write them, right and wrong, each in one of several frames, so that extraction, normal forms,
comparison, test formats and extraction of programs are all used. `make diff-release` scores the rows with the present code and compares.
"""

# ruff: noqa: E501 - answers and programs are a line each
from __future__ import annotations

import itertools
import json
from pathlib import Path

HERE = Path(__file__).parent
FRAMES = (
    r"So the result is $\boxed{%s}$.",
    r"We compute step by step. First note that $2 + 2 = 4$. Therefore \boxed{%s}",
    "Let me think.\n\n**Final answer:** $%s$",
    "The answer is %s.",
)
MATH: tuple[tuple[str, str, tuple[str, ...], tuple[str, ...]], ...] = (
    ("What is 1/2 + 1/4?", r"\frac{3}{4}", (r"\frac34", "0.75", "3/4", r"\dfrac{6}{8}"), (r"\frac{4}{3}", "0.7", "3", r"\frac{3}{5}")),
    ("What is 7 times 8?", "56", ("56", "56.0", "fifty-six", r"7 \cdot 8"), ("54", "5.6", "65", "-56")),
    ("Simplify the square root of 50.", r"5\sqrt{2}", (r"5\sqrt2", r"\sqrt{50}", r"5 \cdot \sqrt{2}", r"\frac{10}{\sqrt{2}}"), (r"2\sqrt{5}", r"\sqrt{5}", "7", r"25\sqrt{2}")),
    ("Solve x^2 = 9.", r"\{-3, 3\}", (r"\{3, -3\}", r"x = \pm 3", r"-3, 3", r"x = 3 \text{ or } x = -3"), ("3", r"\{3\}", r"\{-9, 9\}", r"\{-3, 3, 0\}")),
    ("Where is x^2 < 4?", "(-2, 2)", (r"(-2,2)", r"-2 < x < 2", r"x \in (-2, 2)", r"\left(-2, 2\right)"), ("[-2, 2]", "(-2, 4)", r"x < 2", r"(-4, 4)")),
    ("Where is |x| at least 1?", r"(-\infty, -1] \cup [1, \infty)", (r"(-\infty,-1]\cup[1,\infty)", r"[1, \infty) \cup (-\infty, -1]"), (r"(-\infty, -1) \cup (1, \infty)", r"[-1, 1]")),
    ("Factor x^2 - 5x + 6.", "(x-2)(x-3)", ("(x-3)(x-2)", "x^2 - 5x + 6", "(3-x)(2-x)"), ("(x+2)(x+3)", "(x-1)(x-6)", "x^2-5x-6")),
    ("Differentiate sin(x)^2.", r"2\sin x\cos x", (r"\sin(2x)", r"2 \sin(x) \cos(x)", r"2\cos x \sin x"), (r"\cos^2 x", r"2\sin x", r"\sin x \cos x")),
    ("What is 15% of 200?", "30", ("30", "30.00", r"\frac{60}{2}"), (r"0.3", "300", r"15")),
    ("What share is 3 of 8, in percent?", r"37.5\%", (r"37.5\%", "37.5 percent", r"37.5"), (r"3.75\%", r"38\%", "375")),
    ("How far is it, in metres?", r"1500\text{ m}", (r"1500 \text{ m}", r"1.5\text{ km}", "1500"), (r"150\text{ m}", r"1500\text{ km}", r"15")),
    ("How much does it cost?", r"\$12.50", (r"\$12.50", "12.5", r"12.50 \text{ dollars}"), (r"\$12.05", "125", r"\$12")),
    ("Write 1000000 in scientific notation.", r"10^6", (r"10^{6}", r"1 \times 10^6", "1,000,000"), (r"10^5", r"1 \times 10^{-6}", "100,000")),
    ("What is the vector from (1, 2) to (4, 6)?", "(3, 4)", ("(3,4)", r"\begin{pmatrix} 3 \\ 4 \end{pmatrix}", r"\langle 3, 4 \rangle"), ("(4, 3)", "(3, 4, 0)", "7")),
    ("Give the identity matrix of order 2.", r"\begin{pmatrix} 1 & 0 \\ 0 & 1 \end{pmatrix}", (r"\begin{bmatrix} 1 & 0 \\ 0 & 1 \end{bmatrix}", r"\begin{pmatrix}1&0\\0&1\end{pmatrix}"), (r"\begin{pmatrix} 0 & 1 \\ 1 & 0 \end{pmatrix}", r"\begin{pmatrix} 1 & 0 \end{pmatrix}")),
    ("Which line passes through (0, 1) with slope 2?", "y = 2x + 1", ("y=2x+1", "2x - y + 1 = 0", r"y - 1 = 2x"), ("y = x + 2", "y = 2x - 1", "2x + 1 = 0")),
    ("Which choice is the capital of France? (A) Rome (B) Paris", "B", (r"\text{B}", "(B)", r"\textbf{(B)}"), ("A", r"\text{(A)}", "C")),
    ("Is 91 a prime?", r"\text{no}", (r"\text{No}", "no"), (r"\text{yes}", "91")),
    ("What is the golden ratio?", r"\frac{1+\sqrt5}{2}", (r"\frac{1}{2} + \frac{\sqrt{5}}{2}", r"\frac{\sqrt{5}+1}{2}"), (r"\frac{1-\sqrt5}{2}", r"\sqrt{5}", "1.6")),
    ("Evaluate log base 2 of 32.", "5", ("5", r"\log_2 32", r"\frac{\ln 32}{\ln 2}"), ("4", "16", r"\log_{32} 2")),
    ("Choose 3 of 7.", "35", (r"\binom{7}{3}", r"\frac{7!}{3!4!}", "35"), ("21", r"\binom{7}{2}", "210")),
    ("Write 2.75 as a mixed number.", r"2\frac{3}{4}", (r"2\tfrac34", r"\frac{11}{4}", "2.75"), (r"\frac{2 \cdot 3}{4}", r"2\frac{1}{4}", "1.5")),
    ("What is i^2 + i?", "-1+i", ("i - 1", r"-1 + i"), ("1 + i", "-1 - i")),
    ("What angle has cosine 1/2?", r"60^\circ", (r"60^{\circ}", r"\frac{\pi}{3}", "60"), (r"30^\circ", r"\frac{\pi}{6}", r"\pi")),
    ("Repeat 1/3 as a decimal.", r"0.\overline{3}", (r"0.\overline{3}", r"\frac{1}{3}"), ("0.3", "0.33")),
)  # fmt: skip
STDIN = json.dumps(
    [
        {"stdin": "3\n1 2 3\n", "expected": "6\n"},
        {"stdin": "1\n-4\n", "expected": "-4\n"},
        {"stdin": "0\n\n", "expected": "0\n"},
    ]
)
CALLS = "assert add(1, 2) == 3\nassert add(-1, 1) == 0\nassert add('a', 'b') == 'ab'\n"
CHECK = "def check(candidate):\n    assert candidate([3, 1, 2]) == [1, 2, 3]\n    assert candidate([]) == []\n    assert abs(candidate([0.5, 0.25])[0] - 0.25) < 1e-9\n"
CODE: tuple[tuple[str, str, str, tuple[str, ...]], ...] = (
    (
        "Read a count and so many integers, and print their sum.",
        STDIN,
        "",
        (
            "n = int(input())\nprint(sum(map(int, input().split())))",
            "import sys\ndata = sys.stdin.read().split()\nprint(sum(int(x) for x in data[1:]))",
            "print(6)",
            "n = int(input())\nprint('sum', sum(map(int, input().split())))",
            "n = int(input())\nprint(float(sum(map(int, input().split()))))",
            "raise SystemExit(0)",
            "import os\nos._exit(0)",
            "n = int(input())\nprint(sum(map(int, input().split()))",
        ),
    ),
    (
        "Write add(a, b).",
        CALLS,
        "",
        (
            "def add(a, b):\n    return a + b",
            "add = lambda a, b: a + b",
            "def add(a, b):\n    return a - b",
            "class Y:\n    def __eq__(self, other):\n        return True\ndef add(a, b):\n    return Y()",
            "def add(a, b):\n    raise StopIteration",
            "def plus(a, b):\n    return a + b",
            "def add(a, b):\n    print(a + b)",
        ),
    ),
    (
        "Write order(values), which sorts a list.",
        CHECK,
        "order",
        (
            "def order(values):\n    return sorted(values)",
            "def order(values):\n    values = list(values)\n    values.sort()\n    return values",
            "def order(values):\n    return values",
            "def order(values):\n    exit(0)",
            "def order(values):\n    return sorted(values, reverse=True)",
            "def order(values):\n    return tuple(sorted(values))",
        ),
    ),
)
CODE_FRAMES = (
    "Here is my program.\n\n```python\n%s\n```\n",
    "```\n%s\n```",
    "First a try:\n```python\npass\n```\nBetter:\n```python\n%s\n```\nThis is right.",
)


def math_rows() -> list[dict[str, object]]:
    """Each answer in one frame, all answers of a problem in one group."""
    frames = itertools.cycle(FRAMES)
    return [
        {"prompt": prompt, "completion": next(frames) % text, "answer": answer, "written_as": written_as}
        for prompt, answer, right, wrong in MATH
        for written_as, texts in (("right", right), ("wrong", wrong))
        for text in texts
    ]


def code_rows() -> list[dict[str, object]]:
    """Each program in each frame."""
    return [
        {"prompt": prompt, "completion": frame % program, "tests": tests, "entry_point": entry_point}
        for prompt, tests, entry_point, programs in CODE
        for program in programs
        for frame in CODE_FRAMES
    ]


def main() -> None:
    """Write the files."""
    for name, rows in (("math", math_rows()), ("code", code_rows())):
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (HERE / f"{name}.jsonl").write_text(text, encoding="utf-8")
        print(f"{len(rows)} rows in {HERE / name}.jsonl")


if __name__ == "__main__":
    main()
