"""The stage reward_model with `level: step` trains a token classifier on a label for each step."""

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
level: step
output: {output}
model: {{path: {model}}}
data: {{train: {rows}, eval_share: 0.25, separator: ","{more}}}
optimizer: {{lr: 2.0e-3}}
steps: {steps}
batch_size: 16
threads: 1
"""


def write(folder, rows):
    """Write rows, and return the file."""
    file = folder / "steps.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


@pytest.fixture(scope="session")
def rows(tmp_path_factory):
    """Write 200 completions of three steps. A step is right if it ends in a question mark; the last label of some is unknown."""
    draw = random.Random(0)  # noqa: S311
    found = []
    for number in range(200):
        labels = [draw.random() < 0.6 for _ in range(3)]
        steps = ["".join(draw.choices("abdehikn", k=draw.randint(1, 5))) + (".", "?")[label] for label in labels]
        completion = ",".join(steps) if number % 2 else steps
        kind = ("even", "odd")[number % 2]
        labels = [*labels[:2], None] if number % 5 == 0 else labels
        found.append({"prompt": f"{number}:", "completion": completion, "labels": labels, "kind": kind})
    return write(tmp_path_factory.mktemp("steps"), found)


def train(tmp_path, rows, work, *, steps=40, more="", text=CONFIG):
    """Run a configuration, and return the run's folder."""
    file = tmp_path / "run.yaml"
    file.write_text(text.format(output=tmp_path / "run", model=work / "base", rows=rows, steps=steps, more=more))
    launch(read_train_config(file, Registry()), STAGES["reward_model"].runner(), fresh=True)
    return tmp_path / "run"


@pytest.fixture(scope="session")
def run(tmp_path_factory, rows, work):
    """Return one finished run, which several tests share."""
    return train(tmp_path_factory.mktemp("process"), rows, work, more=", subset: kind")


def test_it_tells_right_steps_from_wrong_ones(run):
    """Nearly every held-out step gets its label, better than calling all right, and the report has each subset."""
    report = json.loads((run / "evaluation.json").read_text())
    assert report["completions"] > 30
    assert report["accuracy"]["low"] > report["always_right"]["high"]
    assert report["auc"] > 0.95
    assert report["first_error"]["value"] > 0.8
    assert {one["name"] for one in report["subsets"]} == {"even", "odd"}
    assert sum(one["count"] for one in report["subsets"]) == report["steps"]


def test_the_plugin_gives_the_probability_of_each_step(run, rows):
    """At the ends of the steps the plugin reads the probabilities that were trained."""
    plugin = pytest.importorskip("rewardkit_reward_model", reason="rewardkit-reward-model is not installed")
    from rewardkit import Rollout

    reward = plugin.StepRewardModel(model=str(run / "final"))
    (score,) = reward([Rollout("7:", "abd?,hik.,nn?")])
    assert [step > 0.5 for step in score.steps] == [True, False, True]
    assert score.value == min(score.steps)
    assert "step 2 is the least probable" in score.reason


def test_transformers_alone_loads_it(run):
    """The folder is a token classifier with one output."""
    from transformers import AutoModelForTokenClassification

    model = AutoModelForTokenClassification.from_pretrained(run / "final")
    assert model.config.num_labels == 1
    assert model.config.reward_separator == ","


def test_the_update_does_not_depend_on_micro_batches(tmp_path, rows, work):
    """One completion at a time or all at once give the same weights to 1e-5."""
    import torch
    from safetensors.torch import load_file

    found = []
    for micro in (1, 8192):
        folder = tmp_path / str(micro)
        folder.mkdir()
        text = CONFIG.replace("2.0e-3", "1.0e-4") + f"micro_batch_tokens: {micro}\n"
        found.append(load_file(train(folder, rows, work, steps=3, text=text) / "final/model.safetensors"))
    for name, value in found[0].items():
        torch.testing.assert_close(value, found[1][name], atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"labels": [True]}, "has 1 labels, but data.separator ',' divides the completion into 2 steps"),
        ({"labels": [True, 2]}, "label 2 in column 'labels' must be true, false"),
        ({"labels": "yes"}, "must hold a list with a label per step"),
        ({"labels": [None, None]}, "no step has a label"),
        ({"completion": ["a", " "]}, "step 2 in column 'completion' is empty"),
        ({"completion": ""}, "there is no completion"),
    ],
)
def test_rows_that_do_not_fit_are_refused(tmp_path, work, row, words):
    """The error names the file and row, what was found and what was expected."""
    good = {"prompt": "1:", "completion": "a,b", "labels": [True, False]}
    file = write(tmp_path, [good, {**good, **row}])
    with pytest.raises(DataError, match=rf"steps.jsonl.*2: .*{words}"):
        train(tmp_path, file, work, text=CONFIG.replace("eval_share: 0.25", "eval_share: 0"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("level: step\n", ""), "data.separator has no effect with level: completion"),
        (("separator:", "chosen: c, separator:"), "data.chosen has no effect with level: step"),
        (("steps:", "loss: {{margin: m}}\nsteps:"), "loss.margin has no effect with level: step"),
    ],
)
def test_keys_of_the_other_level_are_refused(tmp_path, rows, work, change, words):
    """A key without effect is an error."""
    with pytest.raises(ConfigError, match=words):
        train(tmp_path, rows, work, text=CONFIG.replace(*change))


def test_the_preview_counts_steps(tmp_path, rows, work):
    """The check before the run says how many steps have labels, and marks the ends of the first completion's."""
    from rewardkit.train.preflight.preview import preview

    file = tmp_path / "run.yaml"
    file.write_text(CONFIG.format(output=tmp_path / "run", model=work / "base", rows=rows, steps=3, more=""))
    found = preview(read_train_config(file, Registry()))
    assert "with a label" in found.facts["steps"]
    assert {kind for _, kind in found.sample} <= {"context", "chosen", "rejected"}
    assert sum(kind != "context" for _, kind in found.sample) in (2, 3)


def test_grpo_learns_from_its_steps(tmp_path, run, work):
    """The steps that the plugin scores are those that GRPO divides the sampled tokens into."""
    registry = Registry.load()
    if "reward_model.steps" not in registry.rewards:
        pytest.skip("rewardkit-reward-model is not installed")
    from rewardkit.train.stages.grpo import train_grpo

    file = tmp_path / "grpo.yaml"
    file.write_text(
        f"version: 1\nstage: grpo\noutput: {tmp_path / 'grpo'}\nmodel: {{path: {work / 'base'}}}\n"
        f"data: {{train: {work / 'train.jsonl'}}}\n"
        f"reward: {{components: {{steps: {{use: reward_model.steps, with: {{model: {run / 'final'}}}}}}}}}\n"
        "steps: 2\nrollout: {prompts_per_step: 4, group_size: 4, max_new_tokens: 12}\nthreads: 1\n"
        "algorithm: {use: grpo, process: {component: steps, separator: ','}}\n"
    )
    launch(read_train_config(file, registry), train_grpo)
    lines = [json.loads(line) for line in (tmp_path / "grpo/metrics.jsonl").read_text().splitlines()]
    assert all(line["grad_norm"] > 0 for line in lines if line["kind"] == "train")
