"""Compare two parsed answers: their structure first, then their values.

Raises `Undecided` if these tiers reach no certain conclusion; `False` is always a conclusion. Answers with a structure
(lists, tuples, sets, intervals, relations, matrices) are compared element by element down to values, and values by normal form, by
the linear independence of their monomials, and last by numbers with error bounds.

`comparison` dispatches each kind of answer to its part: `words` (text, choices, times of day), `lists` (lists, tuples, sets), `relations`
(equations, inequalities), `tables` (matrices, cases), `values` (numbers, expressions, units, percent). `shapes` has predicates
for one side; `realset` computes with subsets of the real line.
"""

from rewardkit_math.comparison.comparison import Comparison

__all__ = ["Comparison"]
