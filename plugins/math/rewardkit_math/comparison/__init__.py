"""Whether two parsed answers are the same: structure first, then values.

Raises `Undecided` where these tiers reach no certain conclusion; a `False` is always a conclusion. What is compared by structure
(lists, tuples, sets, intervals, relations, matrices) is compared element by element down to values, and values by normal form, by
the linear independence of their monomials, and last by numbers with error bounds.

`comparison` sends each kind of answer to its part: `words` (text, choices, times of day), `lists` (lists, tuples, sets), `relations`
(equations, inequalities), `tables` (matrices, cases), `values` (numbers, expressions, units, percent). `shapes` answers small
questions about one side; `realset` computes with subsets of the real line.
"""

from rewardkit_math.comparison.comparison import Comparison

__all__ = ["Comparison"]
