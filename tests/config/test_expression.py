"""The language of conditions, held against Python itself."""

import ast
import contextlib
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewardkit import Rollout
from rewardkit.config import expression as module
from rewardkit.config.expression import (
    MAX_DEPTH,
    MAX_LENGTH,
    EvaluationError,
    ExpressionError,
    parse_expression,
)

VALUES = {"a": 1.0, "b": 0.0, "c": -2.5, "skipped": None}
ROLLOUT = Rollout(
    "p",
    "c",
    {"level": "easy", "n": 3, "two words": "x", 'a"b': 1, "levels": ["easy", "hard"], "info.level": 4},
    None,
    7,
    "stop",
)


def holds(text: str) -> bool:
    """Evaluate with the values above."""
    return parse_expression(text)(VALUES, ROLLOUT)


numbers = st.sampled_from(["0", "1", "2.5", "1e-3", ".5", "3.", "7e2"])
atoms = st.sampled_from(["a", "b", "c", "true", "false"]) | numbers


def nested(children: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Larger texts from smaller ones, with and without parentheses, so that precedence matters."""
    binary = st.sampled_from(["+", "-", "*", "/", "and", "or", "==", "!=", "<", "<=", ">", ">="])
    return st.one_of(
        st.tuples(children, binary, children).map(" ".join),
        children.map("({})".format),
        children.map("not {}".format),
        children.map("-{}".format),
        st.lists(children, min_size=2, max_size=4).map(" and ".join),
        st.lists(children, min_size=2, max_size=4).map(" or ".join),
        st.tuples(children, children, children).map(lambda three: "{} in [{}, {}]".format(*three)),
    )


def python(text: str) -> Any:
    """Return the value of the expression in Python, or the type of the exception."""
    try:
        return bool(eval(text, {"__builtins__": {}}, {**VALUES, "true": True, "false": False}))  # noqa: S307 - generated here
    except (ZeroDivisionError, TypeError, OverflowError) as error:
        return type(error)


@given(st.recursive(atoms, nested, max_leaves=12))
def test_it_agrees_with_python(text: str) -> None:
    """On every text that is also Python, the value and the kind of failure are Python's."""
    try:
        ast.parse(text, mode="eval")
    except SyntaxError:  # '1 + not a', which Python refuses
        with pytest.raises(ExpressionError):
            parse_expression(text)
        return
    expected = python(text)
    if isinstance(expected, bool):
        assert holds(text) is expected
    elif expected is TypeError:  # calculating with a list, or comparing one
        with pytest.raises(EvaluationError):
            holds(text)
    else:
        with pytest.raises(EvaluationError, match=r"division by zero|too large"):
            holds(text)


@given(st.text(alphabet="ab()[]+-*/<>=!.,\"'\\ \n\tandornotinfields0123456789eE_é½\0", max_size=200))
def test_any_text_is_read_or_refused(text: str) -> None:
    """No text raises anything but ExpressionError, with a position inside of it; what is read can be evaluated or refused."""
    try:
        expression = parse_expression(text)
    except ExpressionError as error:
        assert 0 <= error.position <= len(text)  # noqa: PT017
        return
    with contextlib.suppress(EvaluationError):
        expression(dict.fromkeys(expression.components, 1.0), ROLLOUT)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a == 1 or b == 1 and c == 1", True),
        ("(a == 1 or b == 1) and c == 1", False),
        ("not a == 1", False),
        ("not not a", True),
        ("0 < a <= 1", True),
        ("0 < c <= 1", False),
        ("1 - 1 - 1 == -1", True),
        ("8 / 2 / 2 == 2", True),
        ("1 + 2 * 3 == 7", True),
        ("- -1 == 1", True),
        ("-a < b", True),
        ('fields.level in ["easy", "medium"]', True),
        ("fields.level not in ['easy', 'medium']", False),
        ("'ea' in fields.level", True),
        ("fields.level in fields.levels", True),
        ('fields["two words"] == "x"', True),
        ("fields.info.level == 4", True),
        ('fields["info.level"] == 4', True),
        (r'fields["a\"b"] == 1', True),
        (r'"\\" == "\\"', True),
        ("fields.n + 1 == 4", True),
        ("num_tokens < 10 and finish_reason == 'stop'", True),
        ("a", True),
        ("b", False),
        ("skipped", False),
        ("True and not False and None == null", True),
        ("[] == []", True),
        ("[1, 2] == [1, 2]", True),
    ],
)
def test_values(text: str, expected: bool) -> None:
    """Precedence, chains, lists, quotes and names mean what they mean in Python."""
    assert holds(text) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("skipped == null", True),
        ("skipped != null", False),
        ("a == null", False),
        ("skipped > 0", False),
        ("skipped <= 0", False),
        ("0 < skipped", False),
        ("not skipped > 0", True),
        ("skipped == 0", False),
        ("skipped or a", True),
    ],
)
def test_null_satisfies_no_bound(text: str, expected: bool) -> None:
    """A skipped component equals null alone, and is neither smaller nor greater than anything."""
    assert holds(text) is expected


