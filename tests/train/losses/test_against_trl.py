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

from rewardkit.train.config import algorithms
from rewardkit.train.config.algorithms import make_loss
from rewardkit.train.losses.advantages import ADVANTAGES, group_statistics
from rewardkit.train.losses.importance_correction import correction_weights
from rewardkit.train.losses.kl import kl_estimate, sequence_kl
from rewardkit.train.losses.policy_loss import policy_loss
from rewardkit.train.losses.preference import bradley_terry, dpo, sequence_logprobs
from rewardkit.train.losses.reduction import BatchTotals, token_weights, weighted_loss

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
        "use_vllm": False,
        "vllm_importance_sampling_correction": False,
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

    preset = algorithms.PRESETS[ours]
    own = {"max_ratio": theirs["delta"]} if "delta" in theirs else {}
    if ours == "cispo":
        own = {"high": theirs["epsilon_high"]}
    settings = make_loss(preset.loss, **{**preset.settings, **own})
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
    settings = make_loss("clip", **algorithms.PRESETS["dapo"].settings)
    found_BT = policy_loss(batch.now, batch.old, batch.advantages[:, None], batch.mask, settings).loss_B_T
    weights = token_weights(batch.mask, BatchTotals(ROWS, 100).shared_by(steps), "dapo")
    assert_close(weighted_loss(found_BT, weights), expected, atol=1e-6, rtol=1e-6)


def test_rloo_is_that_of_trl(batch):
    """TRL's RLOO is our sequence_clip under the reduction grpo."""
    logprobs = batch.now.clone().requires_grad_()
    expected = RLOOTrainer._compute_loss(_trainer(logprobs), None, _inputs(batch))
    (expected_gradient,) = torch.autograd.grad(expected, logprobs)
    rows = batch.mask.any(1)  # a row without tokens has weight in TRL's mean of rows, and no gradient in either
    settings = make_loss("sequence_clip")
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


REWARDS = [1.0, 2.0, 6.0, 0.5, 0.5, 0.5, 3.0, None, 0.0]
GROUPS = torch.tensor([0, 0, 0, 1, 1, 1, 2, 2, 2])


def _advantages_of_a_step(ours, theirs, folder):
    [output] = _step_of(GRPOTrainer, folder, scale_rewards=theirs)
    scored = torch.tensor([reward is not None for reward in REWARDS])
    values = torch.tensor([float("nan") if reward is None else reward for reward in REWARDS])
    groups = group_statistics(values, GROUPS, scored)
    return ADVANTAGES[ours](values, groups), output["advantages"]


