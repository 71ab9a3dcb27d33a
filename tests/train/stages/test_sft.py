"""SFT lowers its loss, packing does not change it, and faulty data are reported."""

from __future__ import annotations

import json
import shutil

import pytest
import torch

from rewardkit.errors import ConfigError, DataError, OutputError
from rewardkit.registry import Registry
from rewardkit.train.config.reading import read_train_config
from rewardkit.train.data.tokenization import Example
from rewardkit.train.stages.sft import loss_weights, train_sft
from rewardkit.train.trainer.checksums import write_checksums
from rewardkit.train.trainer.launch import launch

CONFIG = """
version: 1
stage: sft
output: {output}
model: {{path: {work}/base}}
data: {{train: {work}/sft.jsonl, eval: {data}}}
steps: {steps}
batch_size: 16
optimizer: {{lr: 3.0e-3}}
checkpoint: {{every: 0}}
evaluate: {{every: 0}}
"""


@pytest.fixture(scope="module")
def held_out(work, tmp_path_factory):
    """Write a few held-out rows."""
    file = tmp_path_factory.mktemp("data") / "held.jsonl"
    file.write_text("\n".join((work / "sft.jsonl").read_text().splitlines()[-20:]))
    return file


def run(work, folder, held_out, steps=3, **overrides):
    """Train, and return the metrics by kind."""
    folder.mkdir(exist_ok=True)
    config = folder / "sft.yaml"
    config.write_text(CONFIG.format(output=folder / "out", work=work, data=held_out, steps=steps))
    launch(read_train_config(config, Registry(), overrides), train_sft)
    lines = [json.loads(line) for line in (folder / "out/metrics.jsonl").read_text().splitlines()]
    return {kind: [line for line in lines if line["kind"] == kind] for kind in ("train", "eval")}


def test_it_learns(work, tmp_path, held_out):
    """The loss falls, held-out tokens are predicted, and transformers loads the model."""
    from transformers import AutoModelForCausalLM

    metrics = run(work, tmp_path, held_out, steps=30)
    assert metrics["train"][-1]["loss"] < 0.5 * metrics["train"][0]["loss"]
    first, last = metrics["eval"]
    assert last["perplexity"] == pytest.approx(2.718281828 ** last["loss"], rel=1e-6)
    assert first["token_accuracy"] < 0.3 < last["token_accuracy"] < 1
    AutoModelForCausalLM.from_pretrained(tmp_path / "out/final")
    assert (tmp_path / "out/report.html").is_file()


@pytest.mark.parametrize("overrides", [{"packing": "true"}, {"micro_batch_tokens": "60"}])
def test_weights_do_not_depend_on_how_rows_are_put_together(work, tmp_path, held_out, overrides):
    """Packed or in small micro-batches, three updates give the same weights to 1e-5 of the gradient."""
    from safetensors.torch import load_file

    run(work, tmp_path / "one", held_out)
    run(work, tmp_path / "other", held_out, **overrides)
    one, other = (load_file(tmp_path / name / "out/final/model.safetensors") for name in ("one", "other"))
    assert all(torch.allclose(one[name], other[name], atol=2e-4) for name in one)


def test_reductions_by_hand():
    """Token is a mean over tokens, sequence_mean over rows, sequence_sum a sum per row and a mean over rows."""
    batch = [Example((1, 2, 3), 1, (1.0, 3.0), "a"), Example((1, 2, 3, 4, 5), 1, (1.0, 0.0, 0.0, 1.0), "b")]
    expected = {
        "token": [[1 / 6, 3 / 6], [1 / 6, 0, 0, 1 / 6]],
        "sequence_mean": [[1 / 8, 3 / 8], [1 / 4, 0, 0, 1 / 4]],
        "sequence_sum": [[1 / 2, 3 / 2], [1 / 2, 0, 0, 1 / 2]],
    }
    for reduction, weights in expected.items():
        for got, wanted in zip(loss_weights(batch, reduction), weights, strict=True):
            assert got.tolist() == pytest.approx(wanted)


