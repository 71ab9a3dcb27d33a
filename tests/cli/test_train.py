"""``rewardkit train`` and ``rewardkit eval``, as a person calls them."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest

from rewardkit import cli
from rewardkit.registry import Registry

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples/train"

SFT = """
version: 1
stage: sft
output: sft
model: {path: ./base}
data: {train: sft.jsonl}
steps: 2
batch_size: 4
"""
GRPO = """
version: 1
stage: grpo
output: grpo
model: {path: ./sft/final}
data: {train: train.jsonl, eval: heldout.jsonl}
reward: {components: {boxed: {use: format.boxed}}}
steps: 1
rollout: {prompts_per_step: 2, group_size: 2, max_new_tokens: 6}
evaluate: {every: 0, limit: 3, correct: "boxed == 0", answer: "[0-9]"}
"""


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A folder with a tiny model, data and two configurations."""
    pytest.importorskip("torch", reason="training needs torch: pip install 'rewardkit[train]'")
    pytest.importorskip("transformers", reason="training needs transformers: pip install 'rewardkit[train]'")
    if "format.boxed" not in Registry.load().rewards:
        pytest.skip("the plugin format is not installed")
    spec = importlib.util.spec_from_file_location("rewardkit_example_build", EXAMPLES / "build.py")
    build = importlib.util.module_from_spec(spec)
    sys.modules["rewardkit_example_build"] = build
    spec.loader.exec_module(build)
    folder = tmp_path_factory.mktemp("cli")
    build.write_data(folder)
    build.write_model(folder / "base", hidden=16, layers=1)
    (folder / "sft.yaml").write_text(SFT)
    (folder / "grpo.yaml").write_text(GRPO)
    (folder / "empty.jsonl").write_text("")
    (folder / "run").mkdir()
    for name in ("config.json", "metrics.jsonl"):
        (folder / "run" / name).write_text("{}")
    return folder


def run(capsys, *arguments):
    """Exit code, standard output and standard error."""
    code = cli.run(list(map(str, arguments)))
    out, err = capsys.readouterr()
    return code, out, err


def test_from_nothing_to_a_compared_policy(work, capsys):
    """SFT, then GRPO on its model, then a comparison of the two; the models' folders are on standard output."""
    code, out, err = run(capsys, "train", work / "sft.yaml", "--fresh")
    assert (code, out.strip()) == (0, str(work / "sft/final")), err
    code, out, err = run(capsys, "train", work / "grpo.yaml", "--set", "steps=2", "--fresh")
    assert (code, out.strip()) == (0, str(work / "grpo/final")), err
    assert "eval step 0/2  accuracy 1" in err

    compare = ["eval", work / "grpo.yaml", "--compare", work / "sft/final", work / "grpo/final", "--samples", 4]
    code, out, err = run(capsys, *compare, "--json")
    assert code == 0, err
    found = json.loads(out)
    assert [model["greedy"]["accuracy"][0] for model in found["models"]] == [1, 1]
    assert list(found["models"][0]["sampled"]["pass_at"]) == ["1", "2", "4"]
    assert list(found["models"][0]["sampled"]["majority_at"]) == ["1", "2", "4"]
    [change] = found["changes"]
    assert (change["problems"], change["samples"], change["reach"]) == (3, 4, 2)
    assert change["gain"]["1"][0] == 0
    assert err.count("15 answers\n") == 2
    assert ">pass@k</text>" in (work / "grpo-eval/eval.html").read_text()
    assert json.loads((work / "grpo-eval/eval.json").read_text()) == found

    code, out, err = run(capsys, *compare, "--by", "answer")
    assert code == 0, err
    assert err.count("15 answers, 15 of them kept from before") == 2
    assert "What training changed" in out


def test_a_training_configuration_is_checked(work, capsys):
    """By the verb that checks reward files, which tells them apart; what is refused ends with 2, what is odd with 0."""
    code, out, err = run(capsys, "check", work / "sft.yaml", "--set", "max_tokens=49", "--set", "data.shuffle=false")
    assert code == 0, err
    assert "⟦marked⟧ text is in the loss" in out
    assert "longer than 49 tokens and will be left out" in out
    code, out, err = run(capsys, "check", work / "grpo.yaml", "--set", "model.path=./base", "--json", "--limit", 5)
    assert code == 0, err
    found = json.loads(out)
    assert (found["stage"], found["problems"], found["facts"]["prompts"]) == ("grpo", [], "5, 7–7 tokens, median 7")
    refused = ["check", work / "grpo.yaml", "--set", "model.path=./base", "--set", "rollout.max_new_tokens=500"]
    code, out, err = run(capsys, *refused)
    assert code == 2
    assert "will be left out" in " ".join(out.split())
    assert "2 problems found: training would refuse this" in err, "of the prompts to train on, and of those held out"


def test_more_samples_are_added_to_those_that_are_kept(work, capsys):
    """And another seed begins anew."""
    look = ["eval", work / "grpo.yaml", "--model", work / "base", "--out", work / "more"]
    assert run(capsys, *look, "--samples", 2)[0] == 0
    code, out, err = run(capsys, *look, "--samples", 5)
    assert code == 0
    assert "18 answers, 9 of them kept" in err
    assert "pass@5" in out
    assert "18 answers\n" in run(capsys, *look, "--samples", 5, "--set", "seed=1")[2]


