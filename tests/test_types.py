"""The nouns."""

import dataclasses
import math
import pickle

import pytest

from rewardkit import RewardType, Rollout, Score, ScoredRollout, Skipped, Unscored
from rewardkit.types import message_text

CHAT = [
    {"role": "user", "content": "What is 2+2?"},
    {"role": "assistant", "content": "Let me see."},
    {"role": "tool", "content": "4"},
    {
        "role": "assistant",
        "content": [{"type": "text", "text": "It "}, {"type": "image"}, {"text": "is 4."}, {"text": None}],
    },
]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_score_is_finite(value: float) -> None:
    """No score can be made of nan or infinity."""
    with pytest.raises(ValueError, match="must be a finite number"):
        Score(value)


def test_a_completion_is_the_assistants_texts() -> None:
    """The text of a completion in chat messages is that of the assistant's turns; a string is its own text."""
    assert Rollout("p", CHAT).completion_text == "Let me see.\nIt is 4."
    assert Rollout("p", "text").completion_text == "text"
    assert Rollout("p", []).completion_text == ""


def test_a_prompt_is_all_texts() -> None:
    """The text of a prompt in chat messages is that of all turns."""
    assert Rollout(CHAT, "c").prompt_text == "What is 2+2?\nLet me see.\n4\nIt is 4."
    assert Rollout("p", "c").prompt_text == "p"


@pytest.mark.parametrize("content", [None, 3, {"text": "x"}, b"x", [None, 3]])
def test_content_without_text_is_empty(content: object) -> None:
    """Content that holds no text is empty text, whatever it is."""
    assert message_text(content) == ""


@pytest.mark.parametrize(
    "item",
    [
        Rollout("p", "c"),
        Rollout("p", CHAT, {"x": [1]}, "g", 3, "stop"),
        Score(1.0, "r", {"m": 1.0}, [0.5]),
        Unscored("infra", "m", "t"),
        Skipped("r"),
    ],
)
def test_they_travel_between_processes(item: object) -> None:
    """Types that are sent to workers and back can be pickled, and are equal afterwards."""
    assert pickle.loads(pickle.dumps(item)) == item  # noqa: S301


def test_they_are_frozen() -> None:
    """A score can't be changed."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        Score(1.0).value = 2.0


@dataclasses.dataclass
class Params:
    """Parameters that name a field."""

    field: str = "answer"


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"name": ""}, ValueError, "is no name for a reward"),
        ({"name": "two words"}, ValueError, "is no name for a reward"),
        ({"executor": "proces"}, ValueError, "executor must be inline, process, async, device, not 'proces'"),
        ({"scope": "batch"}, ValueError, "scope must be rollout or group, not 'batch'"),
        ({"needs": "answer"}, TypeError, r"needs must be a list of fields, as in \['answer'\]"),
    ],
)
def test_a_reward_type_refuses_what_nothing_knows(wrong: dict, error: type, message: str) -> None:
    """A misspelt executor or scope, a name with spaces, or one field in place of a list is refused where it is written."""
    with pytest.raises(error, match=message):
        RewardType(**{"name": "x", "params": Params, "build": list} | wrong)


def test_needs_may_depend_on_parameters() -> None:
    """The fields that are read are fixed, or told from the parameters; none is named twice."""
    fixed = RewardType("x", Params, list, needs=("a", "b", "a"))
    assert fixed.needed_fields(Params()) == ("a", "b")
    told = RewardType("x", Params, list, needs=lambda params: [params.field, "b", params.field])
    assert told.needed_fields(Params("gold")) == ("gold", "b")


def test_status_is_that_of_unscored() -> None:
    """A rollout is scored if nothing that counts was unscored, whatever its reward."""
    item = ScoredRollout(Rollout("p", "c"), 0.0, {}, {}, {}, "id")
    assert item.status == "scored"
    assert dataclasses.replace(item, unscored=Unscored("infra", "x")).status == "unscored"
