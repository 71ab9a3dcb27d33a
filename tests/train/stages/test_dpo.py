"""DPO trains a policy to prefer the chosen answers."""

import json

import pytest

from rewardkit.errors import ConfigError, DataError
from rewardkit.registry import Registry
from rewardkit.train.config.reading import read_train_config
from rewardkit.train.config.stages import STAGES
from rewardkit.train.trainer.launch import launch

CONFIG = """
version: 1
stage: dpo
output: {output}
model: {{path: {model}}}
data: {{train: {pairs}, eval_share: 0.25}}
optimizer: {{lr: 1.0e-3}}
beta: 0.5
steps: 8
batch_size: 16
evaluate: {{every: 4}}
threads: 1
"""


@pytest.fixture(scope="session")
def pairs(work):
    """Write 120 sums whose right answer is preferred to a wrong one of the same length."""
    rows = [{"prompt": f"{n}+1=", "chosen": f"{n + 1}", "rejected": f"{n + 1}"[::-1] + "x"} for n in range(10, 130)]
    file = work / "dpo_pairs.jsonl"
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


def metrics(run, kind):
    """Return the logged metrics."""
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [record for record in records if record["kind"] == kind]


def test_it_learns_what_was_preferred(tmp_path, work, pairs):
    """The policy starts at its reference (loss log 2, margin 0) and ends preferring nearly all held-out answers."""
    run = train(tmp_path, CONFIG, model=work / "base", pairs=pairs)
    before, *_, after = metrics(run, "eval")
    assert before["loss"] == pytest.approx(0.693147, abs=1e-4)
    assert before["accuracy"] == pytest.approx(0.5, abs=0.1)
    assert before["margin"] == pytest.approx(0.0, abs=1e-4)
    assert after["accuracy"] > 0.9
    assert after["margin"] > 0
    assert after["loss"] < before["loss"]


def test_the_first_step_is_at_the_reference(tmp_path, work, pairs):
    """Before the first step every pair has the loss log 2."""
    run = train(tmp_path, CONFIG.replace("steps: 8", "steps: 1"), model=work / "base", pairs=pairs)
    assert metrics(run, "train")[0]["loss"] == pytest.approx(0.693147, abs=1e-4)


def test_the_update_does_not_depend_on_micro_batches(tmp_path, work, pairs):
    """One pair at a time or all at once give the same weights to 1e-5."""
    import torch

    text = CONFIG.replace("steps: 8", "steps: 3").replace("1.0e-3", "1.0e-4") + "micro_batch_tokens: {micro}\n"
    one = weights(train(tmp_path, text, "one", model=work / "base", pairs=pairs, micro=1))
    all_ = weights(train(tmp_path, text, "all", model=work / "base", pairs=pairs, micro=8192))
    for name, value in one.items():
        torch.testing.assert_close(value, all_[name], atol=1e-5, rtol=0)


@pytest.mark.parametrize("loss", ["ipo", "hinge"])
def test_other_losses_learn_too(tmp_path, work, pairs, loss):
    """IPO and the hinge loss raise the margin as well."""
    run = train(tmp_path, CONFIG.replace("beta:", f"loss: {loss}\nbeta:"), model=work / "base", pairs=pairs)
    assert metrics(run, "eval")[-1]["accuracy"] > 0.9


def test_long_pairs_are_left_out_and_counted(tmp_path, work, pairs):
    """Pairs over the limit are left out; if all are, that is an error."""
    text = CONFIG.replace("steps: 8", "steps: 1") + "max_tokens: {most}\n"
    run = train(tmp_path, text, model=work / "base", pairs=pairs, most=9)  # 100+1=101<end> is 10
    facts = json.loads((run / "config.json").read_text())
    assert facts["pairs_too_long"] > 0
    assert facts["pairs"] + facts["pairs_held_out"] + facts["pairs_too_long"] == 120
    with pytest.raises(DataError, match="fits into 3 tokens"):
        train(tmp_path, text, "none", model=work / "base", pairs=pairs, most=3)


def test_answers_that_a_template_makes_equal_are_refused(tmp_path, work):
    """Neither is preferred, so nothing would be learned from them; told with the row."""
    template = (
        "{% for m in messages %}({{ m.content | trim }}{% if m.role == 'assistant' %}<|end|>{% endif %}{% endfor %}"
    )
    (tmp_path / "trims.jinja").write_text(template + "{% if add_generation_prompt %}({% endif %}")
    rows = [{"prompt": "1", "chosen": "2", "rejected": "3"}, {"prompt": "1", "chosen": "2", "rejected": "2 "}]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    text = CONFIG.replace("eval_share: 0.25", "eval_share: 0, as_chat: true")
    text = text.replace("path: {model}", "path: {model}, chat_template: ./trims.jinja")
    with pytest.raises(DataError, match=r"rows\.jsonl:2: both answers have the same tokens"):
        train(tmp_path, text, model=work / "base", pairs=tmp_path / "rows.jsonl")


def test_label_smoothing_belongs_to_one_loss(tmp_path):
    """A parameter without an effect is refused."""
    file = tmp_path / "wrong.yaml"
    file.write_text((CONFIG + "loss: ipo\nlabel_smoothing: 0.1\n").format(output="o", model="x", pairs="y"))
    with pytest.raises(ConfigError, match="label_smoothing can only be used with"):
        read_train_config(file, Registry())


def test_dropout_is_off(work):
    """All dropout of a model is 0, in modules and in attention, and training mode stays on."""
    import transformers

    from rewardkit.train.models.dropout import switch_off_dropout

    model = transformers.BertModel(transformers.BertConfig(hidden_size=16, num_attention_heads=2, num_hidden_layers=1))
    policy = transformers.Qwen2Model(
        transformers.Qwen2Config(
            hidden_size=16, num_attention_heads=2, num_key_value_heads=1, num_hidden_layers=1, attention_dropout=0.3
        )
    )
    for one in (model, policy):
        one.train()
        switch_off_dropout(one)
        assert one.training
        values = [v for m in one.modules() for k, v in vars(m).items() if "dropout" in k and isinstance(v, float)]
        assert not any(values)
    assert all(m.p == 0 for m in model.modules() if type(m).__name__ == "Dropout")
