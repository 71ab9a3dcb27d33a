"""Values of a row can be read as usual, copied, serialized and pickled, and never changed."""

import copy
import datetime as dt
import decimal
import json
import math
import pickle
from collections.abc import Callable
from typing import Any

import orjson
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewardkit import Rollout
from rewardkit.read_only import ReadOnlyDict, ReadOnlyList, has_value, have_values, read_only, read_only_fields

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False) | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
)

CHANGES: list[Callable[[Any], object]] = [
    lambda value: value.pop(),
    lambda value: value.pop(next(iter(value), 0), None),
    lambda value: value.clear(),
    lambda value: value.popitem(),
    lambda value: value.update(x=1),
    lambda value: value.setdefault("x", 1),
    lambda value: value.__setitem__(0, 1),
    lambda value: value.__delitem__(0),
    lambda value: value.__ior__({"x": 1}),
    lambda value: value.append(1),
    lambda value: value.extend([1]),
    lambda value: value.insert(0, 1),
    lambda value: value.remove(3),
    lambda value: value.sort(),
    lambda value: value.reverse(),
    lambda value: value.__iadd__([1]),
    lambda value: value.__imul__(2),
]


@pytest.mark.parametrize("change", range(len(CHANGES)))
def test_nothing_can_be_changed(change: int) -> None:
    """Every method that changes a dict or a list raises, at every level, and says to change a copy."""
    value = {"rows": [{"cells": [3, 1, 2]}]}
    fields = read_only_fields(value)
    for part in (fields, fields["rows"], fields["rows"][0], fields["rows"][0]["cells"]):
        with pytest.raises((TypeError, AttributeError)) as raised:
            CHANGES[change](part)
        if raised.type is TypeError:
            assert "read-only" in str(raised.value)
    assert fields == value


def test_the_original_is_a_copy() -> None:
    """Later changes of what a rollout was made from do not reach it."""
    row = {"tests": [[1, 2]]}
    rollout = Rollout("p", "c", row)
    row["tests"][0].append(3)
    row["other"] = []
    assert rollout.fields == {"tests": [[1, 2]]}


@given(json_values)
def test_values_stay_what_they_are(value: Any) -> None:
    """A value equals its original, serializes alike, survives pickle, and its deep copy is plain."""
    frozen = read_only(value)
    assert frozen == value
    assert json.dumps(frozen) == json.dumps(value)
    assert pickle.loads(pickle.dumps(frozen)) == value  # noqa: S301
    plain = copy.deepcopy(frozen)
    assert plain == value
    assert type(plain) in {type(value), dict, list}
    assert read_only(frozen) is frozen


def test_serializers_take_read_only_values() -> None:
    """Orjson and Arrow write read-only values as they write plain ones."""
    value = {"a": [{"b": [1, 2]}], "c": {"d": "e"}}
    frozen = read_only(value)
    assert orjson.dumps(frozen) == orjson.dumps(value)
    assert pa.array([frozen]) == pa.array([value])


def test_copies_can_be_changed() -> None:
    """dict(), list(), copy() and slices give plain objects; a deep copy is plain at every level."""
    frozen = read_only({"a": [[1]]})
    for plain in (dict(frozen), frozen.copy(), copy.copy(frozen)):
        plain["b"] = 1
    for items in (list(frozen["a"]), frozen["a"].copy(), frozen["a"][:], copy.copy(frozen["a"]), frozen["a"] + [1]):
        items.append(2)
    deep = copy.deepcopy(frozen)
    deep["a"][0].append(2)
    assert frozen == {"a": [[1]]}


def test_pickles_are_read_only() -> None:
    """A rollout that was sent to another process is read-only there, too."""
    rollout = pickle.loads(pickle.dumps(Rollout([{"role": "user", "content": "p"}], "c", {"a": [1]})))  # noqa: S301
    assert type(rollout.fields) is ReadOnlyDict
    assert type(rollout.fields["a"]) is ReadOnlyList
    assert type(rollout.prompt[0]) is ReadOnlyDict


def test_other_containers() -> None:
    """Sets become frozen sets, bytearrays bytes; what is in tuples is read-only; unknown objects are passed on."""
    thing = object()
    given_ = {"set": {1}, "bytes": bytearray(b"x"), "tuple": ([1], 2), "thing": thing}
    assert read_only_fields(given_) == {"set": frozenset({1}), "bytes": b"x", "tuple": ([1], 2), "thing": thing}
    assert type(read_only_fields(given_)["tuple"][0]) is ReadOnlyList


def test_numpy() -> None:
    """Scalars of NumPy become Python's own, and arrays can't be written to, while the original can."""
    numpy = pytest.importorskip("numpy", reason="numpy is not installed")
    array = numpy.zeros(3)
    fields = Rollout(
        "p", "c", {"f": numpy.float64(0.5), "i": numpy.int32(3), "b": numpy.True_, "s": numpy.str_("x"), "a": array}
    ).fields
    assert [type(fields[name]) for name in "fibs"] == [float, int, bool, str]
    with pytest.raises(ValueError, match="read-only"):
        fields["a"][0] = 1
    array[0] = 1


@pytest.mark.parametrize(
    "value", [None, math.nan, decimal.Decimal("nan"), "", " \n", "<NA>", "NaN", "nan", "NaT", "None", [], (), {}, b""]
)
def test_no_value(value: object) -> None:
    """What data tools write for a missing value is none."""
    assert not has_value(value)
    assert not Rollout("p", "c", {"answer": value}).has_value("answer")


@pytest.mark.parametrize(
    "value", [0, 0.0, False, "0", "none", [None], "n/a", decimal.Decimal(0), dt.date.min, object()]
)
def test_values(value: object) -> None:
    """Zero, False and other texts are values."""
    assert has_value(value)
    assert Rollout("p", "c", {"answer": value}).has_value("answer")


def test_missing_values_of_pandas_and_numpy() -> None:
    """NaN, NA and NaT of pandas and NumPy become None in a rollout's fields; empty arrays are no value."""
    numpy = pytest.importorskip("numpy", reason="numpy is not installed")
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    for value in (
        pandas.NA,
        pandas.NaT,
        numpy.nan,
        numpy.float32("nan"),
        numpy.datetime64("NaT"),
        numpy.array(numpy.nan),
    ):
        assert not has_value(value)
        assert Rollout("p", "c", {"x": value}).fields["x"] is None
    assert not has_value(numpy.array([]))
    assert has_value(numpy.array([numpy.nan, 1]))


def test_objects_that_refuse_to_be_compared() -> None:
    """An object whose comparison raises is a value like any other."""

    class Odd:
        def __ne__(self, other: object) -> bool:
            raise RuntimeError

    assert has_value(Odd())


@given(st.lists(st.sampled_from(["a", "", " ", "nan", None, 0.0, float("nan"), [], [1], 5]), max_size=4))
def test_values_are_looked_at_together_as_one_by_one(values: list[Any]) -> None:
    """`have_values` is true if `has_value` is true of each."""
    assert have_values(values) == all(map(has_value, values))
