"""The contract kit, held against rewards that keep the contract and against one that breaks it for every clause."""

# The rewards below are specimens; their names say what is wrong with them.
# ruff: noqa: D101, D102, D103

import math
import unittest
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
from pydantic import BaseModel, ConfigDict

from rewardkit import FieldName, NotApplicable, RewardType, Rollout, Score, Unscored, reward
from rewardkit.testing import ContractBrokenError, RewardContract

GOOD = (
    Rollout("p", "abba", {"answer": "abba", "extra": 1}, num_tokens=3),
    Rollout("p", "noon", {"answer": "noon", "extra": 2}, num_tokens=4),
)
BAD = (
    Rollout("p", "abc", {"answer": "abba", "extra": 1}, num_tokens=3),
    Rollout("p", "xyz", {"answer": "abba", "extra": 1}, num_tokens=2),
)


def is_right(rollout):
    return rollout.completion_text == rollout.completion_text[::-1] != ""


def broken_clauses(target, *, params=None, good=GOOD, bad=BAD):
    """The names of the tests that fail, with their messages; skipped ones are left out."""

    class Case(RewardContract):
        pass

    Case.reward, Case.params, Case.good, Case.bad = target, params or {}, good, bad
    failed = {}
    for name in sorted(vars(RewardContract)):
        if not name.startswith("test_"):
            continue
        try:
            getattr(Case(), name)()
        except ContractBrokenError as error:
            failed[name.removeprefix("test_")] = str(error)
        except unittest.SkipTest:
            pass
    return failed


# --- rewards that keep the contract ------------------------------------------------------------------------------------


@reward("plain")
def plain(rollout: Rollout, *, strict: bool = False) -> float:
    return float(is_right(rollout))


@reward("by_content", deterministic=True, content=lambda _params, rollout: rollout.completion_text.strip())
def by_content(rollout):
    return is_right(rollout)


@reward("batched")
def batched(rollouts: list[Rollout]) -> list[Score]:
    return [Score(float(is_right(rollout)), "said so") for rollout in rollouts]


@reward("with_state")
class WithState:
    def __init__(self, *, answer: FieldName = "answer") -> None:
        self.answer, self.open = answer, True

    def __call__(self, rollouts):
        assert self.open
        return [rollout.completion_text == rollout.fields[self.answer] for rollout in rollouts]

    def close(self):
        self.open = False


@reward("asynchronous")
async def asynchronous(rollout: Rollout) -> float:
    return float(is_right(rollout))


@reward("grouped", scope="group")
def grouped(rollouts: list[Rollout]) -> list[float]:
    values = [float(is_right(rollout)) for rollout in rollouts]
    mean = sum(values) / len(values)
    return [value - mean for value in values]


@reward("needs_tokens", needs_tokens=True)
def needs_tokens(rollout: Rollout) -> float:
    return is_right(rollout) + rollout.num_tokens / 10**10


@reward("admits_its_state", repeatable=False)
class AdmitsItsState:
    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, rollouts):
        self.calls += 1
        return [is_right(rollout) + self.calls / 1000 for rollout in rollouts]


@reward("speaks_of_some")
def speaks_of_some(rollout: Rollout) -> float | NotApplicable:
    return float(is_right(rollout)) if rollout.completion_text else NotApplicable("there is no completion")


@pytest.mark.parametrize(
    "target",
    [plain, by_content, batched, WithState, asynchronous, grouped, needs_tokens, AdmitsItsState, speaks_of_some],
)
def test_rewards_that_keep_the_contract_pass_every_test(target):
    """No clause fails for functions, batches, classes, coroutines and group rewards that are right."""
    assert broken_clauses(target) == {}


def test_parameters_are_passed_on():
    """The parameters of a test class are checked like those of a reward file, and passed to the reward."""

    @reward("threshold")
    def threshold(rollout: Rollout, *, at: int) -> float:
        return float(len(rollout.completion_text) > at)

    long = (Rollout("p", "x" * 10),)
    assert broken_clauses(threshold, params={"at": 5}, good=long, bad=BAD) == {}
    assert list(broken_clauses(threshold, params={"at": 50}, good=long, bad=BAD)) == ["good_gets_more_than_bad"]


# --- rewards that break one clause each --------------------------------------------------------------------------------

WRONG = {}


def breaks(clause, says):
    def register(target):
        WRONG[getattr(target, "__name__", target)] = (target, clause, says)
        return target

    return register


@dataclass(frozen=True)
class NoParams:
    pass


class OpenParams(BaseModel):
    model_config = ConfigDict(extra="allow")


def rowwise(rollouts):
    return [float(is_right(rollout)) for rollout in rollouts]


@breaks("it_refuses_unknown_parameters", "misspelt")
class TakesAnything:
    __rewardkit_reward_type__ = RewardType("takes_anything", OpenParams, lambda params: rowwise)


@breaks("it_is_found_and_takes_its_parameters", "building it (and closing it again) raised OSError: no licence")
@reward("cannot_be_built")
class CannotBeBuilt:
    def __init__(self) -> None:
        raise OSError("no licence")

    def __call__(self, rollouts):
        return rowwise(rollouts)


