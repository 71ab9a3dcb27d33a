r"""The expression tree that `parse` returns: small and immutable nodes of plain data.

Heads and their arguments (an argument is an `Expr` unless said otherwise):

==========  ====================================================================
`num`       value: int | Fraction, places: int | None (digits after a decimal point; None = exact)
`base`      value: int | Fraction, base: int                  (`1012_3`)
`sym`       name: str                                         (a variable)
`const`     name: str: pi, e, i, inf, empty, R, Q, Z, N, C
`word`      text: str                                         (several letters in a row: a word, or their product)
`text`      text: str                                         (`\text{…}`)
`add` `mul` two or more operands
`div` `pow` two operands
`fn`        name: str, arguments…                             (sin, abs, sqrt, root, fact, binom, gcd, log …)
`call`      name: str, arguments…                             (an unknown function: `f(x)`)
`pm`        sign: "+-" | "-+", left or None, right            (`1 \pm \sqrt 2`)
`pct`       value                                             (`50\%`)
`deg`       value                                             (`90^\circ`)
`unit`      value, unit: str                                  (`10 \text{ cm}`)
`ratio`     operands…                                         (`11:21`)
`seq`       brackets: str, items…    brackets: "" for a bare list, "or" for inequalities with "or" between
            them, "{}" for a set, else opening + closing bracket
`rel`       operators: tuple[str, …], operands…               (a chain of relations)
`setop`     operator: str: union, inter, minus; operands…
`builder`   element, condition                                (`\{x \mid x > 0\}`)
`matrix`    rows: tuple[tuple[Expr, …], …], and "⟨⟩" for a vector in angle brackets
`cases`     rows: tuple[tuple[Expr, …], …]
`big`       operator: str: sum, prod, int, lim; variable name: str, lower | None, upper | None, body
`pmod`      value, modulus
`cond`      value, condition
`choice`    letter: str, value                                (`(B) 12`)
`clock`     minutes: int, half: str                           (4:30 p.m.; half is "am", "pm" or "")
==========  ====================================================================
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rewardkit_math.work import spend


class Expr:
    """A node: a head and its arguments. Equal when head and arguments are equal."""

    __slots__ = ("_features", "_hash", "args", "head")

    def __init__(self, head: str, *args: Any) -> None:
        spend()
        self.head = head
        self.args = args
        self._features: frozenset[str] | None = None
        self._hash: int | None = None

    @property
    def features(self) -> frozenset[str]:
        """The heads of this node and all below it, with `fn:NAME` and `const:NAME` for functions and constants."""
        found = self._features
        if found is None:
            head = self.head
            if head in _LEAVES:
                found = _LEAVES[head]
            else:
                own = {head, f"{head}:{self.args[0]}"} if head in ("fn", "const") else {head}
                found = frozenset(own.union(*(child.features for child in self.children())))
            self._features = found
        return found

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, Expr) or self.head != other.head:
            return False
        spend()
        return self.args == other.args

    def __hash__(self) -> int:
        if self._hash is None:
            self._hash = hash((self.head, self.args))
        return self._hash

    def __repr__(self) -> str:
        spend()
        return f"{self.head}({', '.join(map(repr, self.args))})"

    def children(self) -> Iterator[Expr]:
        """Yield the nodes directly below this one."""
        for arg in self.args:
            if isinstance(arg, Expr):
                yield arg
            elif isinstance(arg, tuple):
                for row in arg:
                    for item in row if isinstance(row, tuple) else (row,):
                        if isinstance(item, Expr):
                            yield item

    def walk(self) -> Iterator[Expr]:
        """This node and all below it."""
        stack = [self]
        while stack:
            node = stack.pop()
            spend()
            yield node
            stack.extend(node.children())


_LEAVES = {head: frozenset((head,)) for head in ("num", "sym", "word", "text", "base", "clock")}

ZERO = Expr("num", 0, None)
ONE = Expr("num", 1, None)
MINUS_ONE = Expr("num", -1, None)


def neg(value: Expr) -> Expr:
    """Return −value, with the sign folded into a number or a number with a unit."""
    if value.head == "num":
        return Expr("num", -value.args[0], value.args[1])
    if value.head in ("unit", "pct", "deg"):
        return Expr(value.head, neg(value.args[0]), *value.args[1:])
    return Expr("mul", MINUS_ONE, value)


def symbols(expr: Expr) -> set[str]:
    """Return the names of the free variables in `expr`."""
    names: set[str] = set()
    if expr.features.isdisjoint(("sym", "word")):
        return names
    if "big" in expr.features:
        spend()
        for child in expr.children():
            names |= symbols(child)
        if expr.head == "big":  # the index of a sum is no variable of it
            names.discard(expr.args[1])
        elif expr.head == "sym":
            names.add(expr.args[0])
        return names
    for node in expr.walk():
        if node.head == "sym":
            names.add(node.args[0])
        elif node.head == "word":
            names.update(node.args[0])
    return names


def substitute(expr: Expr, name: str, value: Expr) -> Expr:
    """Return `expr` with the variable `name` replaced."""
    if expr.head == "sym":
        return value if expr.args[0] == name else expr
    if expr.head == "const":
        return value if expr.args[0] == name and name in ("i", "e") else expr
    if expr.head == "word" and name in expr.args[0]:
        return Expr("mul", *(value if letter == name else _letter(letter) for letter in expr.args[0]))
    if not any(isinstance(a, (Expr, tuple)) for a in expr.args):
        return expr

    def replaced(argument: object) -> object:
        if isinstance(argument, Expr):
            return substitute(argument, name, value)
        if isinstance(argument, tuple):
            return tuple(replaced(a) for a in argument)
        return argument

    return Expr(expr.head, *(replaced(a) for a in expr.args))


def _letter(letter: str) -> Expr:
    return Expr("const", letter) if letter in "ei" else Expr("sym", letter)
