"""The expression language of ``when`` and ``gate``: comparisons and arithmetic over component values and columns.

::

    format > 0 and (correct == 1 or fields.level in ["easy", "medium"])

A name is the value of a component; the value of a component that is skipped or does not apply is ``null``. ``fields.NAME`` or
``fields["NAME"]`` is a column of the row, and ``fields.NAME.KEY`` a value inside a nested column. ``num_tokens`` and ``finish_reason``
are those of the rollout. There are no calls, attributes or loops, and no text is passed to ``eval``: a recursive-descent parser compiles
it to closures.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from rewardkit.types import Rollout

MAX_LENGTH = 4_000
MAX_DEPTH = 40

Values: TypeAlias = Mapping[str, float | None]
_Evaluate: TypeAlias = Callable[[Values, Rollout], Any]

ROLLOUT_NAMES = ("num_tokens", "finish_reason")
_CONSTANTS = {"true": True, "false": False, "null": None, "True": True, "False": False, "None": None}
RESERVED = {"and", "or", "not", "in", "fields", *ROLLOUT_NAMES, *_CONSTANTS}

_TOKEN = re.compile(
    r"""\s*(?:
      (?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)
    | (?P<string>"(?:[^"\\]|\\["\\'])*"|'(?:[^'\\]|\\["\\'])*')
    | (?P<name>[^\W\d]\w*)
    | (?P<operator>==|!=|<=|>=|[-<>+*/()\[\],.])
    | (?P<end>\Z)
    )""",
    re.VERBOSE,
)

_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_ARITHMETIC: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
}


class ExpressionError(ValueError):
    """An expression that is not valid.

    Attributes:
        position: The index of the offending character, counted from 0.
    """

    def __init__(self, message: str, position: int) -> None:
        super().__init__(message)
        self.position = position


class EvaluationError(ValueError):
    """An expression has no value for a rollout, for example because it compares text with a number."""


@dataclass(frozen=True, slots=True)
class Expression:
    """A parsed expression."""

    text: str
    components: tuple[str, ...]
    """The components that it reads."""
    fields: tuple[str, ...]
    """The columns that it reads, or dotted paths into nested columns."""
    attributes: tuple[str, ...]
    """Which of ``num_tokens`` and ``finish_reason`` it reads."""
    positions: Mapping[str, int]
    """The index of the character at which each component is first named, counted from 0."""
    _evaluate: _Evaluate

    def __call__(self, values: Values, rollout: Rollout) -> bool:
        """Return True if the condition holds.

        Args:
            values: The value of each component that the expression reads; None if it was skipped or does not apply.
            rollout: The rollout whose columns are read.

        Raises:
            EvaluationError: A column is missing, types don't compare, or a number is divided by 0.
        """
        try:
            return bool(self._evaluate(values, rollout))
        except EvaluationError:
            raise
        # Comparing arrays and other unusual values of a row raises ValueError, too.
        except (TypeError, ValueError, ArithmeticError) as error:
            raise EvaluationError(f"{self.text!r}: {error}") from None


def parse_expression(text: str) -> Expression:
    """Parse an expression. It is not checked that the components exist.

    Args:
        text: The expression.

    Raises:
        ExpressionError: The text is not a valid expression.
    """
    if len(text) > MAX_LENGTH:
        raise ExpressionError(f"is longer than {MAX_LENGTH} characters", 0)
    parser = _Parser(text)
    evaluate = parser.disjunction()
    parser.expect_end()
    fields, attributes = tuple(dict.fromkeys(parser.fields)), tuple(dict.fromkeys(parser.attributes))
    return Expression(text, tuple(parser.components), fields, attributes, parser.components, evaluate)


class _Parser:
    """A recursive-descent parser. Each method returns a closure and leaves the next token in ``kind`` and ``value``."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.components: dict[str, int] = {}
        self.fields: list[str] = []
        self.attributes: list[str] = []
        self.end = 0
        self.depth = 0
        self.advance()

    def advance(self) -> None:
        match = _TOKEN.match(self.text, self.end)
        if match is None:
            start = self.end + len(self.text[self.end :]) - len(self.text[self.end :].lstrip())
            found = self.text[start]
            if found in "\"'":
                raise ExpressionError("a quoted text is not closed", start)
            hint = {"=": "; compare with '=='", "&": "; write 'and'", "|": "; write 'or'", "!": "; write 'not' or '!='"}
            raise ExpressionError(f"unexpected character {found!r}{hint.get(found, '')}", start)
        self.kind = str(match.lastgroup)
        self.value = match.group(self.kind)
        self.start, self.end = match.span(self.kind)

    def take(self, *values: str) -> str | None:
        """Consume and return the next token if it is one of the values; otherwise return None."""
        if self.kind in {"operator", "name"} and self.value in values:
            taken = self.value
            self.advance()
            return taken
        return None

    def fail(self, wanted: str) -> ExpressionError:
        found = "the end" if self.kind == "end" else repr(self.value)
        return ExpressionError(f"expected {wanted}, found {found}", self.start)

    def expect(self, value: str) -> None:
        if not self.take(value):
            raise self.fail(repr(value))

    def expect_end(self) -> None:
        if self.kind != "end":
            raise self.fail("an operator or the end")

    def disjunction(self) -> _Evaluate:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise ExpressionError(f"is nested deeper than {MAX_DEPTH} levels", self.start)
        operands = [self.conjunction()]
        while self.take("or"):
            operands.append(self.conjunction())
        self.depth -= 1
        return _first(operands, wanted=True)

    def conjunction(self) -> _Evaluate:
        operands = [self.negation()]
        while self.take("and"):
            operands.append(self.negation())
        return _first(operands, wanted=False)

    def negation(self) -> _Evaluate:
        times = 0
        while self.take("not"):
            times += 1
        inner = self.comparison()
        if times == 0:
            return inner
        odd = times % 2 == 1
        return lambda values, rollout: bool(inner(values, rollout)) != odd

    def comparison(self) -> _Evaluate:
        """Parse a comparison or a chain such as ``0 < format <= 1``, which is true if every comparison in it is."""
        first = self.sum()
        links: list[tuple[Callable[[Any, Any], bool], _Evaluate]] = []
        while True:
            if compare := self.take(*_COMPARISONS):
                links.append((_ordered(_COMPARISONS[compare], compare), self.sum()))
            elif self.take("in"):
                links.append((lambda item, among: item in among, self.sum()))
            elif self.kind == "name" and self.value == "not":
                self.advance()
                self.expect("in")
                links.append((lambda item, among: item not in among, self.sum()))
            else:
                break
        if not links:
            return first

        def evaluate(values: Values, rollout: Rollout) -> bool:
            left = first(values, rollout)
            for compare, operand in links:
                right = operand(values, rollout)
                if not compare(left, right):
                    return False
                left = right
            return True

        return evaluate

    def sum(self) -> _Evaluate:
        first = self.product()
        rest: list[tuple[str, _Evaluate]] = []
        while sign := self.take("+", "-"):
            rest.append((sign, self.product()))
        return _calculate(first, rest)

    def product(self) -> _Evaluate:
        first = self.sign()
        rest: list[tuple[str, _Evaluate]] = []
        while sign := self.take("*", "/"):
            rest.append((sign, self.sign()))
        return _calculate(first, rest)

    def sign(self) -> _Evaluate:
        negative = False
        while sign := self.take("-", "+"):
            negative ^= sign == "-"
        inner = self.atom()
        return (lambda values, rollout: -_number(inner(values, rollout))) if negative else inner

    def atom(self) -> _Evaluate:
        kind, value, start = self.kind, self.value, self.start
        if kind == "number":
            self.advance()
            number = float(value)
            return lambda _values, _rollout: number
        if kind == "string":
            self.advance()
            string = _unquoted(value)
            return lambda _values, _rollout: string
        if self.take("("):
            inner = self.disjunction()
            self.expect(")")
            return inner
        if self.take("["):
            return self.list_items()
        if kind != "name" or value in {"and", "or", "not", "in"}:
            raise self.fail("a component's name, a field or a value")
        self.advance()
        if value in _CONSTANTS:
            constant = _CONSTANTS[value]
            return lambda _values, _rollout: constant
        if value == "fields":
            return self.field()
        if value in ROLLOUT_NAMES:
            self.attributes.append(value)
            return lambda _values, rollout: getattr(rollout, value)
        if self.kind == "operator" and self.value == "(":
            raise ExpressionError(f"conditions have no functions, so {value!r} can't be called", start)
        self.components.setdefault(value, start)
        return lambda values, _rollout: values[value]

    def list_items(self) -> _Evaluate:
        items: list[_Evaluate] = []
        while not self.take("]"):
            if items:
                self.expect(",")
            items.append(self.disjunction())
        return lambda values, rollout: [item(values, rollout) for item in items]

    def field(self) -> _Evaluate:
        start = self.start
        if self.take("."):
            name = self.part()
            while self.take("."):
                name += f".{self.part()}"
        else:
            self.expect("[")
            if self.kind != "string":
                raise self.fail("the name of a column in quotes")
            name = _unquoted(self.value)
            self.advance()
            self.expect("]")
        if name in ROLLOUT_NAMES:
            raise ExpressionError(f"{name!r} is no column of fields; write {name} alone", start)
        self.fields.append(name)

        def evaluate(_values: Values, rollout: Rollout) -> Any:
            try:
                return rollout.fields[name]
            except KeyError:
                raise EvaluationError(f"the row has no column {name!r}") from None

        return evaluate

    def part(self) -> str:
        """Consume and return the name of a column, or of a value inside a nested column."""
        if self.kind != "name":
            raise self.fail("the name of a column")
        name = self.value
        self.advance()
        return name


# A chain is evaluated by a loop: nested closures would exceed Python's recursion limit for a long one.


def _first(operands: list[_Evaluate], *, wanted: bool) -> _Evaluate:
    """Return the first operand that is true (``or``) or false (``and``), otherwise the last. Later operands are not evaluated."""
    if len(operands) == 1:
        return operands[0]

    def evaluate(values: Values, rollout: Rollout) -> Any:
        for operand in operands:
            value = operand(values, rollout)
            if bool(value) is wanted:
                break
        return value

    return evaluate


def _calculate(first: _Evaluate, rest: list[tuple[str, _Evaluate]]) -> _Evaluate:
    """Apply the operators from left to right."""
    if not rest:
        return first
    steps = [(_ARITHMETIC[sign], operand) for sign, operand in rest]

    def evaluate(values: Values, rollout: Rollout) -> float:
        result = _number(first(values, rollout))
        for function, operand in steps:
            result = function(result, _number(operand(values, rollout)))
        return result

    return evaluate


def _unquoted(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text[1:-1])


def _number(value: Any) -> float:
    if isinstance(value, int | float):
        return value
    raise TypeError(f"can't calculate with {value!r}")


def _ordered(compare: Callable[[Any, Any], bool], sign: str) -> Callable[[Any, Any], bool]:
    """Return a comparison in which null is neither smaller nor greater than anything, so a component without a value satisfies no bound."""
    if sign in {"==", "!="}:
        return compare
    return lambda left, right: left is not None and right is not None and compare(left, right)