@breaks("it_is_found_and_takes_its_parameters", "must_have")
@reward("lacks_a_parameter")
def lacks_a_parameter(rollout: Rollout, *, must_have: int) -> float:
    return float(is_right(rollout))


@breaks("an_empty_batch_gives_an_empty_list", "for [] it raised ZeroDivisionError")
@reward("fails_when_empty")
def fails_when_empty(rollouts: list[Rollout]) -> list[float]:
    return [value / 1 for value in rowwise(rollouts)] if 1 / len(rollouts) else []


@breaks("an_empty_batch_gives_an_empty_list", "for [] it returned [0.0]")
@reward("never_empty")
def never_empty(rollouts: list[Rollout]) -> list[float]:
    return rowwise(rollouts) or [0.0]


@breaks("it_gives_one_result_per_rollout", "for 4 rollouts it returned 3 results")
@reward("loses_one")
def loses_one(rollouts: list[Rollout]) -> list[float]:
    return rowwise(rollouts)[: 3 if len(rollouts) > 1 else 1]


@breaks("it_gives_one_result_per_rollout", "returned a float, not a list")
@reward("gives_a_number")
def gives_a_number(rollouts: list[Rollout]) -> object:
    return 1.0 if rollouts else []


@breaks("it_gives_one_result_per_rollout", "raised KeyError: 'solution'")
@reward("fails_on_longer_ones")
def fails_on_longer_ones(rollout: Rollout) -> float:
    return float(rollout.fields["solution"] if rollout.completion in ("abba", "abc") else is_right(rollout))


@breaks("results_are_finite_numbers", "returned nan")
@reward("nan")
def nan(rollout: Rollout) -> float:
    return math.nan if rollout.completion == "xyz" else float(is_right(rollout))


@breaks("results_are_finite_numbers", "returned nothing (None)")
@reward("forgets_to_return")
def forgets_to_return(rollout: Rollout) -> object:
    return None if rollout.completion == "xyz" else float(is_right(rollout))


@breaks("results_are_finite_numbers", "returned a str")
@reward("gives_text")
def gives_text(rollout: Rollout) -> object:
    return "0" if rollout.completion == "xyz" else float(is_right(rollout))


@breaks("results_are_finite_numbers", "gave the unknown kind 'tired'")
@reward("invents_a_kind")
def invents_a_kind(rollout: Rollout) -> object:
    return Unscored("tired", "not today") if rollout.completion == "xyz" else float(is_right(rollout))


@breaks("it_is_repeatable", "from the same instance later")
@reward("counts_calls")
class CountsCalls:
    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, rollouts):
        self.calls += 1
        return [is_right(rollout) + self.calls / 1000 for rollout in rollouts]


@breaks("it_is_repeatable", "from a new instance")
@reward("remembers_other_instances")
class RemembersOtherInstances:
    made = 0

    def __init__(self) -> None:
        type(self).made += 1
        self.offset = self.made / 100_000

    def __call__(self, rollouts):
        return [is_right(rollout) + self.offset for rollout in rollouts]


@breaks("a_result_does_not_depend_on_the_batch", "reverse order")
@reward("sorts")
def sorts(rollouts: list[Rollout]) -> list[float]:
    return sorted(rowwise(rollouts), reverse=True)


@breaks("a_result_does_not_depend_on_the_batch", "scope='group'")
@reward("compares")
def compares(rollouts: list[Rollout]) -> list[float]:
    values = rowwise(rollouts)
    return [value - sum(values) / len(values) for value in values]


@breaks("a_result_does_not_depend_on_the_batch", "reverse order")
@reward("first_of_group", scope="group")
def first_of_group(rollouts: list[Rollout]) -> list[float]:
    return [value + 0.1 * (place == 0) for place, value in enumerate(rowwise(rollouts))]


@breaks("hostile_text_never_raises", "an empty completion (a batch of 1): it raised IndexError")
@reward("reads_the_first_letter")
def reads_the_first_letter(rollout: Rollout) -> float:
    return float(rollout.completion_text[0] != "" and is_right(rollout))


@breaks("hostile_text_never_raises", "lone surrogates")
@reward("encodes")
def encodes(rollout: Rollout) -> float:
    return float(rollout.completion_text.encode() != b"" and is_right(rollout))


@breaks("hostile_text_never_raises", "chat messages")
@reward("takes_text_only")
def takes_text_only(rollout: Rollout) -> float:
    return float(rollout.completion.strip() != "" and is_right(rollout))


@breaks("hostile_text_never_raises", "100,000 nested tags")
@reward("recursive")
def recursive(rollout: Rollout) -> float:
    def depth(text):
        return 1 + depth(text[7:]) if text.startswith("<think>") else 0

    return float(is_right(rollout)) + 0 * depth(rollout.completion_text)


