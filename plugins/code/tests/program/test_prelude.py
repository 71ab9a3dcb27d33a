"""The imports that a program forgot."""

import pytest
from rewardkit_code.program.prelude import missing_imports, put_before


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ("def f(x: List[int]): pass", ["from typing import List"]),
        ("def f(x: Optional[List[int]]): pass", ["from typing import List, Optional"]),
        ("q = deque(); c = Counter()", ["from collections import Counter, deque"]),
        ("heapq.heappush(h, 1)", ["import heapq"]),
        ("x = math.inf; y = inf", ["from math import inf", "import math"]),
        ("bisect(a, 1)", ["from bisect import bisect"]),
        ("bisect.bisect(a, 1)", ["import bisect"]),
        ("import math\nx = math.inf", []),
        ("from math import (\n    inf,  # large\n    sqrt,\n)\nx = sqrt(inf)", []),
        ("from collections import *\nq = deque()", []),
        ("import collections as c\nq = c.deque()", []),
        ("def gcd(a, b): pass\ngcd(1, 2)", []),
        ("class Counter: pass\nCounter()", []),
        ("class A:\n    def add(self, a): pass\n", []),
        ("x = pow(2, 3)", []),
        ("x.count = 3", []),
        ("print(1)", []),
        ("", []),
        ("def f(:", []),
    ],
)
def test_only_what_is_used_and_not_there_is_supplied(source, lines):
    """A name that the program imports, defines or does not use is not supplied."""
    assert missing_imports(source, "leetcode").splitlines() == lines


def test_nodes_of_leetcode():
    """`ListNode` and `TreeNode` are defined if the program uses them and only describes them in a comment."""
    used = "# class TreeNode:\ndef depth(root: Optional[TreeNode]): pass"
    lines = missing_imports(used, "leetcode")
    assert "class TreeNode:\n" in lines
    assert "class ListNode" not in lines
    assert missing_imports("class TreeNode: pass\nx = TreeNode()", "leetcode") == ""


def test_levels():
    """`typing` supplies names of `typing` alone, and `none` nothing."""
    source = "def f(x: List[int]): return Counter(x)"
    assert missing_imports(source, "typing") == "from typing import List\n"
    assert missing_imports(source, "none") == ""


@pytest.mark.parametrize("name", ["gcd", "Solution.gcd"])
def test_the_function_under_test_is_never_supplied(name):
    """A program has to define it, or a method of it, itself."""
    assert missing_imports("x = gcd(1, 2)", "leetcode", [name]) == ""


def test_imports_from_the_future_stay_at_the_top():
    """The program's own lines keep their order, and the shift of their numbers is returned."""
    source = "from __future__ import annotations\nx = 1\n"
    whole, shift = put_before("import math\n", source)
    assert whole.splitlines() == ["from __future__ import annotations", "import math", "", "x = 1"]
    assert whole.splitlines()[shift + 1] == source.splitlines()[1]
