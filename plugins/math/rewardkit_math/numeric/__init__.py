"""Numbers with error bounds: a value is a midpoint (real or complex) and a bound on its distance from the truth.

Arithmetic is decimal with a chosen number of digits and exponents up to 10^18, so that 10^(10^10) is an ordinary number. Each
operation adds a bound on its own rounding, so two disjoint balls are different numbers: that conclusion is certain. Two balls that
still overlap at 100 digits are taken to be equal.

`arithmetic` has the operations, `functions` what is made of them, `evaluator` goes through an expression tree, and `identity` tells
whether two expressions are equal as numbers or as functions. Leaves out: integrals, limits and infinite sums (the symbolic tier has
them).
"""