@pytest.mark.parametrize("beta", [0.0, 0.3])
def test_rloo_with_kl_in_the_reward_is_that_of_trl(tmp_path, beta):
    """The advantages of a real RLOOTrainer whose policy is away from its reference: reward less β·Σ k1, less the others' mean."""
    [output] = _step_of(RLOOTrainer, tmp_path, beta=beta)
    mask = output["completion_mask"].bool()
    rewards = torch.tensor([0.0 if reward is None else reward for reward in REWARDS])
    if beta:
        now, ref = output["judged"]
        kl_B = sequence_kl(kl_estimate(now, ref, "k1"), mask)
        assert kl_B.abs().min() > 1e-3
        rewards = rewards - beta * kl_B
    groups = group_statistics(rewards, GROUPS, torch.tensor([reward is not None for reward in REWARDS]))
    assert_close(ADVANTAGES["rloo"](rewards, groups), output["advantages"], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("level", ["token", "sequence"])
@pytest.mark.parametrize("kind", ["truncate", "mask"])
def test_the_correction_for_the_sampler_is_that_of_trl(tmp_path, kind, level):
    """The weights of a real GRPOTrainer whose sampler reports log-probs that are off, and what they do to its loss."""
    [output] = _step_of(
        _Off,
        tmp_path,
        vllm_importance_sampling_mode=f"{level}_{kind}",
        vllm_importance_sampling_clip_max=1.2,
        vllm_importance_sampling_clip_min=0.9 if kind == "mask" else None,
    )
    mask = output["completion_mask"].bool()
    found = correction_weights(
        output["old_per_token_logps"],
        output["sampling_per_token_logps"],
        mask,
        kind=kind,
        level=level,
        low=0.9,
        high=1.2,
    )
    expected = output["importance_sampling_ratio"].expand(mask.shape)
    assert_close(found[mask], expected[mask], atol=1e-6, rtol=1e-5)
    assert len(expected[mask].unique()) > 2
    assert (expected[mask] == (1.2 if kind == "truncate" else 0.0)).any()


def test_the_corrected_loss_is_that_of_trl(batch):
    """The weights multiply the policy's loss of each token, not the KL term."""
    generator = torch.Generator().manual_seed(2)
    weights = correction_weights(
        batch.old, batch.old + 0.4 * torch.randn(ROWS, COLUMNS, generator=generator), batch.mask
    )
    trainer = _trainer(
        batch.now,
        loss_type="bnpo",
        beta=0.1,
        use_vllm=True,
        vllm_importance_sampling_correction=True,
        vllm_importance_sampling_mode="token_truncate",
    )
    expected = GRPOTrainer._compute_loss(trainer, None, {**_inputs(batch), "importance_sampling_ratio": weights})
    found_BT = policy_loss(batch.now, batch.old, batch.advantages[:, None], batch.mask, make_loss("clip")).loss_B_T
    found_BT = weights * found_BT + 0.1 * kl_estimate(batch.now, batch.ref, "k3")
    token = token_weights(batch.mask, BatchTotals.of(batch.mask), "bnpo")
    assert_close(weighted_loss(found_BT, token), expected, atol=1e-6, rtol=1e-6)


class _Off(GRPOTrainer):
    """A trainer whose sampler's log-probs are off by up to half a nat."""

    def _generate(self, prompts):
        found = list(super()._generate(prompts))
        generator = torch.Generator().manual_seed(3)
        with torch.no_grad():
            found[4] = [
                (self._said(prompt, said) + 0.3 * torch.randn(len(said), generator=generator)).tolist()
                for prompt, said in zip(found[0], found[1], strict=True)
            ]
        self.use_vllm = True
        return tuple(found)

    def _said(self, prompt, said):
        logits = self.model(torch.tensor([[*prompt, *said]])).logits[0, len(prompt) - 1 : -1]
        return logits.log_softmax(-1).gather(1, torch.tensor(said)[:, None]).squeeze(1)

    def _generate_and_score_completions(self, inputs):
        output = super()._generate_and_score_completions(inputs)
        self.use_vllm = False
        return output


def _step_of(trainer_class, folder, **settings):
    """What a trainer of TRL makes of the rewards above in one step."""
    pytest.importorskip("datasets", reason="datasets is not installed")
    from datasets import Dataset
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM
    from trl import GRPOConfig, RLOOConfig

    config_class = RLOOConfig if trainer_class is RLOOTrainer else GRPOConfig
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

    class Recording(trainer_class):
        def _get_per_token_logps_and_entropies(self, *args, **kwargs):
            found = super()._get_per_token_logps_and_entropies(*args, **kwargs)
            self.judged = [*getattr(self, "judged", []), found[0]]
            return found

        def _generate_and_score_completions(self, inputs):
            if settings.get("beta"):
                with torch.no_grad():
                    for value in self.ref_model.parameters():
                        value.mul_(1.5)
            self.judged = []
            output = super()._generate_and_score_completions(inputs)
            seen.append({**output, "judged": self.judged})
            return output

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.save_pretrained(folder / "model")  # of a name, from which a reference can be loaded
        trainer = Recording(
            model=str(folder / "model"),
            processing_class=tokenizer,
            reward_funcs=lambda completions, **_: REWARDS,
            train_dataset=Dataset.from_dict({"prompt": ["1+1=", "2+2=", "3+3="]}),
            args=config_class(
                output_dir=str(folder),
                per_device_train_batch_size=9,
                num_generations=3,
                max_completion_length=4,
                max_steps=1,
                **settings,
                report_to=[],
                save_strategy="no",
                use_cpu=True,
                bf16=False,
                disable_tqdm=True,
            ),
        )
        trainer.train()
    return seen


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
