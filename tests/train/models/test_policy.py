"""Models: loaded or refused with a reason, judged the same padded and packed, saved and given adapters."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
import transformers

from rewardkit.errors import ConfigError
from rewardkit.rollout_engine import Sampling
from rewardkit.train.config import LoraConfig, ModelConfig
from rewardkit.train.models.loading import model_context
from rewardkit.train.models.policy import Policy, TokenSpan
from rewardkit.train.rollout.synced_engine import setup_of

BATCH = [TokenSpan((5, 6, 7, 8, 9), 2), TokenSpan((10, 11, 12), 1), TokenSpan((9, 8, 7, 6, 5, 4, 3, 2), 7)]


def test_judging_is_log_softmax_of_the_models_logits(policy):
    """Each token's log-prob and entropy, at a temperature, by hand."""
    judged = policy.forward_logprobs(BATCH, 0.5)
    assert judged.mask_B_T.sum(1).tolist() == [3, 2, 1]
    for row, passage in enumerate(BATCH):
        logprobs = (policy.model(torch.tensor([passage.tokens])).logits[0] / 0.5).log_softmax(-1)
        for place in range(passage.length):
            at = logprobs[passage.start + place - 1]
            assert torch.allclose(judged.logprobs_B_T[row, place], at[passage.tokens[passage.start + place]], atol=1e-5)
            assert torch.allclose(judged.entropy_B_T[row, place], -(at.exp() * at).sum(), atol=1e-5)
        assert (judged.logprobs_B_T[row, passage.length :] == 0).all()


def test_packed_rows_do_not_see_each_other(policy):
    """One behind the other gives what padding gives, gradients included."""
    results = []
    for packed in (False, True):
        judged = policy.forward_logprobs(BATCH, packed=packed)
        judged.logprobs_B_T.sum().backward()
        gradients = torch.cat([value.grad.flatten() for value in policy.trained.values()])
        policy.model.zero_grad()
        results.append((judged.logprobs_B_T.detach(), gradients))
    assert torch.allclose(results[0][0], results[1][0], atol=1e-5)
    assert torch.allclose(results[0][1], results[1][1], atol=1e-4)


@pytest.mark.parametrize("is_tied", [True, False])
def test_gradients_of_large_embeddings_are_those_of_autograd(policy, monkeypatch, is_tied):
    """Gradients that are sparse, or added in place by the head, are dense and right after two micro-batches, in any order of the parts."""
    config = policy.model.config
    config.tie_word_embeddings = is_tied
    torch.manual_seed(0)
    model = type(policy.model)(config)
    monkeypatch.setattr("rewardkit.train.models.logprobs.PLAIN_LOGITS", 0)
    results = []
    for least in (1 << 60, 1):
        monkeypatch.setattr("rewardkit.train.models.heads.SPARSE_FROM", least)
        found = Policy(model, policy.tokenizer, policy.device)
        found.states(BATCH[:1]).sum().backward()
        for part in (BATCH[:2], BATCH[2:]):
            found.forward_logprobs(part).logprobs_B_T.sum().backward()
        results.append({name: value.grad.clone() for name, value in found.trained.items()})
        model.zero_grad(set_to_none=True)
    own = {name: value.grad for name, value in autograd_of(model).items()}
    for name, expected in own.items():
        for gradients in results:
            assert gradients[name].layout == torch.strided
            assert torch.allclose(gradients[name], expected, atol=1e-5), name


def autograd_of(model):
    """The parameters of a model with the gradients of the same losses by its own forward pass."""
    ids = torch.tensor([BATCH[0].tokens])
    states = model.model(ids, use_cache=False).last_hidden_state[0, BATCH[0].start - 1 : -1]
    loss = states.sum()
    for row in BATCH:
        logprobs = model(torch.tensor([row.tokens]), use_cache=False).logits[0].log_softmax(-1)
        loss = loss + sum(logprobs[place - 1, row.tokens[place]] for place in range(row.start, len(row.tokens)))
    loss.backward()
    return dict(model.named_parameters())


def test_a_head_that_is_more_than_a_matrix_is_found_out(policy, monkeypatch):
    """Logits that a model scales are judged by its own forward."""
    original = policy.model.forward

    def scaled(*args, **kwargs):
        out = original(*args, **kwargs)
        out.logits = out.logits * 3
        return out

    monkeypatch.setattr(policy.model, "forward", scaled)
    judged = Policy(policy.model, policy.tokenizer, policy.device).forward_logprobs(BATCH)
    expected = (original(torch.tensor([BATCH[0].tokens])).logits[0] * 3).log_softmax(-1)
    assert torch.allclose(judged.logprobs_B_T[0, 0], expected[1, 7], atol=1e-5)


def test_adapters_that_were_saved_are_a_model_again(work, tmp_path):
    """What a run with adapters wrote is evaluated, or trained further with others, as the model that it was."""
    trained = Policy.load(ModelConfig(path=str(work / "base"), lora=LoraConfig(rank=2)))
    for value in trained.trained.values():
        torch.nn.init.normal_(value, std=0.1)
    trained.save(tmp_path / "final")
    found = Policy.load(ModelConfig(path=str(tmp_path / "final")))
    expected = trained.forward_logprobs(BATCH).logprobs_B_T
    assert torch.allclose(found.forward_logprobs(BATCH).logprobs_B_T, expected, atol=1e-5)
    assert model_context(ModelConfig(path=str(tmp_path / "final"))) == found.context
    assert len(found.trained) == len(Policy.load(ModelConfig(path=str(work / "base"))).trained)
    setup = setup_of(ModelConfig(path=str(tmp_path / "final")), found, Sampling(1), longest=2, batch=1)
    assert (setup.model, setup.tokenizer) == (str(work / "base"), str(tmp_path / "final"))
    found.save(tmp_path / "whole")
    assert (tmp_path / "whole/config.json").is_file()
    again = Policy.load(ModelConfig(path=str(tmp_path / "final"), lora=LoraConfig(rank=2)))
    assert torch.allclose(again.forward_logprobs(BATCH).logprobs_B_T, expected, atol=1e-5)
    assert all(".lora_" in name for name in again.trained)


