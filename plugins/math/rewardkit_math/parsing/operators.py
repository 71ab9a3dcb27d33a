"""Parsing of operators by precedence; juxtaposition is one of them."""

# ruff: noqa: D102 - the methods are described by Cursor, or named after what they read

from __future__ import annotations

from rewardkit_math.errors import ParseError, TooLarge
from rewardkit_math.expr import Expr, neg
from rewardkit_math.parsing import vocabulary as words
from rewardkit_math.parsing.cursor import MAX_DEPTH, Cursor
from rewardkit_math.parsing.quantities import added, joined_units, multiplied, written_unit
from rewardkit_math.units import CURRENCIES, UNITS
from rewardkit_math.work import spend

_BINARY = {
    "union": 20,
    "inter": 22,
    "minus": 20,
    ":": 24,
    "+": 30,
    "-": 30,
    "+-": 30,
    "-+": 30,
    "mod": 35,
    "*": 40,
    "/": 40,
    "^": 60,
}
_POSTFIX = {"!": 70, "%": 65, "deg": 65, "'": 70, "_": 80}
_STARTS = frozenset(("num", "var", "word", "fn", "const", "open", "begin"))

_REALS = Expr("const", "R")

_ARC = {"ft": 60, "in": 3600}
"""Signs of feet and inches, which after degrees mean minutes and seconds of arc."""


