"""A composite reward as the resources server of NeMo-Gym, and behind slime's client, against their documented protocols."""

import json

import pytest

from rewardkit.integrations.common import shared_reward
from rewardkit.serve.contracts import (
    UnansweredError,
    aggregate_gym,
    answer_gym,
    answer_slime,
    read_gym,
    read_slime,
)

from .conftest import ANSWERS, BROKEN, COMPLETIONS, advantages


def verified(file: str, answer: str, text: str, *, mask: bool) -> dict:
    """What ``/verify`` answers to a row and its response."""
    reward = shared_reward(file)
    output = [{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}]}]
    row = {"responses_create_params": {"input": "2+3?"}, "response": {"output": output}, "answer": answer}
    data, rollouts = read_gym(json.dumps(row).encode(), reward)
    return json.loads(answer_gym(data, reward.score(rollouts), mask=mask))


def test_a_failure_is_masked_on_wish(file, truth) -> None:
    """With --mask-unscored a failure is marked, and the aggregate leaves it out."""
    path = file()
    found = [verified(path, *pair, mask=True) for pair in zip(ANSWERS, COMPLETIONS, strict=True)]
    assert (found[0]["mask_sample"], found[0]["_ng_failure_class"]) == (True, "judge_failed")
    kept = [item["reward"] for item in found if not item["mask_sample"]]
    aggregate = json.loads(aggregate_gym(json.dumps({"verify_responses": found}).encode()))
    assert aggregate["agent_metrics"] == {"mean/reward": pytest.approx(sum(kept) / 3), "masked": 1, "scored": 3}
    truth("NeMo-Gym, service with `--mask-unscored`", None, "`mask_sample`: left out by the trainer", advantages(kept))


def test_a_failure_is_an_error_by_default(file, truth) -> None:
    """Otherwise the request fails, and no number stands for the failure."""
    with pytest.raises(UnansweredError):
        verified(file(), BROKEN, "5", mask=False)
    truth("NeMo-Gym, service", None, "HTTP 503")


def test_slime_gets_an_error(file, truth) -> None:
    """Slime's client tries ten times, and then raises."""
    reward = shared_reward(file())
    row = {"prompt": "2+3?", "response": "5", "label": BROKEN}
    with pytest.raises(UnansweredError):
        answer_slime(reward.score(read_slime(json.dumps(row).encode(), reward, "answer")))
    truth("slime, service", None, "HTTP 503, ten times")
