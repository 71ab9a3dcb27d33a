"""The parser's position in its tokens, and the methods that its parts call of each other."""

from __future__ import annotations

from abc import ABC, abstractmethod

from rewardkit_math.expr import Expr
from rewardkit_math.parsing.lexer import Token

MAX_DEPTH = 90
"""Deeper nesting is refused."""


class Cursor(ABC):
    """A position in a list of tokens. `parser.Parser` combines parts that define these methods."""

    __slots__ = ("at", "bars", "builder", "depth", "integrals", "tokens")

    def __init__(self, tokens: list[Token]) -> None:
        self.tokens = tokens
        self.at = 0
        self.depth = 0
        self.bars = 0
        """The number of open `|`."""
        self.builder = 0
        """The number of open braces of sets, in which `|` and `:` mean "such that"."""
        self.integrals = 0
        """The number of integrals whose differential has not been read."""

    @abstractmethod
    def answer(self) -> Expr:
        """Return the whole input."""

    @abstractmethod
    def items(self, closing_kind: str, closing: str) -> Expr:
        """Relations with separators between them, up to a closing token that is left in place."""

    @abstractmethod
    def starts_condition(self, token: Token) -> bool:
        """Return whether a word begins a condition, as "if" and "for" do."""

    @abstractmethod
    def relation(self) -> Expr:
        """Return an expression, or several with =, <, ∈ between them."""

    @abstractmethod
    def expr(self, power: int) -> Expr:
        """Return an expression whose operators all bind tighter than `power`."""

    @abstractmethod
    def holds_relation(self) -> bool:
        """Return whether a relation stands directly inside the parenthesis here."""

    @abstractmethod
    def power(self, left: Expr) -> Expr:
        """Parse the exponent after `left` and `^`."""

    @abstractmethod
    def operand(self) -> Expr:
        """Return the shortest expression that stands here."""

    @abstractmethod
    def group(self) -> Expr:
        """Parse the content of plain braces."""

    @abstractmethod
    def argument(self, *, whole_number: bool = False) -> Expr:
        """Return the argument of a command: a group, or a single token."""

    @abstractmethod
    def number(self, token: Token) -> Expr:
        """Return a numeral, or a mixed number."""

    @abstractmethod
    def subscripted(self, left: Expr) -> Expr:
        """Parse a subscript of `left`."""

    @abstractmethod
    def subscript(self) -> str:
        """Return the text of a subscript."""

    @abstractmethod
    def bracketed(self, opening: str) -> Expr:
        """Parse the content of a bracket."""

    @abstractmethod
    def absolute(self, bar: str) -> Expr:
        """Parse the content of bars."""

    @abstractmethod
    def closes_interval(self) -> bool:
        """Return whether `[` ends a French interval: `[1, 2[`."""

    @abstractmethod
    def environment(self, name: str) -> Expr:
        r"""Parse the content of `\begin{…}`."""

    @abstractmethod
    def function(self, name: str) -> Expr:
        """Return a named function with its exponent, base and arguments."""

    @abstractmethod
    def command(self, name: str) -> Expr:
        """Return a fraction, root, binomial, sum and the like."""

    @abstractmethod
    def is_unit(self, token: Token) -> bool:
        """Return whether a word after an operand is a unit."""

    @abstractmethod
    def unit(self, left: Expr) -> Expr:
        """Return a value with its unit."""
