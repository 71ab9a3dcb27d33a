"""The smallest parts of an expression: variables, groups, arguments, subscripts."""

# ruff: noqa: D102, SIM102 - the methods are described by Cursor, or named after what they read

from __future__ import annotations

from rewardkit_math.errors import ParseError, TooLarge
from rewardkit_math.expr import Expr, neg
from rewardkit_math.parsing.cursor import MAX_DEPTH, Cursor
from rewardkit_math.parsing.lexer import Token

_CALLABLE = frozenset("fgh")


class Operands(Cursor):
    """Operands: numbers, variables, groups and commands."""

    __slots__ = ()

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
        """Consume `^{-1}` if an opening parenthesis follows; return whether it did."""
        shape = [t.value for t in self.tokens[self.at : self.at + 6]]
        for length, wanted in ((5, ["^", "{", "-", "1", "}", "("]), (3, ["^", "-", "1", "("])):
            if shape[: len(wanted)] == wanted:
                self.at += length
                return True
        return False

    def is_definition(self) -> bool:
        """Return whether `(…)` here is followed by an equals sign, and contains only variables and numbers: `P(x) = `."""
        index = self.at + 1
        while self.tokens[index].kind in ("var", "num", "sep"):
            index += 1
        if self.tokens[index].kind != "close" or index == self.at + 1:
            return False
        follow = self.tokens[index + 1]
        return follow.kind == "rel" and follow.value in ("=", "~") and self.at == 1

    def group(self) -> Expr:
        """Parse the content of plain braces."""
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
        """Return the argument of a command: a brace group, or a single token (of a numeral its first digit, unless `whole_number`)."""
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

    def subscript(self) -> str:
        r"""Return the text of a subscript: `_1`, `_{n+1}`, `_{\text{max}}`."""
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
