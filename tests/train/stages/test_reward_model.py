"""The reward model stage writes a folder that transformers can score with."""

import json
import random

import pytest

from rewardkit.errors import ConfigError, DataError
from rewardkit.registry import Registry
from rewardkit.train.config.reading import read_train_config
from rewardkit.train.config.stages import STAGES
from rewardkit.train.trainer.launch import launch

CONFIG = """
version: 1
stage: reward_model
output: {output}
model: {{path: {model}}}
data: {{train: {pairs}, eval_share: 0.25}}
optimizer: {{lr: 2.0e-3}}
steps: 12
batch_size: 16
threads: 1
"""


@pytest.fixture(scope="session")
def pairs(work):
    """Write 160 pairs whose preferred answer ends in a question mark."""
    draw = random.Random(0)  # noqa: S311
    word = lambda: "".join(draw.choices("abdehikn", k=draw.randint(1, 9)))  # noqa: E731
    rows = [{"prompt": f"{n}:", "chosen": word() + "?", "rejected": word() + "."} for n in range(160)]
    file = work / "pairs.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def train(tmp_path, text, name="run", *, fresh=True, **values):
    """Run a configuration, and return the run's folder."""
    file = tmp_path / f"{name}.yaml"
    file.write_text(text.format(output=tmp_path / name, **values))
    config = read_train_config(file, Registry())
    launch(config, STAGES[config.config.stage].runner(), fresh=fresh)
    return tmp_path / name


def weights(run):
    """Return the trained weights."""
    from safetensors.torch import load_file

    return load_file(run / "final/model.safetensors")


@pytest.fixture(scope="session")
def run(tmp_path_factory, work, pairs):
    """Return one finished run, which several tests share."""
    return train(tmp_path_factory.mktemp("reward_model"), CONFIG, model=work / "base", pairs=pairs)


def test_it_learns_what_was_preferred(run):
    """Nearly every preferred held-out answer scores higher, more than length alone explains."""
    report = json.loads((run / "evaluation.json").read_text())
    assert report["pairs"] > 20
    assert report["accuracy"]["value"] > 0.9
    assert report["accuracy"]["low"] > report["always_longer"]["high"] - 0.2
    assert report["accuracy"]["low"] <= report["accuracy"]["value"] <= report["accuracy"]["high"]
    assert (run / "reliability.svg").read_text().startswith("<svg")


def test_the_folder_is_plain_transformers(run):
    """Transformers alone loads the result, and its scores rank the answers."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = AutoModelForSequenceClassification.from_pretrained(run / "final").eval()
    tokenizer = AutoTokenizer.from_pretrained(run / "final")
    with torch.inference_mode():
        good, bad = (model(**tokenizer(text, return_tensors="pt")).logits.item() for text in ("1:abe?", "1:abe."))
    assert good > bad


def test_the_plugin_reads_the_folder(run, pairs):
    """The plugin gives the stage's scores, normalised to mean 0 and standard deviation 1 on held-out pairs."""
    plugin = pytest.importorskip("rewardkit_reward_model", reason="rewardkit-reward-model is not installed")
    from statistics import fmean, pstdev

    from rewardkit import Rollout
    from rewardkit.train.config import PairData
    from rewardkit.train.data.preference_pairs import read_pairs

    _, held_out = read_pairs(PairData(train=pairs, eval_share=0.25))
    answers = [Rollout(row.data["prompt"], row.data[side]) for row in held_out for side in ("chosen", "rejected")]
    values = [score.value for score in plugin.RewardModel(model=str(run / "final"))(answers)]
    assert fmean(values) == pytest.approx(0.0, abs=1e-3)
    assert pstdev(values) == pytest.approx(1.0, abs=1e-3)
    right = sum(values[n] > values[n + 1] for n in range(0, len(values), 2))
    report = json.loads((run / "evaluation.json").read_text())
    assert right / len(held_out) == pytest.approx(report["accuracy"]["value"])


def test_the_update_does_not_depend_on_micro_batches(tmp_path, work, pairs):
    """One pair at a time or all at once give the same weights to 1e-5."""
    import torch

    text = CONFIG.replace("steps: 12", "steps: 3").replace("2.0e-3", "1.0e-4") + "micro_batch_tokens: {micro}\n"
    one = weights(train(tmp_path, text, "one", model=work / "base", pairs=pairs, micro=1))
    all_ = weights(train(tmp_path, text, "all", model=work / "base", pairs=pairs, micro=8192))
    for name, value in one.items():
        torch.testing.assert_close(value, all_[name], atol=1e-5, rtol=0)


def test_only_the_head(tmp_path, work, pairs):
    """The backbone stays bit-equal with trained: head."""
    import torch
    from safetensors.torch import load_file

    text = CONFIG.replace("steps: 12", "steps: 2") + "trained: head\n"
    trained = weights(train(tmp_path, text, model=work / "base", pairs=pairs))
    before = load_file(work / "base/model.safetensors")
    assert all(torch.equal(value, trained[name]) for name, value in before.items() if name in trained)
    assert trained["score.weight"].abs().sum() > 0


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # peft asks transformers for it
def test_adapters_are_merged(tmp_path, work, pairs):
    """Adapters are merged into a plain model, whose scores differ from its backbone's."""
    pytest.importorskip("peft", reason="peft is not installed")
    text = CONFIG.replace("{{path: {model}}}", "{{path: {model}, lora: {{rank: 2}}}}").replace("2.0e-3", "2.0e-2")
    run = train(tmp_path, text, model=work / "base", pairs=pairs)
    assert not (run / "final/adapter_config.json").exists()
    assert not any("lora" in name for name in weights(run))
    assert json.loads((run / "evaluation.json").read_text())["accuracy"]["value"] > 0.7


