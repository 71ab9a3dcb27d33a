"""Text, choices, times of day, and conditions."""

from __future__ import annotations

import re

from rewardkit_math.comparison.parts import Part
from rewardkit_math.comparison.shapes import is_product, opened, spelled
from rewardkit_math.errors import Undecided
from rewardkit_math.expr import Expr
from rewardkit_math.parsing import text
from rewardkit_math.parsing import vocabulary as words

_ARTICLE = re.compile(r"\s*(?:(?:on|in|at)\s+)?(?:(?:an?|the|on|in|at)\s+)(?=\S{3})", re.IGNORECASE)


class Words(Part):
    """Answers that are spelled rather than computed."""

    def conditional(self, a: Expr, b: Expr) -> bool:
        """Compare answers with a condition, such as `1/x for x ≠ 0`: values must agree, and conditions if both sides have one."""
        left, right = (e.args if e.head == "cond" else (e, None) for e in (a, b))
        if not self.equal(left[0], right[0]):
            return False
        if left[1] is None or right[1] is None:
            return True
        if left[1].head == "text" or right[1].head == "text":
            if left[1].head == right[1].head and text.plain(left[1].args[0]) == text.plain(right[1].args[0]):
                return True
            raise Undecided("conditions in words")
        return self.equal(left[1], right[1])

    def same_words(self, a: Expr, b: Expr) -> bool:
        """Compare text with an answer of any kind."""
        self.at("text")
        first, second = (spelled(e) for e in (a, b))
        if first is not None and second is not None and (first == second or _named(a) == _named(b)):
            return True
        if a.head == b.head == "word" and all(is_product(e.args[0]) for e in (a, b)):
            return self.value(a, b)
        for side, other in ((a, b), (b, a)):
            if side.head == "text":
                word = side.args[0].strip().casefold()
                if word in words.NUMBER_WORDS:
                    return self.equal(Expr("num", words.NUMBER_WORDS[word], None), other)
        return False

    def chosen(self, a: Expr, b: Expr) -> bool:
        """Compare a choice such as `(B) 12` with its letter, its value, or both."""
        sides = []
        for side, other in ((a, b), (b, a)):
            if side.head != "choice":
                sides.append(side)
            elif other.head == "choice" or (spelled(opened(other)) or "?") in "abcdefghij":
                sides.append(Expr("sym", side.args[0]))
            else:
                sides.append(side.args[1])
        return self.equal(*sides)

    def several_chosen(self, a: Expr, b: Expr) -> bool:
        """Compare several letters in any order; against anything else they are a product."""
        if a.head == b.head:
            self.at("text")
            return bool(a.args[0] == b.args[0])
        sides = [Expr("word", e.args[1]) if e.head == "choices" else e for e in (a, b)]
        return self.equal(*sides)

    def phrases(self, a: Expr, b: Expr) -> bool:
        """Compare phrases: the same words in the same places, and equal formulas between them."""
        self.at("structure")
        if a.head != b.head or len(a.args) != len(b.args):
            return False
        for x, y in zip(a.args, b.args, strict=True):
            if (x.head == "text") != (y.head == "text"):
                return False
            if x.head == "text" and stem(x.args[0]) != stem(y.args[0]):
                return False
        return self.all_equal([(x, y) for x, y in zip(a.args, b.args, strict=True) if x.head != "text"])

    @staticmethod
    def clocks(a: Expr, b: Expr) -> bool:
        """Compare times of day; one without "a.m." or "p.m." (a ratio, `4:30`) may be either."""
        times = []
        for side in (a, b):
            if side.head == "clock":
                times.append(side.args)
            elif side.head == "ratio" and len(side.args) == 2 and all(e.head == "num" for e in side.args):
                hours, minutes = (e.args[0] for e in side.args)
                times.append((hours % 12 * 60 + minutes, "pm" if hours > 12 else ""))
            else:
                return False
        return times[0][0] == times[1][0] and (times[0][1] == times[1][1] or "" in (times[0][1], times[1][1]))


def stem(word: str) -> str:
    """Return a word without its plural ending."""
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word


def _named(expr: Expr) -> str | None:
    """Return the words of an answer without article or preposition: "on an ellipse" becomes "ellipse"."""
    if expr.head not in ("text", "word"):
        return spelled(expr)
    return text.plain(_ARTICLE.sub("", expr.args[0], count=1)).removesuffix("条件").removesuffix("solutions")
