"""The engine ``hf`` passes the contract, and an engine that breaks a clause fails that clause's test."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest

from rewardkit.rollout_engine import RolloutEngineType
from rewardkit.testing import ContractBrokenError, RolloutEngineContract
from rewardkit.train.config.engines import HfParams
from rewardkit.train.rollout.engines.hf import HfEngine


class TestHf(RolloutEngineContract):
    """The contract of rollout engines, for the engine ``hf``."""

    engine = "hf"


class Faulty:
    """An engine with one fault."""

    def __init__(self, setup, fault):
        policy = setup.policy
        if fault == "never syncs":
            policy = copy.copy(policy)
            policy.model = copy.deepcopy(policy.model)
            policy.lm, policy._head = policy.model, policy.model.get_output_embeddings()
        self.inner = HfEngine(policy)
        self.tolerance = self.inner.tolerance
        self.fault = fault
        self.calls = 0

    def generate(self, requests, sampling):
        """Create the engine with the fault."""
        self.calls += 1
        if self.fault == "forgets stop texts":
            sampling = replace(sampling, stop=())
        if self.fault == "raw log-probs" and sampling.temperature:
            sampling = replace(sampling, temperature=1.0)
        if self.fault == "its own seeds":
            requests = [replace(item, seeds=[seed + self.calls for seed in item.seeds]) for item in requests]
        if self.fault == "seeds by place":
            requests = [
                replace(item, seeds=[place + 100 * index for place in range(len(item.seeds))])
                for index, item in enumerate(requests)
            ]
        for part in self.inner.generate(requests, sampling):
            for index, completions in part:
                yield [(index, self.spoiled(completions))]

    def spoiled(self, completions):
        """Yield completions with the fault."""
        match self.fault:
            case "loses one":
                return completions[1:]
            case "says stop":
                return [replace(item, finish_reason="stop") for item in completions]
            case "no log-probs":
                return [replace(item, logprobs=()) for item in completions]
        return completions

    def sync(self):
        """Do nothing, or forget to."""

    sleep = wake = close = sync


@pytest.mark.parametrize(
    ("fault", "clause"),
    [
        ("loses one", "every_request_is_answered_once"),
        ("no log-probs", "completions_are_well_formed"),
        ("says stop", "the_finish_reason_is_honest"),
        ("raw log-probs", "logprobs_are_the_policys"),
        ("its own seeds", "a_seed_gives_the_same_tokens_again"),
        ("seeds by place", "tokens_do_not_depend_on_the_batch"),
        ("forgets stop texts", "stop_texts_end_a_completion_and_stay_in_it"),
        ("never syncs", "sync_takes_over_all_weights"),
    ],
)
def test_a_fault_breaks_its_clause(fault, clause):
    """The clause's test fails and names the engine."""

    class Case(RolloutEngineContract):
        engine = RolloutEngineType("faulty", lambda _params, setup: Faulty(setup, fault), HfParams)

    Case.setup_class()
    try:
        with pytest.raises(ContractBrokenError, match="rollout engine 'faulty' breaks the contract"):
            getattr(Case(), f"test_{clause}")()
    finally:
        Case.teardown_class()
