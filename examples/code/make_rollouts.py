"""Writes rollouts.jsonl: for each kind of test that `code.tests` knows, a right program and some that are not.

python examples/code/make_rollouts.py > examples/code/rollouts.jsonl
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

CHECKER = """\
def check(stdin, expected, output):
    a, b = map(int, output.split())
    return 1 < a <= b and a * b == int(stdin)
"""
CHECK = """\
def check(candidate):
    assert candidate("level") is True
    assert candidate("levels") is False
    assert candidate("") is True
"""
PYTEST = """\
import pytest
from solution import Stack

def test_last_in_first_out():
    stack = Stack()
    stack.push(1)
    stack.push(2)
    assert stack.pop() == 2
    assert stack.pop() == 1

def test_empty():
    with pytest.raises(IndexError):
        Stack().pop()
"""
STACK = """\
class Stack:
    def __init__(self):
        self._items = []

    def push(self, item):
        self._items.append(item)

    def pop(self):
"""
PALINDROME = 'def is_palindrome(text: str) -> bool:\n    """Whether the text reads the same backwards."""\n'

PROBLEMS: list[tuple[str, str, Any, str, list[tuple[str, str]]]] = [
    (
        "stdin",
        "Read integers, one per line, and print their sum.",
        [
            {"stdin": "1\n2\n", "expected": "3\n"},
            {"stdin": "-5\n5\n7\n", "expected": "7\n"},
            {"stdin": "", "expected": "0"},
        ],
        "",
        [
            ("right", "import sys\n\nprint(sum(map(int, sys.stdin.read().split())))\n"),
            ("two lines only", "print(int(input()) + int(input()))\n"),
            ("a stray word", "import sys\n\nprint('sum:', sum(map(int, sys.stdin.read().split())))\n"),
        ],
    ),
    (
        "a checker, where several answers are right",
        "Read a composite number and print two factors greater than 1, the smaller one first.",
        [{"stdin": "12", "checker": CHECKER}, {"stdin": "49", "checker": CHECKER}],
        "",
        [
            ("right", "n = int(input())\na = next(a for a in range(2, n) if n % a == 0)\nprint(a, n // a)\n"),
            ("trivial", "print(1, int(input()))\n"),
        ],
    ),
    (
        "calls",
        "Write mean(numbers), the arithmetic mean, which is None for no numbers.",
        [
            {"call": "mean", "args": [[1, 2, 6]], "expected": 3},
            {"call": "mean", "args": [[0.1, 0.2]], "expected": 0.15, "float_tolerance": 1e-9},
            {"call": "mean", "args": [[]], "expected": None},
        ],
        "",
        [
            ("right", "def mean(numbers):\n    return sum(numbers) / len(numbers) if numbers else None\n"),
            ("forgets the empty list", "def mean(numbers):\n    return sum(numbers) / len(numbers)\n"),
        ],
    ),
    (
        "assertions",
        "Write dedupe(items), which keeps the first of equal items.",
        [
            "assert dedupe([1, 2, 1]) == [1, 2]",
            "assert dedupe('abca') == ['a', 'b', 'c']",
            "assert len(dedupe(list(range(9)) * 3)) == 9",
        ],
        "",
        [
            ("right", "def dedupe(items):\n    return list(dict.fromkeys(items))\n"),
            ("loses the order", "def dedupe(items):\n    return sorted(set(items), reverse=True)\n"),
        ],
    ),
    (
        "HumanEval's form",
        PALINDROME,
        CHECK,
        "is_palindrome",
        [
            ("right, as a body", "    return text == text[::-1]\n"),
            ("right, written out", "def is_palindrome(text):\n    return text == text[::-1]\n"),
            ("forged", "import os\n\ndef is_palindrome(text):\n    print('passed')\n    os._exit(0)\n"),
        ],
    ),
    (
        "a pytest file",
        "Write a class Stack with push and pop; pop raises IndexError where nothing is left.",
        PYTEST,
        "",
        [
            (
                "right",
                f"{STACK}        return self._items.pop()\n",
            ),
            (
                "a queue",
                f"{STACK}        return self._items.pop(0)\n",
            ),
        ],
    ),
]


def rows() -> Iterator[dict[str, Any]]:
    """The rollouts."""
    for kind, prompt, tests, entry_point, programs in PROBLEMS:
        for what, program in programs:
            yield {
                "prompt": prompt,
                "completion": f"Here is my program.\n\n```python\n{program}```\n",
                "group": kind,
                # In a file with a column of many shapes, as text.
                "tests": tests if isinstance(tests, str) else json.dumps(tests),
                "entry_point": entry_point,
                "what": what,
            }
        yield {
            "prompt": prompt,
            "completion": "I'd rather not.",
            "group": kind,
            "tests": tests if isinstance(tests, str) else json.dumps(tests),
            "entry_point": entry_point,
            "what": "no program",
        }


if __name__ == "__main__":
    for row in rows():
        sys.stdout.write(json.dumps(row) + "\n")
