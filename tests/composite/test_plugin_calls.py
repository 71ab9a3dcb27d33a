"""Whatever a plugin raises or returns ends as a score or as Unscored; nothing becomes 0 and nothing gets through."""

import asyncio
import decimal
import enum
import fractions
import math
import os
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewardkit import Rollout, Score, Unscored
from rewardkit.authoring import Rowwise
from rewardkit.composite.failures import MAX_TRACEBACK
from rewardkit.composite.plugin_calls import (
    call_async,
    call_group,
    call_one,
    call_reward,
    check_results,
    close_reward,
    to_outcome,
)

WHO = "acme (acme 1.0)"
ROLLOUTS = [Rollout("p", text) for text in "abc"]


class Huge(Score):
    """Somebody's own kind of score."""


def odd_score(**fields: Any) -> Score:
    """A score whose fields were tampered with after it was made."""
    score = Score(1.0)
    for name, value in fields.items():
        object.__setattr__(score, name, value)
    return score


@pytest.mark.parametrize(
    ("result", "score"),
    [
        (1.0, Score(1.0)),
        (0, Score(0.0)),
        (True, Score(1.0)),
        (False, Score(0.0)),
        (-2.5, Score(-2.5)),
        (3, Score(3.0)),
        (fractions.Fraction(1, 4), Score(0.25)),
        (Score(1, "why", {"passed": 3}, [0, 1]), Score(1.0, "why", {"passed": 3.0}, [0.0, 1.0])),
        (Huge(0.5, "why"), Score(0.5, "why")),
        (Unscored("reference", "no answer"), Unscored("reference", "no answer")),
    ],
)
def test_scores(result: object, score: object) -> None:
    """Numbers of every kind and scores become a Score of plain floats; an Unscored stays what it is."""
    outcome = to_outcome(result, WHO)
    assert outcome == score
    assert type(outcome) is type(score)
    if isinstance(outcome, Score):
        assert type(outcome.value) is float


@pytest.mark.parametrize(
    ("result", "found"),
    [
        (None, "nothing (None)"),
        ("1.0", "a str"),
        ([1.0], "a list"),
        (1j, "a complex"),
        (decimal.Decimal(1), "a Decimal"),
        (object(), "a object"),
        (math.nan, "nan, which is not a finite number"),
        (math.inf, "inf, which is not a finite number"),
        (-math.inf, "-inf, which is not a finite number"),
        (10**400, "a number that is no float"),
        (odd_score(value=math.nan), "holds nan"),
        (odd_score(value=None), "whose numbers are none"),
        (odd_score(reason=3), "whose reason is a int, not text"),
        (odd_score(metrics={"x": math.inf}), "holds inf"),
        (odd_score(metrics=[1]), "whose numbers are none"),
        (odd_score(steps=[0.0, math.nan]), "holds nan"),
        (odd_score(steps=["x"]), "whose numbers are none"),
        (Unscored("lazy", "x"), "the unknown kind 'lazy': x"),
        (Unscored(["infra"], "x"), "the unknown kind"),
    ],
)
def test_what_is_no_score(result: object, found: str) -> None:
    """What is no finite number, no Score and no Unscored is Unscored(plugin), which says whose it is and what was found."""
    outcome = to_outcome(result, WHO)
    assert isinstance(outcome, Unscored)
    assert outcome.kind == "plugin"
    assert outcome.message.startswith(WHO)
    assert found in outcome.message


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.complex_numbers(),
        lambda children: st.lists(children) | st.dictionaries(st.text(), children) | st.tuples(children),
    )
)
def test_any_result_is_an_outcome(result: object) -> None:
    """Any value at all becomes one outcome; it is a finite score only if it was a finite number."""
    (outcome,) = call_reward(lambda rollouts: [result], ROLLOUTS[:1], WHO)
    if isinstance(outcome, Score):
        assert isinstance(result, int | float)
        assert outcome.value == float(result)
        assert math.isfinite(outcome.value)
    else:
        assert outcome.kind == "plugin"


@pytest.mark.parametrize(
    ("results", "found"),
    [
        ([1.0, 2.0], "returned 2 scores for 3 rollouts"),
        ([], "returned 0 scores for 3 rollouts"),
        ([1.0] * 4, "returned 4 scores for 3 rollouts"),
        (1.0, "returned a float, not a list of 3 scores"),
        (None, "returned a NoneType, not a list of 3 scores"),
        ("abc", "returned a str, not a list of 3 scores"),
        ({"a": 1, "b": 2, "c": 3}, "returned a dict, not a list of 3 scores"),
        ((value for value in (1, 2, 3)), "returned a generator, not a list of 3 scores"),
    ],
)
def test_wrong_lengths_and_kinds(results: object, found: str) -> None:
    """A batch's results that are no list of as many scores leave all its rollouts unscored; which is whose can't be known."""
    outcomes = check_results(results, 3, WHO)
    assert [outcome.kind for outcome in outcomes] == ["plugin"] * 3
    assert found in outcomes[0].message


