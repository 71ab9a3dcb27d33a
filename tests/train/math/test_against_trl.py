"""The same numbers as TRL's own code, to 1e-6 in fp32. Its methods are called on stand-ins that hold what they read."""
# ruff: noqa: E402 - torch and trl first, or nothing here can be imported

import warnings
from collections import defaultdict
from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what trl and its dependencies warn of on import is not ours
    pytest.importorskip("trl", reason="trl is not installed")
    from trl.trainer.dpo_trainer import DPOTrainer
    from trl.trainer.grpo_trainer import GRPOTrainer
    from trl.trainer.reward_trainer import RewardTrainer
    from trl.trainer.rloo_trainer import RLOOTrainer

from torch.testing import assert_close

from rewardkit.train.math import presets
from rewardkit.train.math.advantages import ADVANTAGES, group_statistics
from rewardkit.train.math.kl import kl_estimate
from rewardkit.train.math.policy_loss import PolicyLossSettings, policy_loss
from rewardkit.train.math.preference import bradley_terry, dpo, sequence_logprobs
from rewardkit.train.math.reduction import BatchTotals, token_weights, weighted_loss

ROWS, COLUMNS, LONGEST = 6, 7, 16


@pytest.fixture
def batch():
    """Log-probabilities of six completions of different lengths, one of them empty."""
    generator = torch.Generator().manual_seed(5)
    old = -3 * torch.rand(ROWS, COLUMNS, generator=generator)
    lengths = torch.tensor([7, 1, 4, 6, 2, 0])
    return SimpleNamespace(
        old=old,
        now=old + 0.5 * torch.randn(ROWS, COLUMNS, generator=generator),
        ref=old + 0.3 * torch.randn(ROWS, COLUMNS, generator=generator),
        advantages=torch.randn(ROWS, generator=generator),
        mask=torch.arange(COLUMNS) < lengths[:, None],
    )


def _trainer(logprobs, **settings):
    """What ``_compute_loss`` of either trainer reads of itself."""
    accelerator = SimpleNamespace(
        num_processes=1, gather=lambda x: x, gather_for_metrics=lambda x: x, reduce=lambda x, **_: x
    )
    entropies = torch.ones_like(logprobs)
    names = {
        "loss_type": "grpo",
        "beta": 0.0,
        "epsilon_low": 0.2,
        "epsilon_high": 0.2,
        "importance_sampling_level": "token",
        **settings,
    }
    args = SimpleNamespace(
        delta=names.pop("delta", None),
        sapo_temperature_pos=1.0,
        sapo_temperature_neg=1.05,
        use_bias_correction_kl=False,
        steps_per_generation=names.pop("steps_per_generation", 1),
    )
    return SimpleNamespace(
        args=args,
        accelerator=accelerator,
        model=SimpleNamespace(training=True),
        _metrics={"train": defaultdict(list), "eval": defaultdict(list)},
        _get_per_token_logps_and_entropies=lambda *_, **__: (logprobs, entropies, None),
        current_gradient_accumulation_steps=1,
        max_completion_length=LONGEST,
        top_entropy_quantile=1.0,
        off_policy_mask_threshold=None,
        aux_loss_enabled=False,
        use_vllm=False,
        vllm_importance_sampling_correction=False,
        _entropy_bonus_enabled=False,
        **names,
    )


def _inputs(batch):
    ids = torch.zeros(ROWS, COLUMNS, dtype=torch.long)
    mask = batch.mask.long()
    return {
        "prompt_ids": ids[:, :1],
        "prompt_mask": torch.ones(ROWS, 1, dtype=torch.long),
        "completion_ids": ids,
        "completion_mask": mask,
        "advantages": batch.advantages,
        "old_per_token_logps": batch.old,
        "old_logps": (batch.old * mask).sum(1),
        "ref_per_token_logps": batch.ref,
        "num_items_in_batch": mask.sum(),
    }


