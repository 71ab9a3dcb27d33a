"""The engine ``hf`` reports right log-probs and finish reasons, and its tokens depend on prompt and seed alone."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from rewardkit.rollout_engine import Request, Sampling
from rewardkit.train.models.policy import TokenSpan
from rewardkit.train.rollout.engines.hf import BLOCK, HfEngine, _Batch, draw, uniform

PROMPTS = ["1+2=?", "47+85=?", "3", "12345678+1=?"]


def requests(policy, size=3):
    """Return prompts of different lengths with several completions each."""
    return [
        Request(tuple(policy.tokenizer(text)["input_ids"]), [1000 * index + place for place in range(size)])
        for index, text in enumerate(PROMPTS)
    ]


def generate(policy, asked, sampling, batch=256):
    """Return the completions by request."""
    return dict(item for part in HfEngine(policy, batch).generate(asked, sampling) for item in part)


def test_tokens_do_not_depend_on_the_batch(policy):
    """A prompt gives the same tokens alone and among others, whatever the batch size."""
    together = generate(policy, requests(policy), Sampling(24))
    divided = generate(policy, requests(policy), Sampling(24), batch=3)
    alone = [generate(policy, [request], Sampling(24))[0] for request in requests(policy)]
    for index in range(len(PROMPTS)):
        tokens = [completion.tokens for completion in together[index]]
        assert tokens == [completion.tokens for completion in alone[index]]
        assert tokens == [completion.tokens for completion in divided[index]]


def test_logprobs_are_the_policys(policy):
    """The engine's log-probs equal the trainer's at the temperature."""
    sampling = Sampling(24, temperature=0.7)
    for index, completions in generate(policy, requests(policy), sampling).items():
        prompt = requests(policy)[index].prompt
        for completion in completions:
            with torch.no_grad():
                judged = policy.forward_logprobs([TokenSpan((*prompt, *completion.tokens), len(prompt))], 0.7)
            assert torch.allclose(judged.logprobs_B_T[0], torch.tensor(completion.logprobs), atol=1e-5)


def test_greedy_is_what_transformers_generates(policy):
    """Temperature 0 gives the tokens of ``model.generate``."""
    asked = [dataclasses.replace(request, seeds=[0]) for request in requests(policy)]
    ours = generate(policy, asked, Sampling(20, temperature=0))
    for index, request in enumerate(asked):
        ids = torch.tensor([request.prompt])
        theirs = policy.model.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=20, pad_token_id=0
        )
        assert ours[index][0].tokens == tuple(theirs[0, len(request.prompt) :].tolist())


def test_finished_rows_stop_and_say_so(policy):
    """The reason is ``stop`` if the last token is the end-of-sequence token, else ``length``."""
    with torch.no_grad():  # make the end likely, so that both occur
        policy.eos_ids = frozenset(range(10))
    completions = [item for group in generate(policy, requests(policy, 8), Sampling(6)).values() for item in group]
    assert {item.finish_reason for item in completions} == {"stop", "length"}
    for item in completions:
        ends = [token in policy.eos_ids for token in item.tokens]
        assert ends[-1] == (item.finish_reason == "stop")
        assert not any(ends[:-1])
        assert len(item.tokens) == len(item.logprobs)
        assert item.finish_reason == "stop" or len(item.tokens) == 6


def test_stop_texts_end_a_completion_and_stay_in_it(policy):
    """A completion ends with the first stop text."""
    completions = [
        item
        for group in generate(policy, requests(policy, 8), Sampling(30, stop=("7", "b"))).values()
        for item in group
    ]
    stopped = [item for item in completions if item.finish_reason == "stop" and item.tokens[-1] not in policy.eos_ids]
    assert stopped
    for item in stopped:
        text = policy.decode(item.tokens)
        assert text[-1] in "7b"
        assert not set(text[:-1]) & set("7b")


def test_sampling_continues_with_fewer_completions_when_memory_runs_out(policy, monkeypatch, caplog):
    """Groups are divided, too, and the completions are the same."""
    requests = [Request((7, 8), [1, 2, 3]), Request((9,), [4]), Request((5, 6), [5])]
    sampling = Sampling(6)
    [want] = HfEngine(policy).generate(requests, sampling)
    run = _Batch.run

    def limited(batch):
        if len(batch.rows) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return run(batch)

    monkeypatch.setattr(_Batch, "run", limited)
    engine = HfEngine(policy)
    found = [item for done in engine.generate(requests, sampling) for item in done]
    assert [[one.tokens for one in group] for _, group in found] == [[one.tokens for one in group] for _, group in want]
    assert engine.batch == 2
    assert "out of memory: continuing to sample with 2 completions at once" in caplog.text
    monkeypatch.setattr(_Batch, "run", lambda batch: (_ for _ in ()).throw(torch.OutOfMemoryError("no")))
    with pytest.raises(torch.OutOfMemoryError):
        list(engine.generate(requests, sampling))


def test_drawing_follows_the_distribution():
    """Frequencies equal the probabilities within five standard errors."""
    logits = torch.tensor([0.0, 1.0, 2.0, -1.0])
    seeds = torch.arange(40_000)
    tokens, logprobs = draw(logits.expand(40_000, 4), Sampling(1), seeds, 3)
    expected = logits.softmax(0)
    observed = torch.bincount(tokens, minlength=4) / 40_000
    assert ((observed - expected).abs() < 5 * (expected * (1 - expected) / 40_000).sqrt()).all()
    assert torch.allclose(logprobs, logits.log_softmax(0)[tokens])


@pytest.mark.parametrize(
    ("sampling", "allowed"),
    [(Sampling(1, top_k=2), {1, 2}), (Sampling(1, top_p=0.6), {2}), (Sampling(1, top_p=0.85), {1, 2})],
)
def test_top_k_and_top_p_cut_the_tail(sampling, allowed):
    """No token outside the most likely ones is drawn."""
    logits = torch.tensor([0.0, 1.0, 2.0, -1.0]).expand(2000, 4)
    tokens, _ = draw(logits, sampling, torch.arange(2000), 0)
    assert set(tokens.tolist()) == allowed


def test_logits_that_are_nan_give_a_token_with_that_log_prob():
    """So that the trainer can tell that the policy has diverged."""
    tokens, logprobs = draw(torch.full((2, 5), torch.nan), Sampling(1), torch.tensor([1, 2]), 0)
    assert bool(((tokens >= 0) & (tokens < 5)).all())
    assert bool(logprobs.isnan().all())


@pytest.mark.parametrize("words", [BLOCK * 4 + 1, BLOCK * 9, BLOCK * 9 + 77])
def test_a_large_vocabulary_is_drawn_from_by_blocks(words):
    """The token is the one at which the cumulative distribution exceeds the random number, wherever it is."""
    rows = 2000
    generator = torch.Generator().manual_seed(words)
    logits = torch.randn(1, words, generator=generator) * 3
    logits[0, : BLOCK + 3] = -torch.inf  # a block without mass, and a part of the next
    seeds = torch.arange(rows)
    tokens, logprobs = draw(logits.expand(rows, words), Sampling(1), seeds, 3)
    cumulative = logits[0].double().softmax(-1).cumsum(-1)
    share = uniform(seeds, 3).double()
    assert ((cumulative[tokens] > share - 1e-5) & (cumulative[tokens - 1] <= share + 1e-5)).all()
    assert torch.allclose(logprobs, logits[0].log_softmax(-1)[tokens], atol=1e-5)
    assert tokens.max() >= words - 2 * BLOCK


def test_random_numbers_are_uniform_and_independent():
    """The numbers have the moments of the uniform distribution, without correlation between seeds or steps."""
    seeds = torch.arange(50_000)
    first, second = uniform(seeds, 0), uniform(seeds, 1)
    assert abs(float(first.mean()) - 0.5) < 0.01
    assert abs(float(first.var()) - 1 / 12) < 0.003
    assert abs(float(torch.corrcoef(torch.stack([first, second]))[0, 1])) < 0.03
    assert abs(float(torch.corrcoef(torch.stack([first[1:], first[:-1]]))[0, 1])) < 0.03
    assert float(first.min()) >= 0
    assert float(first.max()) < 1