def test_numpy() -> None:
    """Scalars of numpy are numbers, arrays of as many are lists; one without a length is what its plugin did wrong."""
    numpy = pytest.importorskip("numpy", reason="numpy is not installed")
    scalars = [numpy.float32(0.5), numpy.int64(2), numpy.True_, numpy.array(0.25)]
    assert [to_outcome(scalar, WHO) for scalar in scalars] == [Score(0.5), Score(2.0), Score(1.0), Score(0.25)]
    assert to_outcome(numpy.float64("nan"), WHO).kind == "plugin"
    assert call_reward(lambda rollouts: numpy.array([0.0, 0.5, 1.0]), ROLLOUTS, WHO) == [
        Score(0.0),
        Score(0.5),
        Score(1.0),
    ]
    outcomes = call_reward(lambda rollouts: numpy.array(1.0), ROLLOUTS, WHO)
    assert [outcome.kind for outcome in outcomes] == ["plugin"] * 3


class UnprintableError(Exception):
    """An exception whose text can't be had."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


class Panic(BaseException):
    """What extensions in Rust raise."""


@pytest.mark.parametrize(
    "error", [ValueError("bad row"), SystemExit(3), Panic("panic"), RecursionError(), MemoryError(), GeneratorExit()]
)
def test_only_the_culprit_is_unscored(error: BaseException) -> None:
    """A batch function that raises for one row leaves that row unscored, with what it raised; the others are scored."""

    def function(rollouts):
        if any(rollout.completion == "b" for rollout in rollouts):
            raise error
        return [1.0] * len(rollouts)

    first, second, third = call_reward(function, ROLLOUTS, WHO)
    assert (first, third) == (Score(1.0), Score(1.0))
    assert second.kind == "plugin"
    assert second.message.startswith(f"{WHO} raised {type(error).__name__}")
    assert "in function" in second.traceback


def test_row_functions_raise_by_row() -> None:
    """So does a function of one rollout, which is called once for each."""
    calls: list[str] = []

    def one(rollout):
        calls.append(rollout.completion)
        return 1 / (rollout.completion != "b")

    outcomes = call_reward(Rowwise(one), ROLLOUTS, WHO)
    assert [type(outcome) for outcome in outcomes] == [Score, Unscored, Score]
    assert outcomes[1].message == f"{WHO} raised ZeroDivisionError: division by zero"
    assert calls == ["a", "b", "c"]


def test_a_group_stands_or_falls_together() -> None:
    """If a group's function raises, all of the group is unscored."""

    def function(rollouts):
        raise ValueError("uneven")

    assert {outcome.message for outcome in call_group(function, ROLLOUTS, WHO)} == {f"{WHO} raised ValueError: uneven"}


def test_an_exception_without_a_text() -> None:
    """An exception that can't be printed is told by its name."""

    def one(rollout):
        raise UnprintableError

    assert call_one(one, ROLLOUTS[0], WHO).message == f"{WHO} raised UnprintableError: (its text can't be had)"


def test_long_messages_are_cut() -> None:
    """An exception that quotes a whole completion doesn't fill the output with it."""

    def one(rollout):
        raise ValueError("x" * 10**7)

    outcome = call_one(one, ROLLOUTS[0], WHO)
    assert len(outcome.message) < 400
    assert len(outcome.traceback) <= MAX_TRACEBACK


@pytest.mark.parametrize("call", [call_reward, call_group])
def test_ctrl_c_passes(call) -> None:
    """Ctrl-C while a plugin runs is not the plugin's."""

    def function(rollouts):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        call(function, ROLLOUTS, WHO)


def test_an_empty_batch_calls_nothing() -> None:
    """No rollouts, no call."""
    assert call_reward(lambda rollouts: 1 / 0, [], WHO) == []


@pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt, asyncio.CancelledError])
def test_async_rewards_raise_like_others(error: type[BaseException]) -> None:
    """What a coroutine raises is its plugin's, a cancellation of its own making included."""

    async def function(rollouts):
        raise error

    outcomes = asyncio.run(call_async(function, ROLLOUTS, WHO))
    assert [outcome.message for outcome in outcomes] == [f"{WHO} raised {error.__name__}"] * 3


def test_cancelling_from_outside_passes() -> None:
    """A cancellation that comes from outside goes through."""

    async def function(rollouts):
        await asyncio.Event().wait()

    async def main() -> bool:
        task = asyncio.create_task(call_async(function, ROLLOUTS, WHO))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        return task.cancelled()

    assert asyncio.run(main())


class Kind(enum.Enum):
    """A value that is no number."""

    GOOD = 1


def test_an_enum_is_no_number() -> None:
    """An enum's member isn't taken for its value."""
    assert to_outcome(Kind.GOOD, WHO).kind == "plugin"


