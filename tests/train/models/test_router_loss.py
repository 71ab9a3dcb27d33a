"""The auxiliary loss of mixtures of experts is that of transformers, in every stage and however a step is divided."""

from __future__ import annotations

import pytest
import torch

from rewardkit.errors import ConfigError
from rewardkit.train.config import ModelConfig, OptimizerConfig
from rewardkit.train.models.policy import Policy, TokenSpan
from rewardkit.train.models.reward_model import RewardModel
from rewardkit.train.trainer.optimizer import Optimizer

ROWS = [[7 + index % 20 for index in range(12)], [9 + index % 7 for index in range(5)]]


@pytest.fixture(scope="module")
def mixtral(work, tmp_path_factory):
    """Return a tiny mixture of experts that asks for its auxiliary loss."""
    import transformers

    folder = tmp_path_factory.mktemp("mixtral")
    tokenizer = transformers.AutoTokenizer.from_pretrained(work / "base")
    torch.manual_seed(0)
    config = transformers.MixtralConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        num_local_experts=4,
        num_experts_per_tok=2,
        max_position_embeddings=64,
        router_aux_loss_coef=0.5,
        output_router_logits=True,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        initializer_range=0.2,
    )
    transformers.MixtralForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def own_gradients(mixtral, rows, weights):
    """Return the gradients of transformers' own loss on each micro-batch, weighted."""
    import transformers

    lm = transformers.AutoModelForCausalLM.from_pretrained(mixtral)
    auxiliary = 0.0
    for part, weight in zip(rows, weights, strict=True):
        ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(row) for row in part], batch_first=True)
        mask = torch.nn.utils.rnn.pad_sequence([torch.ones(len(row), dtype=torch.long) for row in part], True)
        out = lm(input_ids=ids, attention_mask=mask, labels=ids.where(mask > 0, -100))
        (weight * out.loss).backward()
        auxiliary += weight * 0.5 * float(out.aux_loss.detach())
    return {name: value.grad for name, value in lm.named_parameters()}, auxiliary


@pytest.mark.parametrize("most_tokens", [64, 12])
@pytest.mark.parametrize("packed", [False, True])
def test_the_gradient_has_the_auxiliary_loss_of_transformers(mixtral, most_tokens, packed):
    """In one micro-batch with padding or packed, and as the mean of two weighted by their tokens. It is measured, too."""
    policy = Policy.load(ModelConfig(path=mixtral))
    optimizer = Optimizer(policy.trained, OptimizerConfig(), 1, has_router_loss=policy.has_router_loss)
    parts = [ROWS] if most_tokens == 64 else [[ROWS[0]], [ROWS[1]]]
    tokens, targets = sum(map(len, ROWS)), sum(len(row) - 1 for row in ROWS)

    def backward(part):
        found = policy.forward_logprobs([TokenSpan(ROWS[row], 1) for row in part], packed=packed)
        share = sum(len(ROWS[row]) for row in part) / tokens
        count = sum(len(ROWS[row]) - 1 for row in part)
        loss = -share * found.logprobs_B_T.sum() / count
        loss.backward()
        return loss

    assert targets == tokens - 2
    optimizer.accumulate([len(row) for row in ROWS], most_tokens, backward)
    shares = [sum(map(len, part)) / tokens for part in parts]
    want, auxiliary = own_gradients(mixtral, parts, shares)
    assert optimizer.router_metrics()["router_loss"] == pytest.approx(auxiliary, rel=1e-5)
    for name, value in policy.trained.items():
        torch.testing.assert_close(value.grad, want[name], rtol=1e-4, atol=1e-6)


def test_a_reward_model_has_it_too(mixtral):
    """Without it the sum of scores times 0 would have no gradient at the routers."""
    scorer = RewardModel.load(ModelConfig(path=mixtral))
    (0 * scorer.scores(ROWS).sum()).backward()
    routers = [value for name, value in scorer.trained.items() if name.endswith("mlp.gate.weight")]
    assert len(routers) == 2
    assert all(float(value.grad.norm()) > 0 for value in routers)


def test_a_loss_that_transformers_does_not_define_is_refused(work, tmp_path):
    """The message says what to do."""
    import transformers

    model = transformers.AutoModelForCausalLM.from_pretrained(work / "base")
    model.config.output_router_logits, model.config.router_aux_loss_coef = True, 0.1
    model.save_pretrained(tmp_path)
    transformers.AutoTokenizer.from_pretrained(work / "base").save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match=r"asks for an auxiliary loss .* set output_router_logits to false"):
        Policy.load(ModelConfig(path=str(tmp_path)))