class Operators(Cursor):
    """Expressions with operators in them."""

    __slots__ = ()

    def expr(self, power: int) -> Expr:
        """Return an expression whose operators all bind tighter than `power`."""
        self.depth += 1
        spend()
        if self.depth > MAX_DEPTH:
            raise TooLarge("an expression nested too deeply")
        left = self.operand()
        layers = 0
        while True:
            token = self.tokens[self.at]
            kind, value = token.kind, token.value
            if kind == "op":
                binding = _BINARY.get(value)
                if binding is not None:
                    if binding <= power or (value == ":" and self.builder):
                        break
                    if value not in ("+", "-", "*"):  # each of these makes the tree deeper
                        layers = self.deeper(layers)
                    left = self.binary(left, value, binding)
                    continue
                binding = _POSTFIX.get(value)
                if binding is not None and binding > power:
                    layers = self.deeper(layers)
                    left = self.postfix(left, value)
                    continue
                if value == "|" and not self.bars and not self.builder and power < 40:
                    left = self.times(left)
                    continue
                if value == "pmod" and power < 15:
                    self.at += 1
                    left = Expr("pmod", left, self.argument())
                    continue
                break
            if (kind == "text" and power < 50) or (kind == "word" and self.is_unit(token) and power < 50):
                if self.starts_condition(token):
                    break
                layers = self.deeper(layers)
                left = self.unit(left)
                continue
            if kind == "unit" and power < 50:
                self.at += 1
                follow = self.tokens[self.at]
                if follow.kind in ("num", "var", "open", "cmd"):
                    raise ParseError("a currency sign between two values")
                layers = self.deeper(layers)
                left = Expr("unit", left, value)
                continue
            if power >= 41:
                break
            if (
                kind in _STARTS
                or (kind == "cmd" and value not in ("choose", "over", "atop"))
                or (kind == "brace" and value == "{")
            ):
                if (
                    kind == "num"
                    and self.tokens[self.at - 1].kind == "num"
                    and not (left.head in ("pow", "mul") and token.spaced and self._powered())
                ):
                    raise ParseError("two numbers side by side")
                if kind == "open" and value == "[" and self.closes_interval():
                    break
                if self.integrals and kind == "var" and value == "d" and self.tokens[self.at + 1].kind == "var":
                    break
                if kind == "open" and value == "|" and self.bars:
                    break
                if kind == "open" and value == "(" and not self.builder and self.holds_relation():
                    break  # a condition: kπ (k ∈ Z)
                left = self.times(left)
                continue
            if kind == "cmd" and power < 5:
                self.at += 1
                right = self.expr(5)
                left = Expr("fn", "binom", left, right) if value == "choose" else Expr("div", left, right)
                continue
            break
        self.depth -= 1
        return left

    def _powered(self) -> bool:
        """Return whether the number before this position is an exponent: in `2^6 3^5` the next number is a factor."""
        before = self.tokens[self.at - 2]
        return before.kind == "op" and before.value == "^"

    @staticmethod
    def deeper(layers: int) -> int:
        """Count one more operator that takes all that stands before it as its operand."""
        if layers >= MAX_DEPTH:
            raise TooLarge("an expression nested too deeply")
        return layers + 1

    def holds_relation(self) -> bool:
        """Return whether a relation stands directly inside the parenthesis here."""
        depth = 0
        for token in self.tokens[self.at : self.at + 30]:
            if token.kind == "rel" and depth == 1:
                return True
            depth += (token.kind == "open" or token.value == "{") - (token.kind == "close" or token.value == "}")
            if not depth:
                return False
        return False

    def times(self, left: Expr) -> Expr:
        """Juxtaposition."""
        right = self.expr(41)
        if left.head == "word" and right.head == "word":
            raise ParseError("words, not mathematics")
        if left.head == right.head == "unit":
            return joined_units(left, right)
        if left.head == "deg":
            return self.minutes(left, right)
        if right.head == "div" and (unit := written_unit(right)) is not None:
            return Expr("unit", left, unit)
        if left.head in ("text", "word") and UNITS.get(left.args[0].strip(" .~")) in CURRENCIES:  # Rs. 500
            return Expr("unit", right, left.args[0].strip(" .~"))
        if (
            left.head == "sym" and right.head == "seq" and right.args[0] == "()" and left.args[0].isupper()
        ):  # the point P(1, 2)
            return Expr("rel", ("=",), left, right)
        if left.head == "text" and left.args[0].strip().casefold() in ("minus", "negative"):
            return neg(right)
        if left.head == "text" and (bound := words.BOUNDS.get(tuple(left.args[0].casefold().split()))) is not None:
            return Expr("rel", (bound,), Expr("sym", "?"), right)
        if left.head == "text" and left.args[0].strip().endswith(
            (" is", " are", ":", "approximately", "about", "exactly")
        ):
            return right
        if left.head == "unit" and right.head == "num":
            raise ParseError("a number behind a unit")
        total = multiplied(left, right)
        if total is not None:
            return total
        if left.head == "mul":
            return Expr("mul", *left.args, right)
        return Expr("mul", left, right)

    @staticmethod
    def minutes(left: Expr, right: Expr) -> Expr:
        r"""Combine degrees with the operand after them: minutes and seconds in `30^\circ 15' 20''`, a factor in `30^\circ x`."""
        if right.head == "unit" and right.args[1] in _ARC:
            part = Expr("div", right.args[0], Expr("num", _ARC[right.args[1]], None))
            return Expr("deg", Expr("add", left.args[0], part))
        if right.head == "num":
            raise ParseError("a number behind degrees")
        return Expr("mul", left, right)

    def binary(self, left: Expr, operator: str, binding: int) -> Expr:
        self.at += 1
        if operator == "^":
            return self.power(left)
        right = self.expr(max(binding, 41) if operator in "*/" else binding)  # 1/2x is (1/2)·x
        if operator == "+" and (total := added(left, right)) is not None:
            return total
        if operator == "*" and (total := multiplied(left, right)) is not None:
            return total
        if operator == "/" and left.head == "unit" and (below := written_unit(right)) is not None:
            return Expr("unit", left.args[0], f"{left.args[1]} / ({below})")  # J/(mol K)
        if operator == "/" and left.head == "unit" and right.head == "num":
            return Expr("unit", Expr("div", left.args[0], right), left.args[1])
        if operator == "+":
            return Expr("add", *left.args, right) if left.head == "add" else Expr("add", left, right)
        if operator == "-":
            right = neg(right)
            total = added(left, right)
            if total is not None:
                return total
            return Expr("add", *left.args, right) if left.head == "add" else Expr("add", left, right)
        if operator == "*":
            return Expr("mul", *left.args, right) if left.head == "mul" else Expr("mul", left, right)
        if operator == "/":
            return Expr("div", left, right)
        if operator == ":":
            return Expr("ratio", *left.args, right) if left.head == "ratio" else Expr("ratio", left, right)
        if operator == "mod":
            return Expr("fn", "mod", left, right)
        if operator in ("+-", "-+"):
            return Expr("pm", operator, left, right)
        if operator == "minus" and right.head in ("num", "sym") and left == _REALS:  # ℝ∖{0} with plain braces
            right = Expr("seq", "{}", right)
        return Expr("setop", operator, left, right)

    def power(self, left: Expr) -> Expr:
        token = self.tokens[self.at]
        if token.kind == "op" and token.value in ("circ", "deg", "'"):
            self.at += 1
            return self.degrees(left) if token.value != "'" else self.primed(left)
        if (
            token.kind == "brace"
            and self.tokens[self.at + 1].value in ("circ", "deg")
            and self.tokens[self.at + 2].value == "}"
        ):
            self.at += 3
            return self.degrees(left)
        if left.head == "const" and left.args[0] in ("N", "Z", "R", "Q") and token.value in ("*", "+", "-", "\\ast"):
            self.at += 1
            return Expr("sym", f"{left.args[0]}^{token.value}")
        if token.kind == "op" and token.value in ("-", "+"):
            self.at += 1
            exponent = self.power_operand()
            return Expr("pow", left, neg(exponent) if token.value == "-" else exponent)
        exponent = self.power_operand()
        if (
            left.head == "sym"
            and left.args[0].startswith("C_")
            and left.args[0][2:].isdigit()
            and exponent.head == "num"
        ):
            return Expr("fn", "binom", Expr("num", int(left.args[0][2:]), None), exponent)  # C_{10}^{3}
        return Expr("pow", left, exponent)

    def power_operand(self) -> Expr:
        exponent = self.argument(whole_number=True)
        token = self.tokens[self.at]
        if token.kind == "op" and token.value == "^":  # 2^3^2 = 2^(3^2)
            self.at += 1
            return self.power(exponent)
        return exponent

    def degrees(self, left: Expr) -> Expr:
        token = self.tokens[self.at]
        if token.kind in ("var", "text") and token.value.strip() in ("C", "F"):  # 20 °C
            self.at += 1
            return Expr("unit", left, "°" + token.value.strip())
        return Expr("deg", left)

    @staticmethod
    def primed(left: Expr) -> Expr:
        if left.head == "sym":
            return Expr("sym", left.args[0] + "'")
        if left.head == "num":  # feet: 6'
            return Expr("unit", left, "ft")
        if left.head == "unit" and left.args[1] == "ft":  # inches: 6''
            return Expr("unit", left.args[0], "in")
        return Expr("call", "'", left)

    def postfix(self, left: Expr, operator: str) -> Expr:
        self.at += 1
        if operator == "!":
            if self.tokens[self.at].value == "!" and self.tokens[self.at].kind == "op":
                self.at += 1
                return Expr("fn", "dfact", left)
            return Expr("fn", "fact", left)
        if operator == "%":
            return Expr("pct", left)
        if operator == "deg":
            return self.degrees(left)
        if operator == "'":
            return self.primed(left)
        return self.subscripted(left)
