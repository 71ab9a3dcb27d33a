"""The scores of a process reward model."""

import pytest
from rewardkit_reward_model import StepRewardModel

from rewardkit import Rollout, Unscored

torch = pytest.importorskip("torch", reason="torch is not installed")
transformers = pytest.importorskip("transformers", reason="transformers is not installed")

RIGHT, WRONG = (1 / (1 + 2.718281828459045**-logit) for logit in (4, -4))


def test_steps_by_hand(step_model):
    """A step that ends with an exclamation mark is right with probability σ(4), any other with σ(−4)."""
    (score,) = StepRewardModel(model=str(step_model))([Rollout("q", "ab!c!d")])
    assert score.steps == pytest.approx([RIGHT, RIGHT, WRONG], abs=1e-4)
    assert score.value == pytest.approx(WRONG, abs=1e-4)
    assert "step 3 is the least probable" in score.reason


@pytest.mark.parametrize(
    ("value", "expected"), [("min", WRONG), ("product", RIGHT * WRONG), ("mean", (RIGHT + WRONG) / 2), ("last", RIGHT)]
)
def test_the_value_of_steps(step_model, value, expected):
    """Each rule makes its own value of two steps."""
    (score,) = StepRewardModel(model=str(step_model), separator=".", value=value)([Rollout("q", "a.b!")])
    assert score.value == pytest.approx(expected, abs=1e-4)


def test_batches_give_what_each_gets_alone(step_model):
    """Padding moves no step."""
    rollouts = [Rollout("q", text) for text in ("a!", "ab!cd!ef", "x", "a long one! and more! end!")]
    together = StepRewardModel(model=str(step_model), batch_tokens=200)(rollouts)
    alone = [StepRewardModel(model=str(step_model))([rollout])[0] for rollout in rollouts]
    assert [score.steps for score in together] == [score.steps for score in alone]


def test_an_empty_completion_has_no_right_step(step_model):
    """It is the candidate's own failure, so it is scored."""
    (score,) = StepRewardModel(model=str(step_model))([Rollout("q", "")])
    assert (score.value, list(score.steps)) == (0.0, [0.0])


def test_what_the_model_can_not_read_is_unscored(step_model):
    """A dialogue beyond the context, and messages without a template, name the reason."""
    long, chat = StepRewardModel(model=str(step_model))(
        [Rollout("q", "a!" * 40), Rollout([{"role": "user", "content": "q"}], "a")]
    )
    assert isinstance(long, Unscored)
    assert "81 tokens, and the limit is 64" in long.message
    assert "no chat template" in chat.message


def test_an_outcome_reward_model_is_refused(exclaiming):
    """A sequence classifier has no scores of steps; the message says what makes one."""
    with pytest.raises(ValueError, match="not a trained token classifier, as the stage reward_model with level: step"):
        StepRewardModel(model=str(exclaiming))
