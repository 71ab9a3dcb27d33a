"""Packed sequences have the log-probabilities of padded ones, in models that keep them apart."""

from __future__ import annotations

import pytest
import torch

from rewardkit.errors import ConfigError
from rewardkit.train.data.batching import LONGEST_LINE, lines_of, packed_inputs
from rewardkit.train.models.packing import resolve_packing
from rewardkit.train.models.policy import TokenSpan

ROWS = [TokenSpan(tuple(range(5, 5 + length)), 1 + length % 2) for length in (9, 2, 4, 7, 3, 5)]


def test_positions_restart_in_each_line():
    """Padding at the end of a line is a sequence of its own."""
    ids, positions = packed_inputs([(5, 6, 7, 8), (9, 10), (11,)], [[0], [1, 2]])
    assert ids.tolist() == [[5, 6, 7, 8], [9, 10, 11, 0]]
    assert positions.tolist() == [[0, 1, 2, 3], [0, 1, 0, 0]]


def test_lines_are_as_long_as_the_longest_sequence():
    """One line if the attention allows it; no line of several sequences if their mask would be large."""
    assert lines_of([4, 2, 3, 1], one_line=False) == [[0], [1, 3], [2]]
    assert lines_of([4, 2, 3, 1], one_line=True) == [[0, 1, 2, 3]]
    assert lines_of([LONGEST_LINE + 1, 2, 3], one_line=False) == [[0], [1], [2]]


@pytest.mark.parametrize("one_line", [False, True])
def test_packed_rows_have_the_logprobs_of_padded_ones(policy, monkeypatch, one_line):
    """In several lines, and in one; with fewer tokens than padding needs."""
    monkeypatch.setattr(type(policy), "packs_one_line", one_line)
    seen = []
    policy.lm.get_input_embeddings().register_forward_pre_hook(lambda _, args: seen.append(args[0].shape))
    with torch.no_grad():
        padded, packed = (policy.forward_logprobs(ROWS, 0.7, packed=packed) for packed in (False, True))
        likeliest = [policy.forward_greedy(ROWS, packed=packed)[1] for packed in (False, True)]
    assert torch.allclose(packed.logprobs_B_T, padded.logprobs_B_T, atol=1e-5)
    assert torch.allclose(packed.hidden_N_H, padded.hidden_N_H, atol=1e-5)
    assert torch.equal(*likeliest)
    assert [tuple(shape) for shape in seen[:2]] == [(6, 9), (1, 30) if one_line else (4, 9)]


def test_a_model_is_packed_if_it_keeps_rows_apart(policy):
    """It is tried out; false pads in any case."""
    assert [resolve_packing(policy, setting) for setting in ("auto", True, False)] == [True, True, False]


@pytest.mark.parametrize("fault", ["mixes", "takes no positions", "chunks"])
def test_a_model_that_mixes_rows_is_padded(policy, monkeypatch, fault):
    """With packing: true it is refused."""
    forward = policy.backbone

    def faulty(**inputs):
        if "position_ids" in inputs:
            if fault == "takes no positions":
                raise TypeError("forward() got an unexpected keyword argument 'position_ids'")
            inputs["position_ids"] = torch.arange(inputs["input_ids"].shape[1])[None]
        return forward(**inputs)

    if fault == "chunks":
        policy.lm.config.attention_chunk_size = 8192
    else:
        monkeypatch.setattr(policy, "backbone", faulty)
    assert resolve_packing(policy, "auto") is False
    with pytest.raises(ConfigError, match="packing: "):
        resolve_packing(policy, True)
