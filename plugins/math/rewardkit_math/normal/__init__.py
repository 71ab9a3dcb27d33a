"""Normal forms: an expression as a sum of monomials with exact rational coefficients.

A `Poly` maps monomials to coefficients; a monomial is a sorted tuple of (atom, exponent). Atoms are strings: a variable's name, `π`,
`e`, `i`, `°`, `#p` (the prime p under a fractional exponent), or, with a parenthesis in it, the key of a function value or of a sum
raised to a power. Equal normal forms mean equal expressions. Different normal forms mean different expressions only where
`is_basis` holds: distinct monomials over variables, π, i and roots of primes are linearly independent over the rationals.

Every size is guarded: a power, factorial or product that would grow beyond MAX_BITS or MAX_TERMS stays an atom.

`poly` adds and multiplies, `powers` raises to powers and takes roots, `functions` has the exact values of functions, and
`normalizer` goes through an expression tree.
"""

from rewardkit_math.normal.normalizer import Normalizer, normal_form
from rewardkit_math.normal.poly import CONST, Mono, Number, Poly, add, as_rational, is_basis, proportion, scale

__all__ = [
    "CONST",
    "Mono",
    "Normalizer",
    "Number",
    "Poly",
    "add",
    "as_rational",
    "is_basis",
    "normal_form",
    "proportion",
    "scale",
]