def test_an_encoder_is_a_backbone_too(tmp_path, work, pairs):
    """Any architecture with a sequence classifier can be trained."""
    import transformers
    from transformers import AutoTokenizer

    folder = tmp_path / "encoder"
    AutoTokenizer.from_pretrained(work / "base").save_pretrained(folder)
    config = transformers.BertConfig(
        vocab_size=64, hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, pad_token_id=0
    )
    transformers.BertModel(config).save_pretrained(folder)
    run = train(tmp_path, CONFIG.replace("steps: 12", "steps: 20"), model=folder, pairs=pairs)
    assert json.loads((run / "evaluation.json").read_text())["accuracy"]["value"] > 0.9


def test_a_backbone_that_is_none(tmp_path, pairs):
    """A folder without a model is an error at the line that names it."""
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"run\.yaml:5:.*no model folder"):
        train(tmp_path, CONFIG, model=tmp_path / "empty", pairs=pairs)


def test_a_tokenizer_that_can_not_pad(tmp_path, work, pairs):
    """A tokenizer without padding and end-of-sequence tokens is an error."""
    import shutil

    folder = shutil.copytree(work / "base", tmp_path / "no_pad")
    for name in ("config.json", "tokenizer_config.json"):
        data = json.loads((folder / name).read_text())
        data = {key: value for key, value in data.items() if key not in ("pad_token", "eos_token", "pad_token_id")}
        (folder / name).write_text(json.dumps(data))
    (folder / "special_tokens_map.json").unlink(missing_ok=True)
    with pytest.raises(ConfigError, match="neither a padding nor an end-of-sequence token"):
        train(tmp_path, CONFIG, model=folder, pairs=pairs)


def test_pairs_that_are_cut_to_the_same_are_refused(tmp_path, work, pairs):
    """Pairs whose answers are equal after truncation are refused."""
    file = tmp_path / "late.jsonl"
    file.write_text(json.dumps({"prompt": "", "chosen": "?" + "a" * 9, "rejected": "." + "a" * 9}) + "\n")
    text = CONFIG.replace("eval_share: 0.25", "eval_share: 0") + "max_tokens: 4\n"
    with pytest.raises(DataError, match="have equal answers within the last 4 tokens"):
        train(tmp_path, text, model=work / "base", pairs=file)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("epochs: 1", "either steps or epochs"),
        ("trained: nothing", "trained"),
        ("loss: {{centering: 0.1}}", "centering"),
    ],
)
def test_a_wrong_configuration(tmp_path, change, message):
    """Unknown keys and values are refused before anything is loaded."""
    file = tmp_path / "wrong.yaml"
    file.write_text((CONFIG + change + "\n").format(output=tmp_path / "run", model="x", pairs="y"))
    with pytest.raises(ConfigError, match=message):
        read_train_config(file, Registry())


def test_the_accuracy_of_each_subset(run, work, pairs, tmp_path):
    """Evaluated again by a column, the report has each subset with its number, the mean over subsets, and a page that shows both."""
    from rewardkit.train import evaluate_reward_model

    rows = [json.loads(line) for line in pairs.read_text().splitlines()]
    file = tmp_path / "named.jsonl"
    file.write_text("".join(json.dumps({**row, "kind": "ab"[n % 2]}) + "\n" for n, row in enumerate(rows[:31])))
    config = tmp_path / "run.yaml"
    config.write_text(CONFIG.format(output=run, model=work / "base", pairs=pairs))
    overrides = {"data.eval": str(file)}
    found = evaluate_reward_model(config, by="kind", out=tmp_path / "out", overrides=overrides)
    subsets = {one["name"]: one for one in found.record["subsets"]}
    assert {name: one["count"] for name, one in subsets.items()} == {"a": 16, "b": 15}
    assert found.record["mean_over_subsets"] == sum(one["accuracy"]["value"] for one in subsets.values()) / 2
    page = found.page.read_text()
    assert "mean over subsets" in page
    assert json.loads((tmp_path / "out/eval.json").read_text()) == found.record
    with pytest.raises(DataError, match="no value in column 'kond'"):
        evaluate_reward_model(config, by="kond", out=tmp_path / "out", overrides=overrides)


def test_only_a_trained_model_is_evaluated(work, pairs, tmp_path):
    """A backbone and a run that has not ended are errors that say what to do."""
    from rewardkit.train import evaluate_reward_model

    config = tmp_path / "run.yaml"
    config.write_text(CONFIG.format(output=tmp_path / "run", model=work / "base", pairs=pairs))
    with pytest.raises(ConfigError, match="train it first"):
        evaluate_reward_model(config)
    with pytest.raises(ConfigError, match="is no reward model of level: completion"):
        evaluate_reward_model(config, work / "base")