def test_an_interrupted_evaluation_goes_on(work, capsys, monkeypatch):
    """An interrupted evaluation keeps its answers and says so."""
    from rewardkit.train.evaluation import evaluator

    def interrupt(*_arguments):
        raise KeyboardInterrupt

    look = ["eval", work / "grpo.yaml", "--model", work / "base", "--out", work / "cut", "--samples", 3]
    with monkeypatch.context() as patch:
        patch.setattr(evaluator, "KEPT_TOGETHER", 1)
        patch.setattr(evaluator, "refuse_unscored", interrupt)  # comes after answers were kept
        code, _, err = run(capsys, *look, "--set", "rollout.batch=2")
    assert code == 130
    assert "run the same command again to resume" in err
    assert "12 answers, 2 of them kept" in run(capsys, *look)[2]


def test_beginning_anew_removes_what_the_run_wrote_and_nothing_else(work, capsys):
    """Other files in the folder and a truncated record do not prevent a resume."""
    folder = work / "anew"
    train = ["train", work / "sft.yaml", "--set", f"output={folder}", "--set", "log.tensorboard=false"]
    assert run(capsys, *train)[0] == 0
    (folder / "notes.txt").write_text("mine")
    (folder / "config.json").write_text('{"config"')
    assert "can't be read" in run(capsys, *train)[2]
    assert run(capsys, *train, "--fresh", "--set", "steps=1")[0] == 0
    assert (folder / "notes.txt").read_text() == "mine"
    assert len((folder / "metrics.jsonl").read_text().splitlines()) == 1

    from rewardkit.train.run_folder import RUN_FILES, remove_run

    assert {path.name for path in folder.iterdir()} <= {*RUN_FILES, "notes.txt"}
    (folder / "notes.txt").unlink()
    remove_run(folder)
    assert not folder.exists()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["train", "nowhere.yaml"], 2, "there is no such file"),
        (["train", "sft.yaml", "--set", "steps"], 2, "--set steps: write KEY=VALUE"),
        (["train", "sft.yaml", "--set", "model.path=./none", "--fresh"], 2, "there is no model folder"),
        (["train", "sft.yaml", "--set", "model.path=run2/final", "--fresh"], 2, "run2/final"),
        (["check", "sft.yaml", "--set", "model.path=./run2/final"], 2, "run2/final; a run ends with writing it"),
        (
            ["train", "sft.yaml", "--set", "data.train=none.jsonl", "--fresh"],
            2,
            "data.train=none.jsonl: ",
        ),
        (["check", "sft.yaml", "--set", "data.eval=[none.jsonl]"], 2, "data.eval=[none.jsonl]: "),
        (["eval", "grpo.yaml", "--set", "data.eval=none.jsonl"], 2, "data.eval=none.jsonl: "),
        (["train", "sft.yaml", "--set", "output=.", "--fresh"], 2, "--fresh only removes runs"),
        (["train", "sft.yaml", "--set", "output=base", "--fresh"], 2, "--fresh only removes runs"),
        (["train", "sft.yaml", "--set", "output=base"], 2, "base/config.json does not belong to a training run"),
        (["check", "sft.yaml", "--data", "sft.jsonl"], 2, "a training configuration names its own data"),
        (["check", "sft.yaml", "--set", "stage=null"], 2, "lacks the key 'stage'"),
        (["eval", "sft.yaml"], 2, "needs the configuration of a stage that has a reward"),
        (["eval", "grpo.yaml", "--set", "evaluate.correct=null"], 2, "evaluate.correct is missing"),
        (["eval", "grpo.yaml", "--set", "evaluate.correct='box == 1'"], 2, "there is no component 'box'; did you mean"),
        (["eval", "grpo.yaml", "--samples", "1", "--compare", "a", "b"], 2, "--compare needs at least 2 samples"),
        (["eval", "grpo.yaml", "--by", "answer"], 2, "--by is for --compare"),
        (["eval", "grpo.yaml", "--compare", "base", "./none"], 2, "/none: there is no model folder"),
        (
            ["eval", "grpo.yaml", "--compare", "base", "base", "--by", "kind"],
            2,
            "no held-out row has that column",
        ),
        (["eval", "grpo.yaml", "--model", "."], 2, "is no model folder"),
        (["eval", "grpo.yaml", "--model", "./run"], 2, "is the folder of a run that has not ended"),
        (["eval", "grpo.yaml", "--set", "data.eval=empty.jsonl"], 2, "no rows"),
        (
            ["eval", "grpo.yaml", "--model", "base", "--set", "data.prompt=question"],
            2,
            "has a value in column 'question'. Its columns are prompt, answer",
        ),
    ],
)
def test_mistakes_are_told(work, capsys, monkeypatch, arguments, code, message):
    """With the exit code of wrong use, and before anything is trained."""
    monkeypatch.chdir(work)
    got, _, err = run(capsys, *arguments)
    assert got == code, err
    assert message in " ".join(err.split())