@pytest.mark.parametrize("beta", [0.0, 0.1])
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("grpo", {}),
        ("grpo", {"delta": 1.5}),
        ("bnpo", {}),
        ("dr_grpo", {}),
        ("dapo", {"epsilon_high": 0.28}),
        ("cispo", {"epsilon_high": 5.0}),
        ("cispo", {"epsilon_high": 1.1}),
        ("sapo", {}),
        ("gspo", {"importance_sampling_level": "sequence", "epsilon_low": 3e-4, "epsilon_high": 4e-4}),
    ],
)
def test_losses_and_gradients_are_those_of_trl(batch, ours, theirs, beta):
    """Loss and gradient of every algorithm that both have, with and without a KL term."""
    logprobs = batch.now.clone().requires_grad_()
    trainer = _trainer(logprobs, loss_type="grpo" if ours == "gspo" else ours, beta=beta, **theirs)
    expected = GRPOTrainer._compute_loss(trainer, None, _inputs(batch))
    (expected_gradient,) = torch.autograd.grad(expected, logprobs)

    preset = presets.PRESETS[ours]
    settings = PolicyLossSettings(
        preset.loss.kind,
        eps_low=preset.loss.eps_low,
        eps_high=preset.loss.eps_high,
        max_ratio=theirs.get("delta"),
        cispo_high=theirs.get("epsilon_high", 5.0),
    )
    found_BT = policy_loss(logprobs, batch.old, batch.advantages[:, None], batch.mask, settings).loss_B_T
    found_BT = found_BT + beta * kl_estimate(logprobs, batch.ref, "k3")
    weights = token_weights(batch.mask, BatchTotals.of(batch.mask), preset.reduction, max_completion_length=LONGEST)
    found = weighted_loss(found_BT, weights)
    (gradient,) = torch.autograd.grad(found, logprobs)
    assert_close(found, expected, atol=1e-6, rtol=1e-6)
    assert_close(gradient, expected_gradient, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_dapo_over_several_steps_is_that_of_trl(batch, steps):
    """Where a generation batch makes several optimiser steps, its tokens are shared by them."""
    trainer = _trainer(batch.now, loss_type="dapo", epsilon_high=0.28, steps_per_generation=steps)
    inputs = {**_inputs(batch), "num_items_in_batch": torch.tensor(100)}
    expected = GRPOTrainer._compute_loss(trainer, None, inputs)
    settings = presets.PRESETS["dapo"].loss
    found_BT = policy_loss(batch.now, batch.old, batch.advantages[:, None], batch.mask, settings).loss_B_T
    weights = token_weights(batch.mask, BatchTotals(ROWS, 100).shared_by(steps), "dapo")
    assert_close(weighted_loss(found_BT, weights), expected, atol=1e-6, rtol=1e-6)


def test_rloo_is_that_of_trl(batch):
    """TRL's RLOO is our sequence_clip under the reduction grpo."""
    logprobs = batch.now.clone().requires_grad_()
    expected = RLOOTrainer._compute_loss(_trainer(logprobs), None, _inputs(batch))
    (expected_gradient,) = torch.autograd.grad(expected, logprobs)
    rows = batch.mask.any(1)  # a row without tokens has weight in TRL's mean of rows, and no gradient in either
    settings = PolicyLossSettings("sequence_clip")
    found_BT = policy_loss(logprobs, batch.old, batch.advantages[:, None], batch.mask, settings).loss_B_T
    found = weighted_loss(found_BT, token_weights(batch.mask, BatchTotals.of(batch.mask), "grpo"))
    (gradient,) = torch.autograd.grad(found, logprobs)
    empty_rows = -batch.advantages[~rows].sum() / ROWS
    assert_close(found + empty_rows, expected, atol=1e-6, rtol=1e-6)
    assert_close(gradient, expected_gradient, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize(("ours", "theirs"), [("group_std", "group"), ("batch_std", "batch"), ("none", "none")])
def test_advantages_are_those_of_trl(ours, theirs, tmp_path):
    """The advantages of a real GRPOTrainer, of a step with an unscorable rollout and a group without spread."""
    found, expected = _advantages_of_a_step(ours, theirs, tmp_path)
    assert_close(found, expected, atol=1e-6, rtol=1e-5)


def _advantages_of_a_step(ours, theirs, folder):
    pytest.importorskip("datasets", reason="datasets is not installed")
    from datasets import Dataset
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM
    from trl import GRPOConfig

    rewards = [1.0, 2.0, 6.0, 0.5, 0.5, 0.5, 3.0, None, 0.0]
    characters = {c: i for i, c in enumerate("_$0123456789+=")}
    raw = Tokenizer(models.WordLevel(characters, unk_token="_"))  # noqa: S106 - no secret
    raw.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, pad_token="_", eos_token="$")  # noqa: S106
    torch.manual_seed(0)
    model = Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=len(characters),
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=1,
            pad_token_id=0,
            eos_token_id=1,
            bos_token_id=None,
        )
    )
    seen = []

    class Recording(GRPOTrainer):
        def _generate_and_score_completions(self, inputs):
            output = super()._generate_and_score_completions(inputs)
            seen.append(output["advantages"].clone())
            return output

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = Recording(
            model=model,
            processing_class=tokenizer,
            reward_funcs=lambda completions, **_: rewards,
            train_dataset=Dataset.from_dict({"prompt": ["1+1=", "2+2=", "3+3="]}),
            args=GRPOConfig(
                output_dir=str(folder),
                per_device_train_batch_size=9,
                num_generations=3,
                max_completion_length=4,
                max_steps=1,
                scale_rewards=theirs,
                report_to=[],
                save_strategy="no",
                use_cpu=True,
                bf16=False,
                disable_tqdm=True,
            ),
        )
        trainer.train()
    scored = torch.tensor([reward is not None for reward in rewards])
    values = torch.tensor([float("nan") if reward is None else reward for reward in rewards])
    groups = group_statistics(values, torch.tensor([0, 0, 0, 1, 1, 1, 2, 2, 2]), scored)
    return ADVANTAGES[ours](values, groups), seen[0]


