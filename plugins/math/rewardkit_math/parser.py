r"""Tokens to an expression tree: a Pratt parser. It reads; it computes nothing beyond folding literals.

Conventions where notation is ambiguous: `2\frac12` is a mixed number; `1/2x` is (1/2)·x; `-x^2` is −(x²); `\sin 2x + 1` ends its
argument at the plus; `f(x)`, `g(x)`, `h(x)` and any `P(x) = …` are function calls, `a(x + 1)` is a product; `(1, 2)` is a pair or an
open interval, which the comparison decides; a letter directly behind a number is a variable, a word behind a number is a unit.
"""

# ruff: noqa: SIM102 - conditions that are asked one after the other

from __future__ import annotations

from fractions import Fraction

from rewardkit_math import vocabulary as words
from rewardkit_math.errors import ParseError, TooLarge
from rewardkit_math.expr import MINUS_ONE, Expr, neg
from rewardkit_math.lexer import Token, tokenize

MAX_DEPTH = 90
"""Deeper nesting is refused."""

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
_CALLABLE = frozenset("fgh")
_MATRIX_ENVS = frozenset(
    [
        "matrix",
        "pmatrix",
        "bmatrix",
        "Bmatrix",
        "vmatrix",
        "Vmatrix",
        "smallmatrix",
        "array",
        "psmallmatrix",
        "bsmallmatrix",
        "tabular",
    ]
)
_ARITY = {"max": (1, 99), "min": (1, 99), "gcd": (1, 99), "lcm": (1, 99), "binom": (2, 2), "mod": (2, 2), "log": (1, 2)}
"""The fewest and most arguments of functions; 1 for those not listed."""
_REPEATING = frozenset(("repeating", "recurring"))


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
        return _Parser(tokens).answer()
    except RecursionError:
        raise TooLarge("an expression nested too deeply") from None


def _without_redundant_groups(tokens: list[Token]) -> list[Token]:
    """`((x))` to `(x)`, `{{x}}` to `{x}`: however many there are, so that hostile nesting costs no stack."""
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