@pytest.mark.parametrize(
    ("text", "message", "position"),
    [
        ("", "expected a component's name, a field or a value, found the end", 0),
        ("a >", "expected a component's name, a field or a value, found the end", 3),
        ("a = 1", "unexpected character '='; compare with '=='", 2),
        ("a && b", "unexpected character '&'; write 'and'", 2),
        ("a || b", "unexpected character '|'; write 'or'", 2),
        ("!a", "unexpected character '!'; write 'not' or '!='", 0),
        ("a b", "expected an operator or the end, found 'b'", 2),
        ("(a", "expected ')', found the end", 2),
        ("a)", "expected an operator or the end, found ')'", 1),
        ("'a", "a quoted text is not closed", 0),
        ("fields.num_tokens > 3", "'num_tokens' is no column of fields; write num_tokens alone", 6),
        ("fields.info.", "expected the name of a column, found the end", 12),
        ("max(a, b)", "conditions have no functions, so 'max' can't be called", 0),
        ("fields", "expected '[', found the end", 6),
        ("fields.1", "expected '[', found '.1'", 6),
        ("fields[1]", "expected the name of a column in quotes, found '1'", 7),
        ("a.real", "expected an operator or the end, found '.'", 1),
        ("a and and b", "expected a component's name, a field or a value, found 'and'", 6),
        ("a not b", "expected 'in', found 'b'", 6),
        ("[a b]", "expected ',', found 'b'", 3),
        ("lambda: 1", "unexpected character ':'", 6),
        ("a == 1; b", "unexpected character ';'", 6),
        ("a\n  == \n=", "unexpected character '='", 8),
    ],
)
def test_errors_have_positions(text: str, message: str, position: int) -> None:
    """A text that is no expression is refused with what is wrong and where."""
    with pytest.raises(ExpressionError) as caught:
        parse_expression(text)
    assert (message in str(caught.value), caught.value.position) == (True, position), str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a / 0 > 1", "division by zero"),
        ("fields.gone == 1", "the row has no column 'gone'"),
        ("fields.level > 1", "not supported between"),
        ("fields.level + 1 == 2", "can't calculate with 'easy'"),
        ("skipped + 1 > 0", "can't calculate with None"),
        ("-fields.level == 1", "can't calculate with 'easy'"),
        ("a in b", "not iterable"),
    ],
)
def test_what_makes_no_sense_for_a_row(text: str, message: str) -> None:
    """An expression that has no value for a rollout raises EvaluationError with the reason."""
    with pytest.raises(EvaluationError, match=message):
        holds(text)


def test_a_field_that_cannot_be_compared() -> None:
    """A field whose comparison raises ValueError, as that of an array does, is an EvaluationError."""

    class Array:
        def __eq__(self, other: object) -> Any:
            raise ValueError("the truth value of an array is ambiguous")

        __hash__ = None

    with pytest.raises(EvaluationError, match="ambiguous"):
        parse_expression("fields.x == 1")({}, Rollout("p", "c", {"x": Array()}))


@pytest.mark.parametrize("operator", [" or ", " and ", " + ", " - ", " * ", "/", " == ", " < ", " in "])
def test_the_longest_chain_is_evaluated(operator: str) -> None:
    """A chain of operators as long as a text may be is no match for Python's limit of recursion."""
    text = operator.join(["a"] * ((MAX_LENGTH + len(operator)) // (1 + len(operator))))
    assert len(text) <= MAX_LENGTH
    with pytest.raises(EvaluationError) if operator == " in " else contextlib.nullcontext():
        holds(text)


@pytest.mark.parametrize("opening", ["(", "[", "not (", "-(", "1 + ("])
def test_depth_is_limited(opening: str) -> None:
    """Nesting beyond the limit is refused where it happens, and just within it is read."""
    closing = "]" if opening == "[" else ")"
    within = MAX_DEPTH - 1
    parse_expression(opening * within + "a" + closing * within)
    with pytest.raises(ExpressionError, match=f"nested deeper than {MAX_DEPTH}") as caught:
        parse_expression(opening * MAX_DEPTH + "a" + closing * MAX_DEPTH)
    assert caught.value.position == len(opening) * MAX_DEPTH
    with pytest.raises(ExpressionError):
        parse_expression(opening * (MAX_LENGTH // len(opening)))


@pytest.mark.parametrize("prefix", ["not ", "- ", "+"])
def test_prefixes_do_not_nest(prefix: str) -> None:
    """Any number of signs or negations may stand before a value."""
    times = (MAX_LENGTH - 1) // len(prefix) // 2 * 2
    assert holds(prefix * times + "a") is True


def test_length_is_limited() -> None:
    """A text beyond the limit is refused."""
    with pytest.raises(ExpressionError, match="longer than"):
        parse_expression("a" * (MAX_LENGTH + 1))


def test_it_knows_what_it_refers_to() -> None:
    """Components and columns are told, each once, components with the place of their first mention."""
    expression = parse_expression("b > 0 and a > fields.x and b < fields['y'] + fields.x + num_tokens")
    assert expression.components == ("b", "a")
    assert expression.positions == {"b": 0, "a": 10}
    assert expression.fields == ("x", "y")


def test_the_rest_is_not_evaluated() -> None:
    """Operands of 'and' and 'or' are evaluated only if needed, so a missing column in the others is no error."""
    assert holds("a == 1 or fields.gone == 1") is True
    assert holds("a == 2 and fields.gone == 1") is False


def test_nothing_is_ever_handed_to_eval() -> None:
    """The module calls neither eval, exec nor compile of Python."""
    tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
    called = {node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    assert called.isdisjoint({"eval", "exec", "compile", "__import__", "globals"})
    assert not any(isinstance(node, ast.Attribute) and node.attr in {"eval", "literal_eval"} for node in ast.walk(tree))


def test_infinity_is_a_number_here() -> None:
    """A number too large for a float is infinite, as in Python."""
    assert holds("a < 1e999") is True
    assert math.isinf(float("1e999"))
