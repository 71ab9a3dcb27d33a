r"""A Pratt parser from tokens to an expression tree. It evaluates nothing but signs of literals.

Conventions where notation is ambiguous: `2\frac12` is a mixed number; `1/2x` is (1/2)·x; `-x^2` is −(x²); `\sin 2x + 1` ends its
argument at the plus; `f(x)`, `g(x)`, `h(x)` and any `P(x) = …` are function calls, `a(x + 1)` is a product; `(1, 2)` is a pair or an
open interval, which the comparison decides; a letter directly after a number is a variable, a word after a number is a unit.
"""

from __future__ import annotations

from rewardkit_math.errors import TooLarge
from rewardkit_math.expr import Expr
from rewardkit_math.parsing.brackets import Brackets
from rewardkit_math.parsing.cursor import MAX_DEPTH
from rewardkit_math.parsing.environments import Environments
from rewardkit_math.parsing.functions import Functions
from rewardkit_math.parsing.lexer import Token, tokenize
from rewardkit_math.parsing.lists import Lists
from rewardkit_math.parsing.numerals import Numerals
from rewardkit_math.parsing.operands import Operands
from rewardkit_math.parsing.operators import Operators
from rewardkit_math.parsing.quantities import Quantities


class Parser(Lists, Operators, Operands, Numerals, Brackets, Environments, Functions, Quantities):
    """The parser of all notation."""

    __slots__ = ()


def parse(latex: str) -> Expr:
    """Parse one answer, in LaTeX or plain notation.

    Raises:
        ParseError: `latex` is no expression that this parser knows.
        TooLarge: It is longer or nested deeper than any answer would be.
    """
    tokens = tokenize(latex)
    if len(tokens) > MAX_DEPTH:
        tokens = _without_redundant_groups(tokens)
    try:
        return Parser(tokens).answer()
    except RecursionError:
        raise TooLarge("an expression nested too deeply") from None


def _without_redundant_groups(tokens: list[Token]) -> list[Token]:
    """Return the tokens with `((x))` as `(x)` and `{{x}}` as `{x}`, so that hostile nesting costs no stack."""
    stack: list[int] = []
    partner: dict[int, int] = {}
    for index, token in enumerate(tokens):
        if (token.kind == "open" and token.value == "(") or (token.kind == "brace" and token.value == "{"):
            stack.append(index)
        elif (token.kind == "close" and token.value == ")") or (token.kind == "brace" and token.value == "}"):
            if stack and tokens[stack[-1]].kind in (token.kind, "open" if token.kind == "close" else "brace"):
                partner[stack.pop()] = index
            else:
                stack.clear()
        elif token.kind in ("open", "close"):
            stack.clear()  # other brackets keep their meaning: leave what they touch alone
    drop: set[int] = set()
    for start, end in partner.items():
        if partner.get(start + 1) == end - 1 and tokens[start + 1].value == tokens[start].value:
            drop.update((start, end))
    return [token for index, token in enumerate(tokens) if index not in drop]