def test_closing_never_raises(caplog: pytest.LogCaptureFixture) -> None:
    """A plugin that fails to close is told of, and no more."""

    class Plugin:
        def close(self):
            raise OSError("still open")

    close_reward(Plugin(), WHO)
    close_reward(object(), WHO)
    assert caplog.messages == [f"{WHO} could not be closed"]


def fork(end: BaseException | None = None) -> float:
    """Fork; both processes return, or raise."""
    os.fork()
    if end is not None:
        raise end
    return 1.0


async def fork_async(rollouts):
    """Fork in a coroutine function."""
    return [fork()] * len(rollouts)


class ForksOnClose:
    """A reward whose ``close`` forks."""

    def close(self) -> None:
        """Fork."""
        fork()


CALLS = {
    "row": lambda: call_reward(Rowwise(lambda rollout: fork()), ROLLOUTS[:1], WHO),
    "batch": lambda: call_reward(lambda rollouts: [fork()], ROLLOUTS[:1], WHO),
    "group": lambda: call_group(lambda rollouts: [fork()], ROLLOUTS[:1], WHO),
    "raises": lambda: call_one(lambda rollout: fork(ValueError()), ROLLOUTS[0], WHO),
    "exits": lambda: call_reward(lambda rollouts: fork(SystemExit(3)), ROLLOUTS[:1], WHO),
    "interrupts": lambda: call_group(lambda rollouts: fork(KeyboardInterrupt()), ROLLOUTS[:1], WHO),
    "async": lambda: asyncio.run(call_async(fork_async, ROLLOUTS[:1], WHO)),
    "close": lambda: close_reward(ForksOnClose(), WHO),
}


@pytest.mark.parametrize("how", CALLS)
def test_a_forked_child_never_returns_to_the_caller(how: str) -> None:
    """If a reward forks, only the process that called it goes on; the child exits, whether the reward returns or raises."""
    read, write = os.pipe()
    try:
        CALLS[how]()
    except KeyboardInterrupt:
        assert how == "interrupts"
    finally:
        os.write(write, b"x")  # by every process that comes here
    _, status = os.wait()
    assert os.waitstatus_to_exitcode(status) == 0
    assert os.read(read, 100) == b"x"
    os.close(read)
    os.close(write)


@pytest.mark.parametrize("call", [call_reward, call_group, lambda *call: asyncio.run(call_async(*call))])
def test_a_batch_is_a_tuple(call) -> None:
    """A reward that sorts or empties its batch raises instead of moving scores to other rollouts."""
    batches: list[object] = []

    def function(rollouts):
        batches.append(rollouts)
        rollouts.reverse()

    given_ = list(ROLLOUTS)
    assert {outcome.kind for outcome in call(function, given_, WHO)} == {"plugin"}
    assert {type(batch) for batch in batches} == {tuple}
    assert given_ == ROLLOUTS


def test_an_outage_is_not_tried_for_every_rollout() -> None:
    """If the batch and its first rollout raise network errors, the service is down: the others are not tried."""
    sizes: list[int] = []

    def function(rollouts):
        sizes.append(len(rollouts))
        raise ConnectionRefusedError

    assert {outcome.kind for outcome in call_reward(function, ROLLOUTS, WHO)} == {"infra"}
    assert sizes == [3, 1]


def test_a_dropped_connection_is_tried_again() -> None:
    """If the first rollout alone is scored, the network error came from one of the others."""

    def function(rollouts):
        if any(rollout.completion == "b" for rollout in rollouts):
            raise ConnectionResetError
        return [1.0] * len(rollouts)

    outcomes = call_reward(function, ROLLOUTS, WHO)
    assert [getattr(outcome, "kind", None) for outcome in outcomes] == [None, "infra", None]


@pytest.mark.parametrize("call", [call_reward, call_group])
def test_network_errors_of_sync_rewards_are_infra(call) -> None:
    """A network error is the service's failure in rewards that are not async, too."""

    def function(rollouts):
        raise TimeoutError("read timed out")

    assert {outcome.kind for outcome in call(function, ROLLOUTS, WHO)} == {"infra"}


def test_scores_that_tell_what_they_extracted_are_not_made_again() -> None:
    """Rollouts may share one score with a text in it; a text of another type is made one."""
    shared, other = Score(1.0, "", extracted="<a>...</a>"), Score(0.0)
    found = call_reward(lambda _rollouts: [shared, other, shared], [Rollout("p", "c")] * 3, "me")
    assert all(one is wanted for one, wanted in zip(found, [shared, other, shared], strict=True))
    [made] = call_reward(lambda _rollouts: [Score(1.0, "", extracted=5)], [Rollout("p", "c")], "me")  # type: ignore[arg-type]
    assert isinstance(made, Score)
    assert made.extracted == "5"
