"""``@reward``: a plain function becomes a reward type."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import TYPE_CHECKING, Annotated, Literal

import pytest

from rewardkit import CallLimits, FieldName, Rollout, Score, reward
from rewardkit.authoring import AsyncRowwise, Rowwise, reward_type_of

if TYPE_CHECKING:
    from somewhere import NotHere

ROLLOUTS = [Rollout("p", "level"), Rollout("p", "other")]


@reward("palindrome", needs=["a"], timeout_s=3, deterministic=True, example="p: {use: palindrome}")
def palindrome(
    rollout: NotHere, *, strict: bool = False, reference: FieldName = "gold", extra: FieldName | None = None
) -> float:
    """Score 1 if a completion reads the same backwards.

    Spaces count.

    Args:
        rollout: The rollout.
        strict: Whether case
            counts.
        reference: Not used.
        extra: Nor this.
    """
    text = rollout.completion_text if strict else rollout.completion_text.lower()
    return float(text == text[::-1])


def built(target: object, **params: object):
    """The reward that a target makes from these parameters."""
    found = reward_type_of(target)
    return found.build(found.params(**params))


def test_a_function_stays_what_it_was() -> None:
    """A decorated function or class can still be called."""
    assert palindrome(ROLLOUTS[0]) == 1.0
    assert palindrome(Rollout("p", "Level"), strict=True) == 0.0


def test_everything_declared_is_kept() -> None:
    """The reward type holds what the decorator, the signature and the docstring say."""
    found = reward_type_of(palindrome)
    assert found.name == "palindrome"
    assert (found.scope, found.executor, found.timeout_s, found.deterministic) == ("rollout", "inline", 3, True)
    assert found.doc == "Score 1 if a completion reads the same backwards.\n\nSpaces count."
    assert found.example == "p: {use: palindrome}"
    assert found.origin == f"{__name__}:palindrome"
    fields = {item.name: item.metadata["doc"] for item in dataclasses.fields(found.params)}
    assert fields == {"strict": "Whether case counts.", "reference": "Not used.", "extra": "Nor this."}
    assert found.params() == found.params(strict=False, reference="gold")


def test_field_names_are_needs() -> None:
    """The values of parameters that name fields are needed, with the fixed ones; None names nothing."""
    found = reward_type_of(palindrome)
    assert found.needed_fields(found.params()) == ("a", "gold")
    assert found.needed_fields(found.params(reference="x", extra="y")) == ("a", "x", "y")


def test_lists_of_field_names_are_needs() -> None:
    """Each of a list of field names is needed."""

    @reward("several")
    def several(rollout, *, keys: list[FieldName]) -> float:
        """Several."""

    found = reward_type_of(several)
    assert found.needed_fields(found.params(keys=["a", "b"])) == ("a", "b")


def test_a_function_of_one_rollout_is_called_for_each() -> None:
    """A function whose first parameter isn't called ``rollouts`` gets them one by one, with its parameters bound."""
    function = built(palindrome, strict=True)
    assert isinstance(function, Rowwise)
    assert function(ROLLOUTS) == [1.0, 0.0]


def test_a_function_of_rollouts_gets_the_batch() -> None:
    """A function whose first parameter is called ``rollouts`` gets them all at once."""

    @reward("batch")
    def batch(rollouts, *, add: float = 0.0) -> list[float]:
        """Counts."""
        return [len(rollouts) + add] * len(rollouts)

    assert built(batch, add=0.5)(ROLLOUTS) == [2.5, 2.5]


def test_a_class_is_built_with_its_parameters() -> None:
    """A class takes its parameters in ``__init__``; their docs may stand in the class or in ``__init__``."""

    @reward("counter")
    class Counter:
        """Counts.

        Args:
            start: Where from.
        """

        def __init__(self, *, start: int = 1) -> None:
            self.start = start

        def __call__(self, rollouts):
            return [Score(self.start)] * len(rollouts)

    found = reward_type_of(Counter)
    assert [item.metadata["doc"] for item in dataclasses.fields(found.params)] == ["Where from."]
    assert built(Counter, start=5)(ROLLOUTS) == [Score(5)] * 2
    assert found.executor == "inline"