def test_adapters_on_adapters_are_saved_as_a_whole_model(work, tmp_path):
    """SFT and then GRPO, both with adapters: the model that GRPO saves has learned from both."""
    for name, path in (("one", work / "base"), ("two", tmp_path / "one")):
        trained = Policy.load(ModelConfig(path=str(path), lora=LoraConfig(rank=2)))
        for value in trained.trained.values():
            torch.nn.init.normal_(value, std=0.1)
        trained.save(tmp_path / name)
    assert (tmp_path / "two/config.json").is_file()
    assert not list((tmp_path / "two").glob("adapter_*"))
    found = Policy.load(ModelConfig(path=str(tmp_path / "two")))
    expected = trained.forward_logprobs(BATCH).logprobs_B_T
    assert torch.allclose(found.forward_logprobs(BATCH).logprobs_B_T, expected, atol=1e-5)


def test_adapters_whose_model_is_gone_are_told(work, tmp_path):
    """By the folder that is missing."""
    base = shutil.copytree(work / "base", tmp_path / "base")
    Policy.load(ModelConfig(path=str(base), lora=LoraConfig(rank=2))).save(tmp_path / "final")
    shutil.rmtree(base)
    with pytest.raises(ConfigError, match=r"there is no model folder .*base"):
        Policy.load(ModelConfig(path=str(tmp_path / "final")))
    with pytest.raises(ConfigError, match=r"there is no model folder .*base"):
        model_context(ModelConfig(path=str(tmp_path / "final")))


def test_adapters_alone_are_trained_and_can_be_switched_off(work):
    """LoRA: few parameters, the reference is the model without them."""
    policy = Policy.load(ModelConfig(path=str(work / "base"), lora=LoraConfig(rank=2)))
    assert all("lora" in name for name in policy.trained)
    plain = Policy.load(ModelConfig(path=str(work / "base")))
    with torch.no_grad():
        for name, value in policy.trained.items():
            if "lora_B" in name:
                value.fill_(0.5)
    with torch.no_grad():
        with policy.reference():
            off = policy.forward_logprobs(BATCH).logprobs_B_T
        on = policy.forward_logprobs(BATCH).logprobs_B_T
        assert torch.allclose(off, plain.forward_logprobs(BATCH).logprobs_B_T, atol=1e-5)
    assert not torch.allclose(on, off, atol=1e-3)


def test_a_folder_without_a_model_is_refused(tmp_path):
    """With the place in the configuration, and what is missing."""
    with pytest.raises(ConfigError, match=r"holds no config\.json"):
        Policy.load(ModelConfig(path=str(tmp_path)))
    with pytest.raises(ConfigError, match="there is no model folder"):
        Policy.load(ModelConfig(path=str(tmp_path / "none")))


@pytest.mark.parametrize(
    ("folders", "told"),
    [
        (["best", "final"], "of a run; the model that it trained is .*final$"),
        (["best"], "of a run that has not ended; its best model so far is .*best$"),
        ([], "of a run that has not ended$"),
    ],
)
def test_the_folder_of_a_run_is_refused(tmp_path, folders, told):
    """With the model in it that there is."""
    for name in ("config.json", "metrics.jsonl"):
        (tmp_path / name).touch()
    for name in folders:
        (tmp_path / name).mkdir()
    with pytest.raises(ConfigError, match=told):
        Policy.load(ModelConfig(path=str(tmp_path)))


def test_a_folder_without_a_tokenizer_is_refused(work, tmp_path):
    """Transformers would make an empty one, and every prompt would be empty."""
    folder = shutil.copytree(work / "base", tmp_path / "wordless")
    for file in folder.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(ConfigError, match=r"there is no tokenizer in .*wordless; name one as model\.tokenizer"):
        Policy.load(ModelConfig(path=str(folder)))


def test_a_name_on_the_hub_is_told_as_one(monkeypatch):
    """Who meant a folder sees what it was taken for."""

    def away(*_args, **_settings):
        raise OSError("We couldn't connect")

    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", away)
    with pytest.raises(ConfigError, match="from work/none \\(a model's name on the hub, as there is no such folder\\)"):
        Policy.load(ModelConfig(path="work/none"))


def test_weights_that_are_none_are_refused(work, tmp_path):
    """A broken weight file is told as such."""
    folder = shutil.copytree(work / "base", tmp_path / "broken")
    (folder / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(ConfigError, match="no causal language model can be loaded"):
        Policy.load(ModelConfig(path=str(folder)))


def test_a_tokenizer_without_an_end_is_refused(work, tmp_path):
    """Completions could not end."""
    folder = shutil.copytree(work / "base", tmp_path / "endless")
    for name in ("tokenizer_config.json", "config.json", "generation_config.json"):
        data = json.loads((folder / name).read_text())
        data.pop("eos_token", None)
        data["eos_token_id"] = None
        (folder / name).write_text(json.dumps(data))
    with pytest.raises(ConfigError, match="no end-of-sequence token"):
        Policy.load(ModelConfig(path=str(folder)))
