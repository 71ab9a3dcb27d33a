"""Assertions split into calls for the box and a condition for the host."""

import pytest

from rewardkit_sandbox import Call, Execution, Opaque, split_assertion


def holds(source, *values):
    """Return whether an assertion holds if its calls return the given values."""
    return split_assertion(source).holds([Execution("ok", value=value) for value in values])


@pytest.mark.parametrize(
    ("source", "call"),
    [
        ("assert add(1, 2) == 3", Call("add", (1, 2))),
        ("assert f([1], k={'a': (1, None)}) is None", Call("f", ([1],), {"k": {"a": (1, None)}})),
        ("assert Solution().f(-1) == 1", Call("Solution.f", (-1,))),
        ("assert sorted(f('x'), reverse=True) == [2, 1]", Call("f", ("x",))),
        ("assert sum([1, 2]) == 3", Call("sum", ([1, 2],))),
        ("assert not f()", Call("f")),
        ("assert math.isclose(f(2), 1.5, rel_tol=1e-3)", Call("f", (2,))),
        ("assert abs(f(2) - 1.5) < 1e-6, 'message'", Call("f", (2,))),
    ],
)
def test_calls(source, call):
    """The program's function and its literal arguments are found."""
    assert split_assertion(source).calls == (call,)


@pytest.mark.parametrize(
    "source",
    ["assert True", "x = 1", "assert f(x) == 1", "assert f(open('a')) == 1", "assert [f(i) for i in range(3)]",
     "assert f(1).g == 2", "assert (lambda: 1)() == f(1)", "assert f(1) is g", "assert isinstance(f(1), int)", "assert f(*a) == 1"],
)  # fmt: skip
def test_what_is_left_to_a_judge(source):
    """Anything beyond literals and plain operations is not split."""
    assert split_assertion(source) is None


@pytest.mark.parametrize(
    ("source", "value", "expected"),
    [
        ("assert f() == 3", 3, True),
        ("assert f() == 3", Opaque("E"), False),
        ("assert f() == (1, 2)", [1, 2], False),
        ("assert f()", [], False),
        ("assert not f()", 0, True),
        ("assert f() in (1, 2)", 2, True),
        ("assert 1 < f() < 3", 2, True),
        ("assert 1 < f() < 3", Opaque("E"), False),
        ("assert abs(f() - 5) < 1e-6", Opaque("E"), False),
        ("assert len(f()) == 2", "ab", True),
        ("assert f()[0] == 1", [1], True),
        ("assert f()[9] == 1", [1], False),
        ("assert f() == 1 or f() == 2", 2, False),
        ("assert f() % 10**9 == 1", "%d", False),
        ("assert f() * 10**9 == 1", "x", False),
        ("assert round(f(), 2) == 1.23", 1.2345, True),
        ("assert math.isclose(f(), 1.5)", float("nan"), False),
        ("assert set(f()) == {1, 2}", [2, 1, 1], True),
        ("assert f() == -1", -1, True),
        ("assert f() ** 2 == 4", 10**1000, False),
    ],
)
def test_conditions(source, value, expected):
    """The host works out the condition over plain values; what can't be worked out does not hold."""
    count = len(split_assertion(source).calls)
    assert holds(source, value, *[1] * (count - 1)) is expected


def test_a_call_that_failed():
    """An assertion holds only if its calls returned."""
    assert not split_assertion("assert f() != 1").holds([Execution("error", raised="ValueError")])