def test_a_class_needs_no_init() -> None:
    """A class without ``__init__`` has no parameters."""

    @reward("plain")
    class Plain:
        """Plain."""

        def __call__(self, rollouts):
            return [1.0] * len(rollouts)

    assert dataclasses.fields(reward_type_of(Plain).params) == ()
    assert built(Plain)(ROLLOUTS) == [1.0, 1.0]


def test_coroutine_functions_run_async() -> None:
    """A coroutine function, or a class whose ``__call__`` is one, runs on the executor async."""

    @reward("one")
    async def one(rollout, *, add: int = 0) -> float:
        """One."""
        return len(rollout.completion) + add

    @reward("many")
    class Many:
        """Many."""

        async def __call__(self, rollouts):
            return [1.0] * len(rollouts)

    assert {reward_type_of(one).executor, reward_type_of(Many).executor} == {"async"}
    assert isinstance(built(one), AsyncRowwise)
    assert asyncio.run(built(one, add=1)(ROLLOUTS)) == [6, 6]
    assert asyncio.run(built(Many)(ROLLOUTS)) == [1.0, 1.0]


def test_defaults_are_not_shared() -> None:
    """A list as a default is copied for each component."""

    @reward("mutable")
    def mutable(rollout, *, names: list[str] = ["a"]) -> float:  # noqa: B006
        """Mutable."""

    params = reward_type_of(mutable).params
    params().names.append("b")
    assert params().names == ["a"]


def test_what_is_inherited_is_not_decorated() -> None:
    """A subclass of a decorated class is no reward by itself."""

    @reward("base")
    class Base:
        """Base."""

        def __call__(self, rollouts):
            return []

    class Child(Base):
        """Child."""

    assert reward_type_of(Child) is None
    assert reward_type_of(3) is None


def positional(rollout, strict: bool = False) -> float:
    """A parameter that isn't keyword-only."""


def unannotated(rollout, *, strict=False) -> float:
    """A parameter without a type."""


def unresolved(rollout, *, strict: NotHere = False) -> float:
    """A parameter whose type isn't there."""


def variadic(rollout, **params: int) -> float:
    """Any parameters."""


def star(*rollouts) -> float:
    """Any rollouts."""


def nothing() -> float:
    """No rollout."""


def named(*, rollout: str) -> float:
    """No positional rollout."""


def one(rollout) -> float:
    """One rollout."""


async def coroutine(rollout) -> float:
    """A coroutine."""


@pytest.mark.parametrize(
    ("function", "options", "message"),
    [
        (positional, {}, "reward 'x': parameter 'strict' must be keyword-only; put a '\\*' before it"),
        (unannotated, {}, "reward 'x': parameter 'strict' needs a type annotation"),
        (unresolved, {}, "reward 'x': the annotation of a parameter can't be resolved: .*NotHere"),
        (variadic, {}, r"reward 'x': \*args and \*\*kwargs can't be described to YAML; name each parameter"),
        (star, {}, r"\*args and \*\*kwargs can't be described"),
        (nothing, {}, "reward 'x': the first parameter must be the rollout"),
        (named, {}, "reward 'x': the first parameter must be the rollout"),
        (
            one,
            {"scope": "group"},
            "with scope 'group' the first parameter is the whole group; call it 'rollouts', not 'rollout'",
        ),
        (one, {"executor": "async"}, "executor 'async' needs a coroutine function; write 'async def'"),
        (coroutine, {"executor": "process"}, "a coroutine function runs on executor 'async', not 'process'"),
        (one, {"limits": CallLimits()}, "limits are of coroutine functions; write 'async def'"),
        (one, {"needs": "answer"}, r"needs must be a list of fields, as in \['answer'\]"),
    ],
)
def test_what_cannot_be_a_reward(function, options: dict, message: str) -> None:
    """A signature that YAML could not set, or that the executor could not run, is refused where it is decorated."""
    with pytest.raises(TypeError, match=message):
        reward("x", **options)(function)


def test_types_are_resolved_where_they_were_written() -> None:
    """Annotations that are strings are resolved in the module of the function."""

    @reward("typed")
    def typed(rollout, *, mode: Literal["a", "b"] = "a", share: Annotated[float, "share"] = 0.5) -> float:
        """Typed."""

    types = {item.name: item.type for item in dataclasses.fields(reward_type_of(typed).params)}
    assert types == {"mode": Literal["a", "b"], "share": Annotated[float, "share"]}