@breaks("hostile_text_never_raises", "a length of 0 tokens")
@reward("trusts_num_tokens", needs_tokens=True)
def trusts_num_tokens(rollout: Rollout) -> float:
    return float(is_right(rollout)) - 1e-9 / rollout.num_tokens


@breaks("the_fields_it_declares_are_enough", "needs_tokens=True")
@reward("does_not_declare_tokens")
def does_not_declare_tokens(rollout: Rollout) -> float:
    return is_right(rollout) + (0.0 if rollout.num_tokens is None else 0.5)


@breaks("hostile_text_never_raises", "returned -inf")
@reward("infinite_when_empty")
def infinite_when_empty(rollout: Rollout) -> float:
    return float(is_right(rollout)) if rollout.completion else -math.inf


@breaks("hostile_text_never_raises", "(a batch of 1): it raised ZeroDivisionError")
@reward("no_group_of_one", scope="group")
def no_group_of_one(rollouts: list[Rollout]) -> list[float]:
    return [value / (len(rollouts) - 1) for value in rowwise(rollouts)]


@breaks("hostile_text_never_raises", "it raised SystemExit")
@reward("leaves")
def leaves(rollout: Rollout) -> float:
    if rollout.completion == "":
        raise SystemExit(1)
    return float(is_right(rollout))


@breaks("good_gets_more_than_bad", "the good completion 'abba' got Score(value=1.0")
@reward("constant")
def constant(rollout: Rollout) -> float:
    return 1.0


@breaks("good_gets_more_than_bad", "was not scored: Unscored(kind='infra'")
@reward("gives_up")
def gives_up(rollout: Rollout) -> float | Unscored:
    return Unscored("infra", "the service is down") if rollout.completion == "noon" else float(is_right(rollout))


@breaks("the_fields_it_declares_are_enough", "raised KeyError: 'answer'")
@reward("declares_nothing")
def declares_nothing(rollout: Rollout) -> float:
    return float(rollout.completion_text == rollout.fields["answer"])


@breaks("the_fields_it_declares_are_enough", "and Score")
@reward("declares_too_little", needs=["answer"])
def declares_too_little(rollout: Rollout) -> Score:
    return Score(float(rollout.completion_text == rollout.fields["answer"]), str(rollout.fields.get("extra")))


@breaks("the_fields_it_declares_are_enough", "lacks ['reference']")
@reward("declares_what_is_not_there", needs=["reference"])
def declares_what_is_not_there(rollout: Rollout) -> float:
    return float(is_right(rollout))


@breaks("it_leaves_rollouts_alone", "was changed by scoring it")
@reward("writes_into_the_row", needs=["extra"])
def writes_into_the_row(rollout: Rollout) -> float:
    object.__setattr__(rollout, "num_tokens", 1)
    return float(is_right(rollout))


@breaks("rows_that_it_calls_equal_get_equal_results", "for a rollout with equal content")
@reward("short_content", deterministic=True, content=lambda _params, rollout: rollout.completion_text[:4])
def short_content(rollout):
    return is_right(rollout) - len(rollout.completion_text) / 1000


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_reward_fails_exactly_the_clause_it_breaks(name):
    """One broken clause is one failed test, and its message says what is wrong."""
    target, clause, says = WRONG[name]
    broken = broken_clauses(target)
    assert list(broken) == [clause]
    assert says in broken[clause]


def test_every_clause_has_a_reward_that_breaks_it():
    """No test of the contract is without a proof that it can fail."""
    clauses = {name.removeprefix("test_") for name in vars(RewardContract) if name.startswith("test_")}
    assert clauses == {clause for _, clause, _ in WRONG.values()}


@pytest.mark.parametrize(
    ("target", "says"),
    [("no.such.reward", "no plugin offers a reward 'no.such.reward'"), (SimpleNamespace(), "set the attribute reward")],
)
def test_a_class_without_a_reward_says_so_once(target, says):
    """A wrong name or a thing that is no reward fails one test; the others are skipped."""
    broken = broken_clauses(target)
    assert list(broken) == ["it_is_found_and_takes_its_parameters"]
    assert says in broken["it_is_found_and_takes_its_parameters"]


def test_without_examples_the_contract_is_not_held():
    """A test class that gives no good or no bad rollouts tests nothing, and fails."""
    assert "at least one rollout" in broken_clauses(plain, good=())["it_is_found_and_takes_its_parameters"]


@pytest.mark.parametrize("is_async", [False, True])
def test_a_reward_is_closed_after_every_use(is_async):
    """A reward is closed after each test, by a function or by a coroutine."""
    living = []

    @reward("holds_on")
    class HoldsOn:
        def __init__(self) -> None:
            living.append(self)

        def __call__(self, rollouts):
            return rowwise(rollouts)

        def close(self):
            living.remove(self)

    class AsyncHoldsOn(HoldsOn):
        async def __call__(self, rollouts):
            return rowwise(rollouts)

        async def close(self):
            living.remove(self)

    target = reward("holds_on_async")(AsyncHoldsOn) if is_async else HoldsOn
    assert broken_clauses(target) == {}
    assert living == []