class _Parser:
    __slots__ = ("at", "bars", "builder", "depth", "integrals", "tokens", "tops")

    def __init__(self, tokens: list[Token]) -> None:
        self.tokens = tokens
        self.at = 0
        self.depth = 0
        self.bars = 0
        self.builder = 0
        self.integrals = 0
        self.tops = 0

    # ---- answers, lists and relations

    def answer(self) -> Expr:
        """The whole input: one relation, or several with separators between them, perhaps with a condition behind."""
        result = self.items("end", "")
        if self.tokens[self.at].kind != "end":
            raise ParseError(f"unexpected {self.tokens[self.at].value!r}")
        return result

    def items(self, closing_kind: str, closing: str) -> Expr:
        """Relations with separators between them, up to a closing token that is left in place."""
        found: list[Expr] = []
        condition: Expr | None = None
        separated = False
        while True:
            token = self.tokens[self.at]
            while token.kind in ("sep", "gap", "row") or (token.kind == "op" and token.value == "."):
                separated = separated or token.kind != "op"
                self.at += 1
                token = self.tokens[self.at]
            if token.kind == closing_kind and (not closing or token.value == closing):
                break
            if token.kind == "end" or (found and not separated):
                break
            if found and self.starts_condition(token):
                condition = self.condition()
                break
            if token.kind == "op" and token.value == "dots":
                self.at += 1
                found.append(Expr("sym", "…"))
            else:
                found.append(self.relation())
            separated = False
            token = self.tokens[self.at]
            if token.kind in ("text", "word") and self.starts_condition(token):
                condition = self.condition()
                break
            if token.kind == "open" and token.value == "(" and self.holds_relation():
                self.at += 1
                condition = self.bracketed("(")
                break
        if not found:
            raise ParseError("nothing there")
        if len(found) == 2 and condition is None and found[0].head != "seq" and _ranges(found[1]):  # kπ, k ∈ Z
            condition = found.pop()
        value = found[0] if len(found) == 1 else Expr("seq", "", *found)
        return Expr("cond", value, condition) if condition is not None else value

    @staticmethod
    def starts_condition(token: Token) -> bool:
        return (
            token.kind in ("text", "word")
            and token.value.strip(" ,.(~\\").split(" ", 1)[0].casefold() in words.CONDITIONS
        )

    def condition(self) -> Expr:
        token = self.tokens[self.at]
        self.at += 1
        rest = token.value.strip(" ,.~").split(None, 1)
        if len(rest) > 1:
            while self.tokens[self.at].kind not in ("end", "close", "brace"):
                self.at += 1
            return Expr("text", token.value)
        return self.items("end", "")

    def relation(self) -> Expr:
        token = self.tokens[self.at]
        if token.kind == "rel" and token.value in ("=", "~", "=>"):  # "= 5"
            self.at += 1
        left = self.expr(0)
        token = self.tokens[self.at]
        if token.kind != "rel":
            return left
        operators: list[str] = []
        operands = [left]
        while token.kind == "rel":
            self.at += 1
            follow = self.tokens[self.at]
            if follow.kind in ("end", "sep") and token.value in ("=", "~"):
                break
            operators.append(token.value)
            operands.append(self.expr(0))
            token = self.tokens[self.at]
        if not operators:
            return left
        return Expr("rel", tuple(operators), *operands)

    # ---- expressions

    def expr(self, power: int) -> Expr:
        """An expression whose operators all bind tighter than `power`."""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise TooLarge("an expression nested too deeply")
        left = self.operand()
        while True:
            token = self.tokens[self.at]
            kind, value = token.kind, token.value
            if kind == "op":
                binding = _BINARY.get(value)
                if binding is not None:
                    if binding <= power or (value == ":" and self.builder):
                        break
                    left = self.binary(left, value, binding)
                    continue
                binding = _POSTFIX.get(value)
                if binding is not None and binding > power:
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
                left = self.unit(left)
                continue
            if kind == "unit" and power < 50:
                self.at += 1
                follow = self.tokens[self.at]
                if follow.kind in ("num", "var", "open", "cmd"):
                    raise ParseError("a currency sign between two values")
                left = Expr("unit", left, value)
                continue
            if power >= 41:
                break
            if (
                kind in _STARTS
                or (kind == "cmd" and value not in ("choose", "over", "atop"))
                or (kind == "brace" and value == "{")
            ):
                if kind == "num" and self.tokens[self.at - 1].kind == "num":
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

    def holds_relation(self) -> bool:
        """Whether a relation stands directly inside the parenthesis here."""
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
            return _joined_units(left, right)
        if left.head == "text" and left.args[0].strip().endswith((" is", " are", ":", "approximately", "about")):
            return right
        if left.head == "mul":
            return Expr("mul", *left.args, right)
        return Expr("mul", left, right)

    def binary(self, left: Expr, operator: str, binding: int) -> Expr:
        self.at += 1
        if operator == "^":
            return self.power(left)
        right = self.expr(max(binding, 41) if operator in "*/" else binding)  # 1/2x is (1/2)·x
        if operator == "+":
            return Expr("add", *left.args, right) if left.head == "add" else Expr("add", left, right)
        if operator == "-":
            right = neg(right)
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
        if token.kind == "var" and token.value in ("C", "F"):  # 20 °C
            self.at += 1
            return Expr("unit", left, "°" + token.value)
        return Expr("deg", left)

    @staticmethod
    def primed(left: Expr) -> Expr:
        if left.head == "sym":
            return Expr("sym", left.args[0] + "'")
        if left.head == "num":  # feet: 6'
            return Expr("unit", left, "ft")
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

    def subscripted(self, left: Expr) -> Expr:
        token = self.tokens[self.at]
        if left.head == "num":
            base = self.argument(whole_number=True)
            literal = self.numeral_before(token)
            if base.head == "num" and isinstance(base.args[0], int) and literal is not None:
                return _in_base(literal, base.args[0])
            raise ParseError("a subscript on a number that is no base")
        name = self.subscript()
        if left.head == "sym":
            return Expr("sym", f"{left.args[0]}_{name}")
        if left.head == "call":
            return Expr("call", f"{left.args[0]}_{name}", *left.args[1:])
        if left.head in ("text", "word"):
            return Expr("sym", f"{left.args[0].strip()}_{name}")
        if left.head == "mul" and left.args[-1].head == "sym":
            return Expr("mul", *left.args[:-1], Expr("sym", f"{left.args[-1].args[0]}_{name}"))
        raise ParseError("a subscript on something that takes none")

    def numeral_before(self, token: Token) -> str | None:
        index = next(i for i in range(self.at, -1, -1) if self.tokens[i] is token) - 2
        while index > 0 and self.tokens[index].kind in ("close", "brace"):
            index -= 1
        found = self.tokens[index]
        return found.value if found.kind == "num" else None

    def subscript(self) -> str:
        r"""The text of a subscript: `_1`, `_{n+1}`, `_{\text{max}}`."""
        token = self.tokens[self.at]
        self.at += 1
        if not (token.kind == "brace" and token.value == "{"):
            if token.kind == "end":
                raise ParseError("a subscript is missing")
            return token.value
        parts: list[str] = []
        depth = 1
        while True:
            token = self.tokens[self.at]
            if token.kind == "end":
                raise ParseError("a brace is not closed")
            self.at += 1
            if token.kind == "brace":
                depth += 1 if token.value == "{" else -1
                if not depth:
                    return "".join(parts)
            parts.append(token.value.strip())

    # ---- units

    def is_unit(self, token: Token) -> bool:
        """Whether a word behind an operand is a unit (in `2 cm`), rather than a factor or prose."""
        if self.starts_condition(token):
            return True
        before = self.tokens[self.at - 1]
        return (
            token.value in words.UNITS
            or (before.kind in ("num", "close") or before.value in ("}", "%"))
            or before.kind == "word"
        )

    def unit(self, left: Expr) -> Expr:
        """A unit behind a value; several words are one unit, and so is what they are raised to or divided by."""
        parts: list[str] = []
        while True:
            token = self.tokens[self.at]
            if token.kind in ("text", "word"):
                if parts and self.starts_condition(token):
                    break
                parts.append(token.value.strip())
                self.at += 1
            elif token.kind == "op" and token.value == "^" and parts:
                self.at += 1
                exponent = self.argument(whole_number=True)
                if exponent.head != "num":
                    raise ParseError("an exponent on a unit that is no number")
                parts[-1] += f"^{exponent.args[0]}"
            elif token.kind == "op" and token.value in ("/", "*") and self.tokens[self.at + 1].kind in ("text", "word"):
                parts.append(token.value)
                self.at += 1
            elif token.kind == "op" and token.value == ".":
                self.at += 1
            else:
                break
        unit = " ".join(part for part in parts if part)
        lowered = unit.casefold()
        if left.head == "num" and lowered in _REPEATING:
            return _repeating(left, self.tokens[self.at - 2].value)
        if lowered in ("percent", "percentage", "pct"):
            return Expr("pct", left)
        if lowered in ("degrees", "degree", "deg"):
            return Expr("deg", left)
        scale = {"hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9, "trillion": 10**12}.get(
            lowered.split(" ")[0]
        )
        if scale:
            left = Expr("mul", left, Expr("num", scale, None))
            unit = unit.partition(" ")[2]
            if not unit:
                return left
        return Expr("unit", left, unit)

    # ---- operands

    def operand(self) -> Expr:
        token = self.tokens[self.at]
        kind, value = token.kind, token.value
        self.at += 1
        if kind == "num":
            return self.number(token)
        if kind == "var":
            return self.variable(token)
        if kind == "brace" and value == "{":
            return self.group()
        if kind == "open":
            return self.bracketed(value)
        if kind == "op":
            if value == "-":
                return neg(self.expr(45 if self.tokens[self.at].kind != "num" else 41))
            if value == "+":
                return self.expr(45)
            if value in ("+-", "-+"):
                return Expr("pm", value, None, self.expr(30))
            if value == "|":
                return self.absolute("|")
            if value == "‖":
                return self.absolute("‖")
            if value == "dots":
                return Expr("sym", "…")
        if kind == "cmd":
            return self.command(value)
        if kind == "fn":
            return self.function(value)
        if kind == "const":
            return Expr("const", value) if value != "j" else Expr("sym", "j")
        if kind == "word":
            return Expr("word", value)
        if kind == "text":
            return self.textual(value)
        if kind == "unit":  # $10
            if self.tokens[self.at].kind in ("end", "sep"):
                raise ParseError("a currency sign without a value")
            return Expr("unit", self.expr(50), value)
        if kind == "begin":
            return self.environment(value)
        if kind == "close" and value == "]":  # ]1, 2[
            return self.bracketed("]")
        if kind == "gap":
            return self.operand()
        raise ParseError(f"unexpected {value!r}" if value else "it ends too early")

    def textual(self, value: str) -> Expr:
        while self.tokens[self.at].kind == "text":
            value += self.tokens[self.at].value
            self.at += 1
        return Expr("text", value)

    def number(self, token: Token) -> Expr:
        r"""A numeral, or a mixed number: `2\frac34`, `1 1/2`."""
        follow = self.tokens[self.at]
        if isinstance(token.number, int) and token.places is None:
            if follow.kind == "cmd" and follow.value == "frac":
                start = self.at
                self.at += 1
                top, bottom = self.argument(), self.argument()
                if (
                    top.head == bottom.head == "num"
                    and isinstance(top.args[0], int)
                    and isinstance(bottom.args[0], int)
                ):
                    if bottom.args[0] and top.args[0] >= 0:
                        return Expr("num", _exact(token.number + Fraction(top.args[0], bottom.args[0])), None)
                self.at = start
            elif follow.kind == "num" and follow.spaced and isinstance(follow.number, int):
                slash, bottom_token = self.tokens[self.at + 1], self.tokens[min(self.at + 2, len(self.tokens) - 1)]
                if (
                    slash.value == "/"
                    and bottom_token.kind == "num"
                    and bottom_token.number
                    and isinstance(bottom_token.number, int)
                ):
                    self.at += 3
                    return Expr("num", _exact(token.number + Fraction(follow.number, bottom_token.number)), None)
        return Expr("num", token.number, token.places)

    def variable(self, token: Token) -> Expr:
        name = token.value
        if name.startswith(("\\angle", "\\triangle", "\\measuredangle")):
            rest = ""
            while self.tokens[self.at].kind == "var" and len(self.tokens[self.at].value) == 1:
                rest += self.tokens[self.at].value
                self.at += 1
            return Expr("sym", name + rest)
        follow = self.tokens[self.at]
        while follow.kind == "op" and follow.value in ("_", "'"):
            self.at += 1
            name += "_" + self.subscript() if follow.value == "_" else "'"
            follow = self.tokens[self.at]
        if name == "e":
            return Expr("const", "e")
        if name == "i":
            return Expr("const", "i")
        if name in _CALLABLE and follow.kind == "op" and follow.value == "^" and self.inverse_function():
            name += "^-1"
            follow = self.tokens[self.at]
        if follow.kind == "open" and follow.value == "(" and not follow.spaced:
            if name[0] in _CALLABLE or self.is_definition():
                self.at += 1
                inside = self.bracketed("(")
                arguments = inside.args[1:] if inside.head == "seq" else (inside,)
                return Expr("call", name, *arguments)
        return Expr("sym", name)

    def inverse_function(self) -> bool:
        """Take `^{-1}` where an opening parenthesis follows."""
        shape = [t.value for t in self.tokens[self.at : self.at + 6]]
        for length, wanted in ((5, ["^", "{", "-", "1", "}", "("]), (3, ["^", "-", "1", "("])):
            if shape[: len(wanted)] == wanted:
                self.at += length
                return True
        return False

    def is_definition(self) -> bool:
        """Whether `(…)` here is followed by an equals sign, and holds nothing but variables and numbers: `P(x) = `."""
        index = self.at + 1
        while self.tokens[index].kind in ("var", "num", "sep"):
            index += 1
        if self.tokens[index].kind != "close" or index == self.at + 1:
            return False
        follow = self.tokens[index + 1]
        return follow.kind == "rel" and follow.value in ("=", "~") and self.at == 1

    def group(self) -> Expr:
        """What stands between plain braces."""
        if self.tokens[self.at].value == "}" and self.tokens[self.at].kind == "brace":
            self.at += 1
            raise ParseError("empty braces")
        bars, self.bars = self.bars, 0
        inside = self.items("brace", "}")
        self.bars = bars
        token = self.tokens[self.at]
        if not (token.kind == "brace" and token.value == "}"):
            raise ParseError("a brace is not closed")
        self.at += 1
        return inside

    def argument(self, *, whole_number: bool = False) -> Expr:
        """The argument of a command: a brace group, or a single token (of a numeral its first digit, unless `whole_number`)."""
        token = self.tokens[self.at]
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise TooLarge("an expression nested too deeply")
        if token.kind == "brace" and token.value == "{":
            self.at += 1
            result = self.group()
        elif token.kind == "num":
            if not whole_number and len(token.value) > 1 and token.value.isdigit():
                result = Expr("num", int(token.value[0]), None)
                rest = token.value[1:]
                self.tokens[self.at] = Token("num", rest, spaced=False, number=int(rest))
            else:
                self.at += 1
                result = Expr("num", token.number, token.places)
        elif token.kind in ("var", "const"):
            self.at += 1
            result = (
                Expr("const", token.value) if token.kind == "const" or token.value in "ei" else Expr("sym", token.value)
            )
            if result.head == "sym" and self.tokens[self.at].value == "_":
                self.at += 1
                result = Expr("sym", f"{token.value}_{self.subscript()}")
        elif token.kind in ("end", "close"):
            raise ParseError("an argument is missing")
        else:
            result = self.operand()
        self.depth -= 1
        return result

    def bracketed(self, opening: str) -> Expr:
        """What stands behind an opening bracket: a value in parentheses, a tuple, an interval, a set, ⌊x⌋."""
        token = self.tokens[self.at]
        if token.kind == "close" and token.value in (")", "]", "}", "⟩"):
            self.at += 1
            return Expr("const", "empty") if opening == "{" else Expr("seq", opening + token.value)
        bars, self.bars = self.bars, 0
        if opening == "|":
            self.bars = bars
            return self.absolute("|")
        if opening == "‖":
            self.bars = bars
            return self.absolute("‖")
        if opening == "{":
            self.builder += 1
        integrals, self.integrals = self.integrals, 0
        inside = self.items("close", "")
        self.integrals = integrals
        self.bars = bars
        token = self.tokens[self.at]
        if opening == "{":
            self.builder -= 1
            if (token.kind == "op" and token.value in ("|", ":")) or (token.kind == "rel" and token.value == "|"):
                self.at += 1
                condition = self.items("close", "")
                token = self.tokens[self.at]
                self.at += 1
                if token.kind != "close":
                    raise ParseError("a brace is not closed")
                return Expr("builder", inside, condition)
            if inside.head == "ratio" and token.kind == "close" and inside.args[-1].head in ("rel", "cond"):
                self.at += 1
                return Expr("builder", inside.args[0], inside.args[-1])
        closing = token.value
        if token.kind == "open" and closing == "[" and opening in "[](":
            pass
        elif token.kind == "brace" and closing == "}" and opening == "{":
            closing = "}"
        elif token.kind != "close":
            if (
                opening == "{" and inside.head in ("matrix", "seq") and token.kind in ("end", "sep")
            ):  # \\left\\{ … \\right.
                return _system(inside)
            raise ParseError("a bracket is not closed")
        self.at += 1
        if opening == "⌊":
            return Expr("fn", "floor", inside)
        if opening == "⌈":
            return Expr("fn", "ceil", inside)
        items = inside.args[1:] if inside.head == "seq" and inside.args[0] == "" else (inside,)
        if opening == "⟨":
            return Expr("seq", "()", *items)
        if opening == "{":
            return Expr("seq", "{}", *items)
        if len(items) == 1:
            return inside
        return Expr("seq", opening + closing, *items)

    def closes_interval(self) -> bool:
        """Whether `[` ends a French interval: `[1, 2[`."""
        follow = self.tokens[self.at + 1]
        return follow.kind in ("end", "sep", "brace") or (
            follow.kind == "op" and follow.value in ("union", "inter", "minus")
        )

    def absolute(self, bar: str) -> Expr:
        self.bars += 1
        inside = self.expr(0)
        self.bars -= 1
        token = self.tokens[self.at]
        if token.value != bar:
            raise ParseError("a bar is not closed")
        self.at += 1
        return Expr("fn", "det" if inside.head == "matrix" else "abs", inside)

    # ---- functions and commands

    def function(self, name: str) -> Expr:
        exponent: Expr | None = None
        base: Expr | None = None
        for _ in range(2):
            token = self.tokens[self.at]
            if token.kind == "op" and token.value == "^" and exponent is None:
                self.at += 1
                sign = self.tokens[self.at].kind == "op" and self.tokens[self.at].value == "-"
                self.at += sign
                exponent = self.argument(whole_number=not name.startswith("log"))
                exponent = neg(exponent) if sign else exponent
            elif token.kind == "op" and token.value == "_" and base is None:
                self.at += 1
                base = self.argument()
        if exponent == MINUS_ONE and name in ("sin", "cos", "tan", "cot", "sec", "csc", "sinh", "cosh", "tanh"):
            name, exponent = "arc" + name, None
        arguments = self.function_arguments(name)
        fewest, most = _ARITY.get(name, (1, 1))
        if not fewest <= len(arguments) <= most:
            raise ParseError(f"{name} of {len(arguments)} arguments")
        if name in ("log", "lg") and base is not None and len(arguments) == 1:
            value = Expr("fn", "log", *arguments, base)
        elif name == "lg":
            value = Expr("fn", "log", *arguments, Expr("num", 10, None))
        elif name == "log2":
            value = Expr("fn", "log", *arguments, Expr("num", 2, None))
        elif base is not None:
            value = Expr("call", f"{name}_{base!r}", *arguments)
        elif name == "cbrt":
            value = Expr("fn", "root", arguments[0], Expr("num", 3, None))
        elif name == "exp":
            value = Expr("pow", Expr("const", "e"), arguments[0])
        elif name == "deg":
            value = Expr("call", "deg", *arguments)
        else:
            value = Expr("fn", name, *arguments)
        return value if exponent is None else Expr("pow", value, exponent)

    def function_arguments(self, name: str) -> tuple[Expr, ...]:
        token = self.tokens[self.at]
        if token.kind == "open" or (token.kind == "brace" and token.value == "{"):
            self.at += 1
            inside = self.group() if token.kind == "brace" else self.bracketed(token.value)
            if inside.head == "seq" and inside.args[0] in ("", "()", "{}", "[]") and len(inside.args) > 1:
                return inside.args[1:]
            return (inside,)
        if name == "sqrt":
            return (self.argument(whole_number=True),)
        self.depth += 1
        result = self.expr(45)
        while True:
            token = self.tokens[self.at]
            if token.kind in ("num", "var", "const") or (token.kind == "cmd" and token.value in ("frac", "sqrt")):
                if self.integrals and token.kind == "var" and token.value == "d":
                    break
                result = Expr("mul", result, self.expr(45))
            else:
                break
        self.depth -= 1
        return (result,)

    def command(self, name: str) -> Expr:
        if name == "frac":
            top = self.argument()
            return Expr("div", top, self.argument())
        if name == "sqrt":
            index: Expr | None = None
            token = self.tokens[self.at]
            if token.kind == "open" and token.value == "[":
                self.at += 1
                index = self.expr(0)
                if self.tokens[self.at].value != "]":
                    raise ParseError("the index of a root is not closed")
                self.at += 1
            token = self.tokens[self.at]
            if token.kind == "open" and token.value == "(":
                self.at += 1
                body = self.bracketed("(")
            else:
                body = self.argument(whole_number=True)
            return Expr("fn", "sqrt", body) if index is None else Expr("fn", "root", body, index)
        if name == "binom":
            top = self.argument()
            return Expr("fn", "binom", top, self.argument())
        if name == "cbrt":
            return Expr("fn", "root", self.argument(whole_number=True), Expr("num", 3, None))
        if name in ("sum", "prod", "int", "lim"):
            return self.big(name)
        if name in ("overset", "underset", "stackrel"):
            self.argument()
            return self.argument()
        raise ParseError(f"\\{name} here")

    def big(self, name: str) -> Expr:
        lower: Expr | None = None
        upper: Expr | None = None
        for _ in range(2):
            token = self.tokens[self.at]
            if token.kind == "op" and token.value == "_" and lower is None:
                self.at += 1
                lower = self.argument(whole_number=True)
            elif token.kind == "op" and token.value == "^" and upper is None:
                self.at += 1
                upper = self.argument(whole_number=True)
        variable = ""
        if name == "int":
            self.integrals += 1
            body = self.expr(29)
            self.integrals -= 1
            if self.tokens[self.at].value != "d" or self.tokens[self.at + 1].kind != "var":
                raise ParseError("an integral without its differential")
            variable = self.tokens[self.at + 1].value
            self.at += 2
            return Expr("big", "int", variable, lower, upper, body)
        body = self.expr(35)
        if (
            lower is not None
            and lower.head == "rel"
            and len(lower.args) == 3
            and lower.args[1].head in ("sym", "const")
        ):
            variable = lower.args[1].args[0]
            lower = lower.args[2]
            return Expr("big", name, variable, lower, upper, body)
        raise ParseError(f"\\{name} without a range that is understood")

    def environment(self, name: str) -> Expr:
        r"""`\begin{…}` up to its `\end`."""
        matrix = name in _MATRIX_ENVS
        if not matrix and name not in ("cases", "dcases", "rcases"):
            return self.aligned(name)
        rows: list[tuple[Expr, ...]] = []
        row: list[Expr] = []
        bars, self.bars = self.bars, 0
        while True:
            token = self.tokens[self.at]
            if token.kind == "end":
                raise ParseError(f"\\begin{{{name}}} is not ended")
            if token.kind in ("row", "endenv"):
                self.at += 1
                if row:
                    rows.append(tuple(row))
                row = []
                if token.kind == "endenv":
                    break
            elif (token.kind == "op" and token.value == "&") or token.kind in ("gap", "sep"):
                self.at += 1
            elif self.starts_condition(token):
                row.append(self.cell_condition())
            else:
                row.append(self.relation())
                if (
                    self.tokens[self.at].kind not in ("row", "endenv", "sep", "gap")
                    and self.tokens[self.at].value != "&"
                ):
                    if self.starts_condition(self.tokens[self.at]):
                        continue
                    raise ParseError(f"unexpected {self.tokens[self.at].value!r} in a {name}")
        self.bars = bars
        if not rows:
            raise ParseError(f"an empty {name}")
        if not matrix:
            return (
                Expr("cases", tuple(rows)) if any(len(r) > 1 for r in rows) else Expr("seq", "", *(r[0] for r in rows))
            )
        if len({len(r) for r in rows}) != 1:
            raise ParseError("a matrix with rows of different lengths")
        result = Expr("matrix", tuple(rows))
        return Expr("fn", "det", result) if name.startswith("v") else result

    def cell_condition(self) -> Expr:
        token = self.tokens[self.at]
        self.at += 1
        rest = token.value.strip(" ,.~").split(None, 1)
        if len(rest) > 1:
            return Expr("text", rest[1])
        follow = self.tokens[self.at]
        return Expr("text", "") if follow.kind in ("row", "endenv") else self.relation()

    def aligned(self, name: str) -> Expr:
        """Rows under one another: the alignment marks mean nothing, the rows are a list."""
        depth, end = 1, self.at
        while depth:
            token = self.tokens[end]
            if token.kind == "end":
                raise ParseError(f"\\begin{{{name}}} is not ended")
            depth += (token.kind == "begin") - (token.kind == "endenv")
            end += 1
        inner = [t for t in self.tokens[self.at : end - 1] if not (t.kind == "op" and t.value == "&")]
        self.at = end
        child = _Parser([*inner, Token("end", "")])
        child.depth = self.depth
        return child.answer()