def test_bradley_terry_is_that_of_trl():
    """RewardTrainer's loss, with margin and centring."""
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(8, 1, generator=generator)
    margin = torch.rand(4, generator=generator)
    trainer = SimpleNamespace(
        model=SimpleNamespace(training=False),
        args=SimpleNamespace(center_rewards_coefficient=0.01),
        _metrics={"eval": defaultdict(list)},
        _total_train_tokens=0,
        accelerator=SimpleNamespace(gather=lambda x: x, gather_for_metrics=lambda x: x),
    )
    expected = RewardTrainer.compute_loss(trainer, lambda **_: SimpleNamespace(logits=logits), {"margin": margin})
    chosen, rejected = logits.squeeze(-1).chunk(2)
    assert_close(bradley_terry(chosen, rejected, margin, centring=0.01).mean(), expected, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("kind", ["sigmoid", "ipo", "hinge"])
def test_dpo_is_that_of_trl(batch, kind):
    """DPOTrainer's loss and gradient, with the rows of a batch as three pairs."""
    mask = batch.mask.clone()
    mask[5, 0] = True  # no response is empty
    logprobs = batch.now.clone().requires_grad_()
    counted = torch.where(mask, logprobs, 0)
    ref_B = sequence_logprobs(batch.ref, mask)
    zeros = torch.zeros(ROWS, COLUMNS)
    outputs = SimpleNamespace(log_probs=counted, entropy=zeros, mean_logits=zeros, is_top1=mask)
    accelerator = SimpleNamespace(device="cpu", gather=lambda x: x, gather_for_metrics=lambda x: x)
    trainer = SimpleNamespace(
        model=SimpleNamespace(training=False),
        accelerator=accelerator,
        aux_loss_enabled=False,
        ld_alpha=None,
        precompute_ref_logps=True,
        f_divergence_type="reverse_kl",
        loss_types=[kind],
        loss_weights=[1.0],
        beta=0.3,
        label_smoothing=0.0,
        use_weighting=False,
        _metrics={"eval": defaultdict(list)},
        _total_train_tokens=0,
    )
    padded = torch.cat([torch.zeros(ROWS, 1, dtype=torch.long), mask.long()], dim=1)  # TRL shifts by one
    inputs = {
        "input_ids": padded,
        "attention_mask": padded,
        "completion_mask": padded,
        "ref_chosen_logps": ref_B[:3],
        "ref_rejected_logps": ref_B[3:],
    }
    expected = DPOTrainer._compute_loss(trainer, lambda **_: outputs, inputs, return_outputs=False)
    (expected_gradient,) = torch.autograd.grad(expected, logprobs, retain_graph=True)
    average = kind == "ipo"
    now_B = sequence_logprobs(logprobs, mask, average=average)
    reference_B = sequence_logprobs(batch.ref, mask, average=average)
    found = dpo(now_B[:3], now_B[3:], reference_B[:3], reference_B[3:], beta=0.3, kind=kind).loss_P.mean()
    (gradient,) = torch.autograd.grad(found, logprobs)
    assert_close(found, expected, atol=1e-6, rtol=1e-6)
    assert_close(gradient, expected_gradient, atol=1e-6, rtol=1e-6)
