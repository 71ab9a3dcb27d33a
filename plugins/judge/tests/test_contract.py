"""Every reward of this plugin keeps the contract."""

# ruff: noqa: RUF012 - the attributes of a contract are only read

import pytest
from scripted_judge import FakeJudge, honest

from rewardkit import Rollout
from rewardkit.testing import RewardContract

JUDGE = FakeJudge(honest)
SHARED = {"model": "m", "url": JUDGE.url, "api_key": "", "tries": 1}
GOOD = (Rollout("q", "It is right.", {"answer": "4"}),)
BAD = (Rollout("q", "It is not.", {"answer": "4"}), Rollout("q", "", {"answer": "4"}))


@pytest.fixture(scope="module", autouse=True)
def _server():
    yield
    JUDGE.close()


class TestRubric(RewardContract):
    """``judge.rubric``."""

    reward = "judge.rubric"
    params = {**SHARED, "criteria": {"clear": "It is clear."}}
    good, bad = GOOD, BAD


class TestPrinciples(RewardContract):
    """``judge.principles``."""

    reward = "judge.principles"
    params = {**SHARED, "principles": ["It is honest."]}
    good, bad = GOOD, BAD


class TestReference(RewardContract):
    """``judge.reference``."""

    reward = "judge.reference"
    params = {**SHARED, "reference": "answer"}
    good, bad = GOOD, BAD


class TestPairwise(RewardContract):
    """``judge.pairwise``."""

    reward = "judge.pairwise"
    params = SHARED
    good, bad = GOOD, BAD
