"""Where the parser stands in its tokens, and what its parts ask of one another."""

from __future__ import annotations

from abc import ABC, abstractmethod

from rewardkit_math.expr import Expr
from rewardkit_math.parsing.lexer import Token

MAX_DEPTH = 90
"""Deeper nesting is refused."""


class Cursor(ABC):
    """A position in a list of tokens. Each method here is defined by one of the parts that `parser.Parser` is put together from."""

    __slots__ = ("at", "bars", "builder", "depth", "integrals", "tokens")

    def __init__(self, tokens: list[Token]) -> None:
        self.tokens = tokens
        self.at = 0
        self.depth = 0
        self.bars = 0
        """How many `|` are open."""
        self.builder = 0
        """How many braces of sets are open, in which `|` and `:` mean "such that"."""
        self.integrals = 0
        """How many integrals wait for their differential."""

    @abstractmethod
    def answer(self) -> Expr:
        """The whole input."""

    @abstractmethod
    def items(self, closing_kind: str, closing: str) -> Expr:
        """Relations with separators between them, up to a closing token that is left in place."""

    @abstractmethod
    def starts_condition(self, token: Token) -> bool:
        """Whether a word begins a condition, as "if" and "for" do."""

    @abstractmethod
    def relation(self) -> Expr:
        """An expression, or several with =, <, ∈ between them."""

    @abstractmethod
    def expr(self, power: int) -> Expr:
        """An expression whose operators all bind tighter than `power`."""

    @abstractmethod
    def holds_relation(self) -> bool:
        """Whether a relation stands directly inside the parenthesis here."""

    @abstractmethod
    def power(self, left: Expr) -> Expr:
        """What stands behind `left` and a `^`."""

    @abstractmethod
    def operand(self) -> Expr:
        """The shortest expression that stands here."""

    @abstractmethod
    def group(self) -> Expr:
        """What stands between plain braces."""

    @abstractmethod
    def argument(self, *, whole_number: bool = False) -> Expr:
        """The argument of a command: a group, or a single token."""

    @abstractmethod
    def number(self, token: Token) -> Expr:
        """A numeral, or a mixed number."""

    @abstractmethod
    def subscripted(self, left: Expr) -> Expr:
        """What a subscript makes of what stands before it."""

    @abstractmethod
    def subscript(self) -> str:
        """The text of a subscript."""

    @abstractmethod
    def bracketed(self, opening: str) -> Expr:
        """What stands behind an opening bracket."""

    @abstractmethod
    def absolute(self, bar: str) -> Expr:
        """What stands behind an opening bar."""

    @abstractmethod
    def closes_interval(self) -> bool:
        """Whether `[` ends a French interval: `[1, 2[`."""

    @abstractmethod
    def environment(self, name: str) -> Expr:
        r"""What stands behind `\begin{…}`."""

    @abstractmethod
    def function(self, name: str) -> Expr:
        """A named function with its exponent, base and arguments."""

    @abstractmethod
    def command(self, name: str) -> Expr:
        """A fraction, root, binomial, sum and the like."""

    @abstractmethod
    def is_unit(self, token: Token) -> bool:
        """Whether a word behind an operand is a unit."""

    @abstractmethod
    def unit(self, left: Expr) -> Expr:
        """A value with its unit."""
