"""Functions with their arguments, and the commands that build expressions: fractions, roots, sums, integrals, limits."""

# ruff: noqa: D102 - the methods are described by Cursor, or named after what they read

from __future__ import annotations

from rewardkit_math.errors import ParseError
from rewardkit_math.expr import MINUS_ONE, Expr, neg
from rewardkit_math.parsing.cursor import Cursor

_ARITY = {"max": (1, 99), "min": (1, 99), "gcd": (1, 99), "lcm": (1, 99), "binom": (2, 2), "mod": (2, 2), "log": (1, 2)}
"""The fewest and most arguments of functions; 1 for those not listed."""


class Functions(Cursor):
    """Named functions and commands."""

    __slots__ = ()

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
        if base is None and exponent is None and self.tokens[self.at].kind == "rel":  # \max = 5
            return Expr("sym", name)
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
        elif name == "cis":
            value = Expr(
                "add", Expr("fn", "cos", *arguments), Expr("mul", Expr("const", "i"), Expr("fn", "sin", *arguments))
            )
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