def test_rows_that_are_too_long_are_left_out_and_counted(work, tmp_path, held_out):
    """They are left out and counted; if none is left, that is an error."""
    run(work, tmp_path, held_out, steps=1, max_tokens="50")
    record = json.loads((tmp_path / "out/config.json").read_text())
    assert record["rows_too_long"] > 0
    assert record["rows"] + record["rows_too_long"] == 7600
    with pytest.raises(DataError, match="none of 7600 examples has weight and fits into 5 tokens"):
        run(work, tmp_path / "2", held_out, steps=1, max_tokens="5")


def test_a_full_disk_leaves_what_was_there(work, tmp_path, held_out, monkeypatch):
    """A checkpoint that can't be written is an error, and the one before is intact."""
    from rewardkit.train.trainer import checkpoint

    original = checkpoint.write_tensors
    calls = []

    def full(*args, **kwargs):
        calls.append(1)
        if len(calls) > 1:
            raise OSError(28, "No space left on device")
        original(*args, **kwargs)

    monkeypatch.setattr(checkpoint, "write_tensors", full)
    with pytest.raises(OutputError, match=r"No space left on device.*the existing content is unchanged"):
        run(work, tmp_path, held_out, **{"checkpoint.every": "1"})
    [kept] = (tmp_path / "out/checkpoints").iterdir()
    assert kept.name == "step-000001"
    assert {path.name for path in kept.iterdir()} == {
        "checksums.json",
        "shard-00001-model-00001-of-00001.safetensors",
        "state.json",
    }


@pytest.mark.parametrize(
    ("architecture", "settings"),
    [
        ("OPT", {"hidden_size": 32, "ffn_dim": 32, "word_embed_proj_dim": 32, "num_hidden_layers": 2}),
        ("Bloom", {"hidden_size": 32, "n_layer": 2, "n_head": 2}),
        ("GPT2", {"n_embd": 32, "n_layer": 2, "n_head": 2}),
        ("Llama", {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2}),
    ],
)
def test_models_whose_packed_rows_see_each_other_are_refused(work, tmp_path, held_out, architecture, settings):
    """Packed rows that influence each other are refused; models that keep rows apart are trained."""
    import transformers
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(work / "base")
    tokenizer.save_pretrained(tmp_path / "model")
    heads = {"num_attention_heads": 2} if "hidden_size" in settings and architecture != "Bloom" else {}
    ids = {"eos_token_id": tokenizer.eos_token_id, "bos_token_id": None, "pad_token_id": tokenizer.pad_token_id}
    config = getattr(transformers, f"{architecture}Config")(vocab_size=len(tokenizer), **heads, **settings, **ids)
    torch.manual_seed(0)
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "model")
    changes = {
        "packing": "true",
        "model.attention": "eager",
        "model.path": str(tmp_path / "model"),
        "data.eval": "null",
    }
    if architecture in {"OPT", "Bloom"}:
        with pytest.raises(ConfigError, match=rf"packing: packed rows influence each other in a {architecture}"):
            run(work, tmp_path / "run", held_out, steps=1, **changes)
        assert not (tmp_path / "run/out").exists()
    else:
        assert len(run(work, tmp_path / "run", held_out, steps=1, **changes)["train"]) == 1


def test_the_best_result_survives_a_resume(work, tmp_path, held_out):
    """A resumed run does not take its next evaluation for the best so far."""
    changes = {"checkpoint.every": "1", "evaluate.every": "1"}
    run(work, tmp_path, held_out, steps=2, **changes)
    (tmp_path / "out/best/mark").touch()
    shutil.rmtree(tmp_path / "out/checkpoints/step-000002")
    state = tmp_path / "out/checkpoints/step-000001/state.json"
    state.write_text(json.dumps(json.loads(state.read_text()) | {"best": 1e9}))
    write_checksums(state.parent)
    run(work, tmp_path, held_out, steps=2, **changes)
    assert (tmp_path / "out/best/mark").exists()
    shutil.rmtree(tmp_path / "out/best")  # then what comes next is the best that there is
    shutil.rmtree(tmp_path / "out/checkpoints/step-000002")
    run(work, tmp_path, held_out, steps=2, **changes)
    assert (tmp_path / "out/best").is_dir()
