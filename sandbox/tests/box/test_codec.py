"""The typed encoding: what goes in comes out, and nothing else does."""

import json
import math
from collections import Counter, OrderedDict, defaultdict, namedtuple
from decimal import Decimal
from enum import IntEnum
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewardkit_sandbox.box import codec

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.complex_numbers(allow_nan=False)
)
hashable = st.recursive(scalars, lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=3), max_leaves=4)
values = st.recursive(
    hashable | st.decimals(allow_nan=False) | st.fractions(),
    lambda inner: st.lists(inner) | st.dictionaries(hashable, inner) | st.sets(hashable) | st.tuples(inner),
    max_leaves=20,
)


def types_of(value):
    """The types at every place."""
    if isinstance(value, (list, tuple)):
        return [type(value), *map(types_of, value)]
    if isinstance(value, dict):
        return [type(value), *((types_of(k), types_of(v)) for k, v in value.items())]
    return type(value)


@given(values)
def test_round_trip(value):
    """Every plain value comes back equal and of the same types."""
    back = codec.loads(codec.dumps(value))
    assert back == value
    assert types_of(back) == types_of(value)


def test_not_a_number():
    """Nan and infinities come back."""
    assert math.isnan(codec.loads(codec.dumps(float("nan"))))
    assert codec.loads(codec.dumps([float("inf"), -float("inf")])) == [float("inf"), -float("inf")]


class Liar(str):
    """Equal to everything."""

    __eq__ = lambda self, other: True  # noqa: E731
    __hash__ = str.__hash__


class Colour(IntEnum):
    """An int with a name."""

    RED = 2


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (Liar("x"), "x"),
        (Colour.RED, 2),
        (Counter("aab"), {"a": 2, "b": 1}),
        (OrderedDict(a=1), {"a": 1}),
        (defaultdict(list, {1: [2]}), {1: [2]}),
        (namedtuple("P", "x y")(1, 2), (1, 2)),
        (bytearray(b"ab"), b"ab"),
        (True, True),
    ],
)
def test_subclasses_become_their_content(value, plain):
    """A subclass of a builtin is the builtin that it holds."""
    back = codec.loads(codec.dumps(value))
    assert back == plain
    assert type(back) is type(plain)


def test_other_objects_are_opaque():
    """Anything else equals nothing, not even itself."""
    back = codec.loads(codec.dumps([object(), len, (i for i in ())]))
    assert all(isinstance(item, codec.Opaque) and item != item for item in back)


def test_cycles_end():
    """A value that contains itself is refused, not followed."""
    loop = []
    loop.append(loop)
    with pytest.raises(codec.CodecError):
        codec.dumps(loop)


@given(st.binary(max_size=200))
def test_any_bytes(data):
    """Bytes that are no encoded value are refused by one exception."""
    try:
        codec.loads(data)
    except codec.CodecError:
        pass


@pytest.mark.parametrize(
    "line",
    [
        "[1]",
        '{"l": 1}',
        '{"l": [], "t": []}',
        '{"d": [[1]]}',
        '{"d": [[{"l": []}, 1]]}',
        '{"n": ["Fraction", "1/0"]}',
        '{"n": ["os.system", "ls"]}',
        '{"b": "xx"}',
        '{"i": "' + "z" * 10 + '"}',
        '{"q": 1}',
        "[" * 100_000,
        '{"l": [' * 500 + "]}" * 500,
        "1" * 10_000,
        '{"r": ["x", "y"]}',
    ],
)
def test_malformed(line):
    """Each malformed line is refused."""
    with pytest.raises(codec.CodecError):
        codec.loads(line)


def test_colliding_hashes_are_refused():
    """A set that would take quadratic time to build is refused."""
    line = json.dumps({"s": [{"i": hex(number * (2**61 - 1))} for number in range(1, 20_000)]})
    with pytest.raises(codec.CodecError, match="hashes"):
        codec.loads(line)


def test_exact_numbers():
    """Decimal and Fraction keep their value and type."""
    back = codec.loads(codec.dumps([Decimal("1.10"), Fraction(1, 3), 2**200, -(2**53)]))
    assert back == [Decimal("1.10"), Fraction(1, 3), 2**200, -(2**53)]
    assert str(back[0]) == "1.10"
