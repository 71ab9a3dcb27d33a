"""Dispatch a pair of answers to the part of the comparison for their kind."""

from __future__ import annotations

from rewardkit_math.comparison.lists import Lists
from rewardkit_math.comparison.matrices import is_matrix, matched
from rewardkit_math.comparison.parameters import Parameters
from rewardkit_math.comparison.relations import Relations
from rewardkit_math.comparison.shapes import NUMBER_SETS, SETS, infinity, is_name, items, opened
from rewardkit_math.comparison.spans import generators, same_span
from rewardkit_math.comparison.tables import Tables
from rewardkit_math.comparison.values import Values
from rewardkit_math.comparison.words import Words
from rewardkit_math.errors import TooLarge
from rewardkit_math.expr import Expr
from rewardkit_math.work import spend


class Comparison(Words, Lists, Relations, Tables, Parameters, Values):
    """One comparison. Its `tier` is the deepest tier that was needed."""

    def equal(self, a: Expr, b: Expr) -> bool:
        """Return whether the prediction `a` and the reference `b` are the same answer."""
        if a == b:
            return True
        spend(3)
        self.depth += 1
        if self.depth > 24:
            raise TooLarge("answers nested too deeply")
        try:
            return self._equal(a, b)
        finally:
            self.depth -= 1

    def _equal(self, a: Expr, b: Expr) -> bool:
        if a.head == "choice" or b.head == "choice":
            return self.chosen(a, b)
        if a.head == "choices" or b.head == "choices":
            return self.several_chosen(a, b)
        if a.head == "phrase" or b.head == "phrase":
            return self.phrases(a, b)
        spans = generators(a), generators(b)
        if spans[0] is not None and spans[1] is not None:
            self.at("structure")
            return same_span(spans[0], spans[1])
        a, b = opened(a), opened(b)
        a, b = matched(a, b)
        if a == b:
            return True
        if a.head == "cond" or b.head == "cond":
            return self.conditional(a, b)
        if "text" in (a.head, b.head) or (a.head == b.head == "word") or is_name(a) or is_name(b):
            return self.same_words(a, b)
        if a.head == "date" or b.head == "date":
            return (
                a.head == b.head
                and a.args[1:] == b.args[1:]
                and (a.args[0] == b.args[0] or 0 in (a.args[0], b.args[0]))
            )
        if a.head == "clock" or b.head == "clock":
            return self.clocks(a, b)
        if a.head == "rel" or b.head == "rel":
            decided = self.related(a, b)
            if decided is not None:
                return decided
        left, right = items(a), items(b)
        if left is not None or right is not None:
            return self.listed(a, b, left, right)
        sets = self.real_sets(a, b)
        if sets is not None:
            return sets
        if a.head in SETS or b.head in SETS:
            return self.collections(a, b)
        if is_matrix(a) or is_matrix(b):
            return self.matrices(a, b)
        if a.head == "cases" or b.head == "cases":
            return self.piecewise(a, b)
        if a.head == b.head == "pmod":
            return self.equal(a.args[0], b.args[0]) and self.equal(a.args[1], b.args[1])
        if a.head == "pmod" or b.head == "pmod":  # 2 (mod 5) against 2
            return self.equal(*(e.args[0] if e.head == "pmod" else e for e in (a, b)))
        if a.head == b.head == "ratio" and len(a.args) == len(b.args) > 2:
            pairs = [Expr("ratio", x, y) for e in (a, b) for x, y in zip(e.args, e.args[1:], strict=False)]
            half = len(pairs) // 2
            return all(self.value(x, y) for x, y in zip(pairs[:half], pairs[half:], strict=True))
        if any(e.head == "const" and e.args[0] in NUMBER_SETS for e in (a, b)):
            return False
        infinite = [infinity(e) for e in (a, b)]
        if infinite[0] or infinite[1]:
            return infinite[0] == infinite[1]
        return self.value(a, b)