def _ranges(expr: Expr) -> bool:
    """Whether an expression says what a parameter ranges over: `k ∈ Z`."""
    return (
        expr.head == "rel"
        and expr.args[0] == ("in",)
        and expr.args[1].head == "sym"
        and expr.args[2].head in ("const", "text")
    )


def _system(inside: Expr) -> Expr:
    """The rows behind a single brace: cases, or relations that hold together."""
    if inside.head == "seq":
        return inside
    rows = inside.args[0]
    return Expr("cases", rows) if len(rows[0]) > 1 else Expr("seq", "", *(row[0] for row in rows))


def _exact(value: Fraction) -> int | Fraction:
    return value.numerator if value.denominator == 1 else value


def _joined_units(left: Expr, right: Expr) -> Expr:
    """`2 hours 30 minutes`: the sum, in the first unit."""
    scales = [words.unit_scale(words.UNITS.get(e.args[1], "")) for e in (left, right)]
    if not scales[0] or not scales[1] or scales[0][0] != scales[1][0]:
        raise ParseError("two values with units side by side")
    factor = Fraction(str(scales[1][1])) / Fraction(str(scales[0][1]))
    return Expr("unit", Expr("add", left.args[0], Expr("mul", Expr("num", factor, None), right.args[0])), left.args[1])


def _in_base(literal: str, base: int) -> Expr:
    """`1012_3`, `0.11_2`: digits in another base."""
    digits = "".join(c for c in literal if c.isdigit() or c == ".")
    whole, _, decimals = digits.partition(".")
    if not 2 <= base <= 36 or any(int(d) >= base for d in whole + decimals):
        raise ParseError(f"{literal} is no number in base {base}")
    if len(digits) > 2000:
        raise TooLarge("a numeral of thousands of digits")
    value = Fraction(int(whole + decimals or "0", base), base ** len(decimals))
    return Expr("base", _exact(value), base)


def _repeating(number: Expr, literal: str) -> Expr:
    """`0.1666 repeating`: the last digit for ever."""
    decimals = literal.partition(".")[2]
    if not decimals.isdigit():
        return number
    value = Fraction(number.args[0]) + Fraction(int(decimals[-1]), 9 * 10 ** len(decimals))
    return Expr("num", _exact(value), None)
